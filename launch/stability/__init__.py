"""Stability: the same photos predicted over and over, each time with one thing changed that should not matter."""

from launch.stability.config import StabilityConfig
from launch.stability.run import StabilityReport, run_stability

__all__ = ["StabilityConfig", "StabilityReport", "run_stability"]
