"""Trains on a Ray cluster: Ray Train places one process a GPU, lets them meet, and starts all anew when one is lost.

LLaMA-Factory's own Ray mode asks for ten CPUs a process and never starts where it counts cores as devices; here the
processes of ``riskfuse train`` run as they do under torchrun.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dataset_builders.errors import StepError
from launch.ray_cluster import ray_cluster
from launch.train.command import resolved_recipe
from launch.train.config import TrainConfig
from launch.train.run import check_training
from launch.training import TrainingState, training_environment, training_state

__all__ = ["train_on_ray"]


def train_on_ray(config: TrainConfig, address: str, say: Callable[[str], None]) -> int:
    """Train to the end on a Ray cluster.

    Every process needs this directory's files under the same path, and ``output_dir`` on a file system that all share.

    Args:
        config: What to train; ``processes`` counts those of the whole cluster.
        address: ``HOST:PORT`` of the cluster's head, or ``local`` for a private cluster on this machine.
        say: Receives lines for the user.

    Returns:
        0; a run that is finished already is left alone.

    Raises:
        ConfigError: ``riskfuse check`` found errors, or nobody answers at the address.
        StepError: The run was lost more often than it may be started again.
    """
    recipe = resolved_recipe(config)
    output_dir = Path(str(recipe["output_dir"]))
    if training_state(output_dir) is TrainingState.FINISHED:
        say(f"{output_dir} holds the finished run; nothing to do")
        return 0
    if config.check:
        check_training(recipe, config.recipe)
    processes = config.processes or 1
    notes = output_dir.resolve().with_name(f".{output_dir.name}.ray")  # Ray Train's own, of no use afterwards
    try:
        with ray_cluster(address, cpus=processes):
            import ray

            gpu = ray.cluster_resources().get("GPU", 0) > 0
            say(f"{processes} processes on the Ray cluster at {address}, {'a GPU' if gpu else 'a CPU'} each")
            _fit(config, processes, gpu=gpu, environment=_environment(recipe, processes, gpu=gpu), notes=notes)
    finally:
        shutil.rmtree(notes, ignore_errors=True)
    return 0


def _environment(recipe: dict[str, Any], processes: int, *, gpu: bool) -> dict[str, str]:
    """What Ray sets before a process's Python starts, as PYTHONHASHSEED needs it."""
    environment = training_environment(recipe, processes, alone=False)
    for name in ("PATH", "DS_ACCELERATOR", "OMP_NUM_THREADS"):  # of this machine, which need not take part
        environment.pop(name, None)
    return environment if gpu else environment | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}


def _fit(config: TrainConfig, processes: int, *, gpu: bool, environment: dict[str, str], notes: Path) -> None:
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    trainer = TorchTrainer(
        _train,
        train_loop_config={
            "directory": str(Path.cwd()),
            "words": [str(config.recipe), *config.overrides],
        },
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=processes, use_gpu=gpu, resources_per_worker={"CPU": 1, "GPU": 1} if gpu else {"CPU": 1}
        ),
        run_config=RunConfig(  # type: ignore[call-arg]  # the types are those of Ray Train's first version
            name=config.run_id,
            storage_path=str(notes),
            failure_config=FailureConfig(max_failures=config.restarts),
            worker_runtime_env={"env_vars": environment},
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise StepError(f"the training was lost: {error}. The same command goes on from the last checkpoint") from error


def _train(settings: dict[str, Any]) -> None:
    """One process: Ray Train has set RANK, WORLD_SIZE and where all meet."""
    from launch.train.worker import main

    os.chdir(settings["directory"])
    main(settings["words"])
