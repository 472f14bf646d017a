"""Out-of-fold predictions: every photo is scored by a model that was trained without it."""

from launch.out_of_fold.config import OutOfFoldConfig
from launch.out_of_fold.plan import FoldPlan, OutOfFoldPlan, plan_folds
from launch.out_of_fold.run import MARKER_NAME, OutOfFoldReport, run_out_of_fold

__all__ = [
    "MARKER_NAME",
    "FoldPlan",
    "OutOfFoldConfig",
    "OutOfFoldPlan",
    "OutOfFoldReport",
    "plan_folds",
    "run_out_of_fold",
]
