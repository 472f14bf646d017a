"""Joins a Ray cluster, or starts a private one that nobody else can reach."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dataset_builders.errors import ConfigError

__all__ = ["LOCAL", "OBJECT_STORE_BYTES", "ray_cluster"]

LOCAL = "local"
CONNECT_S = 5.0
OBJECT_STORE_BYTES = 128 << 20  # what passes through it are kilobytes; Ray would take a third of the memory


@contextmanager
def ray_cluster(address: str | None, *, cpus: int) -> Iterator[None]:
    """Be connected to a cluster within the block; inside another such block, that one's.

    Args:
        address: ``HOST:PORT`` of a running cluster's head; a private cluster on this machine when None or ``local``.
        cpus: CPUs of a private cluster, >= 1.

    Raises:
        ConfigError: Nobody answers at the address.
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
    ray.init(
        address=LOCAL if private else address,
        log_to_driver=False,
        logging_level=logging.ERROR,
        **(own if private else {}),
    )
    try:
        yield
    finally:
        ray.shutdown()


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
