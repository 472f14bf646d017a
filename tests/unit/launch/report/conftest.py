"""Runs that several tests of the report look at."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_data import make_run

from dataset_builders.task_card import TaskCard


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory, card: TaskCard) -> Path:
    """Two specialists, out of fold, test labels known, trainer logs there."""
    directory = tmp_path_factory.mktemp("full")
    return make_run(directory, card, specialists=("high_risk", "clutter"), out_of_fold=True)


@pytest.fixture(scope="session")
def bare_run(tmp_path_factory: pytest.TempPathFactory, card: TaskCard) -> Path:
    """One specialist, one split, test labels unknown as in a competition, no trainer log."""
    return make_run(tmp_path_factory.mktemp("bare"), card, labelled=False, trained=False)
