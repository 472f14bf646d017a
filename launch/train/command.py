"""The torchrun command line of a run, the plain LLaMA-Factory one that does the same, and their environment."""

from __future__ import annotations

import shlex
import socket
import sys
from typing import Any

import yaml

from launch.loopback import ADDRESS, LOOPBACK
from launch.recipe import load_recipe
from launch.train.config import TrainConfig
from launch.training import has_gpu, training_environment

__all__ = ["plain_command", "resolved_recipe", "torchrun_command", "torchrun_environment"]

_SHOWN = (
    "DS_ACCELERATOR",
    "OMP_NUM_THREADS",
    "GLOO_SOCKET_IFNAME",
    "NCCL_SOCKET_IFNAME",
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE",
)


def resolved_recipe(config: TrainConfig) -> dict[str, Any]:
    """The recipe's keys with the overrides applied, values read as YAML."""
    recipe = dict(load_recipe(config.recipe).raw)
    for word in config.overrides:
        key, _, value = word.partition("=")
        recipe[key] = yaml.safe_load(value)
    return recipe


def processes_here(config: TrainConfig) -> int | None:
    """Processes on this machine; None is one a GPU."""
    return config.processes if config.processes is not None or has_gpu() else 1


def torchrun_command(config: TrainConfig) -> list[str]:
    """The command line that this machine runs.

    One machine alone opens no port to others. Several meet at machine 0 (torchrun's rendezvous ``c10d``): when a
    process is lost, torchrun ends the others on all machines and starts every one again, up to ``restarts`` times. Each
    then goes on from the last checkpoint.
    """
    processes = processes_here(config)
    several = config.nodes > 1
    alone = ("--rdzv-backend", LOOPBACK, "--rdzv-endpoint", ADDRESS)
    meeting = ["--rdzv-backend", "c10d", "--rdzv-id", config.run_id, "--rdzv-endpoint", config.endpoint]
    # Said, and not guessed from the machine's name, which need not be that of the network between them.
    meeting += ["--rdzv-conf", f"is_host={int(config.node_rank == 0)}"]
    if (address := _own_address(config.endpoint)) is not None:
        meeting += ["--local-addr", address]
    return [
        sys.executable,
        *("-m", "launch.train.torchrun"),
        *("--nnodes", str(config.nodes)),
        *("--nproc-per-node", "gpu" if processes is None else str(processes)),
        *((*meeting, "--node-rank", str(config.node_rank)) if several else alone),
        *("--max-restarts", str(config.restarts if several else 0)),
        *("-m", "launch.train.worker"),
        str(config.recipe),
        *config.overrides,
    ]


def _own_address(endpoint: str) -> str | None:
    """The address of this machine on the way to that one; None when the name is not known here. Sends nothing."""
    host, _, port = endpoint.partition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, int(port)))
        except OSError:
            return None
        return str(probe.getsockname()[0])


def torchrun_environment(config: TrainConfig) -> dict[str, str]:
    """Environment variables beside the caller's own."""
    environment = training_environment(resolved_recipe(config), processes_here(config), alone=config.nodes == 1)
    if config.nodes > 1:
        # torchrun keeps one store over all restarts, in which the addresses of the last start still stand: a process
        # that comes first would read them and fail at a port where nobody listens any more. A store a start has none.
        environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    if config.interface is not None:
        environment |= dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), config.interface)
    return environment


def plain_command(config: TrainConfig) -> str:
    """The line of ``llamafactory-cli`` that trains the same without RiskFuse, for a shell."""
    environment = torchrun_environment(config)
    words = {"FORCE_TORCHRUN": "1"}
    if config.nodes > 1:
        host, _, port = config.endpoint.partition(":")
        words |= {"NNODES": str(config.nodes), "RDZV_ID": config.run_id, "MASTER_ADDR": host, "MASTER_PORT": port}
        words |= {"MAX_RESTARTS": str(config.restarts)}
    words |= {name: environment[name] for name in ("NPROC_PER_NODE", *_SHOWN) if name in environment}
    shown = [f"{name}={value}" for name, value in words.items()]
    return shlex.join([*shown, "llamafactory-cli", "train", str(config.recipe), *config.overrides])
