"""The ``riskfuse`` command: finds the subcommand, runs it, turns a user's error into one message and exit code 2.

Exit codes: 0 success, 1 the command ran but some rows or checks failed (they are listed), 2 a mistake that the
message tells how to mend, 130 interrupted, 141 the reader of the output went away. docs/cli.md has them for each
command.
"""

from __future__ import annotations

import argparse
import importlib
import os
import select
import shlex
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
    "doctor",
    "scenes",
    "build",
    "inspect",
    "augment",
    "amplify",
    "check",
    "plan",
    "llamaboard",
    "train",
    "predict",
    "parity",
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
    "grade",
)

# They keep what is done when they are interrupted; the others begin anew, and leave nothing that passes for complete.
_GO_ON = frozenset({"scenes", "augment", "train", "predict", "out-of-fold", "review", "stability", "run", "grade"})


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
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            return _run(words)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        return 141  # 128 + SIGPIPE, as of any program in a shell


def _run(words: Sequence[str]) -> int:
    command = words[0] if words else ""
    try:
        args = _parser().parse_args(words)
        return args.run(args)
    except RiskFuseError as error:
        print(f"riskfuse {command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = "what is done is kept, go on" if command in _GO_ON else "begin anew"
        again = [word for word in words if (command, word) != ("run", "--redo")]  # which would throw away what is done
        print(f"riskfuse {command}: interrupted; {kept} with: {shlex.join(['riskfuse', *again])}", file=sys.stderr)
        return 130


def _nobody_reads() -> bool:
    """Did the reader of stdout, such as ``head``, go away? Then Python is kept from trying again at exit."""
    stdout = sys.stdout.fileno()
    poll = select.poll()
    poll.register(stdout, 0)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False  # another pipe broke
    os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)
    return True


if __name__ == "__main__":
    sys.exit(main())
