"""vLLM's OpenAI-compatible server on this machine's loopback address, ended with the block that uses it."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dataset_builders.errors import StepError
from launch.pipeline.processes import log_tail
from launch.predict.vllm import leash

__all__ = ["HOST", "RunningServer", "run_server"]

HOST = "127.0.0.1"
_POLL_S = 0.25


@dataclass(frozen=True)
class RunningServer:
    """A server that answers.

    Attributes:
        url: Base address of its API.
        api_key: Made for this run; without it, other users of this machine get no answers.
    """

    url: str
    api_key: str


@contextmanager
def run_server(
    command: Sequence[str], *, environment: Mapping[str, str], log: Path, wait_s: float
) -> Iterator[RunningServer]:
    """Run a server within the block.

    It is ended with the block, and when this process ends in any other way, killed by SIGKILL too.

    Args:
        command: Its command line; ``--host`` and ``--port`` are added.
        environment: Added to this process's; the API key is added as ``VLLM_API_KEY``.
        log: Receives its output.
        wait_s: Seconds that it may take until ``/health`` answers, > 0.

    Raises:
        ConfigError: The program cannot be started.
        StepError: It ended before it answered, or did not answer in time, or ended within the block.
    """
    import httpx

    port, key = _free_port(), secrets.token_urlsafe(24)
    # By its file: the module's package would bring libraries that a process which only waits does not need.
    words = [sys.executable, "-I", leash.__file__, *command, "--host", HOST, "--port", str(port)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,  # the leash: closed when this process ends
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment, "VLLM_API_KEY": key},
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the server in order
        )
    assert process.stdin is not None
    try:
        deadline = time.monotonic() + wait_s
        with httpx.Client(timeout=5.0, trust_env=False) as client:
            while not _healthy(client, f"http://{HOST}:{port}/health"):
                if process.poll() is not None:
                    raise StepError(f"vLLM ended before it answered (status {process.returncode}). {_tail(log)}")
                if time.monotonic() > deadline:
                    raise StepError(f"vLLM did not answer within {wait_s:g} s (--vllm-wait-s). {_tail(log)}")
                time.sleep(_POLL_S)
        try:
            yield RunningServer(f"http://{HOST}:{port}/v1", key)
        except StepError as error:
            if process.poll() is None:
                raise
            raise StepError(f"vLLM ended (status {process.returncode}): {error}. {_tail(log)}") from error
    finally:
        process.stdin.close()
        try:
            process.wait(leash.PATIENCE_S + 10)
        except subprocess.TimeoutExpired:  # the leash itself hangs
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _healthy(client: object, url: str) -> bool:
    import httpx

    assert isinstance(client, httpx.Client)
    try:
        return client.get(url).is_success
    except httpx.TransportError:
        return False


def _tail(log: Path) -> str:
    return "\n".join((f"Its log {log} ends with:", *log_tail(log)))
