"""Exports of Label Studio, JSON and JSON-MIN: one choice a photo, from one or several annotators."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from dataset_builders.build_config import LabelStudioSource
from dataset_builders.errors import DataError
from dataset_builders.findings import SHOWN, Findings
from dataset_builders.sources.entries import RawRow
from dataset_builders.sources.text import read_bytes

__all__ = ["read_label_studio"]

_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")  # Label Studio puts it before the names of uploaded files


@dataclass(frozen=True, slots=True)
class _Task:
    """What matters of a task.

    Attributes:
        where: File and task id, for messages.
        image: The photo as the task spells it.
        choices: One list a submitted annotation: what its annotator chose.
    """

    where: str
    image: Any
    choices: list[list[str]] = field(default_factory=list)


def read_label_studio(source: LabelStudioSource) -> list[RawRow]:
    """Read the tasks of an export, in its order.

    Cancelled (skipped) annotations do not count; annotations that are marked as ground truth outvote all others; a
    task with none left, or with predictions only, is unlabelled. The photo's path is resolved against
    ``source.images``; whether it is there is checked by the build.

    Raises:
        DataError: The file is no export, a task has no local photo or more than one choice, or annotators disagree and
            ``disagreement`` is ``error``, or ``majority`` finds none. All findings are in the message.
    """
    findings = Findings()
    rows, dropped = [], []
    for task in _tasks(source, findings):
        name = _photo_name(task, source, findings)
        label, agreed = _decide(task, source, findings)
        if not agreed:
            dropped.append(task.where)
        elif name is not None:
            rows.append(RawRow(name=name, label=label, where=task.where))
    findings.raise_if_any(DataError, f"{source.path}: wrong tasks in source {source.name!r}")
    _report(source, dropped)
    return rows


def _tasks(source: LabelStudioSource, findings: Findings) -> Iterator[_Task]:
    try:
        items = json.loads(read_bytes(source.path))
    except ValueError as error:
        raise DataError(f"{source.path}: not JSON ({error}); export the project as JSON or JSON-MIN") from error
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise DataError(f"{source.path}: expected a list of tasks; export the project as JSON or JSON-MIN")
    if any("data" in item for item in items):
        return (_full_task(item, number, source, findings) for number, item in enumerate(items, start=1))
    return _min_tasks(items, source)


def _full_task(item: dict[str, Any], number: int, source: LabelStudioSource, findings: Findings) -> _Task:
    """A task of the JSON export; ``completions`` is the old name of ``annotations``."""
    where = f"{source.path}, task {item.get('id', f'number {number}')}"
    annotations = [a for a in item.get("annotations") or item.get("completions") or [] if not a.get("was_cancelled")]
    truths = [annotation for annotation in annotations if annotation.get("ground_truth")]
    choices = []
    for annotation in truths or annotations:
        results = [result for result in annotation.get("result") or [] if result.get("type") == "choices"]
        controls = sorted({str(result.get("from_name")) for result in results})
        if source.choice is None and len(controls) > 1:
            findings.add(f"{where}: has the controls {', '.join(controls)}; name one with `choice:`")
            continue
        choices.append(
            [
                choice
                for result in results
                if source.choice in (None, result.get("from_name"))
                for choice in result.get("value", {}).get("choices", [])
            ]
        )
    return _Task(where, (item.get("data") or {}).get(source.image), [choice for choice in choices if choice])


def _min_tasks(items: Sequence[dict[str, Any]], source: LabelStudioSource) -> Iterator[_Task]:
    """Tasks of the JSON-MIN export: flat, one item an annotation, so that items with one id are one task."""
    if items and (source.choice is None or not any(source.choice in item for item in items)):
        got = "is not set" if source.choice is None else f"is {source.choice!r}"
        raise DataError(
            f"{source.path}: a JSON-MIN export, and `choice:` {got}; name the control, one of the keys "
            f"{', '.join(dict.fromkeys(key for item in items for key in item))} (source {source.name!r})"
        )
    tasks: dict[Any, _Task] = {}
    for number, item in enumerate(items, start=1):
        task_id = item.get("id", f"number {number}")
        task = tasks.setdefault(task_id, _Task(f"{source.path}, task {task_id}", item.get(source.image)))
        value = item.get(source.choice or "")
        chosen = value.get("choices", []) if isinstance(value, dict) else [value] if value else []
        if chosen:
            task.choices.append([str(choice) for choice in chosen])
    return iter(tasks.values())


def _decide(task: _Task, source: LabelStudioSource, findings: Findings) -> tuple[str | None, bool]:
    """The task's label, and False when it is to be dropped."""
    several = next((choice for choice in task.choices if len(choice) > 1), None)
    if several:
        findings.add(f"{task.where}: several choices in one annotation ({', '.join(several)}); leave one of them")
        return None, True
    votes = Counter(choice for (choice,) in task.choices)
    if not votes:
        return None, True
    (label, most), *_ = votes.most_common(1)
    if len(votes) == 1 or (source.disagreement == "majority" and 2 * most > votes.total()):
        return label, True
    if source.disagreement == "drop":
        return None, False
    listed = ", ".join(f"{choice} ({count})" for choice, count in votes.most_common())
    remedy = "no choice has a majority" if source.disagreement == "majority" else "set `disagreement: majority`"
    findings.add(f"{task.where}: annotators disagree: {listed}; {remedy}; decide it in Label Studio, or drop it")
    return None, True


def _photo_name(task: _Task, source: LabelStudioSource, findings: Findings) -> str | None:
    """Path of the photo relative to ``source.images``; None, with a finding, when there is none."""
    if not isinstance(task.image, str) or not task.image.strip():
        findings.add(
            f"{task.where}: data has no text {source.image!r} (got {task.image!r}); name the photo's key with `image:`"
        )
        return None
    if task.image.startswith("data:"):
        findings.add(f"{task.where}: the photo is inside the export (base64); write it to a file below {source.images}")
        return None
    name = _local_path(task.image)
    if task.image.startswith("/data/upload/") or "://" in task.image:
        return _without_prefix(name, source.images)
    return name


def _local_path(value: str) -> str:
    """What a URL or path of Label Studio says below the directory of photos.

    ``/data/local-files/?d=a/b.jpg`` is ``a/b.jpg``, ``/data/upload/7/3f2a1b9c-b.jpg`` is ``3f2a1b9c-b.jpg``,
    ``s3://bucket/a/b.jpg`` is ``a/b.jpg``. A plain relative path stays as it is.
    """
    if "://" not in value and not value.startswith("/data/"):
        return value
    if "/data/local-files/?d=" in value:  # taken literally: file names may hold & and #
        return unquote(value.partition("?d=")[2]).replace("\\", "/").lstrip("/")
    path = unquote(urlsplit(value).path)
    if path.startswith("/data/upload/"):
        return path.rsplit("/", 1)[-1]
    return path.lstrip("/")


def _without_prefix(name: str, images: Path) -> str:
    """The name without the upload prefix, when only that file is there."""
    stripped = _UPLOAD_PREFIX.sub("", name)
    return stripped if not (images / name).is_file() and (images / stripped).is_file() else name


def _report(source: LabelStudioSource, dropped: list[str]) -> None:
    if not dropped:
        return
    print(f"source {source.name}: {len(dropped)} tasks dropped, annotators disagree", file=sys.stderr)
    for where in dropped[:SHOWN]:
        print(f"  {where}", file=sys.stderr)
    if len(dropped) > SHOWN:
        print(f"  … and {len(dropped) - SHOWN} more", file=sys.stderr)
