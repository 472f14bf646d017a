"""DroneVehicle: pairs of RGB and infrared drone photos become two-image conversations and a graded task."""

from dataset_builders.drone_vehicle.build import build_drone_vehicle
from dataset_builders.drone_vehicle.config import DroneVehicleConfig, load_drone_vehicle_config
from dataset_builders.drone_vehicle.counts import VEHICLES, parse_counts, render_counts

__all__ = [
    "VEHICLES",
    "DroneVehicleConfig",
    "build_drone_vehicle",
    "load_drone_vehicle_config",
    "parse_counts",
    "render_counts",
]
