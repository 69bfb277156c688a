"""
A client's connection before it is one: the TLS handshake, and what it leads to.

It has the time of a request head for it. Who speaks in clear text is told so in words that it
understands, and who speaks neither is not answered.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Final

from sillyproxy.errors import PLAIN_TEXT
from sillyproxy.http1.reply import build_reply
from sillyproxy.metrics.layout import Worker
from sillyproxy.proxy.downstream import Downstream
from sillyproxy.proxy.identity import identity_fields
from sillyproxy.proxy.loop import READ_WRITE
from sillyproxy.proxy.prelude import Prelude
from sillyproxy.proxy.teller import OFTEN_NS
from sillyproxy.proxy.tls import TlsTransport

if TYPE_CHECKING:
    from sillyproxy.proxy.certificates import Certificates
    from sillyproxy.proxy.edge import Edge

_FIRST_READ_BYTES: Final = 16 * 1024
# RFC 8446, 5.1: a record of the type `handshake`, as the first one is.
_HANDSHAKE: Final = 0x16
FAILED: Final = "TLS handshake failed"


class Handshake(Prelude):
    """One handshake."""

    __slots__ = ("_certificates", "_transport")

    def __init__(self, edge: Edge, certificates: Certificates, sock: socket.SocketType, ip: str) -> None:
        super().__init__(edge, sock, ip)
        self._certificates = certificates
        self._transport: TlsTransport | None = None

    def on_event(self, _events: int) -> None:
        """Go on as far as it goes."""
        transport = self._transport or self._begin()
        if transport is None:
            return
        try:
            is_done = transport.shake_hands()
        except ssl.SSLError as error:
            self.fail((error.reason or "tls").replace("_", " ").lower())
            return
        except OSError:
            self.fail("the client has gone")
            return
        if is_done:
            self._hand_over(transport)
        elif transport.is_waiting:
            self.edge.loop.change(self.fd, READ_WRITE)

    def _begin(self) -> TlsTransport | None:
        """Look at what it begins with; None if there is nothing yet, or no TLS."""
        try:
            data = self.sock.recv(_FIRST_READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            self.close()  # that of a port scan, or a load balancer's check
            return None
        if data[0] != _HANDSHAKE:
            self._refuse(data)
            return None
        self._transport = transport = TlsTransport(self._certificates.base, self.sock, server=True)
        transport.feed(data)
        return transport

    def _refuse(self, data: bytes) -> None:
        if data[:1].isalpha():
            reply = build_reply(PLAIN_TEXT, date=self.edge.date(), close=True)
            try:
                self.sock.send(reply)
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        self.fail("not TLS")

    def _hand_over(self, transport: TlsTransport) -> None:
        edge = self.edge
        self.let_go()
        session = transport.session
        edge.worker_counts[Worker.TLS_HANDSHAKES] += 1
        edge.worker_counts[Worker.TLS_RESUMED] += bool(session.session_reused)
        identity = identity_fields(session)
        if edge.multiplex is not None and session.selected_alpn_protocol() == "h2":
            edge.multiplex(transport, self.ip, b"https", identity, b"")
            return
        down = Downstream(edge, transport, self.ip, b"https", identity)
        # What came with the end of the handshake is here, and no event will tell of it.
        down.readable = True
        edge.loop.soon(down.resume)

    def fail(self, reason: str) -> None:
        """Tell it, and close."""
        edge = self.edge
        edge.worker_counts[Worker.TLS_FAILED] += 1
        edge.teller.tell("info", FAILED, OFTEN_NS, of_requests=False, client=self.ip, reason=reason)
        self.close()
