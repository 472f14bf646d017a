"""``python -m dataset_builders.drone_vehicle CONFIG.yaml``: a DroneVehicle tree in, a data set directory out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dataset_builders.drone_vehicle.build import build_drone_vehicle
from dataset_builders.drone_vehicle.config import load_drone_vehicle_config
from dataset_builders.errors import RiskFuseError
from dataset_builders.summary import render_summary


def main(argv: list[str] | None = None) -> int:
    """Build, or say that nothing had to be done; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m dataset_builders.drone_vehicle",
        description="Make a data set of two-image conversations from a DroneVehicle tree.",
        epilog="example: python -m dataset_builders.drone_vehicle recipes/drone_vehicle.yaml",
    )
    parser.add_argument("config", type=Path, help="its paths are relative to the current directory")
    parser.add_argument("--workers", type=int, help="processes, instead of the config's; changes no byte of the result")
    args = parser.parse_args(argv)
    try:
        config, card = load_drone_vehicle_config(args.config)
        if args.workers is not None:
            config = config.with_workers(args.workers)
        result = build_drone_vehicle(config, card)
    except RiskFuseError as error:
        print(f"drone_vehicle: {error}", file=sys.stderr)
        return 2
    marker = result.marker
    print(render_summary(marker))
    for split, counts in marker["vehicles"].items():
        print(f"vehicles in {split}: {', '.join(f'{name} {count}' for name, count in counts.items())}")
    print(f"dropped objects: {', '.join(f'{reason} {count}' for reason, count in marker['dropped_objects'].items())}")
    print(f"stray files: {len(marker['strays'])}")
    print(f"\nwrote {config.out}" if result.fresh else f"\n{config.out} is complete for the same inputs; nothing to do")
    return 0


if __name__ == "__main__":
    sys.exit(main())
