"""torchrun for which being ended by Ctrl-C is no error: an exit status, no traceback."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run torchrun with this process's arguments; exits with 128 and the signal's number when a signal ended it."""
    try:
        from torch.distributed.elastic.multiprocessing import SignalException
        from torch.distributed.run import main as torchrun

        try:
            torchrun()
        except SignalException as ended:
            sys.exit(128 + int(ended.sigval))
    except KeyboardInterrupt:  # before torchrun listens for signals
        sys.exit(130)


if __name__ == "__main__":
    main()
