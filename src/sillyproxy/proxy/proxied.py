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
from sillyproxy.proxy.prelude import Prelude
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


class ProxyHeader(Prelude):
    """
    Waits for a connection's header; `go_on` gets it then.

    The header is looked at, and taken from the kernel when it is whole, and nothing else with it: what
    comes behind it may be TLS.
    """

    __slots__ = ("_go_on",)

    def __init__(
        self,
        edge: Edge,
        sock: socket.SocketType,
        ip: str,
        go_on: Callable[[socket.SocketType, str], object],
    ) -> None:
        super().__init__(edge, sock, ip)
        self._go_on = go_on

    def on_event(self, _events: int) -> None:
        """Look whether it is there."""
        try:
            data = self.sock.recv(MAX_V2, socket.MSG_PEEK)
            if not data:
                self.close()
                return
            found = read_header(data)
            if found is None:
                return
            size, ip = found
            self.sock.recv(size)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        except NoHeader as problem:
            self.fail(str(problem))
            return
        self.let_go()
        self._go_on(self.sock, ip or self.ip)

    def fail(self, reason: str) -> None:
        """Tell it, and close."""
        self.edge.teller.tell(
            "warning", NO_HEADER, OFTEN_NS, of_requests=False, client=self.ip, reason=reason
        )
        self.close()
