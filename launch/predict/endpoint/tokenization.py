"""How a vLLM server cuts the conversation and its answers into tokens: it is asked, so nothing is guessed."""

from __future__ import annotations

from collections.abc import Sequence

from dataset_builders.errors import ConfigError
from launch.predict.endpoint.client import EndpointClient
from launch.predict.endpoint.job import EndpointJob
from launch.predict.endpoint.messages import chat

__all__ = ["ChatTokenizer"]


class ChatTokenizer:
    """Token ids of the job's conversation, without a photo, by vLLM's ``/tokenize`` and ``/detokenize``."""

    def __init__(self, client: EndpointClient, job: EndpointJob) -> None:
        self._client, self._job = client, job
        self._root = client.url.removesuffix("/v1")

    async def __call__(self, reply: str | None, *, going_on: bool = False) -> list[int]:
        """Token ids up to the point where the assistant speaks, or with its reply, closed or (``going_on``) open.

        Raises:
            ConfigError: The server has no such address.
        """
        body = {
            "model": self._job.model,
            "messages": chat(self._job.prompt, None, reply),
            "add_generation_prompt": reply is None,
            "continue_final_message": going_on,
        }
        try:
            return [int(token) for token in (await self._client.post(f"{self._root}/tokenize", body))["tokens"]]
        except (ConfigError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{self._root}/tokenize does not say how answers are cut into tokens, as vLLM's does ({error}); "
                "use --reading first-token"
            ) from error

    async def text_of(self, prompt_ids: Sequence[int], begun: Sequence[int]) -> str:
        """The text by which the assistant has said just these tokens behind the prompt.

        Raises:
            ConfigError: There is none: a token ends within a character, or the text is cut into other tokens.
        """
        body = {"model": self._job.model, "tokens": list(begun)}
        text = str((await self._client.post(f"{self._root}/detokenize", body)).get("prompt", ""))
        if not text or await self(text, going_on=True) != [*prompt_ids, *begun]:
            raise ConfigError(
                f"{self._root}: no text makes it begin a reply with the tokens {list(begun)} ({text!r}), with which an "
                "answer of the task card begins; use --reading first-token, or --engine local or ray"
            )
        return text
