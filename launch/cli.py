"""The ``riskfuse`` command: finds the subcommand, runs it, turns a user's error into one message and exit code 2.

Exit codes: 0 success, 1 the command ran but some rows or checks failed (they are listed), 2 a mistake that the
message tells how to mend, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from dataset_builders.errors import RiskFuseError

__all__ = ["main"]


class Command(Protocol):
    """What a module in ``launch.commands`` provides. Importing it must load neither torch nor ray."""

    HELP: str
    EXAMPLE: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Do the work and return the exit code."""
        ...


# In the order in which the data goes.
COMMANDS = (
    "scenes",
    "build",
    "inspect",
    "augment",
    "amplify",
    "check",
    "plan",
    "train",
    "predict",
    "explain",
    "out-of-fold",
    "verify",
    "specialist",
    "fuse",
    "evaluate",
    "report",
    "review",
    "stability",
    "run",
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="riskfuse",
        description="Grade photos by risk: two fine-tuned vision-language models, one calibrated decision.",
        epilog="example: riskfuse run recipes/tiny/pipeline.yaml\nTraining is plain LLaMA-Factory: "
        "llamafactory-cli train recipes/base.yaml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        command = cast(Command, importlib.import_module(f"launch.commands.{name.replace('-', '_')}"))
        sub = subparsers.add_parser(
            name,
            help=command.HELP,
            description=command.HELP,
            epilog=f"example: {command.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments after the program's name; those of the process when None.

    Returns:
        The exit code, see the module's docstring.
    """
    args = _parser().parse_args(argv)
    try:
        return args.run(args)
    except RiskFuseError as error:
        print(f"riskfuse {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"riskfuse {args.command}: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
