"""``riskfuse train``: a LLaMA-Factory recipe on one machine or several, started again when a process is lost."""

from launch.train.config import TrainConfig
from launch.train.run import run_training

__all__ = ["TrainConfig", "run_training"]
