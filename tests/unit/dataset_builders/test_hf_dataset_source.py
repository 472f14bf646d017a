"""Hugging Face data sets on disk: every layout gives the same rows and the stored bytes; torch stays out."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from tiny_task import make_photo

from dataset_builders.build import build_dataset
from dataset_builders.build_config import BuildConfig, Source
from dataset_builders.errors import DataError
from dataset_builders.manifest import read_manifest
from dataset_builders.sources import Entry, read_sources
from dataset_builders.task_card import TaskCard

NAMES = ("安全", "注意", "危险")  # another order than the card's
IDS = ("cold", "warm", "hot")


def encoded(index: int, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    make_photo(index).save(buffer, kind)
    return buffer.getvalue()


RAW = [encoded(index, "PNG" if index % 2 else "JPEG") for index in range(30)]


def make_dataset(labels: Any = None) -> Any:
    from datasets import ClassLabel, Dataset, Features, Image

    columns: dict[str, Any] = {
        "image": [{"bytes": raw, "path": None} for raw in RAW],
        "label": labels or [index % 3 for index in range(len(RAW))],
    }
    return Dataset.from_dict(columns, features=Features({"image": Image(), "label": ClassLabel(names=list(NAMES))}))


def write_saved(root: Path) -> None:
    make_dataset().save_to_disk(root)


def write_splits(root: Path) -> None:
    from datasets import DatasetDict

    DatasetDict({"train": make_dataset(), "test": make_dataset().select(range(3))}).save_to_disk(root)


def write_parquet(root: Path) -> None:
    make_dataset().to_parquet(root / "data" / "train-00000-of-00001.parquet")
    (root / "README.md").write_text("---\nconfigs: [{config_name: default, data_files: https://x.invalid/a}]\n---\n")


def write_folder(root: Path) -> None:
    for index, raw in enumerate(RAW):  # classes in the order in which the rows come: sorted by name
        file = root / "train" / NAMES[index % 3] / f"{index:02d}.{'png' if index % 2 else 'jpg'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(raw)


def read(card: TaskCard, path: Path, images: Path, **more: Any) -> list[Entry]:
    fields = {"kind": "hf_dataset", "name": "s", "role": "train", "path": path, "images": images, **more}
    return read_sources([TypeAdapter(Source).validate_python(fields)], card)


@pytest.mark.parametrize(
    ("write", "split"),
    [
        (write_saved, None),
        (write_splits, "train"),
        (write_parquet, None),
        (write_parquet, "train"),
        (write_folder, None),
    ],
)
def test_every_layout_gives_the_same_rows_and_bytes(
    card: TaskCard, tmp_path: Path, write: Callable[[Path], None], split: str | None
) -> None:
    write(tmp_path / "in")
    entries = read(card, tmp_path / "in", tmp_path / "photos", split=split)
    got = {entry.file.read_bytes(): entry.label for entry in entries}
    assert got == {raw: IDS[index % 3] for index, raw in enumerate(RAW)}
    assert [entry.position for entry in entries] == list(range(30))
    if write is not write_folder:
        assert [entry.name for entry in entries[:2]] == ["000000.jpg", "000001.png"]
        assert entries[1].where.endswith("row 1")


def test_files_that_are_there_are_left_alone_and_damaged_ones_are_mended(card: TaskCard, tmp_path: Path) -> None:
    write_saved(tmp_path / "in")
    first, second, *_ = (entry.file for entry in read(card, tmp_path / "in", tmp_path / "photos"))
    second.write_bytes(b"x")
    before = first.stat().st_mtime_ns
    read(card, tmp_path / "in", tmp_path / "photos")
    assert first.stat().st_mtime_ns == before
    assert second.read_bytes() == RAW[1]


def test_labels_may_be_missing_numbers_or_texts(card: TaskCard, tmp_path: Path) -> None:
    from datasets import Dataset, Image

    make_dataset([-1] * len(RAW)).save_to_disk(tmp_path / "unlabelled")
    entries = read(card, tmp_path / "unlabelled", tmp_path / "a", role="test")
    assert {entry.label for entry in entries} == {None}
    columns = {"photo": [{"bytes": raw, "path": None} for raw in RAW[:2]], "grade": [2, 2]}
    Dataset.from_dict(columns).cast_column("photo", Image()).save_to_disk(tmp_path / "numbers")
    entries = read(card, tmp_path / "numbers", tmp_path / "b", columns={"image": "photo", "label": "grade"})
    assert [entry.label for entry in entries] == ["hot", "hot"]  # the card's alias "2"
    Dataset.from_dict({"image": RAW[:2], "label": ["hot", "安全"]}).save_to_disk(tmp_path / "bytes")
    assert [entry.label for entry in read(card, tmp_path / "bytes", tmp_path / "c")] == ["hot", "cold"]


def test_a_row_without_a_photo_is_quarantined(make_config: Callable[..., BuildConfig], tmp_path: Path) -> None:
    from datasets import Dataset

    files: list[Any] = [f"files/{index}" for index in range(len(RAW))]  # photos may be paths, relative to the data set
    columns = {"image": [*files, None, "files/gone.jpg"], "label": [NAMES[index % 3] for index in range(len(RAW) + 2)]}
    Dataset.from_dict(columns).save_to_disk(tmp_path / "in")
    (tmp_path / "in" / "files").mkdir()
    for file, raw in zip(files, RAW, strict=True):
        (tmp_path / "in" / file).write_bytes(raw)
    source = {"kind": "hf_dataset", "name": "hf", "role": "train", "path": tmp_path / "in", "images": tmp_path / "p"}
    config = make_config(sources=[source])
    assert build_dataset(config).fresh
    rows = read_manifest(config.out)
    assert [row.name for row in rows if not row.usable] == ["000030.bin", "000031.jpg"]
    assert all(row.reason.startswith("missing") for row in rows if not row.usable)
    assert [(config.out / row.image).read_bytes() for row in rows if row.usable] == RAW
    assert not build_dataset(config).fresh


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("fine/train-station.jpg", r"3 of its files: cold/a.jpg, cold/b.jpg, hot/a.jpg\. .* below \S+in/train"),
        ("fine/test_1.jpg", "3 of its files: cold/a.jpg, cold/b.jpg, hot/a.jpg"),
        ("hot/photo.heic", "1 of its files: hot/photo.heic"),
        ("hot/more", "1 of its files: hot/more"),  # a link to a directory
        ("train-0.parquet", "1 of its files: extra.parquet"),
    ],
)
def test_no_file_is_left_out_in_silence(card: TaskCard, tmp_path: Path, name: str, left_out: str) -> None:
    parquet = name.endswith(".parquet")
    others = ["README.md", "cold/.x.jpg", "cold/a.jpg", "cold/b.jpg", "hot/a.jpg"]
    for other in ["extra.parquet"] if parquet else others:
        (tmp_path / "in" / other).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / other).write_bytes(RAW[0])
    if not parquet:
        assert len(read(card, tmp_path / "in", tmp_path / "before")) == 3
    (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
    if name == "hot/more":
        (tmp_path / "in" / name).symlink_to(tmp_path / "before")
    else:
        (tmp_path / "in" / name).write_bytes(RAW[0])
    with pytest.raises(DataError, match=f"in: `datasets` would leave out {left_out}"):
        read(card, tmp_path / "in", tmp_path / "photos")


@pytest.mark.parametrize(
    ("write", "more", "expected"),
    [
        (write_splits, {}, "splits train, test; choose one with `split:`"),
        (write_splits, {"split": "dev"}, "no split 'dev'; it has train, test"),
        (write_saved, {"split": "train"}, "no split 'train'; leave `split:` out"),
        (write_saved, {"columns": {"image": "img"}}, r"no column img; it has image, label: set `columns:"),
        (write_saved, {"columns": {"image": "label", "label": None}}, "row 0: column 'label' holds int"),
        (lambda root: root.mkdir(), {}, "cannot read it.*expected a directory made by save_to_disk"),
        (lambda root: None, {}, "no such directory"),
    ],
)
def test_wrong_data_sets_are_refused(
    card: TaskCard, tmp_path: Path, write: Callable[[Path], None], more: dict[str, Any], expected: str
) -> None:
    write(tmp_path / "in")
    with pytest.raises(DataError, match=expected):
        read(card, tmp_path / "in", tmp_path / "photos", **more)


def test_a_directory_of_other_photos_is_not_touched(card: TaskCard, tmp_path: Path) -> None:
    write_splits(tmp_path / "in")
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "mine.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match="no empty directory"):
        read(card, tmp_path / "in", photos, split="test")
    (photos / "mine.jpg").unlink()
    read(card, tmp_path / "in", photos, split="test")
    with pytest.raises(DataError, match="another data set or split"):
        read(card, tmp_path / "in", photos, split="train")


def test_a_broken_file_is_named(card: TaskCard, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"in: `datasets` cannot read it"):
        read(card, tmp_path / "in", tmp_path / "photos")


def test_reading_loads_no_torch(tmp_path: Path) -> None:
    write_parquet(tmp_path / "in")
    script = f"""
import sys
from dataset_builders.build_config import HfDatasetSource
from dataset_builders.sources.hf_dataset import read_hf_dataset
source = HfDatasetSource(kind="hf_dataset", name="s", role="train", path={str(tmp_path / "in")!r},
                         images={str(tmp_path / "photos")!r})
assert len(read_hf_dataset(source)) == 30
print([name for name in ("torch", "transformers", "ray") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
