"""Run directories as the pipeline's own writers leave them, without any training: simulated answers, small photos."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from dataset_builders.files import write_json, write_text
from dataset_builders.manifest import QUARANTINED, ManifestRow, write_manifest
from dataset_builders.summary import summarize
from dataset_builders.task_card import TaskCard
from fusion.fit import FitSettings
from fusion.fuse import fuse
from launch.pipeline.step import Marker, write_marker
from launch.predict.parts import PartHeader, ShardScores, part_path, write_part
from launch.predict.rows import PhotoRow, Shard

ROOT = Path(__file__).parents[4]
HOSTILE = "<img src=x onerror=alert(1)>.jpg"
REASON = "cannot identify <script>alert(2)</script>"
SHARES = np.array([0.08, 0.2, 0.25, 0.37, 0.1])
IMAGES = 12  # different photos; rows share them


def make_run(
    directory: Path,
    card: TaskCard,
    *,
    photos: int = 240,
    labelled: bool = True,
    specialists: Sequence[str] = ("high_risk",),
    out_of_fold: bool = False,
    image_size: tuple[int, int] = (160, 120),
    trained: bool = True,
) -> Path:
    """Write data set, predictions, trainings, fusion and run directory of a pipeline; the run directory is returned.

    Args:
        directory: Everything is written below it; the run's paths are absolute.
        card: The corridor's card.
        photos: Test photos of the last source; the other one has a fifth of them.
        labelled: Whether test labels are known.
        specialists: Those that take part.
        out_of_fold: Fit on all folds.
        image_size: Of the photos.
        trained: Whether trainer logs are there.
    """
    rows = _rows(photos, labelled)
    _write_photos(directory / "data", image_size)
    _write_dataset(directory / "data", rows, card, specialists)
    rng = np.random.default_rng(0)
    usable = [row for row in rows if row.usable]
    truth = np.array([_truth(row) for row in usable])
    logps = {"base": _answers(rng, truth, np.eye(len(card.labels)), 1.7)}
    for name in specialists:
        positive = np.isin(card.label_ids, card.specialist(name).targets)
        logps[name] = _answers(rng, truth, np.stack([positive, ~positive], axis=1).astype(float), 3.0)
    # Base is certain of the wrong label for the photo with the hostile name, the specialist of the right one.
    hostile = next(at for at, row in enumerate(usable) if row.name == HOSTILE)
    logps["base"][hostile] = np.log([0.3, 0.02, 0.02, 0.64, 0.02])
    if "high_risk" in logps:
        logps["high_risk"][hostile] = np.log([0.9999, 0.0001])
    for name, values in logps.items():
        held_out = directory / "predictions" / "out_of_fold" if out_of_fold else None
        _write_stage(directory / "predictions" / name, held_out, card, name, usable, values)
        if trained:
            _write_training(directory / "saves" / name, seed=len(name))
            for fold in range(1, 3) if out_of_fold else ():
                _write_training(directory / "saves" / "out_of_fold" / name / f"fold-{fold}", seed=fold)
    run = directory / "runs"
    fuse(
        directory / "data",
        card,
        directory / "predictions" / "base",
        {name: directory / "predictions" / name for name in specialists},
        run / "fusion",
        out_of_fold=directory / "predictions" / "out_of_fold" if out_of_fold else None,
        settings=FitSettings(resamples=200, force_fusion=True),
    )
    _write_run(directory, run, specialists, out_of_fold)
    return run


def _rows(photos: int, labelled: bool) -> list[ManifestRow]:
    rng = np.random.default_rng(1)
    rows = []
    for source, count, split in (
        ("train", 400, "train"),
        ("board_a", photos // 5, "test"),
        ("board_b", photos, "test"),
    ):
        for position in range(count):
            name = f"楼道 {position}.jpg"
            label = int(rng.choice(5, p=SHARES))
            if source == "board_b" and position == 0:
                name, label = HOSTILE, 0
            broken = source == "board_b" and position == 1
            rows.append(
                ManifestRow(
                    sample_id=f"{source}/{name}", source=source, name=name, position=position,
                    split="val" if split == "train" and position % 3 == 0 else split,
                    fold=position % 3 if split == "train" else -1, group=-1 if broken else len(rows),
                    label=IDS[label] if split == "train" or labelled else None,
                    image="" if broken else f"images/{len(rows) % IMAGES}.jpg", sha256=str(len(rows)),
                    repeats=int(split == "train" and position % 3 != 0),
                    status=QUARANTINED if broken else "ok", reason=REASON if broken else "",
                    transform=str(label),
                )
            )  # fmt: skip
    return rows


IDS = ("high", "medium", "low", "none", "not_corridor")


def _truth(row: ManifestRow) -> int:
    return int(str(row.transform))  # known to the simulated models also where the list does not say it


def _answers(rng: np.random.Generator, truth: np.ndarray, right_KA: np.ndarray, strength: float) -> np.ndarray:
    """Log-probabilities of answers to photos of a class, by normal evidence for the answer that is right for it."""
    logits = strength * (rng.normal(size=(len(truth), right_KA.shape[1])) + strength * right_KA[truth])
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def _write_photos(dataset: Path, size: tuple[int, int]) -> None:
    (dataset / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(2)
    for number in range(IMAGES):
        coarse = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
        photo = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        photo.save(dataset / "images" / f"{number}.jpg", quality=90)


def _write_dataset(dataset: Path, rows: list[ManifestRow], card: TaskCard, specialists: Sequence[str]) -> None:
    write_manifest(dataset, rows)
    for name in specialists:
        write_json(dataset / f"{name}.json", {"train": {"positive_rows": 30, "negative_rows": 60}})
    head = {"fingerprint": "d" * 64, "task": card.task, "labels": list(card.label_ids)}
    write_json(dataset / "build.json", head | summarize(rows, card))


def _write_stage(
    out: Path, held_out: Path | None, card: TaskCard, name: str, rows: list[ManifestRow], logps: np.ndarray
) -> None:
    main = [at for at, row in enumerate(rows) if row.split != "train"]
    _write_predictions(out, card, name, [rows[at] for at in main], logps[main], name)
    if held_out is None:
        return
    for fold in (1, 2):
        at = [n for n, row in enumerate(rows) if row.split == "train" and row.fold == fold]
        directory = held_out / name / f"fold-{fold}"
        _write_predictions(directory, card, name, [rows[n] for n in at], logps[at], f"{name}-{fold}")
    marker = {"task": card.task, "stage": name, "folds": {"1": "fold-1", "2": "fold-2"}}
    write_json(held_out / name / "out_of_fold.json", marker | {"predictions": {str(f): f"{name}-{f}" for f in (1, 2)}})


def _write_predictions(
    out: Path, card: TaskCard, stage: str, rows: list[ManifestRow], logps: np.ndarray, fingerprint: str
) -> None:
    shard = Shard(0, tuple(PhotoRow(row.sample_id, row.image, row.sha256) for row in rows))
    broken = [row.name == "楼道 2.jpg" and row.source == "board_b" for row in rows]
    errors = tuple(REASON if bad else "" for bad in broken)
    values = np.where(np.array(broken)[:, None], np.nan, logps)
    header = PartHeader(fingerprint, {}, stage, tuple(answer.id for answer in card.answers(stage)))
    write_part(part_path(out, 0), shard, ShardScores(values, np.zeros(len(rows)), errors), header)
    failed = [{"sample_id": row.sample_id, "error": REASON} for row, bad in zip(rows, broken, strict=True) if bad]
    counts = {"shards": 1, "rows": len(rows), "failed": len(failed), "failed_rows": failed}
    write_json(out / "predictions.json", {"fingerprint": fingerprint, **counts})


def _write_training(saves: Path, seed: int, steps: int = 1200) -> None:
    """What LLaMA-Factory's trainer leaves: a loss every ten steps, an evaluation every two hundred."""
    rng = np.random.default_rng(seed)
    history: list[dict[str, float]] = []
    for step in range(10, steps + 1, 10):
        loss = 6 * np.exp(-step / 60) + 0.2 + 0.05 * rng.normal()
        history.append({"step": step, "epoch": 3 * step / steps, "loss": float(max(loss, 0.02)), "learning_rate": 1e-4})
        if step % 200 == 0:
            history.append({"step": step, "epoch": 3 * step / steps, "eval_loss": 0.25 + 100 / step / 20})
    history.append({"step": steps, "epoch": 3.0, "train_runtime": 188.0, "train_loss": 0.4})
    state = {"global_step": steps, "max_steps": steps, "log_history": history}
    saves.mkdir(parents=True, exist_ok=True)
    (saves / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")


def _write_run(directory: Path, run: Path, specialists: Sequence[str], out_of_fold: bool) -> None:
    build = {"kind": "label_list", "name": "board_b", "role": "test", "path": "list.txt", "images": "photos"}
    data = {"task": str(ROOT / "recipes/tasks/corridor.yaml"), "out": str(directory / "data"), "sources": [build]}
    write_text(directory / "data.yaml", yaml.safe_dump(data))
    pipeline = {
        "name": "fixture",
        "task": data["task"],
        "data": str(directory / "data.yaml"),
        "base": {"recipe": "recipes/tiny/base.yaml"},
        "specialists": {
            name: {
                "recipe": "recipes/tiny/high_risk.yaml",
                "overrides": {"dataset": f"corridor_{name}_train", "eval_dataset": f"corridor_{name}_val"},
            }
            for name in specialists
        },
        "out_of_fold": out_of_fold,
        **{part: str(directory / part) for part in ("saves", "predictions", "runs")},
    }
    write_json(run / "config.json", {"pipeline": pipeline, "versions": {"python": "3.11.7", "torch": "2.11.0"}})
    write_text(run / "recipes/base.yaml", "# </pre><script>alert(3)</script>\nlearning_rate: 0.002\n")
    for name, seconds in (("build", 12.0), ("train_base", 188.0), ("fuse", 1.4)):
        outputs = {f"saves/{name}/adapter_model.safetensors": "a" * 64} if name == "train_base" else {}
        write_marker(run / "steps" / f"{name}.json", Marker(True, "k", {}, {}, outputs, seconds))
