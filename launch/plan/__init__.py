"""How much memory a training takes on each GPU, and which hardware profile fits."""

from launch.plan.plan import Hardware, Plan, make_plan

__all__ = ["Hardware", "Plan", "make_plan"]
