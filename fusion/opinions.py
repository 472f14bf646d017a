"""Everything that fusion is fitted on and decides about: the photos, and what each model said about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataset_builders.dataset_dir import read_marker
from dataset_builders.errors import ConfigError, DataError
from dataset_builders.task_card import BASE, TaskCard
from fusion.fit import FitRows, Target
from fusion.held_out import HeldOut, read_held_out
from fusion.predictions import Predictions, read_predictions
from fusion.rows import UNLABELLED, Rows, read_manifest_columns, read_rows

__all__ = ["MadeBy", "Opinions", "marker_name", "read_opinions", "read_test_photos"]


@dataclass(frozen=True)
class MadeBy:
    """Which model made a stage's predictions: their fingerprint, and what it is of, part by part."""

    fingerprint: str
    components: dict[str, Any]


@dataclass(frozen=True)
class Opinions:
    """What the models said.

    Attributes:
        labelled: Photos with a label and a base answer to fit on: the split val, or those of all folds.
        test: All test photos, at least one.
        target: The specialists' targets and training priors, the score's weights.
        made_by: Which models made the predictions, by stage.
        held_out: Of the out-of-fold predictions, by stage; empty when the fit is on the split val.
        notes: What the user should know.
    """

    labelled: Rows
    test: Rows
    target: Target
    made_by: dict[str, MadeBy]
    held_out: dict[str, str]
    notes: tuple[str, ...]

    def fit_rows(self) -> FitRows:
        """The labelled photos in the form that ``fusion.fit`` takes."""
        return FitRows(
            keys=self.labelled.keys(),
            sample_ids=self.labelled.column("sample_id").tolist(),
            labels_N=self.labelled.labels_N,
            base_logps_NK=self.labelled.base_logps_NK,
            looks_SN2=self.labelled.looks_SN2,
        )


def read_opinions(
    dataset_dir: str | Path,
    card: TaskCard,
    base_dir: str | Path,
    specialist_dirs: Mapping[str, str | Path],
    out_of_fold: str | Path | None = None,
) -> Opinions:
    """Read a data set directory and join all models' predictions; arguments and errors as in ``fusion.fuse``."""
    dataset_dir = Path(dataset_dir)
    base = _read_stage(card, BASE, base_dir)
    specialists = _read_specialists(card, specialist_dirs)
    held_out: dict[str, HeldOut] = {}
    if out_of_fold is not None:
        manifest = read_manifest_columns(dataset_dir, ("sample_id", "sha256", "split", "fold"))
        stages = {BASE: base, **specialists}
        held_out = {name: read_held_out(out_of_fold, name, main, manifest, card) for name, main in stages.items()}
        base, *others = (found.predictions for found in held_out.values())
        specialists = dict(zip(specialists, others, strict=True))
    folds = frozenset.intersection(*(found.folds for found in held_out.values())) if held_out else frozenset()
    rows, notes = read_rows(dataset_dir, card, base, specialists, folds=folds)
    names = tuple(specialists)
    made_by = _made_by(base, specialists)
    held_out_fingerprints = {name: found.fingerprint for name, found in held_out.items()}
    del base, specialists, held_out  # rows hold what is needed; of a million photos, each copy counts
    pa.default_memory_pool().release_unused()  # Arrow keeps what was freed, the more the more threads read at once
    is_test = _is_test(rows, dataset_dir)
    usable = (rows.labels_N != UNLABELLED) & rows.answered
    if left_out := int((~is_test & ~usable).sum()):
        notes.append(f"{left_out} photos without a label or a base prediction were left out of the fit")
    labelled = rows.take(~is_test & usable)
    if not len(labelled):
        raise DataError(
            f"{dataset_dir}: no labelled validation photo that the base model could read, so nothing can be fitted; "
            f"predict the split val into {base_dir}"
        )
    return Opinions(
        labelled=labelled,
        test=rows.take(is_test),
        target=_target(dataset_dir, card, names),
        made_by=made_by,
        held_out=held_out_fingerprints,
        notes=tuple(notes),
    )


def read_test_photos(
    dataset_dir: str | Path, card: TaskCard, base_dir: str | Path, specialist_dirs: Mapping[str, str | Path]
) -> tuple[Rows, dict[str, MadeBy], list[str]]:
    """Read the test photos alone, for a fusion that was fitted before.

    Args:
        dataset_dir: Data set directory.
        card: The task.
        base_dir: Predictions of the base model.
        specialist_dirs: Those of the specialists, by name.

    Returns:
        At least one row, with the specialists in the card's order; which models made the predictions, by
        stage; notes.

    Raises:
        DataError: Predictions are incomplete or belong to another data set, or there are no test photos.
        ConfigError: The card has no such specialist, or none is given.
    """
    base = _read_stage(card, BASE, base_dir)
    specialists = _read_specialists(card, specialist_dirs)
    rows, notes = read_rows(dataset_dir, card, base, specialists)
    return rows.take(_is_test(rows, dataset_dir)), _made_by(base, specialists), notes


def _made_by(base: Predictions, specialists: Mapping[str, Predictions]) -> dict[str, MadeBy]:
    return {name: MadeBy(found.fingerprint, found.components) for name, found in {BASE: base, **specialists}.items()}


def _is_test(rows: Rows, dataset_dir: str | Path) -> NDArray[np.bool_]:
    is_test = rows.column("split") == "test"
    if not is_test.any():
        raise DataError(f"{dataset_dir}: no test photos, so there is nothing to submit; add a source with role test")
    return is_test


def marker_name(specialist: str) -> str:
    """File in the data set directory that says what a specialist was trained on."""
    return f"{specialist}.json"


def _read_specialists(card: TaskCard, directories: Mapping[str, str | Path]) -> dict[str, Predictions]:
    """The predictions of the named specialists, in the card's order."""
    for name in directories:
        card.specialist(name)
    names = [name for name in card.stages[1:] if name in directories]
    if not names:
        raise ConfigError(f"no specialist to fuse with; give predictions of {' or '.join(card.stages[1:])}")
    return {name: _read_stage(card, name, directories[name]) for name in names}


def _read_stage(card: TaskCard, stage: str, directory: str | Path) -> Predictions:
    return read_predictions(directory, tuple(a.id for a in card.answers(stage)), stage=stage)


def _target(dataset_dir: Path, card: TaskCard, names: tuple[str, ...]) -> Target:
    return Target(
        names=names,
        targets_SK=np.array([[label in card.specialist(name).targets for label in card.label_ids] for name in names]),
        priors=tuple(_training_prior(dataset_dir, name) for name in names),
        weights_K=np.array([label.weight for label in card.labels]),
    )


def _training_prior(dataset_dir: Path, specialist: str) -> float | None:
    """Share of positives that a specialist was trained with, by its data set's marker; None when there is no marker.

    Raises:
        DataError: The marker does not say how many rows of each class were written.
    """
    name = marker_name(specialist)
    if not (dataset_dir / name).is_file():
        return None
    train = read_marker(dataset_dir, name).get("train", {})
    try:
        positives, negatives = int(train["positive_rows"]), int(train["negative_rows"])
        return positives / (positives + negatives)
    except (KeyError, ZeroDivisionError):
        raise DataError(
            f"{dataset_dir / name}: expected positive_rows and negative_rows of train, got {train}; "
            "run `riskfuse specialist` again"
        ) from None
