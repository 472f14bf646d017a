"""Chooses each specialist's member of the coefficient's family on labelled rows.

The score decides, and the log-loss breaks ties. Scores that differ by less than two standard errors of their paired
difference count as tied: the weighted F1 of some dozens of rare positives is too coarse to tell such members apart,
while the log-loss is smooth (after the one-standard-error rule of Breiman et al., Classification and Regression Trees,
1984, section 3.4.3). Simulated with 670 rows and an uninformative specialist, taking the best score outright costs
0.04 of the score on fresh rows, one standard error 0.01, two nothing; with informative ones two are as good or better.
A member that scores below no fusion or below the hard override on these rows is never chosen, so the result contains
its rivals. Of tied members no fusion stays unless the best one passes a likelihood-ratio test against it, for exponent
and neutral point, at 5 % (Wilks 1938).

Where kappa is 1 is fitted too: the training share of positives is the neutral point of a specialist whose negatives are
a fair sample, but mined negatives are not one, and what both models share moves it further. Exponents and neutral
points of the log-linear pool have the least log-loss together, which is convex in them; they join the family beside the
training share.

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

__all__ = ["CAPS", "EXPONENTS", "MIN_POSITIVES", "choose_coefficient", "choose_coefficients", "family", "fit_pool"]

EXPONENTS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
CAPS = (3.0, 10.0, 100.0, 10_000.0)
MIN_POSITIVES = 2  # fewer positive rows say nothing about a coefficient
TIED_STANDARD_ERRORS = 2.0
ROUNDING = 1e-9
ODDS_BOUND = 20.0  # log-odds beyond say no more than "certain"
EXPONENT_BOUND = 3.0
RIDGE = 0.1
FACTORS = (0.5, 1.0, 1.5)  # of the fitted exponent
MIN_EXPONENT_GAIN = 1.92  # in nats: half the 95 % point of chi-square with one degree of freedom,
MIN_LIKELIHOOD_GAIN = 3.0  # and with two
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
    prior: float,
    exponents: Sequence[float] = EXPONENTS,
    caps: Sequence[float] = CAPS,
    pool: tuple[float, float] | None = None,
) -> tuple[Coefficient, ...]:
    """The members that are tried: no fusion, the hard override, then the grid with and without a floor of 1.

    Args:
        prior: Training share of positives.
        exponents: Exponents that are tried with it.
        caps: Caps that are tried.
        pool: Exponent and neutral point of ``fit_pool``; multiples of that exponent are tried with that point.
    """
    pairs = [(exponent, prior) for exponent in exponents]
    if pool is not None and pool[0] > 0:
        pairs += [(factor * pool[0], pool[1]) for factor in FACTORS]
    grid = [
        Coefficient(neutral=point, exponent=exponent, cap=cap, floor=floor)
        for exponent, point in pairs
        for cap in caps
        for floor in (1 / cap, 1.0)
    ]
    return (NO_FUSION, OVERRIDE, *grid)


def fit_pool(
    base_logps_NK: Floats,
    log_odds_SN: Floats,
    labels_N: Ints,
    targets_SK: NDArray[np.bool_],
    *,
    group_N: Ints | None = None,
) -> tuple[tuple[float, float], ...]:
    """Exponent and neutral point of every specialist that minimise the log-loss of the pool, without caps.

    log p'(k) = log p(k) + sum over specialists that target k of (exponent * log-odds - bias) + constant; a row without
    a second look gets 0 from that specialist. A small ridge keeps the optimum finite where a specialist separates all
    rows.

    Args:
        base_logps_NK: Calibrated log-probabilities of the base model, no NaN.
        log_odds_SN: Log-odds of the specialists; NaN without a second look.
        labels_N: True class indices.
        targets_SK: Which classes each specialist speaks about.
        group_N: Rows with the same number are near-duplicates: the test counts groups. None: rows.

    Returns:
        For every specialist the exponent, >= 0, and the probability of a positive at which kappa is 1, in (0, 1). The
        exponent is 0 where it fails a likelihood-ratio test against a constant factor on the targets, at 5 %.
    """
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    seen_SN = ~np.isnan(log_odds_SN)
    odds_SN = np.where(seen_SN, np.clip(log_odds_SN, -ODDS_BOUND, ODDS_BOUND), 0.0)
    on_target_SN = targets_SK[:, labels_N].astype(np.float64)
    count = len(targets_SK)

    def loss(x: Floats) -> tuple[float, Floats]:
        factor_SN = (x[:count, None] * odds_SN - x[count:, None]) * seen_SN
        pooled_NK = base_logps_NK + np.einsum("sn,sk->nk", factor_SN, targets_SK)
        pooled_NK = pooled_NK - logsumexp(pooled_NK, axis=1, keepdims=True)
        surplus_SN = (np.einsum("nk,sk->sn", np.exp(pooled_NK), targets_SK) - on_target_SN) * seen_SN
        gradient = np.concatenate([(surplus_SN * odds_SN).sum(axis=1), -surplus_SN.sum(axis=1)])
        value = -pooled_NK[np.arange(len(labels_N)), labels_N].sum()
        return float(value + RIDGE * (x**2).sum()), gradient + 2 * RIDGE * x

    def minimum(silent: int | None) -> tuple[float, Floats]:
        exponents = [(0.0, 0.0 if s == silent else EXPONENT_BOUND) for s in range(count)]
        bounds = [*exponents, *[(None, None)] * count]
        found = minimize(loss, np.zeros(2 * count), jac=True, method="L-BFGS-B", bounds=bounds)
        return float(found.fun), found.x

    best, x = minimum(None)
    independent = _draws(labels_N, group_N) / len(labels_N)
    pool = []
    for s, (exponent, bias) in enumerate(zip(x[:count].tolist(), x[count:].tolist(), strict=True)):
        # Silent, a specialist is a constant factor on its targets: that may mend base, but it is no second look.
        if exponent == 0 or (minimum(s)[0] - best) * independent < MIN_EXPONENT_GAIN:
            pool.append((0.0, 0.5))
            continue
        point = np.clip(bias / exponent, -ODDS_BOUND / 2, ODDS_BOUND / 2)
        pool.append((exponent, float(1 / (1 + np.exp(-point)))))
    return tuple(pool)


def choose_coefficients(
    base_logps_NK: Floats,
    log_odds_SN: Floats,
    labels_N: Ints,
    *,
    targets_SK: NDArray[np.bool_],
    weights_K: Floats,
    families: Sequence[Sequence[Coefficient]],
    group_N: Ints | None = None,
) -> tuple[Coefficient, ...]:
    """The best members for S specialists on labelled rows, see the module's docstring.

    Args:
        base_logps_NK: Calibrated log-probabilities of the base model, no NaN.
        log_odds_SN: Calibrated log-odds of the specialists; NaN without a second look.
        labels_N: True class indices.
        targets_SK: Which classes each specialist speaks about.
        weights_K: Weight of every class's F1.
        families: What to choose from for each, as ``family`` lists it.
        group_N: As in ``choose_coefficient``.
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
                group_N=group_N,
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
    group_N: Ints | None = None,
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
        group_N: Rows with the same number are near-duplicates and count as one draw in both tests; each row when None.

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
    tied = [t for t in tried if t.score >= floor - ROUNDING and _tied(t, best, group_N)]
    chosen = min(tied, key=lambda t: (round(t.log_loss, 9), t.coefficient.exponent, t.coefficient.cap))
    idle = next((t for t in tied if t.coefficient == NO_FUSION), None)
    if idle is not None and (idle.log_loss - chosen.log_loss) * _draws(labels_N, group_N) < MIN_LIKELIHOOD_GAIN:
        return NO_FUSION
    return chosen.coefficient


def _can_be_judged(log_odds_N: Floats, target_K: NDArray[np.bool_], labels_N: Ints) -> bool:
    """Whether enough rows with a second look are positive, and any is negative."""
    seen = ~np.isnan(log_odds_N)
    positives = int(np.sum(target_K[labels_N] & seen))
    return MIN_POSITIVES <= positives < int(seen.sum())


def _draws(labels_N: Ints, group_N: Ints | None) -> int:
    """How many independent draws the rows are."""
    return len(labels_N) if group_N is None else int(group_N.max()) + 1


def _tied(member: _Tried, best: _Tried, group_N: Ints | None) -> bool:
    """Whether the best score is within some standard errors of the paired difference (delta method)."""
    influence: Floats = best.influence_N - member.influence_N
    if group_N is not None:
        influence = np.bincount(group_N, weights=influence).astype(np.float64)
    standard_error = float(np.sqrt(np.sum(influence**2)))
    return best.score - member.score <= TIED_STANDARD_ERRORS * standard_error + ROUNDING
