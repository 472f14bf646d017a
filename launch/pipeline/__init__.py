"""The whole way from photos to a submission, step by step, resumable: ``riskfuse run PIPELINE.yaml``."""

from launch.pipeline.config import PipelineConfig, load_pipeline_config
from launch.pipeline.plan import plan_steps
from launch.pipeline.runner import run_pipeline

__all__ = ["PipelineConfig", "load_pipeline_config", "plan_steps", "run_pipeline"]
