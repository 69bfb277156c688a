"""
The client's connection: from its bytes to the next request, and back.

A connection is idle, amid a request head, busy with one exchange, a tunnel, or lingering
(we have said our last, and read on so that the client gets to read it). While it is
busy nothing more is read than the exchange asks for; what a client sends ahead
(pipelining) waits in the kernel, or in `inbox` if it came along, and is served in order.
"""

from __future__ import annotations

import socket
import struct
from copy import copy
from typing import TYPE_CHECKING, Final

from sillyproxy import errors
from sillyproxy.errors import BadRequest, Problem
from sillyproxy.http1.forward import peer_fields, replace_host
from sillyproxy.http1.grammar import ORIGIN_LINE
from sillyproxy.http1.head import check_partial_head, read_request_line
from sillyproxy.http1.reply import build_reply
from sillyproxy.metrics.layout import Worker
from sillyproxy.proxy.edge import LINGER_NS, Edge
from sillyproxy.proxy.exchange import Exchange
from sillyproxy.proxy.loop import GONE, IN, OUT, READ, READ_WRITE, RESET

if TYPE_CHECKING:
    from sillyproxy.http1.forward import RequestPlan

IDLE: Final = 0
HEAD: Final = 1
BUSY: Final = 2
LINGER: Final = 3
CLOSED: Final = 4

HEAD_READ_BYTES: Final = 16384
# What a lingering connection may still send before we stop listening to it.
_LINGER_BYTES: Final = 4 * 1024 * 1024
_SPARE_EXCHANGES: Final = 256
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Downstream:
    """
    One client connection.

    `inbox` is what was read and not yet understood, `outbox` what the client has not taken
    yet; `readable`: more may have come than was read; `eof`: the client has closed its
    sending side; `fresh`: no request has come yet; `closing`: close once the outbox is empty.
    """

    __slots__ = (
        "closing",
        "deadline_ns",
        "edge",
        "eof",
        "exchange",
        "fd",
        "fresh",
        "inbox",
        "ip",
        "lingered_bytes",
        "outbox",
        "peer",
        "phase",
        "plans",
        "readable",
        "recv",
        "recv_into",
        "send",
        "sock",
        "waits_writable",
    )

    def __init__(self, edge: Edge, sock: socket.socket, ip: str) -> None:
        self.edge = edge
        self.sock = sock
        self.fd = sock.fileno()
        self.recv = sock.recv
        self.recv_into = sock.recv_into
        self.send = sock.send
        self.ip = ip
        self.peer = b"%b\r\nX-Request-ID: %b" % (peer_fields(ip), edge.id_prefix)
        self.plans = edge.trusted_plans if edge.is_trusted(ip) else edge.plans
        self.phase = IDLE
        self.inbox = b""
        self.outbox: bytes | memoryview = b""
        self.readable = False
        self.eof = False
        self.fresh = True
        self.closing = False
        self.waits_writable = False
        self.lingered_bytes = 0
        self.exchange = edge.spare_exchanges.pop() if edge.spare_exchanges else Exchange(edge, self)
        self.exchange.down = self
        self.deadline_ns = edge.loop.now_ns + edge.header_ns
        edge.connections.add(self)
        edge.loop.add(self.fd, self.on_event, READ)

    # -- What epoll tells ---------------------------------------------------------------

    def on_event(self, events: int) -> None:
        """Handle what epoll tells."""
        if events != IN:
            if events & GONE:
                self.eof = True
            if self.outbox and events & OUT:
                self._flush()
            if events & RESET and self.phase == BUSY:
                self.exchange.abandon()
                return
        phase = self.phase
        if phase <= HEAD:
            self.read_head()
        elif phase == BUSY:
            self.readable = True
            self.exchange.on_client(events)
        elif phase == LINGER:
            self._discard()

    def read_head(self) -> None:
        """Read what has come, which should be a request head."""
        try:
            data = self.recv(HEAD_READ_BYTES)
        except BlockingIOError:
            self.readable = False
            return
        except OSError:
            self.close()
            return
        if not data:
            self.close()
            return
        self.readable = self.eof or len(data) == HEAD_READ_BYTES
        self._process(self.inbox + data if self.inbox else data)
        if self.eof and self.phase == BUSY:
            self.exchange.on_client(GONE)

    def _process(self, data: bytes) -> None:
        """Serve the request whose head is in `data`, or wait for the rest of it."""
        eol = data.find(b"\r\n")
        end = data.find(b"\r\n\r\n", eol if eol > 0 else 0)
        try:
            if end < 0 or eol == 0 or end > self.edge.max_head:
                self._process_odd(data)
                return
            line = ORIGIN_LINE.fullmatch(data, 0, eol)
            if line is not None:
                plan = self.plans[1][data[eol:end]]
                method, target = line.groups()
                self.inbox = b""
                self.phase = BUSY
                self.exchange.begin(method, target, 1, plan, plan.forward, data[end + 4 :])
            else:
                self._process_other_form(data, eol, end)
        except BadRequest as error:
            self._refuse(error.problem, data[:eol] if 0 < eol < 8192 else b"")

    def _process_other_form(self, data: bytes, eol: int, end: int) -> None:
        """Serve a request of HTTP/1.0, or whose target is not a path."""
        method, target, minor, authority = read_request_line(data[:eol])
        plan: RequestPlan = self.plans[minor][data[eol:end]]
        if target == b"*":
            plan = copy(plan)
            plan.common = False  # its target is not appended to a path
        fields = plan.forward if authority is None else replace_host(plan, authority)
        self.inbox = b""
        self.phase = BUSY
        self.exchange.begin(method, target, minor, plan, fields, data[end + 4 :])

    def _process_odd(self, data: bytes) -> None:
        """Handle a head that is incomplete, too large, or comes behind empty lines (RFC 9112, 2.2)."""
        stripped = data
        while stripped.startswith(b"\r\n"):
            stripped = stripped[2:]
        if stripped is not data and stripped:
            self._process(stripped)
            return
        max_head = self.edge.max_head
        end = stripped.find(b"\r\n\r\n")
        check_partial_head(stripped[: max_head + 1] if end < 0 else stripped[:end], max_head)
        if self.phase == IDLE:
            self.phase = HEAD
            # From its first byte on a head has this long, however it trickles in.
            if not self.fresh:
                self.deadline_ns = self.edge.loop.now_ns + self.edge.header_ns
        self.inbox = stripped
        if self.readable:
            self.edge.loop.soon(self.resume)

    def read_ahead(self) -> None:
        """Find out whether a client that has closed its sending side had sent more requests before."""
        if not self.inbox:
            try:
                self.inbox = self.recv(HEAD_READ_BYTES)
            except OSError:
                return

    def resume(self) -> None:
        """Go on with what the client has sent ahead."""
        if self.phase > HEAD:
            return
        if self.phase == IDLE and self.inbox:
            data, self.inbox = self.inbox, b""
            self._process(data)
            if self.eof and self.phase == BUSY:
                self.exchange.on_client(GONE)
        elif self.readable:
            self.read_head()

    # -- What the exchange asks for -----------------------------------------------------

    def write(self, data: bytes | memoryview) -> bool:
        """
        Send to the client; what it does not take now waits. False if the client is gone.

        Call only with an empty outbox.
        """
        try:
            sent = self.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return False
        if sent < len(data):
            self.outbox = bytes(data[sent:])
            if not self.waits_writable:
                self.waits_writable = True
                self.edge.loop.change(self.fd, READ_WRITE)
        return True

    def end(self, *, keep: bool) -> None:
        """The exchange is over and all is sent: go on with the next request, or close."""
        if not keep:
            self._end_connection()
            return
        self.phase = IDLE
        self.fresh = False
        if self.inbox or self.readable:
            self.edge.loop.soon(self.resume)

    def _end_connection(self) -> None:
        """Close without losing what was just sent: bytes unread here would make the kernel reset it."""
        if self.eof or not (self.inbox or self.readable):
            self.close()
            return
        self.linger()

    def linger(self) -> None:
        """Say that we are done, and read on until the client is (RFC 9112, 9.6)."""
        self.phase = LINGER
        self.inbox = b""
        self.deadline_ns = self.edge.loop.now_ns + LINGER_NS
        if self.outbox:
            self.closing = True
            return
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self._discard()

    def close(self, *, reset: bool = False) -> None:
        """Close at once; with `reset` so that the client cannot take what it got for the whole."""
        if self.phase == CLOSED:
            return
        self.phase = CLOSED
        self.outbox = b""
        self.edge.connections.discard(self)
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.edge.loop.unsettled = True
        self.edge.loop.close(self.fd, self)

    def dispose(self) -> None:
        """Close the socket. The exchange serves another; without it nothing here is a cycle."""
        self.sock.close()
        if len(self.edge.spare_exchanges) < _SPARE_EXCHANGES:
            self.edge.spare_exchanges.append(self.exchange)
        del self.exchange

    def expire(self) -> None:
        """The deadline of whatever the connection was doing has passed."""
        if self.phase == BUSY:
            self.exchange.expire()
        elif self.phase == HEAD:
            self.edge.worker_counts[Worker.HEAD_TIMEOUTS] += 1
            self._refuse(errors.HEAD_TIMEOUT, b"")
        else:
            self.close()

    def leave(self) -> None:
        """Close while idle, unless a request has just come."""
        self.read_head()
        if self.phase == IDLE:
            self.close()

    def evict(self) -> None:
        """The drain timeout is over: close, whatever is under way."""
        if self.phase == BUSY:
            self.exchange.evict()
        else:
            self.close()

    def crash(self) -> None:
        """End what a bug has broken."""
        if self.phase == BUSY:
            self.exchange.crash()
        self.close(reset=True)

    # -- By itself ----------------------------------------------------------------------

    def _flush(self) -> None:
        data = self.outbox
        self.outbox = b""
        if not self.write(data):
            if self.phase == BUSY:
                self.exchange.abandon()
            else:
                self.close()
        elif not self.outbox:
            if self.phase == BUSY:
                self.exchange.on_client_writable()
            elif self.closing:
                self.closing = False
                self.linger()

    def _refuse(self, problem: Problem, line: bytes) -> None:
        """Answer what is no request we serve, and close."""
        exchange = self.exchange
        exchange.refuse(problem, line)
        self.write(
            build_reply(problem, date=self.edge.date(), close=True, head_only=line.startswith(b"HEAD "))
        )
        self.linger()

    def _discard(self) -> None:
        """Read and forget what a client sends that has been given its last answer."""
        while True:
            try:
                count = self.recv_into(self.edge.buffer)
            except BlockingIOError:
                return
            except OSError:
                break
            self.lingered_bytes += count
            if not count or self.lingered_bytes > _LINGER_BYTES:
                break
        self.close()
