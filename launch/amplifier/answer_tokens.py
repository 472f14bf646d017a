"""Which token of an answer tells positive from negative, as training writes the answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dataset_builders.errors import ConfigError
from dataset_builders.task_card import TaskCard

__all__ = ["deciding_tokens"]

TEMPLATE = "qwen2_vl"  # LLaMA-Factory's name of Qwen2.5-VL's chat template


def deciding_tokens(base: Path, card: TaskCard, stage: str) -> dict[str, Any]:
    """Find the first token in which the two answers of a stage differ.

    Returns:
        ``answer_offset``, ``positive_token`` and ``negative_token`` for ``AmplifierOptions``.

    Raises:
        ConfigError: The stage has not exactly two answers, or the base has no tokenizer.
    """
    answers = card.answers(stage)
    if len(answers) != 2:
        raise ConfigError(
            f"stage {stage!r} has {len(answers)} answers; the auxiliary loss needs a positive and a negative one, as "
            f"{' and '.join(card.stages[1:])} have"
        )
    from launch.predict.model import load_tokenizer_and_template

    tokenizer, template = load_tokenizer_and_template(str(base), {"template": TEMPLATE})
    prompt = card.prompt(stage)
    positive, negative = (
        template.encode_multiturn(
            tokenizer,
            [{"role": "user", "content": prompt.user}, {"role": "assistant", "content": answer.text}],
            prompt.system,
            "",
        )[0][1]
        for answer in answers
    )
    offset = next(i for i, pair in enumerate(zip(positive, negative, strict=False)) if pair[0] != pair[1])
    return {"answer_offset": offset, "positive_token": positive[offset], "negative_token": negative[offset]}
