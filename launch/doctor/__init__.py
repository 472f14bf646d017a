"""Doctor: what of this machine and this environment works, and what will not, before anything is started."""

from launch.doctor.diagnosis import diagnose
from launch.doctor.result import Result

__all__ = ["Result", "diagnose"]
