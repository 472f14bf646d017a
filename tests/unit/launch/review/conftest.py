"""A finished run with a photo of a hostile name in its review queue, and reviewers who have decided."""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parents[1] / name) for name in ("report", "amplifier")]

from report_data import HOSTILE, make_run

from dataset_builders.task_card import TaskCard
from launch.report.run_files import RunFiles, find_run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, card: TaskCard) -> Path:
    """Two specialists; the photo with the hostile name comes first in the queue."""
    run = make_run(tmp_path_factory.mktemp("review"), card, photos=80, specialists=("high_risk", "clutter"))
    queue_first(run / "fusion/review.csv", "board_b", HOSTILE)
    return run


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of it for one test; data set and models are shared."""
    shutil.copytree(finished_run, tmp_path / "runs", ignore=shutil.ignore_patterns("review"))
    return tmp_path / "runs"


@pytest.fixture
def files(run: Path) -> RunFiles:
    return find_run(run)


def queue_first(path: Path, source: str, name: str) -> None:
    """Put a photo before all others of a ``review.csv``, with the figures of the last one."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    rows = [row for row in rows if (row["source"], row["name"]) != (source, name)]
    rows.insert(0, rows[-1] | {"source": source, "name": name})
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(row | {"rank": rank} for rank, row in enumerate(rows, 1))
