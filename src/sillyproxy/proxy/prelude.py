"""
What comes before the first request of a client's connection: a TLS handshake, a PROXY header.

It is in `edge.handshakes` with its deadline, the time of a request head, until it is over.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from sillyproxy.proxy.loop import READ

if TYPE_CHECKING:
    from sillyproxy.proxy.edge import Edge


class Prelude:
    """Owns the connection until it is handed over, or closed."""

    __slots__ = ("edge", "fd", "ip", "sock")

    def __init__(self, edge: Edge, sock: socket.SocketType, ip: str) -> None:
        self.edge = edge
        self.sock = sock
        self.fd = sock.fileno()
        self.ip = ip
        edge.handshakes[self] = edge.loop.now_ns + edge.header_ns
        edge.loop.add(self.fd, self.on_event, READ)

    def on_event(self, events: int) -> None:
        """Go on as far as it goes."""
        raise NotImplementedError

    def fail(self, reason: str) -> None:
        """Tell why it failed, and close."""
        raise NotImplementedError

    def let_go(self) -> None:
        """It is over: another takes the connection, whose descriptor the loop knows once."""
        self.edge.handshakes.pop(self, None)
        self.edge.loop.remove(self.fd)

    def expire(self) -> None:
        """It took too long."""
        self.fail("timeout")

    def close(self) -> None:
        """Close at once."""
        if self.edge.handshakes.pop(self, None) is not None:
            self.edge.loop.unsettled = True
            self.edge.loop.close(self.fd, self)

    def dispose(self) -> None:
        """Close the socket."""
        self.sock.close()

    def crash(self) -> None:
        """End what a bug has broken."""
        self.close()
