"""Keeps the page to itself: Gradio's page without what it loads from other hosts, and a policy against loading more.

Gradio's template names fonts and a script of other hosts, which no option turns off. Left in, a machine without a
network waits for them, and others learn that the page was opened.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["Lockdown", "without_other_hosts"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; manifest-src 'self'; "
    "worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ELSEWHERE = re.compile(
    r"<script\s[^>]*\bsrc=[\"']https?://[^>]*>\s*</script>"
    r"|<(?:link|meta)\s[^>]*\b(?:href|content)=[\"'](?:https?:)?//[^>]*>"
)


def without_other_hosts(html: str, nonce: str) -> str:
    """The page without elements that name another host; its own scripts get the nonce that the policy asks for."""
    return re.sub(r"<script(?=[\s>])", f'<script nonce="{nonce}"', _ELSEWHERE.sub("", html))


class Lockdown:
    """ASGI middleware around the whole app."""

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on; pages are rewritten, everything else only gets headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A compressed page could not be rewritten.
        scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]}
        nonce = secrets.token_urlsafe(16)
        start: Message | None = None
        page = bytearray()

        async def guarded(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                headers = [pair for pair in message["headers"] if pair[0].lower() != b"content-security-policy"]
                headers += [
                    (b"content-security-policy", POLICY.format(nonce=nonce).encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
                message = {**message, "headers": headers}
                if dict(headers).get(b"content-type", b"").startswith(b"text/html"):
                    start = message
                else:
                    await send(message)
            elif message["type"] == "http.response.body" and start is not None:
                page.extend(message.get("body", b""))
                if not message.get("more_body"):
                    body = without_other_hosts(page.decode(), nonce).encode()
                    kept = [pair for pair in start["headers"] if pair[0] != b"content-length"]
                    length = (b"content-length", str(len(body)).encode())
                    await send({**start, "headers": [*kept, length]})
                    await send({"type": "http.response.body", "body": body})
            else:
                await send(message)

        await self._app(scope, receive, guarded)
