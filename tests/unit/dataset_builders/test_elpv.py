"""The solar-cell example: tables, grades and the split, on the installed package."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from dataset_builders.elpv import Cell, main, read_cells, split_cells, write_tables
from dataset_builders.errors import DataError
from dataset_builders.task_card import load_task_card

ROOT = Path(__file__).parents[3]


def read_table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    out = tmp_path_factory.mktemp("elpv")
    write_tables(out)
    return out


def test_every_photo_is_in_one_table(tables):
    names = [row["name"] for table in ("train.csv", "test.csv") for row in read_table(tables / table)]
    assert len(names) == len(set(names)) == 2624
    assert set(names) == {path.name for path in (tables / "images").iterdir()}


def test_task_card_knows_every_grade(tables):
    card = load_task_card(ROOT / "recipes" / "tasks" / "elpv.yaml")
    counts = Counter(card.id_of(row["label"]) for t in ("train.csv", "test.csv") for row in read_table(tables / t))
    assert [counts[label] for label in card.label_ids] == [715, 106, 295, 1508]  # as the data set's paper says


def test_second_run_changes_nothing(tables):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tables / "images").iterdir()}
    lists = (tables / "train.csv").read_bytes()
    assert main(["--out", str(tables)]) == 0
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tables / "images").iterdir()}
    assert (tables / "train.csv").read_bytes() == lists


def test_split_keeps_the_shares_and_does_not_depend_on_the_order():
    cells = [Cell(f"{label}{kind}{i}", label, kind) for label in "ab" for kind in "mp" for i in range(50)]
    train, test = split_cells(cells)
    assert Counter((cell.label, cell.kind) for cell in test) == {(label, kind): 10 for label in "ab" for kind in "mp"}
    assert {cell.name for cell in split_cells(cells[::-1])[1]} == {cell.name for cell in test}
    assert len(train) + len(test) == len(cells)


@pytest.mark.parametrize("line", ["images/a.png 1.0", "images/a.png high mono"])
def test_damaged_row_is_named(tmp_path, line):
    path = tmp_path / "labels.csv"
    path.write_text(f"images/b.png 0.0 poly\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"labels\.csv:2"):
        read_cells(path)
