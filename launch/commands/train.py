"""``riskfuse train``: a recipe on one machine or several, started again from its last checkpoint when it was lost."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dataset_builders.errors import ConfigError

if TYPE_CHECKING:
    from launch.train import TrainConfig

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "train a recipe on one machine or several; what was lost is started again from the last whole checkpoint"
EXAMPLE = (
    "riskfuse train recipes/tiny/base.yaml deepspeed=ds_configs/zero2.json per_device_train_batch_size=8 --processes 2"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", type=Path, help="training recipe of LLaMA-Factory")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="keys of the recipe to replace")
    parser.add_argument("--processes", type=int, help="processes on each machine (default: one a GPU; 1 without a GPU)")
    parser.add_argument("--restarts", type=int, default=3, help="times that a lost run is started again (default: 3)")
    parser.add_argument("--no-check", action="store_true", help="do not run riskfuse check first")
    parser.add_argument("--dry-run", action="store_true", help="print the command lines and do nothing")
    several = parser.add_argument_group("several machines")
    several.add_argument("--nodes", type=int, default=1, help="machines that take part; run this command on each")
    several.add_argument("--node-rank", type=int, default=0, help="number of this machine, from 0")
    several.add_argument("--master", metavar="HOST:PORT", help="address of machine 0, where all meet (port 29400)")
    several.add_argument("--hosts", metavar="A,B,…", help="start all machines over ssh from here, A being machine 0")
    several.add_argument("--ssh", metavar="COMMAND", help="what takes a host and a shell line (default: ssh)")
    several.add_argument(
        "--ray",
        metavar="HOST:PORT",
        help="train on this Ray cluster (local: a private one on this machine); --processes counts all of them",
    )
    several.add_argument("--interface", help="network interface for the traffic between processes, such as eth0")
    several.add_argument("--run-id", default="riskfuse", help="name under which the machines meet")


def run(args: argparse.Namespace) -> int:
    """Train, or print what would be run."""
    from launch.train.command import plain_command, torchrun_command

    if args.ray:
        return _run_ray(args)
    if args.hosts:
        return _run_hosts(args)
    config = _config(args)
    if args.dry_run:
        print(shlex.join(torchrun_command(config)))
        print(f"# without restarts and the choice of a whole checkpoint the same as\n# {plain_command(config)}")
        return 0
    from launch.train import run_training

    return run_training(config, _say)


def _say(line: str) -> None:
    print(f"riskfuse train: {line}", file=sys.stderr, flush=True)


def _run_ray(args: argparse.Namespace) -> int:
    from launch.train.on_ray import train_on_ray

    if args.hosts or args.nodes != 1 or args.node_rank != 0 or args.master or args.dry_run:
        raise ConfigError(
            "--ray places the processes itself; leave out --hosts, --nodes, --node-rank, --master, --dry-run"
        )
    if args.processes is None:
        raise ConfigError("--ray needs --processes: how many in the whole cluster, one a GPU")
    return train_on_ray(_config(args), args.ray, _say)


def _run_hosts(args: argparse.Namespace) -> int:
    from launch.train.config import DEFAULT_PORT
    from launch.train.hosts import SSH, host_commands, run_on_hosts

    hosts = [host for host in args.hosts.split(",") if host]
    if args.nodes != 1 or args.node_rank != 0:
        raise ConfigError("--hosts numbers the machines itself; leave out --nodes and --node-rank")
    host, _, port = (args.master or "").partition(":")
    if host:
        raise ConfigError(
            f"--master {args.master}: with --hosts machine 0 is the first host; give only :PORT, or nothing"
        )
    _config(args, nodes=len(hosts), master=hosts[0].rpartition("@")[2])  # mistakes are named here and not once a host
    words = [str(args.recipe), *args.overrides, "--restarts", str(args.restarts), "--run-id", args.run_id]
    words += ["--processes", str(args.processes)] if args.processes is not None else []
    words += ["--interface", args.interface] if args.interface else []
    words += ["--no-check"] if args.no_check else []
    commands = host_commands(hosts, words, port=int(port or DEFAULT_PORT), ssh=args.ssh or SSH)
    if args.dry_run:
        for command in commands:
            print(shlex.join(command))
        return 0
    return run_on_hosts(hosts, commands, lambda line: print(line, flush=True))


def _config(args: argparse.Namespace, **changes: object) -> TrainConfig:
    from pydantic import ValidationError

    from launch.train.config import TrainConfig

    values = {name: getattr(args, name) for name in TrainConfig.model_fields if name != "check"}
    try:
        return TrainConfig.model_validate(values | {"check": not args.no_check} | changes)
    except ValidationError as error:
        findings = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'flags'}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"{findings}. See riskfuse train --help") from None
