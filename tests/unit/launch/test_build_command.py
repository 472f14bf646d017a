"""`riskfuse build`, `riskfuse specialist` and `riskfuse scenes`: what people see, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from dataset_builders.manifest import read_manifest
from dataset_builders.task_card import load_task_card
from launch.cli import main

CARD = Path(__file__).parents[3] / "recipes/tasks/corridor.yaml"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Build config of 15 noise photos of all classes and 3 test photos, one of them broken."""
    texts = [label.text for label in load_task_card(CARD).labels]
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(18):
        noise = np.random.default_rng(index).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((64, 64)).save(photos / f"{index}.png")
    (photos / "16.png").write_bytes(b"")
    (tmp_path / "train.txt").write_text("".join(f"{i}.png\t{texts[i % 5]}\n" for i in range(15)), encoding="utf-8")
    (tmp_path / "test.txt").write_text("15.png\n16.png\n17.png\n", encoding="utf-8")
    sources = [
        {"name": r, "kind": "label_list", "role": r, "path": str(tmp_path / f"{r}.txt"), "images": str(photos)}
        for r in ("train", "test")
    ]
    content = {"task": str(CARD), "out": str(tmp_path / "out"), "folds": 3, "balance": 4, "sources": sources}
    path = tmp_path / "build.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_build_prints_counts_and_quarantined_rows(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(config), "--workers", "1"]) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    ids = list(load_task_card(CARD).label_ids)
    assert lines[0] == [*ids, "unlabelled", "all"]
    assert lines[1] == ["train", "2", "2", "2", "2", "2", "0", "10"]
    assert lines[2] == ["train", "rows", "4", "4", "4", "4", "4", "0", "20"]
    assert lines[3] == ["val", "1", "1", "1", "1", "1", "0", "5"]
    assert lines[4] == ["test", "0", "0", "0", "0", "0", "2", "2"]
    assert "quarantined: 1\n  test/16.png: empty file (0 bytes)" in out
    assert "wrote" in out
    assert main(["build", str(config)]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main(["build", str(config), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["fresh"], found["labels"]) == (False, ids)


def test_mistakes_end_with_one_message_and_code_two(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", str(config), "--workers", "0"]) == 2
    assert "workers is 0" in capsys.readouterr().err
    (tmp_path / "train.txt").write_text("../1.png\t?\n", encoding="utf-8")
    assert main(["build", str(config)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("riskfuse build: ")
    assert "train.txt:1: '../1.png' leaves the image directory" in error
    assert "train.txt:1: unknown label '?'" in error
    assert "Traceback" not in error


def test_specialist_prints_counts(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = load_task_card(CARD)
    command = ["specialist", str(tmp_path / "out"), "--task", str(CARD), "--predictions", str(tmp_path / "base")]
    assert main(command) == 2
    assert main(["build", str(config)]) == 0
    ids = [row.sample_id for row in read_manifest(tmp_path / "out") if row.split == "train"]
    (tmp_path / "base").mkdir()
    columns = {f"logp_{label_id}": [-1.6] * len(ids) for label_id in card.label_ids}
    table = pa.table({"sample_id": ids, **columns, "status": ["ok"] * len(ids)})
    pq.write_table(table, tmp_path / "base/part-00000.parquet")
    (tmp_path / "base/predictions.json").write_text("{}", encoding="utf-8")
    capsys.readouterr()
    assert main([*command, "--rows", "30"]) == 0
    out = capsys.readouterr().out
    assert "train: 30 rows; 2 positives in 10 rows, 6 hard and 2 random negatives in 20 rows" in out
    assert "val:   5 rows; 1 positives, 4 negatives" in out
    assert main([*command, "--rows", "30"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main([*command, "--rows", "30", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["stages"]) == list(card.stages[1:])
    assert found["stages"]["high_risk"]["train"]["rows"] == 30


def test_scenes_need_a_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenes", "recipes/tiny/scenes.yaml", "--workers", "0"]) == 2
    assert "--workers must be at least 1, got 0" in capsys.readouterr().err
