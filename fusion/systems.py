"""The six systems that are always computed side by side: base, hard override and fused, by argmax and by rule.

The hard override: a specialist that says positive (as it said it, before calibration) narrows the label to its targets,
of which the most probable by base is taken; of specialists that contradict each other the first one in the task card's
order decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fusion.calibration import renormalise
from fusion.calibrators import Calibrator
from fusion.coefficient import OVERRIDE, Coefficient, log_coefficient, multiply_all
from fusion.decision import decide

__all__ = [
    "DECISIONS",
    "SYSTEMS",
    "UNDECIDED",
    "Applied",
    "Parameters",
    "SpecialistParameters",
    "apply_parameters",
]

DECISIONS = ("argmax", "rule")
SYSTEMS = tuple(f"{system}_{decision}" for decision in DECISIONS for system in ("base", "override", "fused"))
UNDECIDED = -1  # class index of a row that the base model could not read

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class SpecialistParameters(BaseModel):
    """What is fitted for one specialist.

    Attributes:
        name: Its stage.
        calibrator: Calibrates its two answers at the share of positives that it was trained with.
        prior: Share of positives that it was trained with, in (0, 1).
        coefficient: The correction coefficient.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    name: str
    calibrator: Calibrator
    prior: Annotated[float, Field(gt=0, lt=1)]
    coefficient: Coefficient


class Parameters(BaseModel):
    """Everything that is fitted.

    Attributes:
        base_calibrator: Calibrates the base model.
        specialists: The S specialists, in the task card's order.
        base_offsets: Decision offsets for the base model's probabilities, one a label (natural log of multipliers).
        fused_offsets: The same for the fused probabilities.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    base_calibrator: Calibrator
    specialists: tuple[SpecialistParameters, ...]
    base_offsets: tuple[float, ...]
    fused_offsets: tuple[float, ...]


@dataclass(frozen=True)
class Applied:
    """What the systems make of N photos.

    Attributes:
        base_logps_NK: Calibrated base log-probabilities; NaN for a row that the base model could not read.
        positive_SN: The specialists' calibrated probabilities of a positive; NaN without a second look.
        kappa_SN: The correction coefficients; 1 without a second look.
        fused_logps_NK: Log-probabilities after all corrections.
        labels: Class index of every row by system; ``UNDECIDED`` where the base model has no answer.
    """

    base_logps_NK: Floats
    positive_SN: Floats
    kappa_SN: Floats
    fused_logps_NK: Floats
    labels: dict[str, Ints]


def apply_parameters(
    parameters: Parameters, base_logps_NK: Floats, looks_SN2: Floats, targets_SK: NDArray[np.bool_]
) -> Applied:
    """Calibrate, correct and decide; every row is treated on its own.

    Args:
        parameters: The fitted values.
        base_logps_NK: Natural log-probabilities of the labels; a failed row is NaN.
        looks_SN2: Those of the specialists' answers, the positive one first; a row without is NaN.
        targets_SK: Which labels are each specialist's targets.
    """
    base = parameters.base_calibrator.apply(base_logps_NK)
    specialists = parameters.specialists
    positive_SN = np.empty(looks_SN2.shape[:2])
    log_kappa_SN, override_SN = np.empty_like(positive_SN), np.empty_like(positive_SN)
    for s, (specialist, look_N2) in enumerate(zip(specialists, looks_SN2, strict=True)):
        calibrated = specialist.calibrator.apply(look_N2)
        log_odds_N = calibrated[:, 0] - calibrated[:, 1]
        positive_SN[s] = np.exp(calibrated[:, 0])
        log_kappa_SN[s] = log_coefficient(log_odds_N, specialist.coefficient)
        said = renormalise(look_N2)  # whatever calibration makes of it: public solutions have none
        override_SN[s] = log_coefficient(said[:, 0] - said[:, 1], OVERRIDE)
    fused = multiply_all(base, targets_SK, log_kappa_SN)
    says_positive = np.isposinf(override_SN).any(axis=0)
    zeros = (0.0,) * base.shape[1]
    overridden = decide(multiply_all(base, targets_SK, override_SN), zeros)
    unread = np.isnan(base).any(axis=1)
    labels: dict[str, Ints] = {}
    for decision in DECISIONS:
        rule = decision == "rule"
        base_label = decide(base, parameters.base_offsets if rule else zeros)
        labels[f"base_{decision}"] = base_label
        labels[f"override_{decision}"] = np.where(says_positive, overridden, base_label)
        labels[f"fused_{decision}"] = decide(fused, parameters.fused_offsets if rule else zeros)
    return Applied(
        base_logps_NK=base,
        positive_SN=positive_SN,
        kappa_SN=np.exp(log_kappa_SN),
        fused_logps_NK=fused,
        labels={name: np.where(unread, UNDECIDED, labels[name]) for name in SYSTEMS},
    )
