"""Training sets that leave one fold out: what a model may see that predicts the photos of that fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_builders.augment.copy_plan import balanced_repeats
from dataset_builders.dataset_dir import FOLDS, check_task, read_marker
from dataset_builders.errors import DataError
from dataset_builders.files import content_hash, file_sha256, write_json
from dataset_builders.findings import Findings
from dataset_builders.manifest import ManifestRow, read_manifest
from dataset_builders.mining import read_target_probabilities
from dataset_builders.sharegpt import register_datasets, write_sharegpt
from dataset_builders.specialist import Choice, choose_examples
from dataset_builders.split import in_turns, repeats_for_balance
from dataset_builders.task_card import BASE, TaskCard

__all__ = ["FoldSet", "plan_fold_sets", "write_fold_sets"]

# Part of the fingerprint: raise it when the same rows give other files.
_VERSION = 1


@dataclass(frozen=True, slots=True)
class FoldSet:
    """What the model of one fold is trained and validated on.

    Attributes:
        fold: The fold that is left out.
        stage: The stage that is trained.
        stem: ``<task>_fold<fold>`` for base, ``<task>_<specialist>_fold<fold>`` for a specialist, with ``_copies``
            behind it when augmented copies take part.
        train: Rows of the training file in its order; a photo that is repeated for balance comes more than once.
        val: The labelled originals of the fold.
        fingerprint: Hash of what decides both files and the photos in them.
    """

    fold: int
    stage: str
    stem: str
    train: tuple[ManifestRow, ...]
    val: tuple[ManifestRow, ...]
    fingerprint: str

    @property
    def train_name(self) -> str:
        """LLaMA-Factory's name of the training set."""
        return f"{self.stem}_train"

    @property
    def val_name(self) -> str:
        """LLaMA-Factory's name of the validation set."""
        return f"{self.stem}_val"

    def files(self, dataset_dir: Path) -> tuple[Path, Path, Path]:
        """Training set, validation set and, written last, their marker."""
        folder = dataset_dir / FOLDS
        return (folder / f"{self.train_name}.json", folder / f"{self.val_name}.json", folder / f"{self.stem}.json")


def plan_fold_sets(
    dataset_dir: Path, card: TaskCard, *, with_copies: bool = False, choice: Choice | None = None
) -> list[FoldSet]:
    """Decide for every fold of the manifest which rows its model sees, and check that none of them is left out.

    Classes of the base stage are balanced as in ``train.json``, a specialist's rows are chosen as for
    ``<specialist>_train.json``: the set that leaves out the fold of the split ``val`` has the very rows of that file.

    Args:
        dataset_dir: A complete data set.
        card: Its task card.
        with_copies: Augmented copies take part, each as if it were its parent; their share of a class's rows is that
            of the augmentation. Without it, nothing but originals.
        choice: The specialist, and what decides its rows; the base stage when None. Its predictions should be
            out-of-fold too: a base model that was trained on a photo finds it easier than it is.

    Returns:
        One set a fold, by ascending fold.

    Raises:
        ConfigError: The card has no such specialist.
        DataError: The data set is incomplete, of another task, has no training photos or no copies to take part, a
            class is left without a training photo, or a fold's photo, copy or near-duplicate is in its training set;
            or nothing can be mined from the specialist's predictions.
    """
    build = read_marker(dataset_dir)
    check_task(dataset_dir, build, card)
    manifest = read_manifest(dataset_dir)
    fitted = [row for row in manifest if row.fold >= 0]
    folds = sorted({row.fold for row in fitted})
    if not folds:
        raise DataError(f"{dataset_dir}: has no training photos, so there are no folds; add a source with role train")
    if with_copies and not any(row.usable and row.parent is not None for row in fitted):
        raise DataError(f"{dataset_dir}: has no usable augmented copies; leave out --with-copies, or augment it first")
    usable = [row for row in fitted if row.usable and row.label is not None]
    rows = usable if with_copies else [row for row in usable if row.parent is None]
    train_of = {fold: [row for row in rows if row.fold != fold] for fold in folds}
    findings = Findings()
    for fold, train in train_of.items():
        _check_apart(fold, train, [row for row in fitted if row.fold == fold], findings)
        _check_classes(fold, train, card, findings)
    findings.raise_if_any(DataError, f"{dataset_dir}: the folds cannot be trained apart")
    probabilities: dict[str, float] = {}
    if choice is not None:
        specialist = card.specialist(choice.stage)
        probabilities, _ = read_target_probabilities(choice.predictions_dirs, card, specialist, manifest)
    sets = []
    for fold, train in train_of.items():
        if choice is None:
            examples = in_turns(train, _repeats(train, build, card, with_copies=with_copies))
        else:
            specialist = card.specialist(choice.stage)
            examples, _ = choose_examples(train, probabilities, specialist, seed=choice.seed, rows=choice.rows)
        val = tuple(row for row in usable if row.fold == fold and row.parent is None)
        prefix = card.task if choice is None else f"{card.task}_{choice.stage}"
        stem = f"{prefix}_fold{fold}{'_copies' if with_copies else ''}"
        stage = BASE if choice is None else choice.stage
        sets.append(_fold_set(fold, stage, stem, tuple(examples), val, card))
    return sets


def write_fold_sets(dataset_dir: Path, card: TaskCard, sets: Sequence[FoldSet]) -> None:
    """Write the sets into ``folds/`` of the data set directory; files that are there for the same rows are kept.

    Each set has a marker, written last. ``folds/dataset_info.json`` registers all sets that are there; image paths are
    relative to the data set directory, so trainings need ``media_dir`` beside ``dataset_dir``.
    """
    for fold_set in sets:
        train, val, marker = fold_set.files(dataset_dir)
        if _is_complete(fold_set, train, val, marker):
            continue
        marker.unlink(missing_ok=True)
        write_sharegpt(train, fold_set.train, card, fold_set.stage)
        write_sharegpt(val, fold_set.val, card, fold_set.stage)
        content = {
            "fingerprint": fold_set.fingerprint,
            "fold": fold_set.fold,
            "train": _counts(fold_set.train, card),
            "val": _counts(fold_set.val, card),
            "files": {path.name: file_sha256(path) for path in (train, val)},
        }
        write_json(marker, content)
    folder = dataset_dir / FOLDS
    files = sorted(path for kind in ("train", "val") for path in folder.glob(f"{card.task}_*_{kind}.json"))
    register_datasets(folder, {path.stem: path.name for path in files})


def _check_apart(fold: int, train: Sequence[ManifestRow], held_out: Sequence[ManifestRow], findings: Findings) -> None:
    """No photo of the fold is trained on: not itself, not by a copy, a near-duplicate or a file of the same bytes."""
    photos = {row.parent or row.sample_id for row in held_out}
    groups = {row.group for row in held_out} - {-1}
    contents = {row.sha256 for row in held_out} - {""}
    for row in train:
        if (row.parent or row.sample_id) in photos or row.group in groups or row.sha256 in contents:
            findings.add(
                f"{row.sample_id} (fold {row.fold}, group {row.group}) shows what fold {fold} holds out; photo, copies "
                "and near-duplicates must share a fold: build the data set again"
            )


def _check_classes(fold: int, train: Sequence[ManifestRow], card: TaskCard, findings: Findings) -> None:
    there = {row.label for row in train}
    for label in card.labels:
        if label.id not in there:
            findings.add(f"without fold {fold}, class {label.id} has no training photo: add photos, or lower `folds`")


def _repeats(
    train: Sequence[ManifestRow], build: dict[str, Any], card: TaskCard, *, with_copies: bool
) -> NDArray[np.int32]:
    """How often each row stands in the training set, shape (N,): the build's balance, or the augmentation's."""
    if with_copies:
        plan = build["augment"]
        # The split of a row says whether the whole data set trains on it; here the fold says so.
        trained = [replace(row, split="train") for row in train]
        return balanced_repeats(trained, plan["rows"], plan["copy_rows"], seed=plan["seed"])
    config = build["config"]
    labels = [str(row.label) for row in train]
    return repeats_for_balance(labels, card.label_ids, balance=config["balance"], seed=config["seed"])


def _fold_set(
    fold: int, stage: str, stem: str, train: tuple[ManifestRow, ...], val: tuple[ManifestRow, ...], card: TaskCard
) -> FoldSet:
    fingerprint = content_hash(
        {
            "version": _VERSION,
            "prompt": card.prompt(stage).model_dump(mode="json"),
            "answers": [answer.model_dump(mode="json") for answer in card.answers(stage)],
            "rows": [[[row.sample_id, row.image, row.sha256, row.label] for row in rows] for rows in (train, val)],
        }
    )
    return FoldSet(fold, stage, stem, train, val, fingerprint)


def _counts(rows: Sequence[ManifestRow], card: TaskCard) -> dict[str, Any]:
    counts = Counter(row.label for row in rows)
    photos = {row.sample_id for row in rows if row.parent is None}
    copies = {row.sample_id for row in rows if row.parent is not None}
    return {
        "rows": {label_id: counts[label_id] for label_id in card.label_ids},
        "photos": len(photos),
        "copies": len(copies),
    }


def _is_complete(fold_set: FoldSet, train: Path, val: Path, marker: Path) -> bool:
    if not marker.is_file():
        return False
    content = read_marker(marker.parent, marker.name)
    if content.get("fingerprint") != fold_set.fingerprint:
        return False
    return all(path.is_file() and file_sha256(path) == content["files"][path.name] for path in (train, val))
