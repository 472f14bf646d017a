"""Preflight: everything that can be known to be wrong before a training run costs time, in one list."""

from launch.preflight.check import check_recipe
from launch.preflight.finding import Finding

__all__ = ["Finding", "check_recipe"]
