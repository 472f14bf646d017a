"""The do-no-harm guard: fusion is submitted only when its cross-fitted gain over base is not in doubt.

Held-out figures of a fusion that was fitted on few rows may be lucky. The guard looks at the lower end of the paired
bootstrap interval of the gain: at the two-sided level 0.9 that end is a one-sided 95 % lower bound (Efron and
Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). Below zero, base is submitted. This errs on the side of
base: with few rows of a rare class the interval is wide, and a true gain is often held back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fusion.bootstrap import interval
from fusion.cross_fit import resample_gain
from fusion.metrics import confusion_matrix, weighted_f1

__all__ = ["GUARD_LEVEL", "Guard", "judge_fusion"]

GUARD_LEVEL = 0.9

Ints = NDArray[np.int64]


class Guard(BaseModel):
    """What the guard found.

    Attributes:
        level: Two-sided level of the interval, in (0, 1).
        decision: The decision by which fused answered, ``argmax`` or ``rule``.
        base_decision: That of base, where it is another one.
        gain: Cross-fitted score of fused minus that of base.
        low: Lower end of the gain's interval.
        high: Upper end.
        cross_fitted: False when there were too few rows for it, so that the figures are in-sample and say nothing.
        holds_back: True when fusion may do harm: the lower end is below zero, or nothing could be cross-fitted.
        forced: True when fused is submitted all the same.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Annotated[float, Field(gt=0, lt=1)]
    decision: str
    base_decision: str | None = None
    gain: float
    low: float
    high: float
    cross_fitted: bool = True
    holds_back: bool
    forced: bool

    @property
    def submits_fused(self) -> bool:
        """Whether fused is what is submitted."""
        return self.forced or not self.holds_back

    def describe(self) -> str:
        """One line for people: the gain, its interval, and what follows."""
        sides = f"fused − base ({self.decision})"
        if self.base_decision is not None:
            sides = f"fused ({self.decision}) − base ({self.base_decision})"
        text = f"{sides}, {'cross-fitted' if self.cross_fitted else 'in-sample'}: {self.gain:+.4f}, "
        text += f"{100 * self.level:g} % interval [{self.low:+.3f}, {self.high:+.3f}]; "
        if not self.holds_back:
            return f"{text}the lower end is not below zero, so fused is submitted"
        doubt = "fusion may do harm" if self.cross_fitted else "too few photos to tell by those that were not fitted on"
        if self.forced:
            return f"{text}{doubt}, but was forced: fused is submitted"
        return f"{text}{doubt}, so base is submitted (--force-fusion submits fused)"


def judge_fusion(
    labels_N: Ints,
    cross_fitted: Mapping[str, Ints],
    weights_K: NDArray[np.float64],
    *,
    decisions: Mapping[str, str],
    group_N: Ints,
    honest: bool,
    level: float,
    forced: bool,
    resamples: int,
    rng: np.random.Generator,
) -> Guard:
    """Judge fused against base, each as it would be submitted.

    Args:
        labels_N: True class indices.
        cross_fitted: Class index of every row by system.
        weights_K: Weight of every class's F1.
        decisions: ``argmax`` or ``rule`` for ``base`` and for ``fused``.
        group_N: Rows with the same number are near-duplicates, and count as one draw.
        honest: False when the rows could not be cross-fitted; fusion is then held back.
        level: Two-sided level of the interval.
        forced: Fused is submitted whatever is found.
        resamples: Bootstrap resamples.
        rng: Their randomness.
    """
    base_N, fused_N = (cross_fitted[f"{system}_{decisions[system]}"] for system in ("base", "fused"))
    classes = len(weights_K)
    base, fused = (float(weighted_f1(confusion_matrix(labels_N, x, classes), weights_K)) for x in (base_N, fused_N))
    gain_R = resample_gain(labels_N, base_N, fused_N, weights_K, group_N=group_N, resamples=resamples, rng=rng)
    low, high = interval(gain_R, level)
    return Guard(
        level=level,
        decision=decisions["fused"],
        base_decision=decisions["base"] if decisions["base"] != decisions["fused"] else None,
        gain=fused - base,
        low=low,
        high=high,
        cross_fitted=honest,
        holds_back=low < 0 or not honest,
        forced=forced,
    )
