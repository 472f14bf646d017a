"""Tiny tasks, photos and sources for the tests of the builders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_task import CARD, make_photo

from dataset_builders.build_config import BuildConfig
from dataset_builders.task_card import TaskCard


@pytest.fixture(scope="session")
def card() -> TaskCard:
    return TaskCard.model_validate(CARD)


@pytest.fixture
def card_path(tmp_path: Path) -> Path:
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump(CARD, allow_unicode=True), encoding="utf-8")
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A directory of 30 training photos named t00.jpg … and 5 test photos x0.png …"""
    directory = tmp_path / "photos"
    directory.mkdir()
    for index in range(30):
        make_photo(index).save(directory / f"t{index:02d}.jpg", quality=95)
    for index in range(5):
        make_photo(1000 + index).save(directory / f"x{index}.png")
    return directory


@pytest.fixture
def lists(tmp_path: Path, photos: Path) -> tuple[Path, Path]:
    """Label list of the training photos (ten of each class) and the unlabelled test list."""
    texts = [label["text"] for label in CARD["ladder"]]
    train, test = tmp_path / "train.txt", tmp_path / "test.txt"
    train.write_text("".join(f"t{i:02d}.jpg\t{texts[i % 3]}\n" for i in range(30)), encoding="utf-8")
    test.write_text("".join(f"x{i}.png\n" for i in (3, 1, 4, 0, 2)), encoding="utf-8")
    return train, test


@pytest.fixture
def make_config(tmp_path: Path, card_path: Path, photos: Path, lists: tuple[Path, Path]) -> Callable[..., BuildConfig]:
    """Build config of the training and the test list; keyword arguments replace fields."""

    def make(**changes: Any) -> BuildConfig:
        train, test = lists
        shared = {"kind": "label_list", "images": photos}
        fields = {
            "task": card_path,
            "out": tmp_path / "out",
            "seed": 7,
            "workers": 1,
            "sources": [
                {"name": "train", "role": "train", "path": train, **shared},
                {"name": "test", "role": "test", "path": test, **shared},
            ],
        }
        return BuildConfig.model_validate({**fields, **changes})

    return make
