"""Section "near-duplicates": pairs within a split, across splits, with different labels, and those the build missed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_builders.inspect.finding import Finding, Section, Verdict
from dataset_builders.inspect.near_duplicates import CERTAIN, NearPair
from dataset_builders.manifest import ManifestRow

__all__ = ["KINDS", "SHOWN", "group_numbers", "inspect_duplicates"]

# A pair can be of several kinds; missed: the build has it in two groups, in one split.
KINDS = ("across_splits", "different_labels", "missed", "known")

SHOWN = 16  # pairs of each kind on the page
LISTED = 2_000  # pairs of each kind in report.json
LARGEST_SHARE = 0.5


def group_numbers(rows: Sequence[ManifestRow], pairs: Sequence[NearPair]) -> NDArray[np.int64]:
    """Groups of the build joined by the pairs found here, numbered from 0, shape (N,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first_of_group: dict[int, int] = {}
    links = [(first_of_group.setdefault(row.group, index), index) for index, row in enumerate(rows)]
    links += [(pair.first, pair.second) for pair in pairs]
    if not links:
        return np.zeros(0, dtype=np.int64)
    left, right = np.array(links).T
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(rows), len(rows)))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def inspect_duplicates(rows: Sequence[ManifestRow], pairs: Sequence[NearPair]) -> Section:
    """Sort the pairs.

    Args:
        rows: The originals among the usable rows, N.
        pairs: What ``find_near_duplicates`` found among them.
    """
    listed = [_describe(rows[pair.first], rows[pair.second], pair.score) for pair in pairs]
    listed.sort(key=lambda pair: -pair["score"])
    kinds = {kind: [pair for pair in listed if kind in pair["kinds"]] for kind in KINDS}
    group_N = group_numbers(rows, pairs)
    sizes = np.bincount(group_N) if len(group_N) else np.zeros(0, np.int64)
    train_N = np.array([row.split == "train" for row in rows], dtype=bool)
    doubled = float(np.mean(sizes[group_N[train_N]] > 1)) if train_N.any() else 0.0
    facts = {
        "pairs": _first_of_each_kind(listed),
        "counts": {kind: len(members) for kind, members in kinds.items()},
        "certain": {kind: sum(pair["score"] >= CERTAIN for pair in members) for kind, members in kinds.items()},
        "groups": int((sizes > 1).sum()),
        "photos": int(sizes[sizes > 1].sum()),
        "largest": int(sizes.max(initial=0)),
    }
    shown = [pair[side] for members in kinds.values() for pair in members[:SHOWN] for side in ("first", "second")]
    findings = (_judge_leak(facts), _judge_contradictions(facts), _judge_duplicates(facts, doubled))
    return Section("near_duplicates", "Near-duplicates", findings, facts, tuple(dict.fromkeys(shown)))


def _describe(first: ManifestRow, second: ManifestRow, score: float) -> dict[str, Any]:
    across = first.split != second.split
    contradictory = None not in (first.label, second.label) and first.label != second.label
    known = first.group == second.group
    return {
        "first": first.sample_id,
        "second": second.sample_id,
        "score": score,
        "labels": [first.label, second.label],
        "splits": [first.split, second.split],
        "kinds": [
            kind
            for kind, given in zip(KINDS, (across, contradictory, not known and not across, known), strict=True)
            if given
        ],
    }


def _first_of_each_kind(listed: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the pairs that are beyond ``LISTED`` in each of their kinds."""
    taken: Counter[str] = Counter()
    kept = []
    for pair in listed:
        if any(taken[kind] < LISTED for kind in pair["kinds"]):
            kept.append(pair)
        taken.update(pair["kinds"])
    return kept


def _judge_leak(facts: dict[str, Any]) -> Finding:
    count, certain = facts["counts"]["across_splits"], facts["certain"]["across_splits"]
    if not count:
        return Finding("leak", Verdict.OK, "No near-duplicates lie in two splits: val and test say what they should.")
    return Finding(
        "leak",
        Verdict.PROBLEM if certain else Verdict.LOOK,
        f"{_pairs(count)} of near-duplicates {_lie(count)} in two splits ({certain} certain): what the model learnt by "
        "heart would count as a right answer.",
        "Look at the pairs below; raise near_duplicates.hamming in the build config or remove one photo of each pair.",
    )


def _judge_contradictions(facts: dict[str, Any]) -> Finding:
    count, certain = facts["counts"]["different_labels"], facts["certain"]["different_labels"]
    if not count:
        return Finding("contradictions", Verdict.OK, "Near-duplicates always have the same label.")
    return Finding(
        "contradictions",
        Verdict.PROBLEM if certain else Verdict.LOOK,
        f"{_pairs(count)} of near-duplicates {'has' if count == 1 else 'have'} different labels ({certain} certain): "
        "at least one of the two is wrong, or the difference is smaller than a glance sees.",
        "Decide on one label for each pair below and mend the label list.",
    )


def _judge_duplicates(facts: dict[str, Any], doubled: float) -> Finding:
    missed, groups = facts["counts"]["missed"], facts["groups"]
    if doubled > LARGEST_SHARE:
        return Finding(
            "duplicates",
            Verdict.PROBLEM,
            f"{100 * doubled:.0f} % of the training photos have a near-duplicate: there are far fewer different photos "
            "than rows.",
            "Keep a few photos of each group, or collect photos of more places.",
        )
    if missed:
        return Finding(
            "duplicates",
            Verdict.LOOK,
            f"{_pairs(missed)} within a split {'is' if missed == 1 else 'are'} no group of the build, so another fold "
            f"could part them; in all {groups} groups hold {facts['photos']} photos.",
            "Raise near_duplicates.hamming in the build config if the pairs below are real.",
        )
    return Finding(
        "duplicates",
        Verdict.OK,
        f"{facts['photos']} photos in {groups} groups of near-duplicates, all known to the build."
        if groups
        else "There are no near-duplicates.",
    )


def _pairs(count: int) -> str:
    return f"{count} pair{'' if count == 1 else 's'}"


def _lie(count: int) -> str:
    return "lies" if count == 1 else "lie"
