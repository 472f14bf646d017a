"""Runs the variations one after the other, compares them and writes the report. What is predicted stays predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_builders.errors import DataError, StepError
from dataset_builders.files import write_json, write_text
from dataset_builders.manifest import ManifestRow, read_manifest, write_manifest
from dataset_builders.task_card import TaskCard, load_task_card
from fusion.predictions import read_predictions
from fusion.stability import UNLABELLED, compare_variations
from launch.predict import predict
from launch.stability.config import StabilityConfig
from launch.stability.plot import plot_variations
from launch.stability.report import format_csv, format_table, spread_by_kind
from launch.stability.variations import Variation, list_variations

__all__ = ["StabilityReport", "run_stability"]

PHOTOS = "photos"  # sub-directory whose manifest lists the drawn photos


@dataclass(frozen=True)
class StabilityReport:
    """What came out.

    Attributes:
        table: Contents of ``stability.txt``.
        figures: Contents of ``stability.json``.
        out: Directory that holds them, ``stability.csv`` and ``stability.png``.
    """

    table: str
    figures: dict[str, Any]
    out: Path


def run_stability(config: StabilityConfig) -> StabilityReport:
    """Predict the reference and every variation, compare, and write the report; ``stability.json`` last.

    Raises:
        ConfigError: Recipe, task card, paraphrases or adapters are not what they must be; the card has no such stage.
        DataError: The split has no photos, or they have labels of another task card.
        FingerprintMismatch: ``config.out`` holds predictions of another configuration.
        StepError: A variation could not be predicted.
    """
    card = load_task_card(config.task)
    card.answers(config.stage)  # a wrong name is said before anything is predicted
    rows = _draw_photos(config, card)
    write_manifest(config.out / PHOTOS, rows)
    variations = list_variations(config, card, config.out / PHOTOS)
    for variation in variations:
        if failed := predict(variation.config).failed_shards:
            number, error = min(failed.items())
            raise StepError(f"{variation.name}: part {number} failed, the same command goes on there:\n{error}")
    figures = _compare(config, card, rows, variations)
    table = format_table(figures)
    write_text(config.out / "stability.txt", table)
    write_text(config.out / "stability.csv", format_csv(figures))
    plot_variations(figures, config.out / "stability.png")
    write_json(config.out / "stability.json", figures)
    return StabilityReport(table, figures, config.out)


def _draw_photos(config: StabilityConfig, card: TaskCard) -> list[ManifestRow]:
    """The photos, in the manifest's order and with absolute paths.

    Raises:
        DataError: There are none, or they have labels of another task card.
    """
    rows = [row for row in read_manifest(config.data) if row.split == config.split and row.usable]
    if not rows:
        raise DataError(f"{config.data}: no photos in split {config.split!r}; name another with --split")
    if strange := sorted({row.label for row in rows if row.label is not None} - set(card.label_ids)):
        raise DataError(
            f"{config.data}: has the labels {', '.join(strange)}, which {config.task} does not have; give the task "
            "card that the data set was built with"
        )
    if config.photos is not None and config.photos < len(rows):
        rows = [rows[number] for number in _stratified(rows, config.photos, config.seed)]
    return [replace(row, image=str((config.data / row.image).resolve())) for row in rows]


def _stratified(rows: Sequence[ManifestRow], size: int, seed: int) -> list[int]:
    """Positions of ``size`` rows in rising order, every label with its share: each n-th row, sorted by label."""
    shuffled = np.random.default_rng(seed).permutation(len(rows)).tolist()
    by_label = sorted(shuffled, key=lambda number: rows[number].label or "")
    return sorted(by_label[(2 * n + 1) * len(rows) // (2 * size)] for n in range(size))


def _compare(
    config: StabilityConfig, card: TaskCard, rows: Sequence[ManifestRow], variations: Sequence[Variation]
) -> dict[str, Any]:
    answers = tuple(answer.id for answer in card.answers(config.stage))
    places = {answer: k for k, answer in enumerate(answers)}
    labels = [UNLABELLED if row.label is None else places[card.answer_for(config.stage, row.label).id] for row in rows]
    is_base = config.stage == card.stages[0]
    weights = [label.weight for label in card.labels] if is_base else [1.0] * len(answers)
    compared = compare_variations(
        {variation.name: _log_probabilities(variation, answers) for variation in variations},
        np.array(labels),
        answer_ids=answers,
        weights_K=np.array(weights),
        resamples=config.resamples,
        seed=config.seed,
    )
    found = [{"name": v.name, "kind": v.kind, **compared[v.name]} for v in variations]
    return {"stage": config.stage, "photos": len(rows), "variations": found, "by_kind": spread_by_kind(found)}


def _log_probabilities(variation: Variation, answers: tuple[str, ...]) -> NDArray[np.float64]:
    """Rows in the order of the list: all runs are of the same photos."""
    return read_predictions(variation.config.out, answers).logps_NK
