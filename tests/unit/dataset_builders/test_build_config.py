"""The build config: what it refuses, and that the shipped ones load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dataset_builders.build_config import BuildConfig, load_build_config
from dataset_builders.errors import ConfigError

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("path", sorted((ROOT / "recipes/data").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configs_load(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert load_build_config(path).task.is_file()


def test_all_findings_come_at_once(tmp_path: Path) -> None:
    source = {"name": "a b", "kind": "label_list", "role": "dev", "path": "x", "images": "y"}
    path = tmp_path / "build.yaml"
    path.write_text(yaml.safe_dump({"task": "t", "out": "o", "fold": 3, "sources": [source]}), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_build_config(path)
    for part in ("fold:", "sources.0.label_list.name", "sources.0.label_list.role"):
        assert part in str(caught.value)


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such build config"):
        load_build_config(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(ConfigError, match="not readable as UTF-8 YAML"):
        load_build_config(tmp_path / "broken.yaml")
    (tmp_path / "empty.yaml").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="not a valid build config"):
        load_build_config(tmp_path / "empty.yaml")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"folds": 3, "val_fold": 3}, "choose 0 to 2"),
        ({"near_duplicates": {"hash_size": 8}}, "hamming is 48 of 64 bits"),
        ({"near_duplicates": {"hash_size": 12}}, "multiple of 8"),
        ({"sources": []}, "at least 1 item"),
    ],
)
def test_impossible_values(make_config: Callable[..., BuildConfig], changes: dict, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        make_config(**changes)


def test_out_and_sources_keep_apart(make_config: Callable[..., BuildConfig], photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="which a build clears"):
        make_config(out=tmp_path)
    folder = {"name": "a", "kind": "image_folder", "role": "test", "path": photos}
    with pytest.raises(ValueError, match="which is read whole"):
        make_config(out=photos / "out", sources=[folder])
    written = {"name": "a", "kind": "hf_dataset", "role": "test", "path": photos, "images": photos / "written"}
    with pytest.raises(ValueError, match=r"images \(.*\) lies in .*; choose a directory elsewhere"):
        make_config(sources=[written])
    with pytest.raises(ValueError, match="source name used twice: a"):
        make_config(sources=[folder, folder])


def test_workers_are_no_part_of_the_content(make_config: Callable[..., BuildConfig]) -> None:
    config = make_config()
    assert config.with_workers(3).workers == 3
    assert config.with_workers(3).content() == config.content()
    with pytest.raises(ConfigError, match="workers is 0"):
        config.with_workers(0)
