"""
A client's HTTP/2 connection (RFC 9113): its frames, its streams, and what bounds them.

Each stream that begins is carried by a lane to a `Downstream` of its own. What goes out is gathered
for a round of the loop and sent at once. Nothing that a client sends may make us work or keep more
than it pays for: what costs us and brings nobody anything is charged to its patience account.
"""

from __future__ import annotations

from base64 import b64encode
from os import urandom
from typing import TYPE_CHECKING, Final

from sillyproxy.http1.memory import Plans
from sillyproxy.http2.frames import (
    ACK,
    DEFAULT_WINDOW,
    ENABLE_CONNECT_PROTOCOL,
    HEAD_BYTES,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    MAX_WINDOW,
    NO_ERROR,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    ConnectionProblem,
    goaway_frame,
    settings_frame,
    window_frame,
)
from sillyproxy.http2.heads import (
    Malformed,
    RequestHead,
    ResponseHead,
    read_request,
    read_trailers,
    write_response,
)
from sillyproxy.metrics.layout import Worker
from sillyproxy.proxy.downstream import BUSY, IDLE, Downstream
from sillyproxy.proxy.failure import end_call
from sillyproxy.proxy.http2.connection import (
    CLOSED,
    CONNECTION_WINDOW,
    LINGERING,
    OPEN,
    STREAM_WINDOW,
    Connection,
)
from sillyproxy.proxy.http2.lane import Lane
from sillyproxy.proxy.limits import LINGER_NS, SECOND_NS
from sillyproxy.proxy.loop import IN, RESET
from sillyproxy.proxy.teller import OFTEN_NS

if TYPE_CHECKING:
    from sillyproxy.proxy.edge import Edge
    from sillyproxy.proxy.transport import Transport

# Browsers open up to 100 at once, h2load as many as it is told.
MAX_STREAMS: Final = 128

# After the first GOAWAY, for what its client had sent until it came.
_LAST_STREAMS_NS: Final = SECOND_NS
_REMEMBERED: Final = 64
_REMEMBERED_BYTES: Final = 1024


class Multiplexer:
    """Makes the connections of one worker, which remember together how the heads of responses are written."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self._responses = Plans(write_response)

    def begin(self, sock: Transport, ip: str, scheme: bytes, identity: bytes, data: bytes) -> None:
        """Speak HTTP/2 over `sock`, of which `data` was read already."""
        conn = ServerConnection(self.edge, sock, ip, scheme, identity, self._responses)
        if data:
            conn.feed(data)
        # What else has come, no event may tell of.
        self.edge.loop.soon(conn.go_on)


class ServerConnection(Connection[Lane]):
    """
    A client's connection, in `edge.multiplexed` until it is closed.

    `responses` are the heads of responses as they are written here.
    """

    __slots__ = (
        "_free",
        "_identity",
        "_ip",
        "_known",
        "_leave_ns",
        "_lingering",
        "_said",
        "_scheme",
        "responses",
    )

    def __init__(
        self,
        edge: Edge,
        sock: Transport,
        ip: str,
        scheme: bytes,
        identity: bytes,
        responses: Plans[ResponseHead],
    ) -> None:
        super().__init__(edge, sock)
        self._ip = ip
        self._scheme = scheme
        self._identity = identity
        self._known: dict[bytes, RequestHead] = {}
        self._free: list[Lane] = []
        self._lingering: dict[Lane, int] = {}
        self._said = MAX_WINDOW + 1  # the last stream that GOAWAY named, more if there was none
        self._leave_ns = 0
        self.responses = responses
        edge.multiplexed.add(self)
        edge.worker_counts[Worker.H2_CONNECTIONS] += 1
        self.put(
            settings_frame(
                {
                    MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                    INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                    MAX_HEADER_LIST_SIZE: edge.max_head,
                    ENABLE_CONNECT_PROTOCOL: 1,
                }
            )
            + window_frame(0, CONNECTION_WINDOW - DEFAULT_WINDOW)
        )

    # -- What comes ---------------------------------------------------------------------

    def greet(self, data: bytes) -> int:
        """RFC 9113, 3.4: a preface, and SETTINGS behind it."""
        at = len(PREFACE)
        if not PREFACE.startswith(data[:at]):
            raise ConnectionProblem(PROTOCOL_ERROR, "no preface")
        if len(data) < at + HEAD_BYTES:
            return -1
        if data[at + 3] != SETTINGS or data[at + 4] & ACK:
            raise ConnectionProblem(PROTOCOL_ERROR, "no SETTINGS behind the preface")
        return at

    def on_block(self, stream: int, block: bytes, *, ended: bool, is_circular: bool) -> None:
        """Begin a stream, or end its request, with a whole field block."""
        lane = self.streams.get(stream)
        if lane is not None or stream <= self.last:
            self._on_trailers(lane, stream, block, ended)
            return
        request = self._known.get(block) if ended else None
        if request is None:
            request = self._read_request(stream, block, ended)
        self.last = stream
        if request is None:
            return
        if is_circular:
            self.refuse(stream, PROTOCOL_ERROR)
        elif len(self.streams) >= MAX_STREAMS or stream > self._said:
            self.charge(1, "streams at once")
            self.refuse(stream, REFUSED_STREAM)
        else:
            lane = self._lane()
            lane.begin(stream, request, self.initial_window, STREAM_WINDOW, ended=ended)
            self.streams[stream] = lane
            self._ready[lane] = IN

    def _read_request(self, stream: int, block: bytes, ended: bool) -> RequestHead | None:
        """Read a request's fields; None if they are malformed, and the stream is reset."""
        fields = self.blocks.read(block)
        is_known = self.blocks.is_steady
        if not is_known:
            self._known.clear()
        try:
            request = read_request(fields, _make_key, ended=ended)
        except Malformed as problem:
            self.charge(10, f"malformed requests: {problem}")
            self.refuse(stream, PROTOCOL_ERROR)
            return None
        if is_known and ended and len(block) <= _REMEMBERED_BYTES:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[block] = request
        return request

    def _on_trailers(self, lane: Lane | None, stream: int, block: bytes, ended: bool) -> None:
        fields = self.blocks.read(block)
        if not self.blocks.is_steady:
            self._known.clear()
        if lane is None:
            if stream in self._reset:
                self.charge(1, "fields on a stream that was reset")
                return
            raise ConnectionProblem(STREAM_CLOSED, "HEADERS on a closed stream")
        if lane.received:
            self.reset_by_us(lane, STREAM_CLOSED)
            return
        try:
            if not ended:
                raise Malformed("trailers that do not end the stream")
            if not lane.may_end():
                raise Malformed("less than content-length")
            section = read_trailers(fields)
        except Malformed as problem:
            self.charge(10, f"malformed requests: {problem}")
            self.reset_by_us(lane, PROTOCOL_ERROR)
            return
        lane.end(section)
        self._ready[lane] = self._ready.get(lane, 0) | IN

    def on_reset(self, one: Lane, code: int) -> None:
        """CVE-2023-44487: a stream that is reset as it begins has cost the client nothing."""
        self.charge(4, "RST_STREAM")
        self.drop(one)

    def on_goaway(self, last: int, code: int) -> None:
        """The client will begin no more streams."""
        self.leave()

    # -- Streams ------------------------------------------------------------------------

    def _lane(self) -> Lane:
        """Return a lane that is free, or a new one with a Downstream of its own."""
        free = self._free
        while free:
            lane = free.pop()
            if not lane.closed and lane.down.phase == IDLE and not lane.down.outbox:
                return lane
        edge = self.edge
        edge.next_virtual_fd -= 1
        lane = Lane(self, edge.next_virtual_fd)
        lane.down = Downstream(edge, lane, self._ip, self._scheme, self._identity, multiplexed=True)
        return lane

    def forget(self, stream: Lane) -> None:
        """A stream is over; the last one may be the end."""
        super().forget(stream)
        self._lingering.pop(stream, None)
        if not self.streams:
            self.deadline_ns = self.edge.loop.now_ns + self.edge.idle_ns
            if self._said < MAX_WINDOW:
                self.edge.loop.soon(self._end_if_idle)

    def end_stream(self, stream: Lane) -> None:
        """A request and its response are over: the lane is free."""
        super().end_stream(stream)
        self.free(stream)

    def free(self, lane: Lane) -> None:
        """The lane may carry another stream."""
        if not lane.closed:
            self._free.append(lane)

    def linger(self, lane: Lane) -> None:
        """The response is over and whoever gave it has gone: give the client time to see that."""
        self._lingering[lane] = self.edge.loop.now_ns + LINGER_NS

    # -- The end ------------------------------------------------------------------------

    def tick(self, now_ns: int) -> None:
        """Look for what is overdue, and say that we are leaving."""
        if self.edge.draining and self.state == OPEN:
            self._tick_draining(now_ns)
        while self._lingering:
            lane, deadline_ns = next(iter(self._lingering.items()))
            if deadline_ns > now_ns:
                break
            self.reset_stream(lane, NO_ERROR)
        for lane in tuple(self.streams.values()):
            exchange = lane.down.exchange if lane.down.phase == BUSY else None
            plan = exchange.plan if exchange is not None else None
            if (
                exchange is not None
                and plan is not None
                and 0 < plan.timeout_ns < now_ns - exchange.started_ns
            ):
                end_call(exchange)
        if now_ns < self.deadline_ns or self.state == CLOSED:
            return
        if self._waiting and self.is_moving():
            self.deadline_ns = now_ns + self.edge.idle_ns
        elif self.state == LINGERING or self._waiting or not self.is_greeted:
            self.gone()
        elif self._inbox or self._block_stream:
            self.edge.worker_counts[Worker.HEAD_TIMEOUTS] += 1
            self._fail(ConnectionProblem(PROTOCOL_ERROR, "a frame that took too long"))
        elif not self.streams:
            self.leave()

    def _tick_draining(self, now_ns: int) -> None:
        """RFC 9113, 6.8: say that no more should come, and once that was heard, which were the last."""
        if not self.is_greeted:
            # One that was just accepted is given a moment to say what it came for.
            if now_ns >= self._begun_ns + SECOND_NS // 2:
                self.gone()
        elif self._said > MAX_WINDOW:
            self._said = MAX_WINDOW
            self._leave_ns = now_ns + _LAST_STREAMS_NS
            self.put(goaway_frame(MAX_WINDOW, NO_ERROR))
        elif self._said == MAX_WINDOW and now_ns >= self._leave_ns:
            self.leave()

    def leave(self) -> None:
        """Take no more streams; close when those that are under way are over."""
        if self.state != OPEN:
            return
        if self._said >= MAX_WINDOW:
            self._said = self.last
            self.put(goaway_frame(self.last, NO_ERROR))
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self.state == OPEN and not self.streams and self._said < MAX_WINDOW:
            self.begin_to_linger()

    def fail(self, problem: ConnectionProblem) -> None:
        """Tell and count it."""
        edge = self.edge
        edge.teller.tell(
            "info",
            "HTTP/2 connection ended",
            OFTEN_NS,
            of_requests=False,
            client=self._ip,
            reason=problem.reason,
        )
        edge.worker_counts[Worker.H2_ERRORS] += 1

    def dismiss(self) -> None:
        """Whoever waits for nothing goes as well."""
        for lane in self._free:
            if not lane.closed:
                lane.give_up()
                self._ready[lane] = RESET
        self._free.clear()
        self.tell_ready()
        self.edge.multiplexed.discard(self)


def _make_key() -> bytes:
    return b64encode(urandom(16))
