"""
The PROXY protocol (HAProxy's `proxy-protocol.txt`, 2.1 and 2.2): who the client of a connection is.

Read it is before anything else of a connection that comes from a network which was named; who is in
one and sends none is closed, because what it sends could as well be the client's own. Written it is
before anything else of a connection to an endpoint of a color that wants it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sillyproxy.proxy.edge import UNKNOWN
from sillyproxy.proxy.loop import READ
from sillyproxy.proxy.teller import OFTEN_NS
from sillyproxy.proxy.transport import plain_ip
from sillyproxy.tools.proxied import MAX_V2, NoHeader, read_header, write_header

if TYPE_CHECKING:
    from sillyproxy.proxy.edge import Edge

NO_HEADER: Final = "no PROXY header, closed"


def header_for(version: str, client: str, fd: int) -> bytes:
    """Return the header for a client of this address, whose connection, or its proxy's, is `fd`."""
    try:
        with contextlib.closing(socket.socket(fileno=os.dup(fd))) as sock:
            peer, here = sock.getpeername(), sock.getsockname()
    except OSError:
        peer = here = ""
    if not isinstance(peer, tuple):
        return write_header(version, "" if client == UNKNOWN else client, 0, None)
    port = peer[1] if plain_ip(peer[0]) == client else 0
    return write_header(version, client, port, (plain_ip(here[0]), here[1]))


class ProxyHeader:
    """
    Waits for a connection's header, in `edge.handshakes` with its deadline; `go_on` gets it then.

    The header is looked at, and taken from the kernel when it is whole, and nothing else with it: what
    comes behind it may be TLS.
    """

    __slots__ = ("_edge", "_fd", "_go_on", "_ip", "_sock")

    def __init__(
        self,
        edge: Edge,
        sock: socket.SocketType,
        ip: str,
        go_on: Callable[[socket.SocketType, str], object],
    ) -> None:
        self._edge = edge
        self._sock = sock
        self._fd = sock.fileno()
        self._ip = ip
        self._go_on = go_on
        edge.handshakes[self] = edge.loop.now_ns + edge.header_ns
        edge.loop.add(self._fd, self.on_event, READ)

    def on_event(self, _events: int) -> None:
        """Look whether it is there."""
        try:
            data = self._sock.recv(MAX_V2, socket.MSG_PEEK)
            if not data:
                self.close()
                return
            found = read_header(data)
            if found is None:
                return
            size, ip = found
            self._sock.recv(size)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        except NoHeader as problem:
            self._fail(str(problem))
            return
        edge = self._edge
        edge.handshakes.pop(self, None)
        edge.loop.remove(self._fd)
        self._go_on(self._sock, ip or self._ip)

    def _fail(self, reason: str) -> None:
        self._edge.teller.tell(
            "warning", NO_HEADER, OFTEN_NS, of_requests=False, client=self._ip, reason=reason
        )
        self.close()

    def expire(self) -> None:
        """It took too long."""
        self._fail("timeout")

    def close(self) -> None:
        """Close at once."""
        if self._edge.handshakes.pop(self, None) is not None:
            self._edge.loop.unsettled = True
            self._edge.loop.close(self._fd, self)

    def dispose(self) -> None:
        """Close the socket."""
        self._sock.close()

    def crash(self) -> None:
        """End what a bug has broken."""
        self.close()
