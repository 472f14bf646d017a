"""Where the processes of one machine meet: a store that listens to the loopback address alone.

torchrun's own ways listen to all networks, whatever address they are given, and ``--standalone`` unpickles what it
finds in the store: whoever reached its port could run code here.
"""

from __future__ import annotations

import socket

from launch.train.config import LOOPBACK

__all__ = ["register_loopback"]


def register_loopback() -> None:
    """Make it known to torchrun, as ``--rdzv-backend loopback``."""
    from torch.distributed import TCPStore
    from torch.distributed.elastic.rendezvous import RendezvousParameters, rendezvous_handler_registry
    from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import StaticTCPRendezvous

    class Loopback(StaticTCPRendezvous):  # which unpickles nothing
        def __init__(self, parameters: RendezvousParameters) -> None:
            listener = socket.create_server((parameters.endpoint, 0))
            address, port = listener.getsockname()
            super().__init__(address, port, rank=0, world_size=1, run_id=parameters.run_id, timeout=600)
            self._store = TCPStore(address, port, 1, is_master=True, master_listen_fd=listener.detach())

        def get_backend(self) -> str:
            return LOOPBACK

    rendezvous_handler_registry.register(LOOPBACK, Loopback)
