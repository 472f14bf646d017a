"""Chooses each specialist's member of the coefficient's family on labelled rows.

The score decides, and the log-loss breaks ties. Scores that differ by less than two standard errors of their paired
difference count as tied: the weighted F1 of some dozens of rare positives is too coarse to tell such members apart,
while the log-loss is smooth (after the one-standard-error rule of Breiman et al., Classification and Regression Trees,
1984, section 3.4.3). Simulated with 670 rows and an uninformative specialist, taking the best score outright costs
0.04 of the score on fresh rows, one standard error 0.01, two nothing; with informative ones two are as good or better.
A member that scores below no fusion or below the hard override on these rows is never chosen, so the result contains
its rivals.

Several specialists are fitted by coordinates: each in turn with the others applied, from no fusion, until nothing
changes. No step lowers the score, so the rivals stay contained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.calibration import log_loss
from fusion.coefficient import NO_FUSION, OVERRIDE, Coefficient, log_coefficient, multiply, multiply_all
from fusion.metrics import confusion_matrix, score_influence, weighted_f1

__all__ = ["CAPS", "EXPONENTS", "MIN_POSITIVES", "choose_coefficient", "choose_coefficients", "family"]

EXPONENTS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
CAPS = (3.0, 10.0, 100.0, 10_000.0)
MIN_POSITIVES = 2  # fewer positive rows say nothing about a coefficient
TIED_STANDARD_ERRORS = 2.0
ROUNDING = 1e-9
MAX_PASSES = 3

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class _Tried:
    coefficient: Coefficient
    score: float
    log_loss: float
    influence_N: Floats


def family(
    prior: float, exponents: Sequence[float] = EXPONENTS, caps: Sequence[float] = CAPS
) -> tuple[Coefficient, ...]:
    """The members that are tried: no fusion, the hard override, then the grid with and without a floor of 1."""
    grid = [
        Coefficient(prior=prior, exponent=exponent, cap=cap, floor=floor)
        for exponent in exponents
        for cap in caps
        for floor in (1 / cap, 1.0)
    ]
    return (NO_FUSION, OVERRIDE, *grid)


def choose_coefficients(
    base_logps_NK: Floats,
    log_odds_SN: Floats,
    labels_N: Ints,
    *,
    targets_SK: NDArray[np.bool_],
    weights_K: Floats,
    families: Sequence[Sequence[Coefficient]],
) -> tuple[Coefficient, ...]:
    """The best members for S specialists on labelled rows, see the module's docstring.

    Args:
        base_logps_NK: Calibrated log-probabilities of the base model, no NaN.
        log_odds_SN: Calibrated log-odds of the specialists; NaN without a second look.
        labels_N: True class indices.
        targets_SK: Which classes each specialist speaks about.
        weights_K: Weight of every class's F1.
        families: What to choose from for each, as ``family`` lists it.
    """
    chosen = [NO_FUSION] * len(families)

    def pool(members: Sequence[Coefficient]) -> Floats:
        factors = [log_coefficient(odds, member) for odds, member in zip(log_odds_SN, members, strict=True)]
        return multiply_all(base_logps_NK, targets_SK, factors)

    def score(members: Sequence[Coefficient]) -> float:
        predicted = pool(members).argmax(axis=1)
        return float(weighted_f1(confusion_matrix(labels_N, predicted, len(weights_K)), weights_K))

    for _ in range(MAX_PASSES):
        before = list(chosen)
        for s, members in enumerate(families):
            chosen[s] = choose_coefficient(
                pool([*chosen[:s], NO_FUSION, *chosen[s + 1 :]]),
                log_odds_SN[s],
                labels_N,
                target_K=targets_SK[s],
                weights_K=weights_K,
                members=members,
                rivals=(NO_FUSION, OVERRIDE, chosen[s]),
            )
        if len(families) == 1 or chosen == before:
            break
    seen = zip(log_odds_SN, targets_SK, strict=True)
    override = [OVERRIDE if _can_be_judged(odds, target, labels_N) else NO_FUSION for odds, target in seen]
    if len(families) > 1 and score(override) > score(chosen) + ROUNDING:
        return tuple(override)
    return tuple(chosen)


def choose_coefficient(
    base_logps_NK: Floats,
    log_odds_N: Floats,
    labels_N: Ints,
    *,
    target_K: NDArray[np.bool_],
    weights_K: Floats,
    members: Sequence[Coefficient],
    rivals: Sequence[Coefficient] = (NO_FUSION, OVERRIDE),
) -> Coefficient:
    """The best member on labelled rows, see the module's docstring.

    Args:
        base_logps_NK: Calibrated log-probabilities of the base model, no NaN.
        log_odds_N: Calibrated log-odds of the specialist; NaN without a second look.
        labels_N: True class indices.
        target_K: Which classes the specialist speaks about.
        weights_K: Weight of every class's F1.
        members: What to choose from, as ``family`` lists it: no fusion and the hard override first.
        rivals: Members that the chosen one does not score below.

    Returns:
        The chosen member; no fusion when fewer than 2 rows with a second look are positive, or none is negative.
    """
    if not _can_be_judged(log_odds_N, target_K, labels_N):
        return NO_FUSION

    def attempt(member: Coefficient) -> _Tried:
        fused = multiply(base_logps_NK, target_K, log_coefficient(log_odds_N, member))
        predicted = fused.argmax(axis=1)
        return _Tried(
            coefficient=member,
            score=float(weighted_f1(confusion_matrix(labels_N, predicted, len(target_K)), weights_K)),
            log_loss=log_loss(fused, labels_N),
            influence_N=score_influence(labels_N, predicted, weights_K),
        )

    tried = [attempt(member) for member in members]
    floor = max(t.score for t in tried if t.coefficient in rivals)
    best = max(tried, key=lambda t: t.score)
    tied = [t for t in tried if t.score >= floor - ROUNDING and _tied(t, best)]
    chosen = min(tied, key=lambda t: (round(t.log_loss, 9), t.coefficient.exponent, t.coefficient.cap))
    return chosen.coefficient


def _can_be_judged(log_odds_N: Floats, target_K: NDArray[np.bool_], labels_N: Ints) -> bool:
    """Whether enough rows with a second look are positive, and any is negative."""
    seen = ~np.isnan(log_odds_N)
    positives = int(np.sum(target_K[labels_N] & seen))
    return MIN_POSITIVES <= positives < int(seen.sum())


def _tied(member: _Tried, best: _Tried) -> bool:
    """Whether the best score is within some standard errors of the paired difference (delta method)."""
    standard_error = float(np.sqrt(np.sum((best.influence_N - member.influence_N) ** 2)))
    return best.score - member.score <= TIED_STANDARD_ERRORS * standard_error + ROUNDING
