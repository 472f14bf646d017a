"""Talks to an OpenAI-compatible server: retries what may pass, and says what is wrong where it will not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from typing import TYPE_CHECKING, Any

from dataset_builders.errors import ConfigError, PhotoError, StepError
from launch.predict.endpoint.job import is_loopback

if TYPE_CHECKING:
    from types import TracebackType

    import httpx

__all__ = ["EndpointClient", "RefusedError"]

ATTEMPTS = 8  # with these pauses, about a minute: a server that is started again is there by then
ATTEMPTS_ON_500 = 3  # the server is there, and this request makes it fail
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
CONNECT_S, ANSWER_S = 10.0, 300.0
MESSAGE_LENGTH = 300

_BUSY = frozenset({408, 425, 429, 502, 503, 504})
_REFUSED = frozenset({400, 413, 415, 422})  # this request; all others speak of the server or the account
_NOT_ALLOWED = frozenset({401, 403})
_NOT_THERE = frozenset({404, 405})


class RefusedError(PhotoError):
    """The server will not answer this request, however often it is sent; others it may answer."""


class EndpointClient:
    """One server, used as an asynchronous context manager.

    Args:
        url: Base address without a slash at its end.
        connections: Requests at the same time, >= 1.
        api_key: Bearer token; None sends none.
    """

    def __init__(self, url: str, *, connections: int, api_key: str | None = None) -> None:
        import httpx

        self.url = url
        self.models: tuple[str, ...] = ()
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {api_key}"} if api_key is not None else {},
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S, pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            trust_env=not is_loopback(url),  # a proxy cannot reach this machine's own servers
            follow_redirects=False,  # photos and key go where the user said, nowhere else
        )

    async def __aenter__(self) -> EndpointClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def greet(self) -> None:
        """Is anybody there? Keeps the names of the models for messages, where the server lists them.

        Raises:
            ConfigError: Nobody answers, or the key is refused.
        """
        try:
            listing = await self._ask("GET", f"{self.url}/models", None, attempts=1)
        except StepError as error:
            raise ConfigError(f"{error}. Start the server, or mend --endpoint") from error
        except _NotThere:  # optional: not every server lists its models
            return
        with contextlib.suppress(AttributeError, KeyError, TypeError):
            self.models = tuple(str(entry["id"]) for entry in listing.get("data", ()))

    async def post(self, url: str, body: dict[str, Any]) -> Any:
        """Send a JSON body to a whole address and return the JSON answer.

        Raises:
            RefusedError: The server refuses the request (400, 413, 415, 422), or fails on it again and again (500).
            ConfigError: It refuses the key, knows no such model or address, answers something else than JSON, or with
                another status.
            StepError: It cannot be reached, or is too busy, for about a minute.
        """
        try:
            return await self._ask("POST", url, body, attempts=ATTEMPTS)
        except _NotThere as error:
            known = f"; it has the models {', '.join(self.models)}" if self.models else ""
            raise ConfigError(f"{error}; mend --endpoint-model or --endpoint{known}") from None

    async def _ask(self, method: str, url: str, body: dict[str, Any] | None, attempts: int) -> Any:
        import httpx

        for attempt in range(1, attempts + 1):
            asked_for_s, limit = 0.0, attempts
            try:
                response = await self._http.request(method, url, json=body)
            except httpx.TransportError as error:
                trouble = f"{url}: {type(error).__name__}: {error}".rstrip(": ")
            else:
                if response.is_success:
                    return _json_of(response)
                trouble = f"{url}: HTTP {response.status_code}: {_message_of(response)}"
                if response.status_code == 500:
                    limit = min(attempts, ATTEMPTS_ON_500)
                    if attempt >= limit:
                        raise RefusedError(f"{trouble} ({limit} times)")
                elif response.status_code not in _BUSY:
                    raise _final(response.status_code, trouble)
                asked_for_s = _retry_after_s(response)
            if attempt < limit:
                pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (attempt - 1)) * random.uniform(0.5, 1.5)
                await asyncio.sleep(max(pause_s, min(asked_for_s, LONGEST_PAUSE_S)))
        raise StepError(f"the endpoint does not answer ({attempts} tries): {trouble}")


class _NotThere(Exception):  # noqa: N818 - says what was found
    """No such address, or no such model."""


def _final(status: int, trouble: str) -> Exception:
    if status in _NOT_THERE:
        return _NotThere(trouble)
    if status in _NOT_ALLOWED:
        return ConfigError(f"{trouble}; name the environment variable that holds the right key by --api-key-env")
    if 300 <= status < 400:
        return ConfigError(f"{trouble}: it points to another address; name that one as --endpoint")
    return RefusedError(trouble) if status in _REFUSED else ConfigError(trouble)


def _retry_after_s(response: httpx.Response) -> float:
    try:
        return max(0.0, float(response.headers.get("Retry-After", "0")))
    except ValueError:  # a date; our own pauses do
        return 0.0


def _json_of(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise ConfigError(
            f"{response.url}: expected JSON, got {response.text[:60]!r}; is --endpoint an OpenAI-compatible address, "
            "with /v1 at its end?"
        ) from error


def _message_of(response: httpx.Response) -> str:
    """What the server says is wrong, in one line; the formats of OpenAI, vLLM and FastAPI, and plain text."""
    text = response.text
    with contextlib.suppress(ValueError, AttributeError):
        content = response.json()
        found = content.get("error", content.get("message", content.get("detail", text)))
        found = found.get("message", text) if isinstance(found, dict) else found
        text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    return " ".join(text.split())[:MESSAGE_LENGTH] or response.reason_phrase
