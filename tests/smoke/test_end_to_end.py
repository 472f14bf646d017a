"""The main job from scenes to b-submit.txt, with two DeepSpeed processes, two Ray actors and a kill -9 on the way.

The model has the real classes and random weights: the test shows that the way works, not that the answers are right.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from smoke_data import ROOT, write_pipeline, write_yaml

from dataset_builders.task_card import TaskCard

PATIENCE_S = 1200

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


class Pipeline:
    """``riskfuse run`` in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.output = ""

    def run(self) -> str:
        """Run to the end; returns what was printed."""
        command = [sys.executable, "-m", "launch.cli", "run", "pipeline.yaml"]
        done = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def kill_when(self, reached: Callable[[], bool]) -> None:
        """Start, and kill -9 the pipeline alone as soon as a state is reached; its children notice nothing."""
        command = [sys.executable, "-m", "launch.cli", "run", "pipeline.yaml"]
        with (self.directory / "killed.log").open("a") as log:
            process = subprocess.Popen(command, cwd=self.directory, stdout=log, stderr=log, env=os.environ.copy())
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            assert process.poll() is None, (self.directory / "killed.log").read_text()
            assert time.monotonic() < deadline, (self.directory / "killed.log").read_text()
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def log(self, step: str) -> str:
        return (self.directory / f"runs/smoke/logs/{step}.log").read_text(encoding="utf-8", errors="replace")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model) -> Pipeline:
    """A pipeline that was killed in training and then went on to the end."""
    directory = tmp_path_factory.mktemp("smoke")
    write_pipeline(
        directory,
        tiny_model,
        overrides={"deepspeed": str(ROOT / "ds_configs/zero2.json"), "max_steps": 6},
        high_risk={"overrides": {"max_steps": 2}},
        scenes_options=("--workers", "2"),
        name="smoke",
        training={"processes": 2},
        inference={"engine": "ray", "workers": 2, "options": ["--shard-size", "8", "--batch-size", "4"]},
    )
    pipeline = Pipeline(directory)
    pipeline.kill_when(lambda: (directory / "saves/smoke/base/checkpoint-2/trainer_state.json").is_file())
    pipeline.output = pipeline.run()
    return pipeline


def test_submission_has_the_list_s_names_in_order(finished, card: TaskCard):
    rows = (finished.directory / "runs/smoke/fusion/b-submit.txt").read_text(encoding="utf-8").splitlines()
    names = (finished.directory / "scenes/b_names.txt").read_text(encoding="utf-8").splitlines()
    assert [row.split("\t")[0] for row in rows] == names
    assert {row.split("\t")[1] for row in rows} <= {label.text for label in card.labels}


def test_summary_shows_all_systems_and_places(finished):
    for words in ("base only", "override", "fused", "majority", "chance", "b-submit.txt", "report.html", "together"):
        assert words in finished.output


def test_report_shows_what_was_submitted_and_how_stages_were_trained(finished):
    page = (finished.directory / "runs/smoke/report.html").read_text(encoding="utf-8")
    for words in ('id="curve-base"', 'id="curve-high_risk"', "train_high_risk", "data:image/jpeg;base64,"):
        assert words in page


def test_tensorboard_shows_curves_and_scores_of_the_run(finished):
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    events = EventMultiplexer().AddRunsFromDirectory(str(finished.directory / "runs")).Reload()
    for stage in ("base", "high_risk"):
        assert "eval/loss" in events.GetAccumulator(f"smoke/tensorboard/{stage}").Tags()["scalars"]
    assert "validation/score" in events.GetAccumulator("smoke/fusion/tensorboard/fused_rule").Tags()["tensors"]


def test_killed_training_went_on_from_its_checkpoint(finished):
    assert "Resuming training from" in finished.log("train_base")
    assert "NPROC_PER_NODE=2" in finished.log("train_base")


def test_later_photos_get_the_answers_of_the_run(finished):
    """The photos of the test list once more, as photos that came after the run: nothing is trained, nothing fitted."""
    words = ["grade", "runs/smoke", "scenes/b", "--list", "scenes/b.txt", "--out", "runs/later"]
    command = [sys.executable, "-m", "launch.cli", *words]
    done = subprocess.run(command, cwd=finished.directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "[1/5] build" in done.stdout
    first, later = (finished.directory / f"runs/{name}/fusion/b-submit.txt" for name in ("smoke", "later"))
    assert later.read_bytes() == first.read_bytes()
    assert "photos to review" in done.stdout
    assert (finished.directory / "runs/later/report.html").is_file()
    again = subprocess.run(command, cwd=finished.directory, capture_output=True, text=True, check=True)
    assert again.stdout.count(": complete") == 5


def test_second_run_finds_everything_complete(finished):
    adapter = finished.directory / "saves/smoke/base/adapter_model.safetensors"
    before = adapter.stat().st_mtime_ns
    assert finished.run().count(": complete") == 9
    assert adapter.stat().st_mtime_ns == before


def test_changed_decision_repeats_fusion_alone(finished):
    path = finished.directory / "pipeline.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    write_yaml(path, config | {"decision": {"options": ["--resamples", "60"]}})
    output = finished.run()
    assert output.count(": complete") == 7
    assert "the configuration changed" in output
