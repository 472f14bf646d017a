"""How far predictions move when something is changed that should not matter: flips, probabilities, score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.calibration import renormalise
from fusion.scores import compare_systems

__all__ = ["compare_variations"]

Floats = NDArray[np.float64]
UNLABELLED = -1


def compare_variations(
    logps: Mapping[str, Floats],
    labels_N: NDArray[np.int64],
    *,
    answer_ids: Sequence[str],
    weights_K: Floats,
    resamples: int,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Hold every variation against the first one, the reference.

    Only photos that both could read are compared. Probabilities are those over the answers alone.

    Args:
        logps: By variation, natural log-probabilities of the same N photos in the same order, NaN where one failed.
        labels_N: Index of the right answer, -1 where it is not known.
        answer_ids: Identifiers of the K answers.
        weights_K: Weight of every answer's F1 in the score.
        resamples: Bootstrap resamples of the intervals.
        seed: Their seed.

    Returns:
        By variation: ``photos`` (compared), ``failed`` (of the variation), ``flips`` (other most probable answer),
        ``drift`` (their share), ``max_change`` and ``mean_change`` of a probability (absolute, over photos x answers);
        where labels are known also ``score``, ``score_interval``, ``score_change``, ``score_change_interval`` (paired).
    """
    reference, *_ = logps
    probs = {name: np.exp(renormalise(values)) for name, values in logps.items()}
    read = {name: np.isfinite(values).all(axis=1) for name, values in probs.items()}
    found: dict[str, dict[str, Any]] = {}
    for name, ours in probs.items():
        both = read[name] & read[reference]
        theirs = probs[reference][both]
        change = np.abs(ours[both] - theirs)
        flips = int((ours[both].argmax(axis=1) != theirs.argmax(axis=1)).sum())
        found[name] = {
            "photos": int(both.sum()),
            "failed": int((~read[name]).sum()),
            "flips": flips,
            "drift": flips / max(int(both.sum()), 1),
            "max_change": float(change.max(initial=0.0)),
            "mean_change": float(change.mean()) if change.size else 0.0,
        }
        known = both & (labels_N != UNLABELLED)
        if not known.any():
            continue
        compared = compare_systems(
            labels_N[known],
            {side: probs[side][known].argmax(axis=1) for side in (name, reference)},
            [(name, reference)],
            label_ids=answer_ids,
            weights_K=weights_K,
            resamples=resamples,
            seed=seed,
        )
        system, (difference,) = compared["systems"][name], compared["differences"]
        found[name] |= {"score": system["score"], "score_interval": system["score_interval"]}
        found[name] |= {"score_change": difference["score"], "score_change_interval": difference["score_interval"]}
    return found
