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
from sillyproxy.http1.forward import decrement_max_forwards, read_max_forwards, replace_host
from sillyproxy.http1.grammar import ORIGIN_LINE
from sillyproxy.http1.head import check_partial_head, read_request_line
from sillyproxy.http1.reply import build_reply
from sillyproxy.http2.frames import PREFACE
from sillyproxy.metrics.layout import Worker
from sillyproxy.proxy.edge import Edge
from sillyproxy.proxy.exchange import Exchange
from sillyproxy.proxy.failure import evict, expire
from sillyproxy.proxy.limits import LINGER_NS
from sillyproxy.proxy.loop import GONE, IN, OUT, READ, READ_WRITE, RESET

if TYPE_CHECKING:
    from sillyproxy.http1.forward import RequestPlan
    from sillyproxy.proxy.transport import Transport

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
    `scheme`: http or https; `identity`: the fields that say who the client is by its certificate;
    `multiplexed`: it is one stream of a connection that others share.
    """

    # For the compiler: an attribute is not deleted unless it is said here.
    __deletable__ = ("exchange",)
    __slots__ = (
        "closing",
        "deadline_ns",
        "edge",
        "eof",
        "exchange",
        "fd",
        "fresh",
        "identity",
        "inbox",
        "ip",
        "lingered_bytes",
        "multiplexed",
        "outbox",
        "peer",
        "phase",
        "plans",
        "readable",
        "recv",
        "responses",
        "scheme",
        "send",
        "sock",
        "waits_writable",
    )

    def __init__(
        self,
        edge: Edge,
        sock: Transport,
        ip: str,
        scheme: bytes = b"http",
        identity: bytes = b"",
        *,
        multiplexed: bool = False,
    ) -> None:
        self.edge = edge
        self.sock = sock
        self.fd = sock.fileno()
        self.recv = sock.recv
        self.send = sock.send
        self.ip = ip
        self.scheme = scheme
        self.identity = identity
        self.peer = identity + edge.peer_fields(ip, scheme)
        self.responses = edge.responses[scheme]
        self.multiplexed = multiplexed
        self.plans = edge.plans_for(ip, multiplexed=multiplexed) if edge.trusts or multiplexed else edge.plans
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
        if multiplexed:
            edge.lanes += 1
        edge.loop.add(self.fd, self.on_event, READ)

    # -- What epoll tells ---------------------------------------------------------------

    def on_event(self, events: int) -> None:
        """Handle what epoll tells."""
        if events == IN and self.phase == IDLE and not self.inbox:
            # A request by itself, nearly always; what else there is takes the long way.
            try:
                data = self.recv(HEAD_READ_BYTES)
            except OSError as error:
                self._read_failed(error)
                return
            if len(data) == HEAD_READ_BYTES:
                self.readable = True
            if data:
                self._process(data)
            else:
                self.close()
            return
        if events & GONE:
            self.eof = True
        if self.outbox and events & OUT:
            self._flush()
        phase = self.phase
        if phase <= HEAD:
            self.read_head()
        elif phase == BUSY:
            if events & RESET:
                self.exchange.abandon()
                return
            self.readable = True
            self.exchange.on_client(events)
        elif phase == LINGER:
            self._discard()

    def _read_failed(self, error: OSError) -> None:
        if isinstance(error, BlockingIOError):
            self.readable = False
        else:
            self.close()

    def read_head(self) -> None:
        """Read what has come, which should be a request head."""
        try:
            data = self.recv(HEAD_READ_BYTES)
        except OSError as error:
            self._read_failed(error)
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
        line = ORIGIN_LINE.match(data)
        try:
            if line is None:
                self._process_other_form(data)
                return
            eol = line.end()
            # A head that came before, and nothing behind it: known without a look inside.
            plan = self.plans[1].get(data[eol:-4]) if data.endswith(b"\r\n\r\n") else None
            if plan is not None and (end := len(data) - 4) <= self.edge.max_head:
                pass
            else:
                end = data.find(b"\r\n\r\n", eol)
                if end < 0 or end > self.edge.max_head:
                    self._wait_head(data, end)
                    return
                plan = self.plans[1][data[eol:end]]
            method, target = line.groups()
            self.phase = BUSY
            self.exchange.begin(method, target, 1, plan, plan.forward, data[end + 4 :])
        except BadRequest as error:
            line_end = data.find(b"\r\n")
            self._refuse(error.problem, data[:line_end] if 0 < line_end < 8192 else b"")

    def _process_other_form(self, data: bytes) -> None:
        """Serve what does not begin with the request line that nearly everybody sends."""
        if data.startswith(PREFACE[:3]) and self._is_preface(data):
            return
        while data.startswith(b"\r\n"):
            data = data[2:]  # RFC 9112, 2.2: empty lines before a request line
        eol = data.find(b"\r\n")
        end = data.find(b"\r\n\r\n")
        if end < 0 or end > self.edge.max_head:
            self._wait_head(data, end)
            return
        method, target, minor, authority = read_request_line(data[:eol])
        plan: RequestPlan = self.plans[minor][data[eol:end]]
        if target == b"*":
            plan = copy(plan)
            plan.common = False  # its target is not appended to a path
        fields = plan.forward if authority is None else replace_host(plan, authority)
        # RFC 9110, 7.6.2: only for these two.
        hops = read_max_forwards(fields) if method in (b"OPTIONS", b"TRACE") else None
        if hops:
            fields = decrement_max_forwards(fields)
        self.inbox = b""
        self.phase = BUSY
        self.exchange.begin(method, target, minor, plan, fields, data[end + 4 :], last_stop=hops == 0)

    def _is_preface(self, data: bytes) -> bool:
        """Tell whether HTTP/2 begins here (RFC 9113, 3.3), as far as is known yet; if so, go on with it."""
        edge = self.edge
        multiplex = edge.multiplex
        if (
            multiplex is None
            or not self.fresh
            or self.multiplexed
            or self.scheme != b"http"
            or not PREFACE.startswith(data[: len(PREFACE)])
        ):
            return False
        if len(data) < len(PREFACE):
            self._wait(data)
            return True
        self.phase = CLOSED
        self.inbox = b""
        edge.connections.discard(self)
        edge.loop.remove(self.fd)
        multiplex(self.sock, self.ip, self.scheme, self.identity, data)
        self._give_exchange_back()
        return True

    def _wait_head(self, data: bytes, end: int) -> None:
        """Wait for the rest of a head; raises BadRequest if it is too large already, or wrong."""
        max_head = self.edge.max_head
        # The end of a head that just fits may come in two parts.
        check_partial_head(data[: max_head + 4] if end < 0 else data[:end], max_head)
        self._wait(data)

    def _wait(self, data: bytes) -> None:
        if self.phase == IDLE:
            self.phase = HEAD
            # From its first byte on a head has this long, however it trickles in.
            if not self.fresh:
                self.deadline_ns = self.edge.loop.now_ns + self.edge.header_ns
        self.inbox = data
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
            self.keep_back(data[sent:])
        return True

    def keep_back(self, data: bytes | memoryview) -> None:
        """Send the rest when the client takes more."""
        self.outbox = bytes(data)
        if not self.waits_writable:
            self.waits_writable = True
            self.edge.loop.change(self.fd, READ_WRITE)

    def end(self, *, keep: bool) -> None:
        """The exchange is over and all is sent: go on with the next request, or close."""
        if keep:
            self.go_on()
        else:
            self._end_connection()

    def go_on(self) -> None:
        """The exchange is over and all is sent: be ready for the next."""
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
        if self.multiplexed:
            self.edge.lanes -= 1
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.edge.loop.unsettled = True
        self.edge.loop.close(self.fd, self)

    def dispose(self) -> None:
        """Close the socket. The exchange serves another; without it nothing here is a cycle."""
        self.sock.close()
        self._give_exchange_back()

    def _give_exchange_back(self) -> None:
        if len(self.edge.spare_exchanges) < _SPARE_EXCHANGES:
            self.edge.spare_exchanges.append(self.exchange)
        del self.exchange

    def expire(self) -> None:
        """The deadline of whatever the connection was doing has passed."""
        if self.phase == BUSY:
            expire(self.exchange)
        elif self.phase == HEAD:
            self.edge.worker_counts[Worker.HEAD_TIMEOUTS] += 1
            self._refuse(errors.HEAD_TIMEOUT, b"", began_ns=self.deadline_ns - self.edge.header_ns)
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
            evict(self.exchange)
        elif self.phase != LINGER:
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

    def _refuse(self, problem: Problem, line: bytes, began_ns: int = 0) -> None:
        """Answer what is no request we serve, and close."""
        exchange = self.exchange
        exchange.refuse(problem, line, began_ns or self.edge.loop.now_ns)
        self.write(
            build_reply(
                problem,
                date=self.edge.date(),
                close=True,
                request_id=exchange.request_id,
                head_only=line.startswith(b"HEAD "),
            )
        )
        self.linger()

    def _discard(self) -> None:
        """Read and forget what a client sends that has been given its last answer."""
        while True:
            try:
                count = self.sock.recv_into(self.edge.buffer)
            except BlockingIOError:
                return
            except OSError:
                break
            self.lingered_bytes += count
            if not count or self.lingered_bytes > _LINGER_BYTES:
                break
        self.close()
