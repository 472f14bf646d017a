"""Runs the steps of a pipeline: skips what is complete, resumes what was interrupted, makes anew what is stale."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dataset_builders.errors import ConfigError, FingerprintMismatch, StepError
from dataset_builders.files import content_hash
from launch.pipeline.config import PipelineConfig
from launch.pipeline.console import StepConsole, format_seconds
from launch.pipeline.plan import plan_steps, write_recipes
from launch.pipeline.processes import alone_in, end_tagged, ended_by_signals, log_tail, run_logged
from launch.pipeline.record import write_record
from launch.pipeline.step import ASKED_AGAIN, Marker, Step, digest, read_marker, step_inputs, write_marker
from launch.pipeline.summary import write_summary

__all__ = ["run_pipeline", "run_steps"]


def run_pipeline(
    config: PipelineConfig,
    *,
    first: str | None = None,
    last: str | None = None,
    redo: bool = False,
    dry_run: bool = False,
) -> None:
    """Run a pipeline, or a part of it.

    Args:
        config: The pipeline.
        first: Name of the step to start at; the steps before it must be complete. None: the first one.
        last: Name of the step to stop after. None: the last one, and a summary.
        redo: Run the chosen steps even where they are complete. Their markers say so from the beginning: after an
            interruption the same call without it goes on.
        dry_run: Say what would be done, and do nothing.

    Raises:
        ConfigError: A file of the pipeline is wrong, or a step's name is unknown.
        FingerprintMismatch: Something lies where a step writes that this pipeline did not make.
        StepError: A step failed; the message holds the end of its log.
    """
    steps = plan_steps(config)

    def prepare() -> None:
        write_recipes(config)
        write_record(config)

    if run_steps(steps, config.runs_dir, first=first, last=last, redo=redo, dry_run=dry_run, prepare=prepare):
        print(write_summary(config, steps))


def run_steps(
    steps: list[Step],
    runs: Path,
    *,
    first: str | None = None,
    last: str | None = None,
    redo: bool = False,
    dry_run: bool = False,
    prepare: Callable[[], None] = lambda: None,
) -> bool:
    """Run steps in order; arguments and errors as in ``run_pipeline``.

    Args:
        steps: The steps.
        runs: Run directory: markers, logs, lock.
        first: As in ``run_pipeline``.
        last: As in ``run_pipeline``.
        redo: As in ``run_pipeline``.
        dry_run: As in ``run_pipeline``.
        prepare: Writes what the steps' commands read; called when no other run is at work here.

    Returns:
        True when the last step is complete.
    """
    begin, end = _range(steps, first, last)
    if dry_run:
        _describe(steps, runs, begin, end, redo)
        return False
    runs.mkdir(parents=True, exist_ok=True)
    tag = str(runs.resolve())
    with alone_in(runs), ended_by_signals():
        if stray := end_tagged(tag):
            print(f"{stray} processes of an interrupted run were still there; ended")
        started = time.monotonic()
        chosen = steps[begin : end + 1]
        for step in steps[:begin]:
            _require_complete(runs, step, steps[begin].name)
        prepare()
        for step in chosen if redo else ():
            _ask_again(_marker_path(runs, step))
        for number, step in enumerate(chosen, begin + 1):
            _run_step(runs, step, f"[{number}/{len(steps)}]", tag)
        print(f"done in {format_seconds(time.monotonic() - started)}", flush=True)
    return end == len(steps) - 1


def _range(steps: list[Step], first: str | None, last: str | None) -> tuple[int, int]:
    names = [step.name for step in steps]
    for name in (first, last):
        if name is not None and name not in names:
            raise ConfigError(f"no step {name!r} in this pipeline; its steps are {', '.join(names)}")
    begin = names.index(first) if first else 0
    end = names.index(last) if last else len(names) - 1
    if begin > end:
        raise ConfigError(f"--from {first} comes after --to {last}; the order is {', '.join(names)}")
    return begin, end


def _marker_path(runs: Path, step: Step) -> Path:
    return runs / "steps" / f"{step.name}.json"


def _key(step: Step, inputs: dict[str, str]) -> str:
    return content_hash([step.settings, inputs])


def _is_complete(step: Step, marker: Marker | None, key: str) -> bool:
    if marker is None or not marker.complete or marker.key != key:
        return False
    if marker.outputs.keys() != {path.as_posix() for path in step.outputs}:  # they are to lie elsewhere now
        return False
    return all(digest(Path(path)) == value for path, value in marker.outputs.items())


def _ask_again(path: Path) -> None:
    if (marker := read_marker(path)) is not None:
        write_marker(path, replace(marker, complete=False, key=ASKED_AGAIN))


def _run_step(runs: Path, step: Step, number: str, tag: str) -> None:
    marker_path = _marker_path(runs, step)
    marker = read_marker(marker_path)
    inputs = step_inputs(step)
    if lacking := [path for path, value in inputs.items() if value == "missing"]:
        raise StepError(f"step {step.name} reads what is not there: {', '.join(lacking)}")
    key = _key(step, inputs)
    if _is_complete(step, marker, key):
        print(f"{number} {step.name}: complete", flush=True)
        return
    settings = json.loads(json.dumps(step.settings))
    strangers = _strangers(step, marker)
    begun = Marker(False, key, inputs, settings, {}, owned=[p.as_posix() for p in step.owned if p not in strangers])
    resumed = False
    if marker is not None and marker.goes_on_as(begun):
        print(f"{number} {step.name}: was interrupted, goes on", flush=True)
        resumed, begun = True, marker
    else:
        _clear(step, marker, settings, inputs)
        print(f"{number} {step.name}", flush=True)
        write_marker(marker_path, begun)
    seconds = 0.0 if resumed and step.finished() else _run_commands(runs, step, resumed, tag)
    outputs = {path.as_posix(): digest(path) for path in step.outputs}
    if lacking := [path for path, value in outputs.items() if value == "missing"]:
        raise StepError(f"step {step.name} ended well without writing {', '.join(lacking)}; see {_log(runs, step)}")
    write_marker(marker_path, replace(begun, complete=True, outputs=outputs, seconds=round(seconds, 1)))


def _strangers(step: Step, marker: Marker | None) -> list[Path]:
    """What lies where the step writes and is not recorded as made by it."""
    return [path for path in _present(step) if marker is None or not marker.made(path)]


def _present(step: Step) -> list[Path]:
    return [path for path in step.owned if path.is_file() or (path.is_dir() and any(path.iterdir()))]


def _clear(step: Step, marker: Marker | None, settings: object, inputs: dict[str, str]) -> None:
    """Remove what the step made from other inputs; never what this pipeline has no record of.

    Raises:
        FingerprintMismatch: Such a thing lies where training would write.
    """
    strangers = _strangers(step, marker)
    if strangers and step.refuses_strangers:
        raise FingerprintMismatch(
            f"step {step.name} writes to {_shown(strangers)}, where something lies that this pipeline did not make; "
            "move it away, or give the pipeline another name"
        )
    made = [path for path in _present(step) if path not in strangers]
    if marker is None or not made:
        return
    reason = marker.why_stale(settings, inputs)
    if reason == "nothing changed":
        reason = "its results were altered or are incomplete"
    print(f"  {reason}: {_shown(made)} is made anew")
    for path in made:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _shown(paths: list[Path]) -> str:
    return ", ".join(path.as_posix() for path in paths)


def _log(runs: Path, step: Step) -> Path:
    return runs / "logs" / f"{step.name}.log"


def _run_commands(runs: Path, step: Step, resumed: bool, tag: str) -> float:
    log = _log(runs, step)
    log.parent.mkdir(parents=True, exist_ok=True)
    if not resumed:
        log.unlink(missing_ok=True)
    step.begin()
    started = time.monotonic()
    with StepConsole(step, log) as console:
        for command in step.make_commands():
            if command.partial_success:
                step.outputs[0].unlink(missing_ok=True)  # one that is there afterwards is this command's own
            status = run_logged(command, log, tag, console.tick)
            if status == 1 and command.partial_success and all(path.is_file() for path in step.outputs):
                print(f"  some rows failed; {log} lists them", flush=True)
            elif status != 0:
                tail = "\n".join(f"    {line}" for line in log_tail(log))
                raise StepError(
                    f"step {step.name} failed with exit status {status}: {command.shown}\n{tail}\n"
                    f"The whole log is {log}. Mend the cause and run the same pipeline again: what is complete is kept."
                )
    return time.monotonic() - started


def _require_complete(runs: Path, step: Step, first: str) -> None:
    marker = read_marker(_marker_path(runs, step))
    inputs = step_inputs(step)
    if not _is_complete(step, marker, _key(step, inputs)):
        raise ConfigError(f"--from {first} needs step {step.name}, which is not complete; leave out --from")


def _describe(steps: list[Step], runs: Path, begin: int, end: int, redo: bool) -> None:
    """Print what would be done. A step whose predecessor has to run cannot be judged yet."""
    waiting = False
    for number, step in enumerate(steps):
        inputs = step_inputs(step)
        marker = read_marker(_marker_path(runs, step))
        if not waiting and not (redo and begin <= number <= end) and _is_complete(step, marker, _key(step, inputs)):
            print(f"{step.name}: complete")
            continue
        chosen = begin <= number <= end
        waiting = True
        print(f"{step.name}: {'to do' if chosen else 'not complete, and not chosen'}")
        if chosen:
            for command in step.make_commands():
                print(f"  {command.shown}")
