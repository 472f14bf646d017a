"""Two ways to read the answers' log-probabilities from chat completions: by their first tokens, or whole."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from dataset_builders.errors import ConfigError, PhotoError
from dataset_builders.task_card import Answer
from launch.predict.answers import AnswerTrie, build_trie
from launch.predict.endpoint.client import EndpointClient
from launch.predict.endpoint.job import EndpointJob
from launch.predict.endpoint.messages import chat
from launch.predict.endpoint.tokenization import ChatTokenizer

__all__ = ["FirstToken", "NoAnswerError", "Read", "WholeAnswers", "first_token_logps", "open_reading"]

# Share of the answers' probability that may lie on tokens with which several of them begin; nobody knows whose it is.
SHARED_SHARE = 0.01
_ONE_TOKEN = {"max_tokens": 1, "temperature": 0, "logprobs": True}


class NoAnswerError(PhotoError):
    """None of the answers is among the tokens that the server names for this photo."""


class Read(Protocol):
    """A way to read."""

    bounded: int
    largest_bound: float

    async def logps(self, photo_url: str) -> np.ndarray:
        """Natural log-probabilities of the K answers for one photo, float64 [K]."""
        ...


async def open_reading(client: EndpointClient, job: EndpointJob) -> Read:
    """The job's way to read, ready to be used.

    Raises:
        ConfigError: The server cannot be read this way.
    """
    return FirstToken(client, job) if job.reading == "first-token" else await WholeAnswers.open(client, job)


class FirstToken:
    """One request a photo: the probability that the reply begins with an answer's first token.

    Any OpenAI-compatible server will do. That is an upper bound of the answer's probability: what a model may say
    after that token counts too. After fine-tuning on the answers alone, next to nothing else comes.

    Attributes:
        bounded: Values so far that are only upper bounds, since the answer was not among the tokens that the server
            named.
        largest_bound: The largest of them, a probability.
    """

    def __init__(self, client: EndpointClient, job: EndpointJob) -> None:
        self._client, self._job = client, job
        self.bounded, self.largest_bound = 0, 0.0

    async def logps(self, photo_url: str) -> np.ndarray:
        """As ``Read.logps``.

        Raises:
            ConfigError: There are no log-probabilities, or answers cannot be told apart by their first tokens.
            NoAnswerError: No answer is among the most probable tokens.
        """
        body = {
            "model": self._job.model,
            "messages": chat(self._job.prompt, photo_url),
            "top_logprobs": self._job.top_logprobs,
            **_ONE_TOKEN,
        }
        reply = await self._client.post(f"{self._client.url}/chat/completions", body)
        logp_K, bounded_K = first_token_logps(_named_tokens(reply, self._client.url), self._job.answers)
        if bounded_K.any():
            self.bounded += int(bounded_K.sum())
            self.largest_bound = max(self.largest_bound, float(np.exp(logp_K[bounded_K].max())))
        return logp_K


def first_token_logps(
    tokens: Sequence[tuple[bytes, float]], answers: Sequence[Answer]
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of the answers from the most probable first tokens of a reply.

    A token speaks for an answer when the answer's text begins with it; several tokens that speak for the same answer
    (other ways to cut its text) are added up. An answer for which no token speaks gets its upper bound: it is not more
    probable than the least probable token that was named, nor than all that was not named together.

    Args:
        tokens: (UTF-8 bytes, natural log-probability) of distinct tokens, at least one.
        answers: The K answers.

    Returns:
        Log-probabilities, float64 [K], and a mask [K] of those that are only upper bounds.

    Raises:
        ConfigError: A token with which several answers begin holds more than 1 % of what the answers hold.
        NoAnswerError: No token speaks for any answer.
    """
    texts = [answer.text.encode() for answer in answers]
    probability_K, shared, shared_by = np.zeros(len(texts)), 0.0, ""
    named, least = 0.0, min(logp for _, logp in tokens)
    for token, logp in tokens:
        p = float(np.exp(logp))
        named += p
        speaks_for = [k for k, text in enumerate(texts) if token and text.startswith(token)]
        if len(speaks_for) == 1:
            probability_K[speaks_for[0]] += p
        elif speaks_for:
            shared += p
            names = ", ".join(answers[k].text for k in speaks_for)
            shared_by = shared_by or f"{names} begin with the token {token.decode(errors='replace')!r}"
    total = float(probability_K.sum()) + shared
    if total == 0:
        best, logp = max(tokens, key=lambda entry: entry[1])
        raise NoAnswerError(
            f"no answer begins with one of the {len(tokens)} most probable tokens; the first of them is "
            f"{best.decode(errors='replace')!r} with probability {np.exp(logp):.2f}"
        )
    if shared > SHARED_SHARE * total:
        raise ConfigError(
            f"{shared_by}, which holds {shared / total:.0%} of the answers' probability, so --reading first-token "
            "cannot tell them apart; use --reading whole with vLLM, --engine local or ray, or give the answers of the "
            "task card texts that begin differently and train again"
        )
    bounded_K = probability_K == 0
    # What shared tokens hold is a bound too, since it may all be this answer's.
    bound = min(np.exp(least), max(1.0 - named, np.finfo(float).tiny)) + shared
    return np.log(np.where(bounded_K, bound, probability_K)), bounded_K


class WholeAnswers:
    """Every token of every answer and the end of the turn, exactly: one request for each node of the answers' trie.

    For vLLM, which gives the log-probabilities of named tokens (``logprob_token_ids``) and goes on from a begun reply
    (``continue_final_message``); its prefix cache keeps the photo's share of the work from being done again. The
    server's own tokenizer and chat template cut the answers.
    """

    bounded = 0
    largest_bound = 0.0

    def __init__(self, client: EndpointClient, job: EndpointJob, trie: AnswerTrie, replies: Sequence[str]) -> None:
        self._client, self._job, self._trie = client, job, trie
        self._replies = (None, *replies)  # what the assistant has said at the prompt's end and at each node
        wanted: list[list[int]] = [[] for _ in self._replies]
        for path in trie.paths:
            for asked, token in path:
                if token not in wanted[asked + 1]:
                    wanted[asked + 1].append(token)
        self._wanted = wanted

    @classmethod
    async def open(cls, client: EndpointClient, job: EndpointJob) -> WholeAnswers:
        """Ask the server how it cuts the answers.

        Raises:
            ConfigError: It does not say, so it is no vLLM; or an answer cannot be begun where it must be.
        """
        cut = ChatTokenizer(client, job)
        prompt_ids = await cut(None)
        answer_ids = []
        for answer in job.answers:
            closed, begun = await cut(answer.text), await cut(answer.text, going_on=True)
            length = len(begun)
            if closed[:length] != begun or begun[: len(prompt_ids)] != prompt_ids or len(closed) == length:
                raise ConfigError(
                    f"{client.url}: its chat template does not end {answer.text!r} with an end of turn behind the "
                    "prompt; use --reading first-token"
                )
            answer_ids.append(closed[len(prompt_ids) : length + 1])  # with the end-of-turn token
        trie = build_trie(answer_ids)
        replies = [await cut.text_of(prompt_ids, node) for node in trie.prefixes()]
        return cls(client, job, trie, replies)

    async def logps(self, photo_url: str) -> np.ndarray:
        """As ``Read.logps``.

        Raises:
            ConfigError: The answers hold no log-probabilities of the tokens that were asked for.
        """
        # The prompt's end first: the server then has the photo and the prompt in its cache for the others.
        asked = [await self._ask(photo_url, 0)]
        asked += await asyncio.gather(*(self._ask(photo_url, node) for node in range(1, len(self._replies))))
        return np.array([sum(asked[node + 1][token] for node, token in path) for path in self._trie.paths])

    async def _ask(self, photo_url: str, node: int) -> dict[int, float]:
        reply = self._replies[node]
        body: dict[str, Any] = {
            "model": self._job.model,
            "messages": chat(self._job.prompt, photo_url, reply),
            "logprob_token_ids": self._wanted[node],
            "return_tokens_as_token_ids": True,
            **_ONE_TOKEN,
        }
        if reply is not None:
            body |= {"add_generation_prompt": False, "continue_final_message": True}
        found = _named_tokens(await self._client.post(f"{self._client.url}/chat/completions", body), self._client.url)
        logps = dict(found)
        try:
            return {token: logps[f"token_id:{token}".encode()] for token in self._wanted[node]}
        except KeyError as error:
            raise ConfigError(
                f"{self._client.url}: gives no log-probabilities of named tokens (logprob_token_ids), as vLLM 0.32 "
                "does; use --reading first-token"
            ) from error


def _named_tokens(reply: Any, url: str) -> list[tuple[bytes, float]]:
    """The first tokens that a chat completion names: (UTF-8 bytes, natural log-probability)."""
    try:
        top = reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        # Half a character has no text of its own: its bytes say what it is, where the server gives them.
        found = [(_bytes_of(entry), float(entry["logprob"])) for entry in top]
    except (KeyError, IndexError, TypeError, ValueError):
        found = []
    if not found:
        raise ConfigError(
            f"{url}: its chat completions hold no log-probabilities (choices[0].logprobs.content[0].top_logprobs), "
            "without which no probabilities can be known; use a server that gives them, such as vLLM, or --engine "
            "local or ray"
        )
    return found


def _bytes_of(entry: dict[str, Any]) -> bytes:
    token = str(entry["token"])
    # With tokens named by number, the bytes spell "token_id:…" or the text, by the position in the list.
    if token.startswith("token_id:") or not entry.get("bytes"):
        return token.encode()
    return bytes(entry["bytes"])
