"""What the models say about one photo: the same for a photo of the queue and for one that was just scored."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Opinion", "SecondLook"]


@dataclass(frozen=True)
class SecondLook:
    """What one specialist said.

    Attributes:
        name: Its stage.
        targets: Texts of the labels that it looks for.
        positive: Calibrated probability of its positive answer; None when there is no second look.
        coefficient: By which base's probabilities of the targets are multiplied.
        error: Why there is no second look; empty where there is one.
    """

    name: str
    targets: tuple[str, ...]
    positive: float | None
    coefficient: float
    error: str = ""


@dataclass(frozen=True)
class Opinion:
    """What the models say about a photo, K labels in the card's order.

    Attributes:
        decided: Label identifier that is submitted; the fallback's where base has no answer.
        in_set: Whether each label is in the prediction set.
        base: Calibrated probabilities of base; empty where it has no answer.
        fused: Fused probabilities, calibrated as in ``review.csv``; empty where base has no answer.
        looks: The specialists.
        expected_cost: Of the decision; None where base has no answer.
        reason: Why a person should look, as in ``review.csv``; empty where nobody has to.
    """

    decided: str
    in_set: tuple[bool, ...]
    base: tuple[float, ...]
    fused: tuple[float, ...]
    looks: tuple[SecondLook, ...]
    expected_cost: float | None
    reason: str
