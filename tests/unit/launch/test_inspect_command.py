"""`riskfuse inspect`: what people see, the exit codes, and predictions of several folds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dataset_builders.files import write_json
from dataset_builders.manifest import ManifestRow, write_manifest
from dataset_builders.task_card import load_task_card
from launch.cli import main

CARD = Path(__file__).parents[3] / "recipes/tasks/corridor.yaml"
IDS = load_task_card(CARD).label_ids
ROWS = 60


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty noise photos of all classes; those of the first class have another size."""
    out = tmp_path_factory.mktemp("inspect_command") / "data"
    (out / "images").mkdir(parents=True)
    rows = []
    for index in range(ROWS):
        size = (48, 32) if index % len(IDS) == 0 else (32, 32)
        noise = np.random.default_rng(index).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(size).save(out / f"images/{index}.png")
        split = "val" if index % 4 == 3 else "train"
        rows.append(
            ManifestRow(
                sample_id=f"train/{index}.png", source="train", name=f"{index}.png", position=index, split=split,
                label=IDS[index % len(IDS)], image=f"images/{index}.png", sha256=str(index), bytes=1000,
                width=size[0], height=size[1], fold=index % 4, group=index, repeats=int(split == "train"),
            )
        )  # fmt: skip
    write_manifest(out, rows)
    write_json(out / "build.json", {"fingerprint": "f" * 64, "task": "corridor", "labels": list(IDS)})
    return out


def write_predictions(directory: Path, indices: range, ids: tuple[str, ...] = IDS) -> Path:
    """A model that is sure of the right label, but for photo 2, where it is sure of the first label."""
    directory.mkdir()
    logits = np.zeros((len(indices), len(ids)))
    logits[np.arange(len(indices)), [0 if i == 2 else i % len(ids) for i in indices]] = 6
    logps = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    columns = {"sample_id": [f"train/{i}.png" for i in indices], "status": ["ok"] * len(indices)}
    columns |= {"error": [""] * len(indices)} | {f"logp_{name}": logps[:, k] for k, name in enumerate(ids)}
    table = pa.table(columns).replace_schema_metadata({"riskfuse.fingerprint": json.dumps("f")})
    pq.write_table(table, directory / "part-00000.parquet")
    write_json(directory / "predictions.json", {"fingerprint": "f", "shards": 1, "rows": len(indices)})
    return directory


def test_report_and_exit_codes(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folds = [str(write_predictions(tmp_path / f"fold-{k}", range(k, ROWS, 2))) for k in range(2)]
    command = ["inspect", str(dataset), "--workers", "1", "--task", str(CARD)]
    assert main([*command, "--predictions", *folds, "--fail-on", "leak, shortcut"]) == 1
    shown = capsys.readouterr()
    assert "problem  shortcut: A class can be told" in shown.out
    assert "ok       leak: " in shown.out
    assert "wrote runs/inspect/data/report.html" in shown.out
    assert "riskfuse inspect: problems in shortcut" in shown.err
    assert shown.err.count("note: no out_of_fold.json beside") == 2
    report = json.loads((tmp_path / "runs/inspect/data/report.json").read_text(encoding="utf-8"))
    assert report["labels"] == {label.id: label.text for label in load_task_card(CARD).labels}
    assert report["sections"]["label_errors"]["rows"] == ROWS
    first = report["sections"]["label_errors"]["ranked"][0]
    assert (first["sample_id"], first["label"], first["likely"]) == ("train/2.png", IDS[2], IDS[0])
    page = (tmp_path / "runs/inspect/data/report.html").read_text(encoding="utf-8")
    assert load_task_card(CARD).text_of(IDS[0]) in page
    assert main([*command[:-2], "--out", str(tmp_path / "out"), "--fail-on", "leak"]) == 0
    assert "not done label_errors" in capsys.readouterr().out
    assert main([*command[:-2], "--out", str(tmp_path / "out"), "--fail-on", "shortcut", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert {"name": "shortcut", "verdict": "problem"}.items() <= next(
        row.items() for row in found["findings"] if row["name"] == "shortcut"
    )


def test_mistakes_end_with_one_message_and_code_two(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["inspect", str(dataset), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main([*command, "--fail-on", "leaks"]) == 2
    assert "unknown finding 'leaks'; the findings are classes" in capsys.readouterr().err
    assert main([*command, "--fail-on", "label_errors"]) == 2
    assert "needs --predictions" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path), "--workers", "1"]) == 2
    assert "not complete" in capsys.readouterr().err
    assert main([*command[:-1], "0"]) == 2
    assert "--workers must be at least 1" in capsys.readouterr().err
    assert main([*command, "--task", str(CARD.with_name("elpv.yaml"))]) == 2
    assert "holds task 'corridor'" in capsys.readouterr().err
    same = [str(write_predictions(tmp_path / f"same-{k}", range(4))) for k in range(2)]
    assert main([*command, "--predictions", *same]) == 2
    assert "'train/0.png' is in another directory too" in capsys.readouterr().err
    other = str(write_predictions(tmp_path / "other", range(4), ("yes", "no")))
    assert main([*command, "--predictions", other]) == 2
    assert "predictions of the right stage and task" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
