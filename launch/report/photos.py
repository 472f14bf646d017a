"""The photos that the report shows: what fusion changed, the worst mistakes, what a person should look at first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dataset_builders.inspect.thumbnails import data_uri
from dataset_builders.manifest import MANIFEST_NAME
from dataset_builders.task_card import TaskCard
from fusion.review_queue import cost_matrix
from fusion.rows import UNLABELLED
from fusion.systems import UNDECIDED
from launch.report.decisions import Decisions

__all__ = [
    "Album",
    "Card",
    "Look",
    "changed_photos",
    "count_changes",
    "read_thumbnails",
    "unread_photos",
    "worst_mistakes",
]

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Look:
    """What one specialist said: its stage, calibrated probability of a positive (None: no second look), coefficient."""

    name: str
    positive: float | None
    coefficient: float


@dataclass(frozen=True)
class Card:
    """One photo.

    Attributes:
        sample_id: Source and name.
        truth: Label identifier; None when it is not known.
        base: Label of base; None when base has no answer.
        p_base: Its calibrated probability.
        fused: Label after fusion; None when base has no answer.
        p_fused: Its probability.
        submitted: Label that is submitted.
        looks: The specialists.
        error: Why base has no answer; empty where it has one.
    """

    sample_id: str
    truth: str | None
    base: str | None
    p_base: float | None
    fused: str | None
    p_fused: float | None
    submitted: str
    looks: tuple[Look, ...]
    error: str


@dataclass(frozen=True)
class Album:
    """Photos of one kind, those that matter most first.

    Attributes:
        key: ``mended``, ``broken``, ``moved`` (wrong before and after), ``unknown``, ``mistakes`` or ``unread``.
        photos: How many there are.
        cards: Those that are shown.
    """

    key: str
    photos: int
    cards: tuple[Card, ...]


def changed_photos(decisions: Decisions, card: TaskCard, limit: int) -> list[Album]:
    """Photos whose label fusion changed, by what that did; the surest first, kinds without photos left out.

    Args:
        decisions: The test photos.
        card: Knows the labels.
        limit: At most so many photos of each kind are shown.
    """
    base_N, fused_N, labels_N = decisions.base_N, decisions.fused_N, decisions.labels_N
    flipped_N = (base_N != fused_N) & (base_N != UNDECIDED) & (fused_N != UNDECIDED)
    known_N = labels_N != UNLABELLED
    kinds = {
        "broken": flipped_N & known_N & (base_N == labels_N),
        "mended": flipped_N & known_N & (fused_N == labels_N),
        "moved": flipped_N & known_N & (fused_N != labels_N) & (base_N != labels_N),
        "unknown": flipped_N & ~known_N,
    }
    sure_N = decisions.p_fused_NK[np.arange(len(decisions)), np.maximum(fused_N, 0)]
    return [_album(key, decisions, card, here, -sure_N, limit) for key, here in kinds.items() if here.any()]


def count_changes(decisions: Decisions, classes: int) -> Ints:
    """How many photos fusion moved from one label to another, shape (K, K): base by row, fused by column."""
    both = (decisions.base_N != UNDECIDED) & (decisions.fused_N != UNDECIDED)
    cells = decisions.base_N[both] * classes + decisions.fused_N[both]
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def worst_mistakes(decisions: Decisions, card: TaskCard, limit: int) -> Album | None:
    """Wrong submitted labels, the most costly first, then the surest; None when no label is known.

    The cost is that of the review queue: weight of the true label times the rungs between both.
    """
    known_N = decisions.labels_N != UNLABELLED
    if not known_N.any():
        return None
    wrong_N = known_N & (decisions.submitted_N != decisions.labels_N)
    cost_N = cost_matrix(card)[np.maximum(decisions.labels_N, 0), decisions.submitted_N]
    sure_N = decisions.p_fused_NK[np.arange(len(decisions)), decisions.submitted_N]
    # A cost step is at least a weight; a probability only orders photos that cost the same.
    return _album("mistakes", decisions, card, wrong_N, -(cost_N + 1e-6 * np.nan_to_num(sure_N)), limit)


def unread_photos(decisions: Decisions, card: TaskCard, limit: int) -> Album:
    """Test photos that base could not read; the fallback label answered."""
    unread_N = decisions.base_N == UNDECIDED
    return _album("unread", decisions, card, unread_N, np.zeros(len(decisions)), limit)


def read_thumbnails(dataset: Path, sample_ids: Sequence[str]) -> dict[str, str]:
    """Data URI of each photo; one that is quarantined, missing or cannot be read is left out."""
    table = pq.read_table(dataset / MANIFEST_NAME, columns=["sample_id", "image"])
    table = table.filter(pc.is_in(table["sample_id"], value_set=pa.array(sample_ids, pa.string())))
    found = {}
    for sample_id, image in zip(table["sample_id"].to_pylist(), table["image"].to_pylist(), strict=True):
        try:
            if image:
                found[sample_id] = data_uri(dataset / image)
        except (OSError, SyntaxError, ValueError):  # what Pillow raises for files that are gone or damaged
            continue
    return found


def _album(key: str, decisions: Decisions, card: TaskCard, here_N: Bools, order_N: np.ndarray, limit: int) -> Album:
    at = np.flatnonzero(here_N)
    at = at[np.argsort(order_N[at], kind="stable")][:limit]
    return Album(key, int(here_N.sum()), tuple(_cards(decisions, card, at)))


def _cards(decisions: Decisions, card: TaskCard, at: Ints) -> list[Card]:
    def label(index: int) -> str | None:
        return card.label_ids[index] if index >= 0 else None

    def probability(p_NK: np.ndarray, row: int, index: int) -> float | None:
        return float(p_NK[row, index]) if index >= 0 else None

    ids, errors = decisions.texts("sample_id", at), decisions.texts("base_error", at)
    cards = []
    for row, sample_id, error in zip(at.tolist(), ids, errors, strict=True):
        base, fused = int(decisions.base_N[row]), int(decisions.fused_N[row])
        cards.append(
            Card(
                sample_id=sample_id,
                truth=label(int(decisions.labels_N[row])),
                base=label(base),
                p_base=probability(decisions.p_base_NK, row, base),
                fused=label(fused),
                p_fused=probability(decisions.p_fused_NK, row, fused),
                submitted=card.label_ids[decisions.submitted_N[row]],
                looks=_looks(decisions, row),
                error=error or "",
            )
        )
    return cards


def _looks(decisions: Decisions, row: int) -> tuple[Look, ...]:
    looks = []
    for s, name in enumerate(decisions.specialists):
        positive = float(decisions.positive_SN[s, row])
        looks.append(Look(name, None if np.isnan(positive) else positive, float(decisions.coefficient_SN[s, row])))
    return tuple(looks)
