"""Turns photos and a prompt into model inputs with LLaMA-Factory's own template and image plugin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dataset_builders.errors import ConfigError
from dataset_builders.sharegpt import conversation
from dataset_builders.task_card import Answer, Prompt
from launch.predict.model import LoadedModel

__all__ = ["EncodedPhotos", "InputEncoder"]


@dataclass(frozen=True)
class EncodedPhotos:
    """A batch of B prompts, each with one photo, not yet padded.

    Attributes:
        prompt_ids: B lists of token ids, image tokens expanded.
        vision: The image processor's tensors of all photos (``pixel_values``, ``image_grid_thw``).
    """

    prompt_ids: list[list[int]]
    vision: dict[str, Any]


class InputEncoder:
    """Encodes what one stage asks about a photo, token by token as LLaMA-Factory's training encodes it."""

    def __init__(self, loaded: LoadedModel, prompt: Prompt, answers: Sequence[Answer]) -> None:
        self._loaded = loaded
        self._prompt = prompt
        self._answers = [answer.text for answer in answers]
        self._prompt_ids_by_image_tokens: dict[int, list[int]] = {}
        self._merge = int(loaded.processor.image_processor.merge_size) ** 2

    def answer_ids(self, photo: Any) -> list[list[int]]:
        """Token ids of every answer, each ended by the end-of-turn token; ``photo`` is any PIL image.

        Raises:
            ConfigError: The template gives different prompts for different answers, so that no trie is possible.
        """
        template, tokenizer = self._loaded.template, self._loaded.tokenizer
        stops = set(template.get_stop_token_ids(tokenizer))
        found, prompts = [], set()
        for text in self._answers:
            prompt_ids, target_ids = self._encode_pair(photo, text)
            prompts.add(tuple(prompt_ids))
            if template.efficient_eos:  # training appends the end itself
                target_ids = [*target_ids, tokenizer.eos_token_id]
            end = next((i for i, token in enumerate(target_ids) if token in stops), None)
            if end is None:
                raise ConfigError("the template ends no answer with a stop token; use one with an end-of-turn token")
            found.append(target_ids[: end + 1])
        if len(prompts) != 1:
            raise ConfigError("the template's prompt depends on the answer; set 'enable_thinking: false' in the recipe")
        return found

    def encode(self, photos: Sequence[Any]) -> EncodedPhotos:
        """Encode B >= 1 RGB PIL images, one prompt each; photos are resized to the recipe's pixel budget."""
        plugin, processor = self._loaded.template.mm_plugin, self._loaded.processor
        vision = plugin.get_mm_inputs(list(photos), [], [], [1] * len(photos), [], [], [], processor)
        image_tokens = (vision["image_grid_thw"].prod(-1) // self._merge).tolist()
        prompt_ids = []
        for photo, count in zip(photos, image_tokens, strict=True):
            # The prompt depends on the photo only by the number of image tokens; encoding it anew for each
            # photo would run the image processor a second time.
            if count not in self._prompt_ids_by_image_tokens:
                self._prompt_ids_by_image_tokens[count] = self._encode_pair(photo, self._answers[0])[0]
            prompt_ids.append(self._prompt_ids_by_image_tokens[count])
        return EncodedPhotos(prompt_ids=prompt_ids, vision=dict(vision))

    def _encode_pair(self, photo: Any, answer: str) -> tuple[list[int], list[int]]:
        # The same calls as in LLaMA-Factory's SupervisedDatasetProcessor.
        template, tokenizer, processor = self._loaded.template, self._loaded.tokenizer, self._loaded.processor
        # The data set's own example; its system turn is an argument of LLaMA-Factory's encoder.
        system, *messages = conversation(self._prompt, "", answer)["messages"]
        messages = template.mm_plugin.process_messages(messages, [photo], [], [], processor)
        leading_ids, _ = template.mm_plugin.process_token_ids([], [], [photo], [], [], tokenizer, processor)
        prompt_ids, target_ids = template.encode_multiturn(tokenizer, messages, system["content"], "")[0]
        return leading_ids + prompt_ids, target_ids
