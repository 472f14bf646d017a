"""A whole inspection: planted faults are problems, a clean set is calm, the page is safe and the same every time."""

from __future__ import annotations

import html.parser
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from inspect_data import LABELS, make_photo, write_dataset
from PIL import Image

from dataset_builders.errors import ConfigError, DataError
from dataset_builders.inspect import FINDINGS, Verdict, check_finding_names, inspect_dataset, write_inspection
from dataset_builders.manifest import QUARANTINED, ManifestRow, write_manifest


def _verdicts(directory: Path, **options: object) -> dict[str, Verdict]:
    return {finding.name: finding.verdict for finding in inspect_dataset(directory, **options).findings}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("inspect") / "clean"
    write_dataset(directory, 150)
    return directory


def test_a_clean_set_is_calm(clean: Path) -> None:
    verdicts = _verdicts(clean)
    assert {name for name, verdict in verdicts.items() if verdict is Verdict.PROBLEM} == set()
    for name in ("leak", "contradictions", "duplicates", "shortcut", "shift", "quarantined"):
        assert verdicts[name] is Verdict.OK, name
    assert verdicts["classes"] is Verdict.LOOK  # ten validation photos a class


def test_an_image_size_shortcut_is_a_problem(tmp_path: Path) -> None:
    write_dataset(tmp_path, 150, lambda i, label: make_photo(i, (80, 60) if label == "hot" else (64, 64)))
    inspection = inspect_dataset(tmp_path)
    assert "shortcut" in {finding.name for finding in inspection.problems(["shortcut"])}
    assert inspection.problems(["leak", "contradictions", "shift"]) == ()
    facts = next(section for section in inspection.sections if section.key == "shortcuts").facts
    assert facts["label"]["file"]["classes"][0]["label"] == "hot"
    assert facts["label"]["file"]["classes"][0]["low"] > 0.95


def test_a_shortcut_of_light_is_a_problem(tmp_path: Path) -> None:
    def photo(index: int, label: str) -> Image.Image:
        return make_photo(index).point(lambda value: value * 0.3) if label == "warm" else make_photo(index)

    write_dataset(tmp_path, 150, photo)
    assert _verdicts(tmp_path)["shortcut"] is Verdict.PROBLEM


def test_splits_of_other_sizes_are_a_shift(tmp_path: Path) -> None:
    write_dataset(tmp_path, 150, lambda i, _: make_photo(i, (80, 60) if i % 5 == 4 else (64, 64)))
    verdicts = _verdicts(tmp_path)
    assert verdicts["shift"] is Verdict.PROBLEM
    assert verdicts["shortcut"] is Verdict.OK


def test_leaks_and_contradictions(tmp_path: Path) -> None:
    """Photo 4 (val, warm) is photo 0 (train, hot) again, with other bytes."""
    write_dataset(tmp_path, 60, lambda i, _: make_photo(0).point(lambda v: v * 0.9) if i == 4 else make_photo(i))
    inspection = inspect_dataset(tmp_path)
    assert {finding.name for finding in inspection.problems(list(FINDINGS))} == {"leak", "contradictions"}
    pairs = next(section for section in inspection.sections if section.key == "near_duplicates").facts["pairs"]
    assert [(pair["first"], pair["second"]) for pair in pairs] == [("train/p0000.jpg", "train/p0004.jpg")]
    assert pairs[0]["kinds"] == ["across_splits", "different_labels"]


def test_near_duplicates_in_one_group_of_the_build_are_known(tmp_path: Path) -> None:
    write_dataset(tmp_path, 60, lambda i, _: make_photo(0 if i == 3 else i), group=lambda i: 0 if i == 3 else i)
    verdicts = _verdicts(tmp_path)
    assert verdicts["duplicates"] is verdicts["leak"] is verdicts["contradictions"] is Verdict.OK


def test_flat_dark_and_bright_photos_are_outliers(tmp_path: Path) -> None:
    special = {1: "#808080", 2: "#030303", 3: "#fefefe"}
    write_dataset(tmp_path, 60, lambda i, _: Image.new("RGB", (64, 64), special[i]) if i in special else make_photo(i))
    inspection = inspect_dataset(tmp_path)
    facts = next(section for section in inspection.sections if section.key == "outliers").facts
    assert facts["counts"] == {"flat": 3, "dark": 1, "bright": 1, "blurred": 0}
    assert inspection.problems(["outliers"])
    unusual = {item["sample_id"] for item in facts["unusual"]}
    assert {f"train/p{i:04d}.jpg" for i in special} <= unusual


def _with_copies(directory: Path, rows: list[ManifestRow], labels: tuple[str, ...] = (LABELS[0],)) -> None:
    """Add a dark copy of every training photo of these classes, as an augmentation would."""
    copies = []
    for row in rows:
        if row.label in labels and row.split == "train":
            image = f"images/augmented/{row.name}"
            (directory / image).parent.mkdir(exist_ok=True)
            dark = Image.open(directory / row.image).point(lambda value: value * 0.2)
            dark.save(directory / image, quality=60)
            copies.append(replace(row, sample_id=f"{row.sample_id}~001", parent=row.sample_id, image=image))
    write_manifest(directory, [*rows, *copies])


def test_copies_are_judged_apart_from_photos(tmp_path: Path) -> None:
    rows = write_dataset(tmp_path, 150)
    before = _verdicts(tmp_path)
    _with_copies(tmp_path, rows)
    inspection = inspect_dataset(tmp_path)
    after = {finding.name: finding.verdict for finding in inspection.findings}
    assert {name: after[name] for name in before} == before
    assert after["copies"] is Verdict.PROBLEM  # every dark photo is hot
    hot, warm, _ = next(section for section in inspection.sections if section.key == "shortcuts").facts["copies"]
    assert hot["share"] == 0.5
    assert hot["low"] > 0.9
    assert (warm["share"], warm["auc"]) == (0, None)
    assert inspection.header["copies"] == 40
    few = [row for row in rows if row.label != LABELS[1]] + [row for row in rows if row.label == LABELS[1]][:3]
    _with_copies(tmp_path, few, (LABELS[0], LABELS[1]))  # two dark copies of warm are too few to say what tells them
    assert _verdicts(tmp_path)["copies"] is Verdict.LOOK


class _Page(html.parser.HTMLParser):
    """Collects tags, and everything that a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loaded: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_safe_complete_and_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    strange = "<img src=x onerror=alert(1)>楼道&'\".jpg"
    rows = write_dataset(
        tmp_path / "data", 60, lambda i, _: make_photo(0 if i == 4 else i), lambda i: strange if i == 0 else f"{i}.jpg"
    )
    gone = replace(rows[7], status=QUARANTINED, image="", reason="broken photo: <b>坏</b>", repeats=0)
    write_manifest(tmp_path / "data", [*rows[:7], gone, *rows[8:]])
    probabilities = {row.sample_id: np.full(3, 1 / 3) for row in rows}
    for workers in (1, 2):
        inspection = inspect_dataset(tmp_path / "data", probabilities=probabilities, workers=workers)
        write_inspection(inspection, tmp_path / str(workers))
    for name in ("report.html", "report.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    page = _Page()
    page.feed((tmp_path / "1" / "report.html").read_text(encoding="utf-8"))
    assert page.loaded
    assert all(value.startswith(("data:image/jpeg;base64,", "#")) for value in page.loaded)
    assert not page.tags & {"script", "link", "iframe", "object", "b "}
    assert f"train/{strange}" in page.text
    assert "<b>坏</b>" in page.text
    report = json.loads((tmp_path / "1" / "report.json").read_text(encoding="utf-8"))
    assert report["photos"] == 59
    assert set(report["findings"]) == set(FINDINGS) - {"copies"}
    assert report["sections"]["photos"]["reasons"] == {"broken photo": 1}


def test_an_unlabelled_test_set_alone(tmp_path: Path) -> None:
    write_dataset(tmp_path, 40, split=lambda i: "test", label=lambda i: None, repeats=lambda i: 0)
    inspection = inspect_dataset(tmp_path)
    assert inspection.problems(list(FINDINGS)) == ()
    write_inspection(inspection, tmp_path / "report")


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_handful_of_photos(tmp_path: Path, count: int) -> None:
    write_dataset(tmp_path, count)
    write_inspection(inspect_dataset(tmp_path), tmp_path / "report")


def test_mistakes_name_the_remedy(tmp_path: Path, clean: Path) -> None:
    with pytest.raises(DataError, match="not complete"):
        inspect_dataset(tmp_path)
    with pytest.raises(ConfigError, match="unknown finding 'leaks'; the findings are classes, quarantined"):
        check_finding_names(["leak", "leaks"])
    rows = write_dataset(tmp_path, 6)
    (tmp_path / rows[3].image).write_bytes(b"\xff\xd8 no photo")
    with pytest.raises(DataError, match=r"p0003\.jpg: the photo does not decode"):
        inspect_dataset(tmp_path)
