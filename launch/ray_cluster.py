"""Joins a Ray cluster, or starts a private one that nobody else can reach."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dataset_builders.errors import ConfigError, StepError

__all__ = ["LOCAL", "OBJECT_STORE_BYTES", "ray_cluster"]

LOCAL = "local"
CONNECT_S = 5.0
_TOO_LATE = "timed out during startup"
OBJECT_STORE_BYTES = 128 << 20  # what passes through it are kilobytes; Ray would take a third of the memory


@contextmanager
def ray_cluster(address: str | None, *, cpus: int) -> Iterator[None]:
    """Be connected to a cluster within the block; inside another such block, that one's.

    Args:
        address: ``HOST:PORT`` of a running cluster's head; a private cluster on this machine when None or ``local``.
        cpus: CPUs of a private cluster, >= 1.

    Raises:
        ConfigError: Nobody answers at the address, or the cluster there cannot be joined.
        StepError: A private cluster did not start in Ray's time, half a minute.
    """
    private = address in (None, LOCAL)
    if private:  # read by Ray's import: a private cluster then listens to this machine alone
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    else:
        _check_reachable(str(address))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    own: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    try:
        ray.init(
            address=LOCAL if private else address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(own if private else {}),
        )
    except (ConnectionError, RuntimeError) as error:
        if private:
            raise
        raise ConfigError(_not_joined(str(address), error)) from error
    except Exception as error:
        if not (private and _TOO_LATE in str(error)):  # Ray has no class for it
            raise
        raise StepError(
            "Ray did not start on this machine within its 30 seconds: the machine has too much else to do, or Ray "
            "cannot run here, which `riskfuse doctor` tells. The same command tries it again; `--engine local` does "
            "without Ray"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _not_joined(address: str, error: Exception) -> str:
    reason = str(error.__cause__ or error).strip() or type(error).__name__
    if "Authentication" not in reason:
        return f"cannot join the Ray cluster at {address}: {reason}"
    # Ray puts a traceback into its message; what happened is at its end, before hints that go on for lines. It finds
    # tokens by itself only for a cluster that it finds by itself, never for an address that is given.
    reason = reason.splitlines()[-1].partition(" Note: ")[0]
    return (
        f"the Ray cluster at {address} lets us not in: {reason}. Where it wants a token, as one started by `ray start` "
        "does when ~/.ray/auth_token exists, set RAY_AUTH_MODE=token here and on all nodes, and copy that file to them "
        "(or set RAY_AUTH_TOKEN); where it wants none, set RAY_AUTH_MODE=disabled"
    )


def _check_reachable(address: str) -> None:
    """Ray itself tries for two minutes and then ends the process."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"expected HOST:PORT of a Ray cluster's head, got {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise ConfigError(
            f"no Ray cluster answers at {address} ({error}); start one with `ray start --head`, which prints its "
            "address, and open its port between the machines"
        ) from error
