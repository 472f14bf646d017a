"""What is sent: the task's prompt as a chat, the photo as training sees it, inside a data URL."""

from __future__ import annotations

import base64
import io
import os
from typing import Any

from dataset_builders.errors import ConfigError
from dataset_builders.task_card import Prompt

__all__ = ["PhotoFitter", "chat", "data_url"]


class PhotoFitter:
    """Resizes photos to the recipe's pixel budget with LLaMA-Factory's own image plugin, as training does.

    The server's image processor then finds the same pixels as after LLaMA-Factory's plugin here, and does the rest.

    Raises:
        ConfigError: LLaMA-Factory has no such template, or it takes no photos.
    """

    def __init__(self, template: str, min_pixels: int, max_pixels: int) -> None:
        os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "ERROR")
        from llamafactory.data.template import TEMPLATES

        if template not in TEMPLATES or TEMPLATES[template].mm_plugin.image_token is None:
            raise ConfigError(f"template {template!r}: LLaMA-Factory has none that takes photos; Qwen2.5-VL: qwen2_vl")
        self._plugin = TEMPLATES[template].mm_plugin
        self._limits = {"image_min_pixels": min_pixels, "image_max_pixels": max_pixels}

    def __call__(self, photo: Any) -> Any:
        """An RGB PIL image within the budget."""
        return self._plugin._regularize_images([photo], **self._limits)["images"][0]


def data_url(photo: Any) -> str:
    """A PIL image as a data URL: PNG, which changes no pixel, compressed a little, which is fastest."""
    buffer = io.BytesIO()
    photo.save(buffer, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def chat(prompt: Prompt, photo_url: str | None, reply: str | None = None) -> list[dict[str, Any]]:
    """The conversation in OpenAI's format.

    Args:
        prompt: System and user text.
        photo_url: The photo, which stands before the user's text, as in the data set; None leaves it out.
        reply: What the assistant says, or begins to say; None leaves its turn out.
    """
    photo: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": photo_url}}] if photo_url else []
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": prompt.system},
        {"role": "user", "content": [*photo, {"type": "text", "text": prompt.user}]},
    ]
    return [*messages, {"role": "assistant", "content": reply}] if reply is not None else messages
