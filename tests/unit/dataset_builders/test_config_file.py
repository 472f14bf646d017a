"""YAML files that people write: whatever is wrong, one message names the file, all findings and the remedy."""

from pathlib import Path

import pytest
from pydantic import PositiveInt

from dataset_builders.config_file import FrozenModel, read_config
from dataset_builders.errors import ConfigError


class Shelf(FrozenModel):
    boards: PositiveInt
    name: str = "shelf"


def read(path: Path) -> Shelf:
    return read_config(path, Shelf, "shelf file", "the shipped one is shelf.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a valid shelf file"),
        (b"- 1", "(top level)"),
        (b"boards: 0\ncolour: red", "boards: Input should be greater than 0\n  colour: Extra inputs"),
        (b"boards: [", "not readable as UTF-8 YAML"),
        ("名: 架".encode("gbk"), "not readable as UTF-8 YAML"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_file_and_directory_say_where_one_is(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match=r"shelf file; the shipped one is shelf\.yaml"):
            read(path)


def test_values_do_not_change(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("boards: 3\n")
    with pytest.raises(ValueError, match="frozen"):
        read(path).boards = 4
