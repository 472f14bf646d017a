"""Where the processes of one machine meet: a store that listens to the loopback address alone.

torchrun's own ways listen to all networks, whatever address they are given, and ``--standalone`` unpickles what it
finds in the store: whoever reached its port could run code here. torchrun finds this one, as it finds those of other
packages, by its entry point in the group ``torchrun.handlers``, also when it is ``llamafactory-cli`` that starts it.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousParameters

__all__ = ["ADDRESS", "LOOPBACK", "entry_point", "loopback_environment", "make_rendezvous"]

LOOPBACK = "loopback"  # torchrun's name of this rendezvous; pyproject.toml has it too
ADDRESS = "127.0.0.1"


def loopback_environment() -> dict[str, str]:
    """Environment variables by which torchrun and the processes' own traffic keep to this machine.

    An interface that the caller's environment names is left.
    """
    interface = "lo0" if sys.platform == "darwin" else "lo"  # the libraries' own choice may be one that others reach
    return {
        "PET_RDZV_BACKEND": LOOPBACK,
        "PET_RDZV_ENDPOINT": ADDRESS,
        **{name: os.environ.get(name, interface) for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")},
    }


def make_rendezvous(parameters: RendezvousParameters) -> RendezvousHandler:
    """Torchrun's rendezvous of one machine, on a free port of ``parameters.endpoint``."""
    from torch.distributed import TCPStore
    from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import StaticTCPRendezvous

    class Loopback(StaticTCPRendezvous):  # which unpickles nothing
        def __init__(self) -> None:
            listener = socket.create_server((parameters.endpoint, 0))
            address, port = listener.getsockname()
            super().__init__(address, port, rank=0, world_size=1, run_id=parameters.run_id, timeout=600)
            self._store = TCPStore(address, port, 1, is_master=True, master_listen_fd=listener.detach())

        def get_backend(self) -> str:
            return LOOPBACK

    return Loopback()


def entry_point() -> Callable[[RendezvousParameters], RendezvousHandler]:
    """What torchrun calls when it starts, to be given the maker."""
    return make_rendezvous
