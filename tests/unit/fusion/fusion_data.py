"""Simulated photos, predictions and directories for the tests of fusion."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataset_builders.manifest import ManifestRow, write_manifest
from dataset_builders.task_card import TaskCard
from fusion.fit import FitRows, Target

__all__ = ["SHARES", "make_card", "make_target", "simulate", "write_dataset", "write_predictions"]

SHARES = np.array([0.06, 0.24, 0.40, 0.30])
PRIOR = 1 / 3


def make_card(**more: Sequence[str]) -> TaskCard:
    """A card with the specialist `second` for red; keyword arguments add others by name, with their targets."""
    prompt = {"system": "{rules}", "user": "{answers}"}
    return TaskCard.model_validate(
        {
            "task": "colours",
            "title": "colours",
            "ladder": [
                {"id": "red", "text": "红 色", "weight": 2.0, "rule": "r", "aliases": ["crimson"]},
                {"id": "amber", "text": "黄", "weight": 1.5, "rule": "a"},
                {"id": "green", "text": "绿", "weight": 1.0, "rule": "g"},
            ],
            "off_ladder": [{"id": "grey", "text": "灰", "weight": 1.0, "rule": "x"}],
            "fallback": "green",
            "base": prompt,
            "specialists": [
                {
                    "name": name,
                    "targets": list(targets),
                    "positive": {"id": "yes", "text": "有"},
                    "negative": {"id": "no", "text": "无"},
                    "prompt": prompt,
                }
                for name, targets in {"second": ("red",), **more}.items()
            ],
            "pixel_budget": {"min_pixels": 784, "max_pixels": 784},
        }
    )


def make_target(prior: float | None = PRIOR, targets: Sequence[int] | Sequence[Sequence[int]] = (0,)) -> Target:
    """One specialist, or one for each sequence of class indices."""
    several = [targets] if isinstance(targets[0], int) else targets
    return Target(
        names=tuple(f"look{s}" for s in range(len(several))),
        targets_SK=np.array([np.isin(np.arange(4), one) for one in several]),
        priors=(prior,) * len(several),
        weights_K=np.array([2.0, 1.5, 1.0, 1.0]),
    )


def simulate(
    seed: int,
    rows: int,
    *,
    base: float = 1.6,
    specialist: float = 2.5,
    targets: Sequence[int] | Sequence[Sequence[int]] = (0,),
) -> FitRows:
    """Gaussian evidence, all models overconfident; ``specialist`` 0 is a second look that knows nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, rows, p=SHARES)
    logits = rng.normal(size=(rows, 4))
    logits[np.arange(rows), labels] += base
    logits = 1.5 * base * logits
    looks = []
    for one in make_target(targets=targets).targets_SK:
        evidence = rng.normal(size=rows) + specialist * one[labels]
        odds = specialist * (evidence - specialist / 2) if specialist else rng.normal(size=rows)
        odds = 1.4 * (odds + np.log(PRIOR / (1 - PRIOR)))
        looks.append(np.column_stack([-np.logaddexp(0, -odds), -np.logaddexp(0, odds)]))
    names = [f"s{seed}/照片 {row}.jpg" for row in range(rows)]
    return FitRows(
        keys=names,
        sample_ids=names,
        labels_N=labels,
        base_logps_NK=logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)) - 0.1,
        looks_SN2=np.array(looks),
    )


def write_dataset(
    directory: Path, rows: Sequence[ManifestRow], *, positives: int = 10, negatives: int = 20, names: str = "second"
) -> Path:
    """A manifest and the specialists' markers, as `riskfuse build` and `riskfuse specialist` leave them."""
    directory.mkdir(parents=True, exist_ok=True)
    write_manifest(directory, rows)
    marker = {"train": {"positive_rows": positives, "negative_rows": negatives}}
    for name in names.split():
        (directory / f"{name}.json").write_text(json.dumps(marker), encoding="utf-8")
    return directory


def write_predictions(
    directory: Path,
    sample_ids: Sequence[str],
    logps_NK: np.ndarray,
    answers: Sequence[str],
    *,
    errors: Sequence[str] | None = None,
    shard: int = 100,
    fingerprints: Sequence[str] = ("f00d",),
) -> Path:
    """Shards and marker, as `riskfuse predict` leaves them; a row with an error is a failed row."""
    directory.mkdir(parents=True, exist_ok=True)
    errors = list(errors or [""] * len(sample_ids))
    failed = np.array([bool(error) for error in errors])
    logps = np.where(failed[:, None], np.nan, logps_NK)
    starts = range(0, len(sample_ids), shard)
    for number, start in enumerate(starts):
        part = slice(start, start + shard)
        columns = {"sample_id": pa.array(list(sample_ids[part])), "image": pa.array(list(sample_ids[part]))}
        columns |= {f"logp_{answer}": pa.array(logps[part, k]) for k, answer in enumerate(answers)}
        columns["off_label_mass"] = pa.array(1 - np.exp(logps[part]).sum(axis=1))
        columns["status"] = pa.array(["failed" if f else "ok" for f in failed[part]])
        columns["error"] = pa.array(errors[part])
        print_of = fingerprints[number % len(fingerprints)]
        table = pa.table(columns).replace_schema_metadata({"riskfuse.fingerprint": json.dumps(print_of)})
        pq.write_table(table, directory / f"part-{number:05d}.parquet")
    counts = {"shards": len(starts), "rows": len(sample_ids), "failed": int(failed.sum())}
    marker = {"fingerprint": fingerprints[0], "answers": list(answers), **counts}
    (directory / "predictions.json").write_text(json.dumps(marker), encoding="utf-8")
    return directory
