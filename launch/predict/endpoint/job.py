"""What a run at an endpoint needs to know, and which addresses photos may be sent to."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from dataset_builders.errors import ConfigError
from dataset_builders.task_card import Answer, Prompt
from launch.predict.views import Views

__all__ = ["EndpointJob", "Reading", "checked_url", "is_loopback"]

Reading = Literal["first-token", "whole"]


@dataclass(frozen=True)
class EndpointJob:
    """What is asked at which endpoint, in plain values.

    Attributes:
        url: Base address without a slash at its end, such as ``http://127.0.0.1:8000/v1``.
        model: The model's name there.
        prompt: What the stage asks.
        answers: What it may answer, in column order.
        template: LLaMA-Factory's name of the chat template; its image plugin resizes the photos, as in training.
        min_pixels: Smallest photo that is sent, in pixels; smaller ones are enlarged.
        max_pixels: Largest photo that is sent, in pixels.
        reading: ``first-token``: one request a photo, any server; ``whole``: every token of every answer, vLLM alone.
        top_logprobs: Log-probabilities to ask for, 1 to 20; ``first-token`` alone needs them.
        in_flight: Photos that are asked about at the same time, >= 1.
        views: Test-time views of each photo.
        api_key: Sent as a bearer token when not None; in no message, no log and no file.
    """

    url: str
    model: str
    prompt: Prompt
    answers: tuple[Answer, ...]
    template: str
    min_pixels: int
    max_pixels: int
    reading: Reading = "first-token"
    top_logprobs: int = 20
    in_flight: int = 16
    views: Views = "none"
    api_key: str | None = field(default=None, repr=False)


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's own, so that nothing that is sent leaves it."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def checked_url(url: str, *, plain_http: bool) -> str:
    """The address as requests need it.

    Raises:
        ConfigError: It is no http(s) address, holds a password or a query, or photos would travel unencrypted to
            another machine and ``plain_http`` does not allow it.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number, brackets without an IPv6 address
        usable = False
    if not usable:
        raise ConfigError(f"--endpoint: expected an address such as http://127.0.0.1:8000/v1, got {url!r}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError("--endpoint: holds a user, a password or a query; name the key's variable by --api-key-env")
    if parts.scheme == "http" and not is_loopback(url) and not plain_http:
        raise ConfigError(
            f"--endpoint {url}: photos would travel unencrypted to another machine; use https, or an SSH tunnel "
            "(ssh -N -L 8000:127.0.0.1:8000 HOST) to http://127.0.0.1:8000/v1, or say --plain-http inside a network "
            "that you trust"
        )
    return url.rstrip("/")
