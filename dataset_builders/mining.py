"""Reads from predictions how probable the specialist's targets are for each photo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataset_builders.errors import DataError
from dataset_builders.files import file_sha256
from dataset_builders.task_card import TaskCard

__all__ = ["read_target_probabilities"]

_MARKER = "predictions.json"
_OK = "ok"


def read_target_probabilities(
    predictions_dirs: Sequence[Path], card: TaskCard
) -> tuple[dict[str, float], dict[str, str]]:
    """Probability that a photo has one of the specialist's target labels, as the base stage sees it.

    Args:
        predictions_dirs: Complete predictions directories; no photo may be in two of them.
        card: The task card.

    Returns:
        Sample id → probability in [0, 1] among the card's answers, without failed rows; and the hash of every file
        that was read, by directory number and file name, so that it does not depend on where the directories lie.

    Raises:
        DataError: A directory is no complete set of predictions of the base stage, or a photo is in two of them.
    """
    probabilities: dict[str, float] = {}
    hashes: dict[str, str] = {}
    seen: dict[str, Path] = {}
    for number, directory in enumerate(predictions_dirs):
        if not (directory / _MARKER).is_file():
            raise DataError(
                f"{directory / _MARKER}: no such file, so the predictions are not complete; run riskfuse predict"
            )
        for part in sorted(directory.glob("part-*.parquet")):
            hashes[f"{number}/{part.name}"] = file_sha256(part)
            ids, values_N, ok_N = _read_part(part, card)
            for sample_id, value, ok in zip(ids, values_N, ok_N, strict=True):
                if sample_id in seen:
                    raise DataError(f"{part}: {sample_id!r} is also in {seen[sample_id]}; a photo needs one prediction")
                seen[sample_id] = part
                if ok:
                    probabilities[sample_id] = float(value)
    if not seen:
        raise DataError(f"{', '.join(map(str, predictions_dirs))}: no predictions; run riskfuse predict first")
    return probabilities, hashes


def _read_part(path: Path, card: TaskCard) -> tuple[list[str], np.ndarray, np.ndarray]:
    columns = [f"logp_{label_id}" for label_id in card.label_ids]
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a Parquet file ({error}); predict again") from error
    missing = [name for name in ("sample_id", "status", *columns) if name not in table.column_names]
    if missing:
        raise DataError(
            f"{path}: lacks the columns {', '.join(missing)}; "
            f"expected predictions of the base stage of task {card.task!r}"
        )
    ok_N = np.array([status == _OK for status in table["status"].to_pylist()], dtype=bool)
    logp_NK = np.stack([table[name].to_numpy() for name in columns], axis=1).astype(np.float64)
    bad = np.flatnonzero(ok_N & np.isnan(logp_NK).any(axis=1))
    if bad.size:
        raise DataError(f"{path}: row {bad[0]} is {_OK} but has no log-probabilities; predict again")
    # Nothing but -inf is no opinion about the photo: unknown, as a failed row.
    ok_N &= ~np.isneginf(logp_NK).all(axis=1)
    logp_NK = np.where(ok_N[:, None], logp_NK, 0.0)
    odds_NK = np.exp(logp_NK - logp_NK.max(axis=1, keepdims=True))
    targets = [card.label_ids.index(target) for target in card.specialist.targets]
    return table["sample_id"].to_pylist(), odds_NK[:, targets].sum(axis=1) / odds_NK.sum(axis=1), ok_N
