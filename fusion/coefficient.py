"""The correction coefficient: how much the specialist's second look multiplies the base confidence in the targets.

kappa(x) = clip((odds(q(x)) / odds(neutral)) ** exponent, floor, cap), where q is the specialist's calibrated
probability of a positive. With the share of positives that it was trained with as the neutral point, the quotient is
the likelihood ratio that the second look adds to what the base model knew (Bayes' rule; Saerens et al., Neural
Computation 14, 2002), the exponent discounts evidence that both models share (log-linear pooling; Genest and Zidek,
Statistical Science 1, 1986). Then p'(target) is proportional to p * kappa and p'(other) to p. Several specialists
multiply one after the other: p'(k) is proportional to p(k) times the kappas of all specialists that have k among their
targets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["NO_FUSION", "OVERRIDE", "Coefficient", "log_coefficient", "multiply", "multiply_all"]

Floats = NDArray[np.float64]


class Coefficient(BaseModel):
    """One member of the family.

    Attributes:
        neutral: The q at which kappa is 1, in (0, 1): the specialist's training share of positives, or fitted.
        exponent: gamma >= 0; 0 is no fusion, infinity turns kappa into a switch at the neutral point.
        cap: Largest kappa, >= 1, may be infinite.
        floor: Smallest kappa, 0 to 1: 1/cap lets the specialist talk the base model out of a target as much as into
            it, 1 lets it only raise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    neutral: Annotated[float, Field(gt=0, lt=1)]
    exponent: Annotated[float, Field(ge=0)]
    cap: Annotated[float, Field(ge=1)]
    floor: Annotated[float, Field(ge=0, le=1)]

    @model_validator(mode="after")
    def _no_nan(self) -> Coefficient:
        if any(math.isnan(value) for value in (self.exponent, self.cap)):
            raise ValueError("exponent and cap must be numbers, got NaN")
        return self


# The family's two fixed points: the base model alone, and "the specialist says positive, so it is the target".
NO_FUSION = Coefficient(neutral=0.5, exponent=0.0, cap=1.0, floor=1.0)
OVERRIDE = Coefficient(neutral=0.5, exponent=math.inf, cap=math.inf, floor=1.0)


def log_coefficient(log_odds_N: Floats, coefficient: Coefficient) -> Floats:
    """Natural log of kappa.

    Args:
        log_odds_N: Log-odds of the calibrated q, infinite for q = 0 or 1; NaN where there is no second look.
        coefficient: Neutral point, exponent, cap and floor.

    Returns:
        log kappa, non-decreasing in the log-odds, within [log floor, log cap]; 0 where the log-odds are NaN.
    """
    evidence = np.asarray(log_odds_N, dtype=np.float64) - math.log(coefficient.neutral / (1 - coefficient.neutral))
    silent = np.isnan(evidence) | (evidence == 0)  # 0 x infinity must be 0, not NaN
    if coefficient.exponent == 0:
        return np.zeros(len(evidence))
    powered = np.where(silent, 0.0, np.where(silent, 1.0, evidence) * coefficient.exponent)
    log_floor = math.log(coefficient.floor) if coefficient.floor > 0 else -math.inf
    return np.clip(powered, log_floor, math.log(coefficient.cap))


def multiply(logps_NK: Floats, target_K: NDArray[np.bool_], log_kappa_N: Floats) -> Floats:
    """Multiply the targets' probabilities by kappa and renormalise.

    Args:
        logps_NK: Natural log-probabilities that sum to 1 by row; -inf is allowed.
        target_K: Which classes the specialist speaks about.
        log_kappa_N: Natural log of kappa; +inf leaves only targets, -inf only the others.

    Returns:
        Log-probabilities of shape (N, K). Ratios within the targets and within the others are kept. A row whose whole
        mass kappa would remove stays as it was.
    """
    logps = np.asarray(logps_NK, dtype=np.float64)
    # Infinite factors are applied to the side that vanishes, because inf - inf says nothing.
    on_target = np.where(np.isposinf(log_kappa_N), 0.0, log_kappa_N)
    on_others = np.where(np.isposinf(log_kappa_N), -np.inf, 0.0)
    raised = logps + np.where(target_K, on_target[:, None], on_others[:, None])
    gone = np.isneginf(raised.max(axis=1))
    raised[gone] = logps[gone]
    raised -= raised.max(axis=1, keepdims=True)
    raised -= np.log(np.exp(raised).sum(axis=1, keepdims=True))
    return raised


def multiply_all(logps_NK: Floats, targets_SK: NDArray[np.bool_], log_kappas_SN: Sequence[Floats] | Floats) -> Floats:
    """Multiply by the kappas of S specialists, one after the other; arguments and result as in ``multiply``.

    Finite kappas commute. Infinite ones narrow the answer to a specialist's targets, and one that would leave nothing
    is passed over: of specialists that contradict each other the first one wins.
    """
    for target_K, log_kappa_N in zip(targets_SK, log_kappas_SN, strict=True):
        logps_NK = multiply(logps_NK, target_K, log_kappa_N)
    return logps_NK
