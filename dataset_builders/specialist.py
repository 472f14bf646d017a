"""A specialist's data set: all positives, mined hard negatives, and some random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dataset_builders.dataset_dir import check_task, read_marker
from dataset_builders.errors import DataError
from dataset_builders.files import content_hash, file_sha256, write_json
from dataset_builders.manifest import ManifestRow, read_manifest
from dataset_builders.mining import read_target_probabilities
from dataset_builders.sharegpt import write_sharegpt
from dataset_builders.split import in_turns, repeat_evenly
from dataset_builders.stores import Location
from dataset_builders.task_card import Specialist, TaskCard

__all__ = ["Choice", "SpecialistResult", "build_specialist", "choose_examples"]

_VERSION = 2


@dataclass(frozen=True, slots=True)
class Choice:
    """What decides which photos a specialist is trained on.

    Attributes:
        stage: Name of the specialist.
        predictions_dirs: Complete predictions of the base stage which hold training photos, best out-of-fold ones.
        seed: Decides the random negatives and which photos come once more than others.
        rows: Rows of the training set; photos are repeated evenly to fill them. None, or too few to hold every
            positive, takes every positive once and as many negatives as the card asks for, or all.
    """

    stage: str
    predictions_dirs: tuple[Location, ...]
    seed: int = 0
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class SpecialistResult:
    """What was made.

    Attributes:
        marker: The content of ``<stage>.json``.
        fresh: False when a complete set of the same inputs was there already.
    """

    marker: dict[str, Any]
    fresh: bool


def build_specialist(dataset_dir: Path, card: TaskCard, choice: Choice) -> SpecialistResult:
    """Write ``<stage>_train.json``, ``<stage>_val.json`` and the marker ``<stage>.json``.

    Training photos come from the split ``train`` alone, validation photos are those of the split ``val``. The ratio of
    the classes and the share of mined negatives are the task card's.

    Args:
        dataset_dir: A complete data set.
        card: The task card.
        choice: What decides which photos are in it.

    Raises:
        ConfigError: The card has no such specialist.
        DataError: The data set or the predictions are incomplete or of another task, or a class has no photo.
    """
    stage = choice.stage
    specialist = card.specialist(stage)
    marker_path = dataset_dir / f"{stage}.json"
    build = read_marker(dataset_dir)
    check_task(dataset_dir, build, card)
    rows = read_manifest(dataset_dir)
    probabilities, prediction_hashes = read_target_probabilities(choice.predictions_dirs, card, specialist, rows)
    fingerprint = content_hash(
        {
            "version": _VERSION,
            "build": build["fingerprint"],
            "stage": stage,
            "card": card.model_dump(mode="json"),
            "predictions": prediction_hashes,
            "seed": choice.seed,
            "rows": choice.rows,
        }
    )
    names = [f"{stage}_{split}.json" for split in ("train", "val")]
    if (marker := _complete(dataset_dir, marker_path, names, fingerprint)) is not None:
        return SpecialistResult(marker, fresh=False)
    marker_path.unlink(missing_ok=True)
    usable = [row for row in rows if row.usable]
    train = [row for row in usable if row.split == "train"]
    val = [row for row in usable if row.split == "val"]
    examples, counts = choose_examples(train, probabilities, specialist, seed=choice.seed, rows=choice.rows)
    write_sharegpt(dataset_dir / names[0], examples, card, stage)
    write_sharegpt(dataset_dir / names[1], val, card, stage)
    marker = {
        "fingerprint": fingerprint,
        "stage": stage,
        "targets": list(specialist.targets),
        "seed": choice.seed,
        "train": {**counts, "rows": len(examples)},
        "val": _val_counts(val, specialist),
        "files": {name: file_sha256(dataset_dir / name) for name in names},
    }
    write_json(marker_path, marker)
    return SpecialistResult(marker, fresh=True)


def _complete(dataset_dir: Path, marker_path: Path, names: Sequence[str], fingerprint: str) -> dict[str, Any] | None:
    if not marker_path.is_file():
        return None
    marker = read_marker(dataset_dir, marker_path.name)
    if marker.get("fingerprint") != fingerprint:
        return None
    whole = all(
        (dataset_dir / name).is_file() and file_sha256(dataset_dir / name) == marker["files"][name] for name in names
    )
    return marker if whole else None


def choose_examples(
    train: Sequence[ManifestRow],
    probabilities: dict[str, float],
    specialist: Specialist,
    *,
    seed: int,
    rows: int | None,
) -> tuple[list[ManifestRow], dict[str, int]]:
    """Choose the rows of a training set: all positives, mined and random negatives.

    Args:
        train: Labelled rows that may be trained on.
        probabilities: Sample id → the base model's probability of the targets, for the negatives that can be mined.
        specialist: Targets, ratio of the classes and share of mined negatives.
        seed: As in ``Choice``.
        rows: As in ``Choice``.

    Returns:
        The rows in the order of the training set, repeated ones more than once, and the counts.

    Raises:
        DataError: A class has no photo, or no negative has a probability.
    """
    rng = np.random.default_rng(seed)
    positives = [row for row in train if row.label in specialist.targets]
    negatives = [row for row in train if row.label not in specialist.targets]
    if not positives or not negatives:
        missing = "positive" if not positives else "negative"
        raise DataError(f"no {missing} training photo for {', '.join(specialist.targets)}; add photos and build again")
    known = sum(row.sample_id in probabilities for row in negatives)
    if known == 0 and specialist.hard_fraction > 0:
        raise DataError(
            f"the predictions hold none of the {len(negatives)} training photos without a target, so no hard negative "
            "can be mined; predict the data set's split train with the base stage first"
        )
    positive_rows, negative_rows = _sizes(len(positives), len(negatives), specialist.negatives_per_positive, rows)
    hard, random = _choose_negatives(negatives, probabilities, specialist, min(negative_rows, len(negatives)), rng)
    repeats = [
        *repeat_evenly(len(positives), positive_rows, rng).tolist(),
        *repeat_evenly(len(hard) + len(random), negative_rows, rng).tolist(),
    ]
    counts = {
        "positives": len(positives),
        "positive_rows": positive_rows,
        "hard_negatives": len(hard),
        "random_negatives": len(random),
        "negative_rows": negative_rows,
        "negatives_without_prediction": len(negatives) - known,
    }
    return in_turns([*positives, *hard, *random], repeats), counts


def _sizes(positives: int, negatives: int, ratio: float, rows: int | None) -> tuple[int, int]:
    """Rows of both classes: at ``ratio`` negatives a positive; every positive comes at least once."""
    if rows is not None and positives <= (positive_rows := round(rows / (1 + ratio))) < rows:
        return positive_rows, rows - positive_rows
    return positives, min(negatives, max(1, round(positives * ratio)))


def _choose_negatives(
    negatives: Sequence[ManifestRow],
    probabilities: dict[str, float],
    specialist: Specialist,
    count: int,
    rng: Generator,
) -> tuple[list[ManifestRow], list[ManifestRow]]:
    minable = [row for row in negatives if row.sample_id in probabilities]
    # Sorting is stable: photos of equal probability stay in the manifest's order.
    minable.sort(key=lambda row: -probabilities[row.sample_id])
    hard = minable[: round(count * specialist.hard_fraction)]
    taken = {row.sample_id for row in hard}
    rest = [row for row in negatives if row.sample_id not in taken]
    picked: NDArray[np.int64] = np.sort(rng.permutation(len(rest))[: count - len(hard)])
    return hard, [rest[index] for index in picked]


def _val_counts(val: Sequence[ManifestRow], specialist: Specialist) -> dict[str, int]:
    positives = sum(row.label in specialist.targets for row in val)
    return {"positives": positives, "negatives": len(val) - positives, "rows": len(val)}
