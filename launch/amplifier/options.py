"""Options of an amplifier, as they stand in a prepared checkpoint's ``config.json``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from dataset_builders.config_file import FrozenModel

__all__ = ["AmplifierOptions"]


class AmplifierOptions(FrozenModel):
    """How a hazard amplifier is built and trained.

    Attributes:
        queries: Hazard queries, >= 1.
        width: Channels in which queries and tokens are compared, >= 1.
        strength: Factor of everything that starts at zero, > 0; as LoRA's alpha, it sets the pace of learning.
        seed: Of the initial weights.
        auxiliary_weight: Factor of the photos' own loss in training, >= 0; 0 leaves it out.
        answer_offset: Position, in the answer's tokens, of the first token that tells positive from negative.
        positive_token: That token of the positive answer; None without an auxiliary loss.
        negative_token: That token of the negative answer.
    """

    queries: Annotated[int, Field(ge=1)] = 4
    width: Annotated[int, Field(ge=1)] = 64
    strength: Annotated[float, Field(gt=0)] = 4.0
    seed: Annotated[int, Field(ge=0)] = 0
    auxiliary_weight: Annotated[float, Field(ge=0)] = 0.0
    answer_offset: Annotated[int, Field(ge=0)] = 0
    positive_token: int | None = None
    negative_token: int | None = None

    @model_validator(mode="after")
    def _knows_the_answers(self) -> AmplifierOptions:
        if self.auxiliary_weight and (self.positive_token is None or self.negative_token is None):
            raise ValueError("an auxiliary weight above 0 needs the answers' tokens: name a task card and its stage")
        return self
