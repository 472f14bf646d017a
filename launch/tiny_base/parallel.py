"""Data-parallel training over two processes of one thread each.

On tensors as small as the tiny model's, a second thread costs more than it brings; a second process does not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["PROCESSES", "Saved", "average_gradients", "part_of", "train_in_parallel"]

PROCESSES = 2
SAVE_STEPS = 200


class Saved:
    """What a training needs to go on where it was stopped: weights and optimizer, each ``SAVE_STEPS`` steps.

    Args:
        path: File to write; read by every process, written by the first one.
        modules: Those that are trained.
        optimizer: Theirs.

    Attributes:
        done: Steps that the weights have seen, 0 at first.
    """

    def __init__(self, path: Path, modules: list[torch.nn.Module], optimizer: torch.optim.Optimizer) -> None:
        import torch

        parts: list[Any] = [*modules, optimizer]
        self._path, self._parts, self.done = path, parts, 0
        if path.exists():
            saved = torch.load(path)
            self.done = saved["done"]
            for part, state in zip(self._parts, saved["states"], strict=True):
                part.load_state_dict(state)

    def step(self, rank: int) -> None:
        """Count a step; write the file when it is time to."""
        import torch

        self.done += 1
        if self.done % SAVE_STEPS == 0 and rank == 0:
            fresh = self._path.with_suffix(".new")
            torch.save({"done": self.done, "states": [part.state_dict() for part in self._parts]}, fresh)
            fresh.replace(self._path)


def part_of(size: int, rank: int) -> slice:
    """The part of a batch of ``size`` that belongs to one process."""
    return slice(rank * size // PROCESSES, (rank + 1) * size // PROCESSES)


def train_in_parallel(module: torch.nn.Module, train: Callable[..., None], *arguments: Any) -> None:
    """Run ``train(rank, module, *arguments)`` in every process; take over the weights of the first one.

    Args:
        module: Trained in place.
        train: A function of a module (it is pickled), which averages gradients by ``average_gradients``.
        arguments: Pickled too.
    """
    import torch

    with tempfile.TemporaryDirectory() as directory:
        result = Path(directory) / "weights.pt"
        torch.multiprocessing.spawn(_process, (module, train, arguments, Path(directory) / "store", result), PROCESSES)
        module.load_state_dict(torch.load(result))


def _process(
    rank: int, module: torch.nn.Module, train: Callable[..., None], arguments: Any, store: Path, result: Path
) -> None:
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=PROCESSES)
    train(rank, module, *arguments)
    if rank == 0:
        torch.save(module.state_dict(), result)
    distributed.barrier()
    distributed.destroy_process_group()


def average_gradients(weights: list[torch.nn.Parameter]) -> None:
    """Mean of the processes' gradients, in place."""
    import torch
    from torch import distributed

    gradients = [weight.grad for weight in weights if weight.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= PROCESSES
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
