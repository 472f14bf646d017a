"""What ``riskfuse train`` was asked to do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["TrainConfig"]

DEFAULT_PORT = 29400


class TrainConfig(BaseModel):
    """One training run as this machine takes part in it.

    Attributes:
        recipe: LLaMA-Factory recipe.
        overrides: ``key=value`` words that replace keys of the recipe.
        processes: Processes on this machine; None is one a GPU, and one where there is no GPU.
        nodes: Machines that take part.
        node_rank: This one among them, from 0.
        master: ``host:port`` of machine 0, where all machines meet; only several machines need it.
        interface: Network interface for the processes' own traffic (``GLOO_SOCKET_IFNAME``, ``NCCL_SOCKET_IFNAME``);
            None is the loopback one where one machine trains, and else leaves the choice to the libraries, which go
            by the host's name.
        restarts: How often the run may be started again after a process or a machine was lost.
        run_id: Name under which the machines meet; the same on all.
        check: Run ``riskfuse check`` first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: Path
    overrides: tuple[Annotated[str, Field(pattern=r"^[\w.]+=.*$")], ...] = ()
    processes: Annotated[int, Field(ge=1)] | None = None
    nodes: Annotated[int, Field(ge=1)] = 1
    node_rank: Annotated[int, Field(ge=0)] = 0
    master: Annotated[str, Field(pattern=r"^[^:/\s]+(:\d+)?$")] | None = None
    interface: str | None = None
    restarts: Annotated[int, Field(ge=0)] = 3
    run_id: Annotated[str, Field(pattern=r"^[\w.-]+$")] = "riskfuse"
    check: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if self.node_rank >= self.nodes:
            raise ValueError(f"--node-rank {self.node_rank} of --nodes {self.nodes}: ranks count from 0")
        if self.nodes > 1 and self.master is None:
            raise ValueError("several nodes need --master HOST:PORT, an address of node 0 that all can reach")
        return self

    @property
    def endpoint(self) -> str:
        """``host:port`` of machine 0."""
        host, _, port = (self.master or "127.0.0.1").partition(":")
        return f"{host}:{port or DEFAULT_PORT}"
