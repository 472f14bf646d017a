"""``review.csv``: the photos that a person should look at, the most costly first.

A photo is in the queue when its prediction set is not the decided label alone: several labels fit, none does, or
another one does. Photos that the base model could not read come before all others.

The expected cost of a decision d is the conditional risk sum_k p_k C(k, d) (Duda and Hart, Pattern Classification and
Scene Analysis, 1973; Elkan, The foundations of cost-sensitive learning, IJCAI 2001) with C(k, d) = weight_k x steps
between k and d on the ladder. Weights are those of the score, linear steps those of Cohen's weighted kappa (1968).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dataset_builders.files import atomic_path
from dataset_builders.task_card import TaskCard
from fusion.rows import Rows
from fusion.systems import UNDECIDED

__all__ = [
    "REVIEW_NAME",
    "cost_matrix",
    "expected_costs",
    "queued_for_review",
    "review_reasons",
    "sheet_cells",
    "write_review_queue",
]

REVIEW_NAME = "review.csv"
BOM = b"\xef\xbb\xbf"  # without it, Excel reads the file in the system's own encoding and garbles Chinese
BREAKS = "[\\x00-\\x1f\\x7f\u0085\u2028\u2029]+"
# A cell that begins so is a formula to a spreadsheet, full-width signs too (OWASP, CSV Injection).
FORMULA = "^\\s*[=+\\-@＝＋－＠]"
DIGITS = 6  # of probabilities and costs

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def cost_matrix(card: TaskCard) -> Floats:
    """What it costs to decide d where k is right: weight of k x steps from k to d; shape (K, K), row k.

    A label off the ladder stands one step below its least dangerous end, because there is nothing to grade, and one
    step from any other label off the ladder.
    """
    rungs = len(card.ladder)
    place_K = np.minimum(np.arange(len(card.labels)), rungs)
    steps = np.abs(place_K[:, None] - place_K[None, :]).astype(np.float64)
    off = place_K == rungs
    steps[np.ix_(off, off)] = 1.0
    np.fill_diagonal(steps, 0.0)
    return np.array([label.weight for label in card.labels])[:, None] * steps


def expected_costs(logps_NK: Floats, decided_N: Ints, card: TaskCard) -> Floats:
    """Expected cost of every decision under the fused probabilities, >= 0; NaN where the base model has no answer."""
    costs_NK = np.exp(logps_NK) @ cost_matrix(card)
    return costs_NK[np.arange(len(decided_N)), np.maximum(decided_N, 0)]


def queued_for_review(decided_N: Ints, sets_NK: Bools) -> Bools:
    """Whether a photo's prediction set is not the decided label alone, or there is no decision; shape (N,)."""
    decided_alone = sets_NK[np.arange(len(decided_N)), np.maximum(decided_N, 0)] & (sets_NK.sum(axis=1) == 1)
    return (decided_N == UNDECIDED) | ~decided_alone


def write_review_queue(
    out: Path,
    card: TaskCard,
    rows: Rows,
    *,
    logps_NK: Floats,
    decided_N: Ints,
    sets_NK: Bools,
    confidences: Mapping[str, Floats],
) -> None:
    """Write ``review.csv`` into a fusion directory, atomically: UTF-8 with byte order mark, one line a photo.

    Columns: ``rank`` (from 1), ``source``, ``name``, ``decided`` and ``prediction_set`` (texts of labels),
    ``p_<label>`` (fused), ``<stage>_confidence``, ``expected_cost``, ``reason``. What is unknown is empty.

    Args:
        out: Fusion directory.
        card: Knows the labels.
        rows: N photos.
        logps_NK: Fused log-probabilities; NaN where the base model has no answer.
        decided_N: Class index that is submitted; ``UNDECIDED`` where the base model has no answer.
        sets_NK: Prediction sets, see ``fusion.conformal.PredictionSets``.
        confidences: By stage: the base model's probability of its best label, a specialist's of the positive answer.
    """
    unread_N = decided_N == UNDECIDED
    at = np.flatnonzero(queued_for_review(decided_N, sets_NK))
    cost = expected_costs(logps_NK[at], decided_N[at], card)
    # Sorted by rounded costs, so that the last bit of a sum does not order photos that cost the same.
    order = np.lexsort((at, -np.round(np.nan_to_num(cost), DIGITS), ~unread_N[at]))
    at, cost = at[order], cost[order]
    decided, sets, unread = decided_N[at], sets_NK[at], unread_N[at]
    fallback = card.label_ids.index(card.fallback)
    texts = pa.array([label.text for label in card.labels])
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "rank": pa.array(np.arange(1, len(at) + 1)),
        "source": sheet_cells(rows.table["source"].take(pa.array(at))),
        "name": sheet_cells(rows.table["name"].take(pa.array(at))),
        "decided": sheet_cells(texts.take(pa.array(np.where(unread, fallback, decided)))),
        "prediction_set": sheet_cells(_joined(sets & ~unread[:, None], texts)),
    }
    columns |= {f"p_{label}": _figures(np.exp(logps_NK[at, k])) for k, label in enumerate(card.label_ids)}
    columns |= {f"{stage}_confidence": _figures(values[at]) for stage, values in confidences.items()}
    columns["expected_cost"] = _figures(cost)
    target_K = np.isin(card.label_ids, [label for s in card.specialists for label in s.targets])
    reasons = review_reasons(decided, sets, target_K, texts)
    unread_why = pc.binary_join_element_wise("not read", rows.base_errors.take(pa.array(at)), ": ")
    columns["reason"] = sheet_cells(pc.if_else(pa.array(unread), unread_why, reasons))
    _write(out / REVIEW_NAME, pa.table(columns))


def review_reasons(decided_N: Ints, sets_NK: Bools, target_K: Bools, texts: pa.Array) -> pa.Array:
    """Why each photo is in the queue; the first that applies."""
    index = np.arange(len(decided_N))
    missed_NK = sets_NK & target_K
    missed_NK[index, np.maximum(decided_N, 0)] = False
    return pc.case_when(
        pa.StructArray.from_arrays(
            [
                pa.array(missed_NK.any(axis=1)),
                pa.array(~sets_NK.any(axis=1)),
                pa.array(~sets_NK[index, np.maximum(decided_N, 0)]),
            ],
            ["target", "empty", "other"],
        ),
        pc.binary_join_element_wise("may be", _joined(missed_NK, texts), " "),
        "no label fits",
        "the decided label does not fit",
        "several labels fit",
    )


def _joined(sets_NK: Bools, texts: pa.Array) -> pa.Array:
    """The texts of each set, the most dangerous first."""
    distinct, which_N = np.unique(sets_NK, axis=0, return_inverse=True)
    names = [" | ".join(texts.filter(pa.array(row)).to_pylist()) for row in distinct]
    return pa.array(names, pa.string()).take(pa.array(which_N.reshape(-1)))


def _figures(values_N: Floats) -> pa.Array:
    return pa.array(np.round(values_N, DIGITS), mask=np.isnan(values_N))


def sheet_cells(values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Text on one line, with an apostrophe before what a spreadsheet would take for a formula."""
    flat = pc.replace_substring_regex(values, BREAKS, " ")
    marked = pc.binary_join_element_wise("'", flat, "")
    return pc.if_else(pc.match_substring_regex(flat, FORMULA), marked, flat)


def _write(path: Path, table: pa.Table) -> None:
    from pyarrow import csv

    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(BOM)
        csv.write_csv(table, file)
