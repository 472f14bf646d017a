"""Label Studio exports: whose choice counts, where the photo lies, and what is refused with which message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from dataset_builders.build_config import Source
from dataset_builders.errors import DataError
from dataset_builders.sources import Entry, read_sources
from dataset_builders.task_card import TaskCard


def annotation(*choices: str, control: str = "grade", **more: Any) -> dict[str, Any]:
    box = {"type": "rectanglelabels", "from_name": "box", "value": {"rectanglelabels": ["x"]}}
    chosen = {"type": "choices", "from_name": control, "to_name": "img", "value": {"choices": list(choices)}}
    return {"id": 1, "was_cancelled": False, "ground_truth": False, "result": [box, chosen], **more}


def task(number: int, *annotations: dict[str, Any], image: Any = None, **more: Any) -> dict[str, Any]:
    return {"id": number, "data": {"image": image or f"{number}.jpg"}, "annotations": list(annotations), **more}


def read(card: TaskCard, tmp_path: Path, items: Any, **more: Any) -> list[Entry]:
    path = tmp_path / "export.json"
    path.write_text(items if isinstance(items, str) else json.dumps(items), encoding="utf-8")
    (tmp_path / "images").mkdir(exist_ok=True)
    fields = {"kind": "label_studio", "name": "s", "role": "train", "path": path, "images": tmp_path / "images", **more}
    return read_sources([TypeAdapter(Source).validate_python(fields)], card)


def labels(entries: list[Entry]) -> list[tuple[str, str | None]]:
    return [(entry.name, entry.label) for entry in entries]


def test_one_choice_a_task(card: TaskCard, tmp_path: Path) -> None:
    entries = read(card, tmp_path, [task(7, annotation("危险")), task(8, annotation("cold"), annotation("cold"))])
    assert labels(entries) == [("7.jpg", "hot"), ("8.jpg", "cold")]
    assert entries[0].where.endswith("export.json, task 7")


def test_skipped_annotations_do_not_count_and_ground_truth_outvotes(card: TaskCard, tmp_path: Path) -> None:
    items = [
        task(1, annotation("hot"), annotation("cold", was_cancelled=True)),
        task(2, annotation("hot"), annotation("hot"), annotation("cold", ground_truth=True)),
        task(3, annotation("warm"), annotation()),
    ]
    assert [entry.label for entry in read(card, tmp_path, items)] == ["hot", "cold", "warm"]


def test_predictions_and_skipped_tasks_are_unlabelled(card: TaskCard, tmp_path: Path) -> None:
    items = [
        task(1, predictions=[annotation("hot")]),
        task(2, annotation("hot", was_cancelled=True)),
        {"id": 3, "data": {"image": "3.jpg"}},
    ]
    assert labels(read(card, tmp_path, items, role="test")) == [("1.jpg", None), ("2.jpg", None), ("3.jpg", None)]
    with pytest.raises(DataError, match=r"task 2: '2.jpg' has no label"):
        read(card, tmp_path, [task(1, annotation("hot")), items[1]])


def test_disagreement_is_an_error_a_vote_or_a_drop(
    card: TaskCard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_of_three = task(1, annotation("hot"), annotation("cold"), annotation("hot"))
    tie = task(2, annotation("hot"), annotation("cold"))
    agreed = task(3, annotation("warm"))
    with pytest.raises(DataError) as caught:
        read(card, tmp_path, [two_of_three, tie, agreed])
    assert "2 findings" in str(caught.value)
    assert r"task 1: annotators disagree: hot (2), cold (1); set `disagreement: majority`" in str(caught.value)
    assert labels(read(card, tmp_path, [two_of_three, agreed], disagreement="majority")) == [
        ("1.jpg", "hot"),
        ("3.jpg", "warm"),
    ]
    with pytest.raises(DataError, match=r"task 2: annotators disagree.*no choice has a majority"):
        read(card, tmp_path, [two_of_three, tie], disagreement="majority")
    assert labels(read(card, tmp_path, [two_of_three, tie, agreed], disagreement="drop")) == [("3.jpg", "warm")]
    listed = capsys.readouterr().err
    assert "2 tasks dropped" in listed
    assert "task 1" in listed
    assert "task 2" in listed


def test_json_min_joins_the_annotations_of_a_task(card: TaskCard, tmp_path: Path) -> None:
    items = [
        {"id": 1, "image": "/data/local-files/?d=a.jpg", "grade": "hot", "annotator": 1, "annotation_id": 1},
        {"id": 2, "image": "b.jpg", "grade": {"choices": ["cold"]}, "annotator": 1},
        {"id": 1, "image": "/data/local-files/?d=a.jpg", "grade": "hot", "annotator": 2},
    ]
    assert labels(read(card, tmp_path, items, choice="grade")) == [("a.jpg", "hot"), ("b.jpg", "cold")]
    with pytest.raises(DataError, match=r"JSON-MIN.*`choice:` is not set.*keys id, image, grade"):
        read(card, tmp_path, items)
    items[2]["grade"] = "warm"
    with pytest.raises(DataError, match="task 1: annotators disagree"):
        read(card, tmp_path, items, choice="grade")


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("a b.jpg", "a b.jpg"),
        ("set/a%20b.jpg", "set/a%20b.jpg"),
        ("/data/local-files/?d=set/a%20%26+b.jpg", "set/a &+b.jpg"),
        ("http://localhost:8080/data/local-files/?d=set%5Ca.jpg", "set/a.jpg"),
        ("/data/upload/12/3f2a1b9c-a.jpg", "3f2a1b9c-a.jpg"),
        ("/data/upload/3f2a1b9c-there.jpg", "there.jpg"),
        ("http://localhost:8080/data/upload/12/3f2a1b9c-there.jpg", "there.jpg"),
        ("/data/upload/12/3f2a1b9d-both.jpg", "3f2a1b9d-both.jpg"),
        ("/data/upload/12/%E6%A5%BC.jpg", "楼.jpg"),
        ("s3://bucket/set/a.jpg", "set/a.jpg"),
        ("https://host/set/a.jpg?token=1", "set/a.jpg"),
    ],
)
def test_paths_are_resolved_against_images(card: TaskCard, tmp_path: Path, spelled: str, name: str) -> None:
    (tmp_path / "images").mkdir()
    for file in ("there.jpg", "both.jpg", "3f2a1b9d-both.jpg"):
        (tmp_path / "images" / file).write_bytes(b"x")
    assert labels(read(card, tmp_path, [task(1, annotation("hot"), image=spelled)])) == [(name, "hot")]


@pytest.mark.parametrize(
    ("items", "more", "expected"),
    [
        ("{oops", {}, r"export.json: not JSON"),
        ('{"a": 1}', {}, "expected a list of tasks"),
        ("[]", {}, "empty"),
        ([task(5, annotation("hot", "cold"))], {}, r"task 5: several choices in one annotation \(hot, cold\)"),
        ([task(5, annotation("boiling"))], {}, r"task 5: unknown label 'boiling'"),
        ([task(5, annotation("hot"), image=["a", "b"])], {}, r"task 5: data has no text 'image' \(got \['a', 'b'\]\)"),
        ([task(5, annotation("hot"))], {"image": "photo"}, r"task 5: data has no text 'photo' \(got None\).*`image:`"),
        ([task(5, annotation("hot"), image="data:image/png;base64,AA")], {}, r"task 5: the photo is inside the export"),
        ([task(5, annotation("hot"), image="/mnt/a.jpg")], {}, r"task 5: '/mnt/a.jpg' leaves the image directory"),
        ([task(5, annotation("hot"), image="/data/local-files/?d=../a.jpg")], {}, "leaves the image directory"),
        ([task(5, annotation("hot")), task(6, annotation("hot"), image="5.jpg")], {}, "task 6: '5.jpg' stands already"),
    ],
)
def test_wrong_exports_are_refused_with_file_and_task(
    card: TaskCard, tmp_path: Path, items: Any, more: dict[str, Any], expected: str
) -> None:
    with pytest.raises(DataError, match=expected):
        read(card, tmp_path, items, **more)


def test_several_controls_need_a_name(card: TaskCard, tmp_path: Path) -> None:
    two = annotation("hot")
    two["result"] += annotation("yes", control="usable")["result"]
    with pytest.raises(DataError, match=r"task 1: has the controls grade, usable; name one with `choice:`"):
        read(card, tmp_path, [task(1, two)])
    assert labels(read(card, tmp_path, [task(1, two)], choice="grade")) == [("1.jpg", "hot")]
