"""Prediction: exact log-probabilities of every answer for every photo, sharded and resumable."""

from launch.predict.config import PredictConfig
from launch.predict.run import PredictReport, predict

__all__ = ["PredictConfig", "PredictReport", "predict"]
