"""The six systems that are always computed side by side: base, hard override and fused, by argmax and by rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fusion.calibration import apply_temperature
from fusion.coefficient import Coefficient, log_coefficient, multiply
from fusion.decision import decide

__all__ = ["DECISIONS", "SYSTEMS", "UNDECIDED", "Applied", "Parameters", "apply_parameters"]

DECISIONS = ("argmax", "rule")
SYSTEMS = tuple(f"{system}_{decision}" for decision in DECISIONS for system in ("base", "override", "fused"))
UNDECIDED = -1  # class index of a row that the base model could not read

Temperature = Annotated[float, Field(gt=0)]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Parameters(BaseModel):
    """Everything that is fitted.

    Attributes:
        base_temperature: Temperature of the base model.
        specialist_temperature: Temperature of the specialist.
        coefficient: The correction coefficient.
        base_offsets: Decision offsets for the base model's probabilities, one a label (natural log of multipliers).
        fused_offsets: The same for the fused probabilities.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    base_temperature: Temperature
    specialist_temperature: Temperature
    coefficient: Coefficient
    base_offsets: tuple[float, ...]
    fused_offsets: tuple[float, ...]


@dataclass(frozen=True)
class Applied:
    """What the systems make of N photos.

    Attributes:
        base_logps_NK: Calibrated base log-probabilities; NaN for a row that the base model could not read.
        positive_N: The specialist's calibrated probability of a positive; NaN without a second look.
        kappa_N: The correction coefficient; 1 without a second look.
        fused_logps_NK: Log-probabilities after the correction.
        labels: Class index of every row by system; ``UNDECIDED`` where the base model has no answer.
    """

    base_logps_NK: Floats
    positive_N: Floats
    kappa_N: Floats
    fused_logps_NK: Floats
    labels: dict[str, Ints]


def apply_parameters(
    parameters: Parameters, base_logps_NK: Floats, specialist_logps_N2: Floats, target_K: NDArray[np.bool_]
) -> Applied:
    """Calibrate, correct and decide; every row is treated on its own.

    Args:
        parameters: The fitted values.
        base_logps_NK: Natural log-probabilities of the labels; a failed row is NaN.
        specialist_logps_N2: Those of the specialist's answers, the positive one first; a row without is NaN.
        target_K: Which labels are the specialist's targets.
    """
    base = apply_temperature(base_logps_NK, parameters.base_temperature)
    specialist = apply_temperature(specialist_logps_N2, parameters.specialist_temperature)
    log_kappa = log_coefficient(specialist[:, 0] - specialist[:, 1], parameters.coefficient)
    fused = multiply(base, target_K, log_kappa)
    says_positive = specialist[:, 0] > specialist[:, 1]  # False where NaN
    best_target = decide(base, np.where(target_K, 0.0, -np.inf))
    unread = np.isnan(base).any(axis=1)
    labels: dict[str, Ints] = {}
    zeros = (0.0,) * base.shape[1]
    for decision in DECISIONS:
        rule = decision == "rule"
        base_label = decide(base, parameters.base_offsets if rule else zeros)
        labels[f"base_{decision}"] = base_label
        labels[f"override_{decision}"] = np.where(says_positive, best_target, base_label)
        labels[f"fused_{decision}"] = decide(fused, parameters.fused_offsets if rule else zeros)
    return Applied(
        base_logps_NK=base,
        positive_N=np.exp(specialist[:, 0]),
        kappa_N=np.exp(log_kappa),
        fused_logps_NK=fused,
        labels={name: np.where(unread, UNDECIDED, labels[name]) for name in SYSTEMS},
    )
