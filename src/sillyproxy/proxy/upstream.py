"""
The connection to an endpoint, and the pool of those that are idle.

A connection is connecting (which TLS may be a part of), has an exchange, is idle in its endpoint's pool,
or is closed. Idle ones are taken newest first, so that a pool shrinks to what is needed, and
are closed by whoever notices first: their endpoint (an event while idle: end-of-file,
or bytes nobody asked for), their age, or their endpoint's leaving.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Final

from sillyproxy.errors import BAD_CERTIFICATE, BAD_TLS, CONNECT_TIMEOUT, REFUSED, reason_of
from sillyproxy.metrics.layout import Row
from sillyproxy.proxy.limits import SILENT_MACHINE_S
from sillyproxy.proxy.loop import IN, OUT, READ, READ_WRITE
from sillyproxy.proxy.response import read_head
from sillyproxy.proxy.states import WAITING
from sillyproxy.proxy.transport import carrier

if TYPE_CHECKING:
    from sillyproxy.proxy.downstream import Downstream
    from sillyproxy.proxy.edge import Edge
    from sillyproxy.proxy.exchange import Exchange
    from sillyproxy.proxy.http2.client import ClientConnection
    from sillyproxy.proxy.tls import TlsTransport
    from sillyproxy.proxy.transport import Transport
    from sillyproxy.traffic.endpoint import Endpoint

MAX_IDLE: Final = 256
_NOT_YET: Final = frozenset((0, errno.EINPROGRESS, errno.EALREADY, errno.EISCONN))


class Upstream:
    """
    One connection. `exchange` is None while idle; `used`: it has carried an exchange before;
    `patient`: the endpoint may take what is sent as slowly as it likes; `tls`: it speaks TLS; `private`:
    it carries no exchange but one, because it belongs to one client, or is a stream of HTTP/2.

    `outbox` is what the endpoint has not taken yet, `inbox` the part of a response head
    that has come.
    """

    __slots__ = (
        "_is_local",
        "began_ns",
        "closed",
        "connecting",
        "edge",
        "endpoint",
        "exchange",
        "fd",
        "idle_since_ns",
        "inbox",
        "outbox",
        "patient",
        "private",
        "recv",
        "recv_into",
        "send",
        "sock",
        "tls",
        "used",
        "waits_writable",
    )

    def __init__(
        self, edge: Edge, endpoint: Endpoint, exchange: Exchange, carrier: ClientConnection | None = None
    ) -> None:
        """With `carrier` it is a stream of that connection, else one of its own, to be connected."""
        self.edge = edge
        self.endpoint = endpoint
        self.exchange: Exchange | None = exchange
        self._is_local = endpoint.ip.startswith("/")
        self.tls: TlsTransport | None = None
        self.private = self.used = self.patient = self.closed = False
        self.inbox = b""
        self.outbox: bytes | memoryview = b""
        self.idle_since_ns = 0
        self.began_ns = edge.loop.now_ns
        self.connecting = self.waits_writable = carrier is None
        if carrier is not None:
            self._board(carrier)
            return
        family = socket.AF_INET6 if ":" in endpoint.ip else socket.AF_INET
        if self._is_local:
            family = socket.AF_UNIX
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.sock: Transport = sock
        self._use(sock)
        self.fd = sock.fileno()

    def _use(self, transport: Transport) -> None:
        self.recv = transport.recv
        self.recv_into = transport.recv_into
        self.send = transport.send

    def connect(self) -> bool:
        """Begin to connect; `Exchange.connected` or `.connect_failed` follows. False if it failed at once."""
        edge = self.edge
        sock = self.sock
        assert isinstance(sock, socket.SocketType)
        address: str | tuple[str, int] = self.endpoint.ip
        if not self._is_local:
            address = (self.endpoint.ip, self.endpoint.port)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A machine that dies says nothing: neither to what we send nor while we wait for an answer.
            self._set_user_timeout(max(1000 * SILENT_MACHINE_S, edge.connect_ns // 1_000_000))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENT_MACHINE_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        if sock.connect_ex(address) not in _NOT_YET:
            self.close()
            return False
        edge.connecting[self] = edge.loop.now_ns + edge.connect_ns
        edge.loop.add(self.fd, self.on_event, READ_WRITE)
        return True

    def be_patient(self) -> None:
        """
        Send much, to an endpoint that may take it as slowly as it likes.

        A full receive window that stays full counts as silence for the kernel (TCP_USER_TIMEOUT).
        """
        self.patient = True
        self._set_user_timeout(0)

    def _set_user_timeout(self, milliseconds: int) -> None:
        if self._is_local or self.fd < 0:
            return
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    def on_event(self, events: int) -> None:
        """Handle what epoll tells."""
        exchange = self.exchange
        if events == IN and exchange is not None and exchange.state == WAITING:
            read_head(exchange, events)
            return
        if exchange is None:
            # Of TLS a ticket for another session may come at any time, and is no word of the endpoint's.
            if events != OUT and (self.tls is None or self.has_ended()):
                self.close()
            return
        if self.connecting:
            if self.tls is None:
                self._finish_connect(exchange)
            else:
                self._shake_hands(self.tls, exchange)
            return
        if self.outbox and events & OUT:
            self.flush(exchange)
            if self.exchange is None:
                return
        if events != OUT:
            exchange.on_upstream(events)

    def _finish_connect(self, exchange: Exchange) -> None:
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self.close()
            exchange.connect_failed(REFUSED, Row.RETRY_REFUSED, reason_of(error))
            return
        color = exchange.color
        assert color is not None
        version = self.edge.header_of(color)
        if version:
            # The first bytes of a connection: the kernel has room for them.
            self.private = True
            self.send(self._header(version, exchange.down))
        if self.endpoint.scheme == "https":
            assert isinstance(self.sock, socket.SocketType)
            alone = self.private or (exchange.plan is not None and exchange.plan.upgrade != b"")
            self.sock = self.tls = tls = self.edge.secure(color, self.endpoint, self.sock, alone=alone)
            self._use(tls)
            self._shake_hands(tls, exchange)
        else:
            self._be_connected(exchange)

    def _shake_hands(self, tls: TlsTransport, exchange: Exchange) -> None:
        """Go on with the handshake as far as it goes."""
        try:
            is_done = tls.shake_hands()
        except OSError as error:
            from sillyproxy.tools.pem import why_failed

            self.close()
            is_certificate, detail = why_failed(error)
            exchange.connect_failed(BAD_CERTIFICATE if is_certificate else BAD_TLS, Row.RETRY_REFUSED, detail)
        else:
            if is_done:
                self._be_connected(exchange)

    def _be_connected(self, exchange: Exchange) -> None:
        self.waits_writable = False
        tls = self.tls
        if self.endpoint.scheme == "h2c" or (
            tls is not None and tls.session.selected_alpn_protocol() == "h2"
        ):
            # Imported here it is in the memory of those alone that need it.
            from sillyproxy.proxy.http2.client import ClientConnection

            self.edge.loop.remove(self.fd)
            carrier = ClientConnection(self.edge, self.sock, self.endpoint, self._carried)
            self.edge.loop.soon(carrier.go_on)
            self._board(carrier)
            return
        # Waiting to write as well would tell us of every acknowledgement that crosses a read.
        self.edge.loop.change(self.fd, READ)
        self._carried(True)

    def _carried(self, is_ready: bool) -> None:
        """The connection can be used; or there is none, although something was there to accept it."""
        exchange = self.exchange
        if exchange is None or self.closed:
            return
        if not is_ready:
            self.close()
            exchange.connect_failed(REFUSED, Row.RETRY_REFUSED, "closed before a word")
            return
        self.edge.connecting.pop(self, None)
        self.connecting = False
        exchange.connected(self.edge.loop.now_ns - self.began_ns)

    def _board(self, carrier: ClientConnection) -> None:
        """Be a stream of a connection from now on."""
        call = carrier.make_call()
        self.sock = call
        self.fd = call.fileno()
        self._use(call)
        self.tls = None
        self.private = self.used = True
        self.edge.loop.add(self.fd, self.on_event, READ)

    @staticmethod
    def _header(version: str, down: Downstream) -> bytes:
        """Return the PROXY header that tells who the client is."""
        # Imported here it is in the memory of those alone that need it.
        from sillyproxy.proxy.proxied import header_for

        return header_for(version, down.ip, carrier(down.sock))

    def expire(self) -> None:
        """Give up connecting: it took too long."""
        exchange = self.exchange
        self.close()
        if exchange is not None:
            exchange.connect_failed(CONNECT_TIMEOUT, Row.RETRY_TIMEOUT, "timeout")

    def write(self, data: bytes | memoryview) -> bool:
        """
        Send; what the endpoint does not take now waits in `outbox`. False if the connection is broken.

        Call only with an empty outbox.
        """
        try:
            sent = self.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return False
        if sent < len(data):
            self.keep_back(data[sent:])
        return True

    def keep_back(self, data: bytes | memoryview) -> None:
        """Send the rest when the endpoint takes more."""
        self.outbox = bytes(data)
        if not self.waits_writable:
            self.waits_writable = True
            self.edge.loop.change(self.fd, READ_WRITE)

    def flush(self, exchange: Exchange) -> None:
        """Send what waits; when all is sent the exchange may go on."""
        data = self.outbox
        self.outbox = b""
        if not self.write(data):
            exchange.upstream_write_failed()
        elif not self.outbox:
            exchange.on_upstream_writable()

    def has_ended(self) -> bool:
        """Tell whether the endpoint has closed an idle connection, or said what nobody asked for."""
        try:
            self.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def release(self) -> None:
        """Give the connection back: it is idle from now on."""
        self.exchange = None
        endpoint = self.endpoint
        idle = endpoint.idle
        if endpoint.gone or len(idle) >= MAX_IDLE or self.edge.draining or self.private:
            self.close()
            return
        if self.patient:
            self.patient = False
            self._set_user_timeout(1000 * SILENT_MACHINE_S)
        self.used = True
        self.idle_since_ns = self.edge.loop.now_ns
        idle.append(self)

    def close(self) -> None:
        """Close at once, in whatever state."""
        if self.closed:
            return
        self.closed = True
        self.exchange = None
        self.edge.connecting.pop(self, None)
        if self in self.endpoint.idle:
            self.endpoint.idle.remove(self)
        self.edge.loop.unsettled = True
        self.edge.loop.close(self.fd, self)

    def dispose(self) -> None:
        """Close the socket."""
        self.sock.close()

    def crash(self) -> None:
        """End what a bug has broken."""
        exchange = self.exchange
        if exchange is not None:
            exchange.crash()
        self.close()


def expire_idle(idle: list[Upstream], before_ns: int) -> None:
    """Close the connections that have been idle since before `before_ns`; the oldest come first."""
    while idle and idle[0].idle_since_ns < before_ns:
        idle[0].close()


def find_room(endpoint: Endpoint) -> ClientConnection | None:
    """Return an HTTP/2 connection to the endpoint that takes another exchange; None if there is none."""
    return next((carrier for carrier in endpoint.carriers if carrier.has_room), None)


def dismiss(endpoint: Endpoint) -> None:
    """Keep no connection to an endpoint that is gone; what is under way ends as it will."""
    for upstream in tuple(endpoint.idle):
        upstream.close()
    for shared in tuple(endpoint.carriers):
        shared.leave()
