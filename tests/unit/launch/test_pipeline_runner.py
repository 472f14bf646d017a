"""Steps are skipped, resumed, made anew or refused, by what is on disk. The steps are real processes, but small."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from dataset_builders.errors import ConfigError, FingerprintMismatch, StepError
from launch.pipeline.config import load_pipeline_config
from launch.pipeline.runner import run_pipeline, run_steps
from launch.pipeline.step import Command, Step

ROOT = Path(__file__).parents[3]

APPEND = "import sys; open(sys.argv[2], 'a').write(open(sys.argv[1]).read())"


def copying_step(name: str, source: Path, target: Path, **options) -> Step:
    """A step that appends its input to its output, so that running it twice shows."""
    command = Command((sys.executable, "-c", APPEND, str(source), str(target)), f"append {source.name} {target.name}")
    values = {
        "settings": {},
        "inputs": (source,),
        "outputs": (target,),
        "owned": (target,),
        "make_commands": lambda: [command],
    }
    return Step(name=name, **(values | options))


@pytest.fixture
def chain(tmp_path):
    (tmp_path / "a").write_text("a")
    steps = [
        copying_step("first", tmp_path / "a", tmp_path / "b"),
        copying_step("second", tmp_path / "b", tmp_path / "c"),
        copying_step("third", tmp_path / "c", tmp_path / "d"),
    ]
    return tmp_path, steps


def test_complete_steps_are_skipped(chain, capsys):
    directory, steps = chain
    assert run_steps(steps, directory / "runs")
    capsys.readouterr()
    assert run_steps(steps, directory / "runs")
    assert capsys.readouterr().out.count(": complete") == 3
    assert (directory / "d").read_text() == "a"


def test_changed_input_makes_what_depends_on_it_anew(chain, capsys):
    directory, steps = chain
    run_steps(steps, directory / "runs")
    (directory / "a").write_text("new")
    run_steps(steps, directory / "runs")
    assert (directory / "d").read_text() == "new"
    assert f"{directory}/a changed" in capsys.readouterr().out


def test_same_result_of_a_changed_input_stops_the_change(tmp_path, capsys):
    """A step whose predecessor ran again and wrote the same bytes is still complete."""
    (tmp_path / "a").write_text("1")
    constant = Command((sys.executable, "-c", f"open({str(tmp_path / 'b')!r}, 'w').write('b')"), "constant")
    steps = [
        copying_step("first", tmp_path / "a", tmp_path / "b", make_commands=lambda: [constant]),
        copying_step("second", tmp_path / "b", tmp_path / "c"),
    ]
    run_steps(steps, tmp_path / "runs")
    (tmp_path / "a").write_text("2")
    capsys.readouterr()
    run_steps(steps, tmp_path / "runs")
    assert "second: complete" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["removed", "altered"])
def test_damaged_output_is_made_anew(chain, damage):
    directory, steps = chain
    run_steps(steps, directory / "runs")
    (directory / "c").unlink() if damage == "removed" else (directory / "c").write_text("damaged")
    run_steps(steps, directory / "runs")
    assert (directory / "c").read_text() == "a"


def test_changed_settings_make_the_step_anew(tmp_path, capsys):
    (tmp_path / "a").write_text("a")
    for value in (1, 2):
        run_steps([copying_step("one", tmp_path / "a", tmp_path / "b", settings={"v": value})], tmp_path / "runs")
    assert "the configuration changed" in capsys.readouterr().out
    assert (tmp_path / "b").read_text() == "a"


def test_part_of_the_steps(chain):
    directory, steps = chain
    assert not run_steps(steps, directory / "runs", last="second")
    assert not (directory / "d").exists()
    assert run_steps(steps, directory / "runs", first="third")
    assert (directory / "d").read_text() == "a"


def test_start_after_a_step_that_is_missing_is_refused(chain):
    directory, steps = chain
    with pytest.raises(ConfigError, match="needs step first"):
        run_steps(steps, directory / "runs", first="second")


def test_redo_runs_complete_steps_again(chain, capsys):
    directory, steps = chain
    run_steps(steps, directory / "runs")
    run_steps(steps, directory / "runs", first="third", redo=True)
    assert "asked to do it again" in capsys.readouterr().out
    assert (directory / "d").read_text() == "a"


def test_interrupted_redo_goes_on_without_the_word(chain, capsys):
    """In the step that was interrupted, and then with the steps that had not begun."""
    directory, steps = chain
    run_steps(steps, directory / "runs")
    half = f"open({str(directory / 'c')!r}, 'w').write('half,'); raise SystemExit(9)"
    failing = replace(steps[1], make_commands=lambda: [Command((sys.executable, "-c", half), "x")])
    with pytest.raises(StepError):
        run_steps([steps[0], failing, steps[2]], directory / "runs", redo=True)
    with pytest.raises(ConfigError, match="needs step second"):  # nothing is asked for
        run_steps(steps, directory / "runs", first="third", redo=True)
    capsys.readouterr()
    run_steps(steps, directory / "runs")
    shown = capsys.readouterr().out
    for words in ("first: complete", "second: was interrupted, goes on", "asked to do it again"):
        assert shown.count(words) == 1
    assert ((directory / "c").read_text(), (directory / "d").read_text()) == ("half,a", "half,a")
    run_steps(steps, directory / "runs")
    assert capsys.readouterr().out.count(": complete") == 3


@pytest.mark.parametrize(("first", "last"), [("nothing", None), (None, "nothing"), ("third", "first")])
def test_unknown_or_reversed_steps(chain, first, last):
    directory, steps = chain
    with pytest.raises(ConfigError, match="first, second, third"):
        run_steps(steps, directory / "runs", first=first, last=last)


def test_dry_run_writes_nothing(chain, capsys):
    directory, steps = chain
    assert not run_steps(steps, directory / "runs", dry_run=True)
    assert sorted(path.name for path in directory.iterdir()) == ["a"]
    assert capsys.readouterr().out.count("to do") == 3


def test_failure_names_command_log_and_last_words(tmp_path):
    (tmp_path / "a").write_text("a")
    failing = Command((sys.executable, "-c", "raise SystemExit('the reason')"), "fail --loudly")
    step = copying_step("bad", tmp_path / "a", tmp_path / "b", make_commands=lambda: [failing])
    with pytest.raises(StepError) as caught:
        run_steps([step], tmp_path / "runs")
    for part in ("step bad failed", "fail --loudly", "the reason", "logs/bad.log"):
        assert part in str(caught.value)


def test_failed_rows_do_not_stop_the_pipeline_when_the_outputs_are_there(tmp_path, capsys):
    (tmp_path / "a").write_text("a")
    code = f"open({str(tmp_path / 'b')!r}, 'w').write('b'); raise SystemExit(1)"
    partial = Command((sys.executable, "-c", code), "partial", partial_success=True)
    assert run_steps(
        [copying_step("one", tmp_path / "a", tmp_path / "b", make_commands=lambda: [partial])], tmp_path / "r"
    )
    assert "some rows failed" in capsys.readouterr().out


def test_crash_is_no_partial_success_of_what_an_earlier_run_wrote(tmp_path):
    """Python exits with 1 on any exception; such a step owns nothing that would have been removed, as folds."""

    def folds(settings: int, code: str) -> Step:
        command = Command((sys.executable, "-c", code), "folds", partial_success=True)
        return Step("folds", settings, (), (tmp_path / "marker",), (), lambda: [command])

    run_steps([folds(1, f"open({str(tmp_path / 'marker')!r}, 'w')")], tmp_path / "runs")
    with pytest.raises(StepError, match="No space left"):
        run_steps([folds(2, "raise OSError(28, 'No space left on device')")], tmp_path / "runs")


def test_step_without_its_output_is_no_success(tmp_path):
    (tmp_path / "a").write_text("a")
    idle = Command((sys.executable, "-c", "pass"), "idle")
    with pytest.raises(StepError, match="without writing"):
        run_steps(
            [copying_step("idle", tmp_path / "a", tmp_path / "b", make_commands=lambda: [idle])], tmp_path / "runs"
        )


def test_step_without_its_input_is_no_success(tmp_path):
    with pytest.raises(StepError, match="reads what is not there"):
        run_steps([copying_step("one", tmp_path / "absent", tmp_path / "b")], tmp_path / "runs")


def test_foreign_results_are_refused_not_removed(tmp_path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("somebody's work of ten hours")
    step = copying_step("train", tmp_path / "a", tmp_path / "b", refuses_strangers=True)
    with pytest.raises(FingerprintMismatch, match="did not make"):
        run_steps([step], tmp_path / "runs")
    assert (tmp_path / "b").read_text() == "somebody's work of ten hours"


def writing_step(place: Path, settings: object = 1, status: int = 0, **options) -> Step:
    """A step that adds a letter to the file ``x`` of a directory that it owns, and exits with that status."""
    code = f"import os; os.makedirs({str(place)!r}, exist_ok=True); open({str(place / 'x')!r}, 'a').write('x')"
    command = Command((sys.executable, "-c", f"{code}; raise SystemExit({status})"), "write x")
    return Step("one", settings, (), (place / "x",), (place,), lambda: [command], **options)


def test_place_that_changed_is_not_cleared_by_the_old_places_marker(tmp_path):
    """Neither now nor when the step is stale a second time; training is refused, other commands judge by themselves."""
    runs, theirs = tmp_path / "runs", tmp_path / "theirs" / "photo.jpg"
    run_steps([writing_step(tmp_path / "mine")], runs)
    theirs.parent.mkdir()
    theirs.write_text("somebody's")
    with pytest.raises(FingerprintMismatch, match=r"writes to .*theirs, where something lies"):
        run_steps([writing_step(theirs.parent, 2, refuses_strangers=True)], runs)
    for settings in (2, 3):
        run_steps([writing_step(theirs.parent, settings)], runs)
        assert theirs.read_text() == "somebody's"
    run_steps([writing_step(tmp_path / "mine", 4)], tmp_path / "other_runs")  # no marker there at all
    assert (tmp_path / "mine" / "x").read_text() == "xx"


def test_refused_directory_is_not_the_steps_own_afterwards(tmp_path):
    """The command refused what lies there, so an incomplete marker stands; then the configuration changes."""
    theirs = tmp_path / "theirs" / "photo.jpg"
    theirs.parent.mkdir()
    theirs.write_text("somebody's")
    for settings in (1, 2):
        with pytest.raises(StepError):
            run_steps([writing_step(theirs.parent, settings, status=2)], tmp_path / "runs")
    assert theirs.is_file()


def test_place_that_changed_is_written(tmp_path):
    """The settings say nothing of the place, as those of a prediction."""
    for name in ("one", "two", "one"):
        run_steps([writing_step(tmp_path / name)], tmp_path / "runs")
    assert (tmp_path / "two" / "x").is_file()
    assert (tmp_path / "one" / "x").read_text() == "xx", "made by an earlier run: the command decided"


def as_by_an_earlier_version(runs: Path) -> None:
    path = runs / "steps" / "one.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["owned"]
    path.write_text(json.dumps(content), encoding="utf-8")


def test_marker_of_an_earlier_version_vouches_for_where_its_outputs_lie(tmp_path, capsys):
    place, runs = tmp_path / "mine", tmp_path / "runs"
    run_steps([writing_step(place)], runs)
    as_by_an_earlier_version(runs)
    run_steps([writing_step(place)], runs)
    assert "one: complete" in capsys.readouterr().out
    run_steps([writing_step(place, 2, refuses_strangers=True)], runs)
    assert (place / "x").read_text() == "x", "made anew"


def test_interrupted_step_of_an_earlier_version_goes_on(tmp_path):
    place, runs = tmp_path / "mine", tmp_path / "runs"
    for settings in (1, 2):
        with pytest.raises(StepError):
            run_steps([writing_step(place, settings, status=9)], runs)
        as_by_an_earlier_version(runs)
        if settings == 1:
            with pytest.raises(FingerprintMismatch):  # nothing says who made it
                run_steps([writing_step(place, 3, refuses_strangers=True)], runs)
        run_steps([writing_step(place, settings, refuses_strangers=True)], runs)
        assert (place / "x").read_text() == "xx"


def interrupted(tmp_path: Path, **options) -> Step:
    """A step that was begun and then interrupted, with a part of its output written."""
    (tmp_path / "a").write_text("a")
    step = copying_step("long", tmp_path / "a", tmp_path / "b", **options)
    failing = Command(
        (sys.executable, "-c", f"open({str(tmp_path / 'b')!r}, 'w').write('half,'); raise SystemExit(9)"), "x"
    )
    with pytest.raises(StepError):
        run_steps(
            [copying_step("long", tmp_path / "a", tmp_path / "b", make_commands=lambda: [failing])], tmp_path / "runs"
        )
    return step


def test_interrupted_step_goes_on_from_what_it_wrote(tmp_path, capsys):
    run_steps([interrupted(tmp_path)], tmp_path / "runs")
    assert "was interrupted, goes on" in capsys.readouterr().out
    assert (tmp_path / "b").read_text() == "half,a"


def test_interrupted_step_that_is_in_truth_finished_is_not_run_again(tmp_path):
    run_steps([interrupted(tmp_path, finished=lambda: True)], tmp_path / "runs")
    assert (tmp_path / "b").read_text() == "half,"


def test_interrupted_step_whose_input_changed_begins_anew(tmp_path):
    step = interrupted(tmp_path)
    (tmp_path / "a").write_text("new")
    run_steps([step], tmp_path / "runs")
    assert (tmp_path / "b").read_text() == "new"


PIPELINE = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from launch.pipeline.runner import run_steps
from launch.pipeline.step import Command, Step
directory = Path(sys.argv[1])
# The step's child starts a grandchild in a session of its own, as torchrun and Ray do, and both sleep.
grandchild = "import time; time.sleep(600)"
child = (
    "import subprocess, sys, time, pathlib;"
    f"p = subprocess.Popen([sys.executable, '-c', {{grandchild!r}}], start_new_session=True);"
    f"pathlib.Path({{str(directory / 'pid')!r}}).write_text(str(p.pid));"
    "time.sleep(600)"
)
command = Command((sys.executable, "-c", child), "sleep")
step = Step("sleep", {{}}, (), (directory / "never",), (), lambda: [command])
run_steps([step], directory / "runs")
"""


def start_sleeping_pipeline(tmp_path: Path) -> tuple[subprocess.Popen, psutil.Process]:
    script = tmp_path / "pipeline.py"
    script.write_text(PIPELINE.format(tests=str(ROOT)))
    # Tests that a shell runs in the background inherit an ignored SIGINT; a person's terminal does not ignore it.
    pipeline = subprocess.Popen(
        [sys.executable, script, tmp_path],
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return pipeline, psutil.Process(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_ends_children_in_sessions_of_their_own(tmp_path, number):
    pipeline, grandchild = start_sleeping_pipeline(tmp_path)
    os.kill(pipeline.pid, number)
    pipeline.wait(timeout=30)
    psutil.wait_procs([grandchild], timeout=10)
    assert not grandchild.is_running()


def test_next_run_ends_what_a_killed_one_left(tmp_path, capsys):
    pipeline, grandchild = start_sleeping_pipeline(tmp_path)
    pipeline.kill()
    pipeline.wait(timeout=30)
    assert grandchild.is_running()
    (tmp_path / "a").write_text("a")
    run_steps([copying_step("one", tmp_path / "a", tmp_path / "b")], tmp_path / "runs")
    assert "of an interrupted run were still there" in capsys.readouterr().out
    psutil.wait_procs([grandchild], timeout=10)
    assert not grandchild.is_running()


def test_refused_pipeline_writes_nothing(tmp_path, monkeypatch):
    """Neither beside a running one, whose steps read its recipes, nor where it may not start."""
    monkeypatch.chdir(ROOT)
    config = load_pipeline_config("recipes/tiny/pipeline.yaml").model_copy(update={"runs": tmp_path / "runs"})
    with pytest.raises(ConfigError, match="no step 'nothing'"):
        run_pipeline(config, first="nothing")
    assert not config.runs_dir.exists()
    config.runs_dir.mkdir()
    with (config.runs_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StepError, match="another riskfuse run"):
            run_pipeline(config)
    with pytest.raises(ConfigError, match="needs step prepare"):
        run_pipeline(config, first="fuse")
    assert [path.name for path in config.runs_dir.iterdir()] == ["lock"]


def test_two_runs_at_once_are_refused(tmp_path):
    pipeline, _ = start_sleeping_pipeline(tmp_path)
    try:
        with pytest.raises(StepError, match="another riskfuse run"):
            run_steps([copying_step("one", tmp_path / "a", tmp_path / "b")], tmp_path / "runs")
    finally:
        pipeline.terminate()
        pipeline.wait(timeout=30)
