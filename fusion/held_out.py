"""Out-of-fold predictions for the fit: every labelled photo with what a model says that was trained without it.

Fitting fusion on photos that its models were trained on would trust a memory; fitting it on the validation split alone
leaves few rows of a rare class (stacking; Wolpert, Neural Networks 5, 1992).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataset_builders.errors import DataError, FingerprintMismatch
from dataset_builders.files import content_hash
from dataset_builders.stores import Location, location
from dataset_builders.task_card import TaskCard
from fusion.predictions import Predictions, check_photos, read_predictions

__all__ = ["HELD_OUT_MARKER", "HeldOut", "read_held_out"]

HELD_OUT_MARKER = "out_of_fold.json"
SHOWN = 10
# A fold's model differs from the main one by the photos that it was trained on, and by nothing that changes what its
# probabilities mean. Adapter, device and batch size may differ.
SHARED_COMPONENTS = ("model", "prompt", "answers", "preprocessing", "views", "reading")


@dataclass(frozen=True)
class HeldOut:
    """One stage's predictions, each by a model that was trained without the photo.

    Attributes:
        predictions: Photos of the folds by the models of the folds; validation photos in no such fold, and test
            photos, by the main model.
        folds: Folds whose photos are among them.
        fingerprint: Hash of the fingerprints of the folds' predictions.
    """

    predictions: Predictions
    folds: frozenset[int]
    fingerprint: str


def read_held_out(directory: str | Path, stage: str, main: Predictions, manifest: pa.Table, card: TaskCard) -> HeldOut:
    """Read what ``riskfuse out-of-fold`` wrote for a stage, and join it with the main model's predictions.

    The main model is trained on the split ``train``: it is the held-out model of the split ``val``, and what it says
    about training photos is left out.

    Args:
        directory: Holds ``<stage>/out_of_fold.json`` and ``<stage>/fold-*``.
        stage: Name of the stage.
        main: The main model's predictions.
        manifest: Columns ``sample_id``, ``sha256``, ``split`` and ``fold`` of all rows of the data set.
        card: The task.

    Raises:
        DataError: There are no out-of-fold predictions of this stage and task, or a row is of a photo that its model
            was trained on, or that the data set does not have, or has as another picture.
        FingerprintMismatch: A fold's predictions are not those that ``riskfuse out-of-fold`` made, or were made with
            another base model, prompt, answers, pixel budget, views or reading than the main model's.
    """
    place = location(directory) / stage
    marker = _read_marker(place, stage, card)
    known = manifest["sample_id"].combine_chunks()
    fold_N = manifest["fold"].to_numpy()
    parts, fingerprints = [], {}
    for number, name in marker["folds"].items():
        part = read_predictions(place / name, main.answers, stage=stage)
        expected = marker["predictions"].get(number)
        if part.fingerprint != expected:
            raise FingerprintMismatch(
                f"{place / name}: made with {part.fingerprint}, but {place / HELD_OUT_MARKER} vouches for {expected}; "
                "run the same `riskfuse out-of-fold` again"
            )
        _check_components(part, main)
        _check_fold(part, int(number), known, fold_N)
        check_photos(part, part.positions(known), manifest["sha256"])
        parts.append(part)
        fingerprints[number] = part.fingerprint
    folds = {int(number) for number in fingerprints}
    split = manifest["split"].to_numpy()
    if pc.all(pc.is_in(main.sample_ids, value_set=known)).as_py():  # strangers are the caller's to refuse
        check_photos(main, main.positions(known), manifest["sha256"])
    rest = _main_rows(main, known, split, fold_N, folds)
    covered = folds | set(fold_N[split == "val"].tolist())
    return HeldOut(_joined(main, [rest, *parts]), frozenset(covered), content_hash(fingerprints))


def _read_marker(place: Location, stage: str, card: TaskCard) -> dict[str, Any]:
    path = place / HELD_OUT_MARKER
    try:
        marker = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file, so there are no out-of-fold predictions of stage {stage}; make them with "
            f"`riskfuse out-of-fold … --stage {stage} --out {place}`"
        ) from None
    except ValueError as error:
        raise DataError(f"{path}: not readable as JSON ({error}); run `riskfuse out-of-fold` again") from error
    if (marker.get("task"), marker.get("stage")) != (card.task, stage):
        raise DataError(
            f"{path}: is of stage {marker.get('stage')!r} of task {marker.get('task')!r}, expected stage {stage!r} of "
            f"task {card.task!r}; name the right directory"
        )
    if "predictions" not in marker:
        raise DataError(f"{path}: was written by an earlier version; run the same `riskfuse out-of-fold` again")
    return marker


def _check_components(part: Predictions, main: Predictions) -> None:
    if not (part.components and main.components):  # of an earlier version, or made elsewhere: nothing to compare
        return
    others = [name for name in SHARED_COMPONENTS if part.components.get(name) != main.components.get(name)]
    if others:
        raise FingerprintMismatch(
            f"{part.directory}: made with another {' and '.join(others)} than {main.directory}, so the fold's model "
            "does not stand for the main one; use one recipe and one task card for both, and run the one that is out "
            "of date again"
        )


def _check_fold(part: Predictions, fold: int, known: pa.Array, fold_N: np.ndarray) -> None:
    at = pc.fill_null(pc.index_in(part.sample_ids, value_set=known), -1).to_numpy(zero_copy_only=False)
    trained_on = (at < 0) | (fold_N[at] != fold)
    if trained_on.any():
        names = part.sample_ids.filter(pa.array(trained_on)).to_pylist()
        raise DataError(
            f"{part.directory}: {len(names)} rows are not of photos in fold {fold} of the data set, so the model that "
            f"scored them may have been trained on them: {', '.join(names[:SHOWN])}; the folds were made for another "
            "build: run `riskfuse out-of-fold` on this data set"
        )


def _main_rows(
    main: Predictions, known: pa.Array, split: np.ndarray, fold_N: np.ndarray, folds: set[int]
) -> Predictions:
    """Test photos, and validation photos that no fold's model scored; strangers stay, for the caller refuses them."""
    at = pc.fill_null(pc.index_in(main.sample_ids, value_set=known), -1).to_numpy(zero_copy_only=False)
    keep = (at < 0) | (split[at] == "test") | ((split[at] == "val") & ~np.isin(fold_N[at], list(folds)))
    mask = pa.array(keep)
    return replace(
        main,
        sample_ids=main.sample_ids.filter(mask),
        logps_NK=main.logps_NK[keep],
        failed_N=main.failed_N[keep],
        errors=main.errors.filter(mask),
        photos_sha256="",
    )


def _joined(main: Predictions, parts: list[Predictions]) -> Predictions:
    return replace(
        main,
        sample_ids=pa.concat_arrays([part.sample_ids for part in parts]),
        logps_NK=np.concatenate([part.logps_NK for part in parts]),
        failed_N=np.concatenate([part.failed_N for part in parts]),
        errors=pa.concat_arrays([part.errors for part in parts]),
        photos_sha256="",
    )
