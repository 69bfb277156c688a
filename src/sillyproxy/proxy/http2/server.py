"""
A client's HTTP/2 connection (RFC 9113): its frames, its streams, and what bounds them.

Each stream that begins is carried by a lane to a `Downstream` of its own. What goes out is gathered
for a round of the loop and sent at once. Nothing that a client sends may make us work or keep more
than it pays for: what costs us and brings nobody anything is charged to its patience account.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from sillyproxy.http1.memory import Plans
from sillyproxy.metrics.layout import Worker
from sillyproxy.proxy.downstream import IDLE, PREFACE, Downstream
from sillyproxy.proxy.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_FRAME_SIZE,
    DEFAULT_WINDOW,
    ENABLE_CONNECT_PROTOCOL,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEAD,
    HEAD_BYTES,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_FRAME_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    MAX_WINDOW,
    NO_ERROR,
    PADDED,
    PING,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTING,
    SETTINGS,
    STREAM_CLOSED,
    U32,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    ConnectionProblem,
    frame,
    goaway_frame,
    reset_frame,
    settings_frame,
    unpad,
    window_frame,
)
from sillyproxy.proxy.http2.heads import (
    Malformed,
    RequestHead,
    ResponseHead,
    read_request,
    read_trailers,
    write_response,
)
from sillyproxy.proxy.http2.hpack import FieldBlocks
from sillyproxy.proxy.http2.lane import Lane
from sillyproxy.proxy.limits import LINGER_NS, SECOND_NS
from sillyproxy.proxy.loop import GONE, IN, OUT, READ, READ_WRITE, RESET
from sillyproxy.proxy.teller import OFTEN_NS
from sillyproxy.proxy.transport import untaken

if TYPE_CHECKING:
    from sillyproxy.proxy.edge import Edge
    from sillyproxy.proxy.transport import Transport

# Browsers open up to 100 at once, h2load as many as it is told.
MAX_STREAMS: Final = 128
# What a client may send before it is read: of one request, and of all of a connection.
STREAM_WINDOW: Final = 128 * 1024
CONNECTION_WINDOW: Final = 2 * 1024 * 1024
# What waits to be sent: past it nobody may write more, and nothing more is read.
OUT_BYTES: Final = 256 * 1024
# How often a client may do what costs us and brings nobody anything: at once, and every second.
PATIENCE: Final = 1000
PATIENCE_A_SECOND: Final = 50
# Pieces of one field block (CONTINUATION); the block's size is bounded besides.
MAX_PIECES: Final = 32

_READ_BYTES: Final = 64 * 1024
_READ_ROUNDS: Final = 4
# After the first GOAWAY, for what its client had sent until it came.
_LAST_STREAMS_NS: Final = SECOND_NS
# What a connection may still send that was told its end, before we stop listening to it.
_LINGER_BYTES: Final = 1024 * 1024
_REMEMBERED: Final = 64
_REMEMBERED_BYTES: Final = 1024
_OPEN, _LINGERING, _CLOSED = range(3)
# Streams that we have reset, and whose client may not know it yet.
_RESET_REMEMBERED: Final = 512


class Multiplexer:
    """Makes the connections of one worker, which remember together how the heads of responses are written."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._responses = Plans(write_response)

    def begin(self, sock: Transport, ip: str, scheme: bytes, identity: bytes, data: bytes) -> None:
        """Speak HTTP/2 over `sock`, of which `data` was read already."""
        conn = ServerConnection(self._edge, sock, ip, scheme, identity, self._responses)
        if data:
            conn.feed(data)
        # What else has come, no event may tell of.
        self._edge.loop.soon(conn.go_on)


class ServerConnection:
    """
    One connection, in `edge.multiplexed` until it is closed.

    `window` is how much the client takes, of all streams together; `stalled` are the lanes that
    could not write all they had, the one that waits longest first. `responses` are the heads of
    responses as they are written here.
    """

    __slots__ = (
        "_begun_ns",
        "_block",
        "_block_flags",
        "_block_pieces",
        "_block_stream",
        "_blocks",
        "_credit",
        "_deadline_ns",
        "_edge",
        "_free",
        "_identity",
        "_inbox",
        "_initial_window",
        "_ip",
        "_is_flushing",
        "_is_greeted",
        "_known",
        "_last",
        "_leave_ns",
        "_lingered_bytes",
        "_lingering",
        "_out",
        "_out_bytes",
        "_patience",
        "_patience_at_ns",
        "_paused",
        "_ready",
        "_received",
        "_reset",
        "_said",
        "_scheme",
        "_sock",
        "_state",
        "_streams",
        "_untaken",
        "_waiting",
        "_waits_writable",
        "fd",
        "responses",
        "stalled",
        "window",
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
        self._edge = edge
        self._sock = sock
        self.fd = sock.fileno()
        self._ip = ip
        self._scheme = scheme
        self._identity = identity
        self._state = _OPEN
        self._inbox = b""
        self._is_greeted = False
        self._blocks = FieldBlocks(2 * edge.max_head + 64 * 1024)
        self._known: dict[bytes, RequestHead] = {}
        self._block = b""
        self._block_stream = self._block_flags = self._block_pieces = 0
        self._streams: dict[int, Lane] = {}
        self._free: list[Lane] = []
        self._lingering: dict[Lane, int] = {}
        self._ready: dict[Lane, int] = {}
        self._last = 0
        self._reset: dict[int, None] = {}
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._waiting = b""
        self._waits_writable = False
        self._is_flushing = False
        self._paused = False
        self._said = MAX_WINDOW + 1  # the last stream that GOAWAY named, more if there was none
        self._received = CONNECTION_WINDOW
        self._credit = 0
        self._initial_window = DEFAULT_WINDOW
        self._patience = float(PATIENCE)
        self._patience_at_ns = edge.loop.now_ns
        self.window = DEFAULT_WINDOW
        self.stalled: dict[Lane, None] = {}
        self.responses = responses
        self._begun_ns = edge.loop.now_ns
        self._leave_ns = 0
        self._lingered_bytes = 0
        self._untaken = 0
        self._deadline_ns = edge.loop.now_ns + edge.header_ns
        edge.multiplexed.add(self)
        edge.worker_counts[Worker.H2_CONNECTIONS] += 1
        edge.loop.add(self.fd, self.on_event, READ)
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

    def on_event(self, events: int) -> None:
        """Handle what epoll tells."""
        if events & OUT and self._waiting:
            self._flush()
        if self._state == _LINGERING:
            self._discard()
        elif self._state == _OPEN and not self._paused and events != OUT:
            self._read(thorough=events & GONE != 0)

    def go_on(self) -> None:
        """Read on: it is its turn again, or there is something that no event tells of."""
        if self._state == _OPEN and not self._paused:
            self._read(thorough=True)

    def _read(self, *, thorough: bool) -> None:
        for _ in range(_READ_ROUNDS):
            try:
                data = self._sock.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._gone()
                return
            self.feed(data)
            if self._state != _OPEN or self._paused:
                return
            if len(data) < _READ_BYTES and not thorough:
                return
        self._edge.loop.soon(self.go_on)

    def feed(self, data: bytes) -> None:
        """Take the next bytes, and do what they ask for."""
        if self._inbox:
            data = self._inbox + data
        try:
            at = self._parse(data)
        except ConnectionProblem as problem:
            self._fail(problem)
            return
        is_partial = at < len(data) or self._block_stream
        if is_partial and not self._inbox:
            self._deadline_ns = self._edge.loop.now_ns + self._edge.header_ns
        elif not is_partial:
            self._deadline_ns = self._edge.loop.now_ns + self._edge.idle_ns
        self._inbox = data[at:]
        if self._ready:
            self._tell_ready()
        if self._out_bytes > OUT_BYTES:
            self._paused = True

    def _tell(self, lane: Lane, events: int) -> None:
        handler = self._edge.loop.handlers.get(lane.fileno())
        if handler is not None:
            try:
                handler(events)
            except Exception:
                self._edge.crash(handler)

    def _parse(self, data: bytes) -> int:
        """Do what all frames that are whole ask for; return where the rest begins."""
        at = 0
        size = len(data)
        if not self._is_greeted:
            if size < len(PREFACE) + HEAD_BYTES:
                if not PREFACE.startswith(data[: len(PREFACE)]):
                    raise ConnectionProblem(PROTOCOL_ERROR, "no preface")
                return 0
            if not data.startswith(PREFACE):
                raise ConnectionProblem(PROTOCOL_ERROR, "no preface")
            at = len(PREFACE)
            if data[at + 3] != SETTINGS or data[at + 4] & ACK:
                raise ConnectionProblem(PROTOCOL_ERROR, "no SETTINGS behind the preface")
            self._is_greeted = True
        while size - at >= HEAD_BYTES:
            high, low, kind, flags, stream = HEAD.unpack_from(data, at)
            length = high << 16 | low
            if length > DEFAULT_FRAME_SIZE:
                raise ConnectionProblem(FRAME_SIZE_ERROR, "a frame that is too large")
            end = at + HEAD_BYTES + length
            if end > size:
                break
            payload = data[at + HEAD_BYTES : end]
            at = end
            stream &= MAX_WINDOW
            if self._block_stream and (kind != CONTINUATION or stream != self._block_stream):
                raise ConnectionProblem(PROTOCOL_ERROR, "a frame within a field block")
            if kind == DATA:
                self._on_data(flags, stream, payload)
            elif kind == HEADERS:
                self._on_headers(flags, stream, payload)
            elif kind == WINDOW_UPDATE:
                self._on_window(stream, payload)
            else:
                self._on_other(kind, flags, stream, payload)
        return at

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        if not stream & 1:
            raise ConnectionProblem(PROTOCOL_ERROR, "HEADERS on a stream that is not a client's")
        depends = -1
        if flags & WITH_PRIORITY:
            start = 1 if flags & PADDED else 0
            if len(payload) < start + 5:
                raise ConnectionProblem(FRAME_SIZE_ERROR, "no room for a priority")
            depends = U32.unpack_from(payload, start)[0] & MAX_WINDOW
        block = unpad(payload, flags, headers=True) if flags & (PADDED | WITH_PRIORITY) else payload
        if flags & END_HEADERS:
            self._on_block(stream, block, flags & END_STREAM != 0, is_circular=depends == stream)
        else:
            self._block_stream, self._block, self._block_pieces = stream, block, 0
            self._block_flags = flags | (0x100 if depends == stream else 0)

    def _on_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if not self._block_stream:
            raise ConnectionProblem(PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._block += payload
        self._block_pieces += 1
        if self._block_pieces > MAX_PIECES or len(self._block) > self._edge.max_head + 32 * 1024:
            raise ConnectionProblem(ENHANCE_YOUR_CALM, "a field block without end")
        if flags & END_HEADERS:
            self._block_stream = 0
            block, self._block = self._block, b""
            begun = self._block_flags
            self._on_block(stream, block, begun & END_STREAM != 0, is_circular=begun & 0x100 != 0)

    def _on_block(self, stream: int, block: bytes, ended: bool, *, is_circular: bool) -> None:
        """Begin a stream, or end its request, with a whole field block."""
        lane = self._streams.get(stream)
        if lane is not None or stream <= self._last:
            self._on_trailers(lane, stream, block, ended)
            return
        request = self._known.get(block) if ended else None
        if request is None:
            request = self._read_request(stream, block, ended)
        self._last = stream
        if request is None:
            return
        if is_circular:
            self._refuse(stream, PROTOCOL_ERROR)
        elif len(self._streams) >= MAX_STREAMS or stream > self._said:
            self._charge(1, "streams at once")
            self._refuse(stream, REFUSED_STREAM)
        else:
            lane = self._lane()
            lane.begin(stream, request, self._initial_window, STREAM_WINDOW, ended=ended)
            self._streams[stream] = lane
            self._ready[lane] = IN

    def _read_request(self, stream: int, block: bytes, ended: bool) -> RequestHead | None:
        """Read a request's fields; None if they are malformed, and the stream is reset."""
        fields = self._blocks.read(block)
        is_known = self._blocks.is_steady
        if not is_known:
            self._known.clear()
        try:
            request = read_request(fields, ended=ended)
        except Malformed as problem:
            self._charge(10, f"malformed requests: {problem}")
            self._refuse(stream, PROTOCOL_ERROR)
            return None
        if is_known and ended and len(block) <= _REMEMBERED_BYTES:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[block] = request
        return request

    def _on_trailers(self, lane: Lane | None, stream: int, block: bytes, ended: bool) -> None:
        fields = self._blocks.read(block)
        if not self._blocks.is_steady:
            self._known.clear()
        if lane is None:
            if stream in self._reset:
                self._charge(1, "fields on a stream that was reset")
                return
            raise ConnectionProblem(STREAM_CLOSED, "HEADERS on a closed stream")
        if lane.received:
            self._reset_by_us(lane, STREAM_CLOSED)
            return
        try:
            if not ended:
                raise Malformed("trailers that do not end the stream")
            if lane.request_left > 0:
                raise Malformed("less than content-length")
            section = read_trailers(fields)
        except Malformed as problem:
            self._charge(10, f"malformed requests: {problem}")
            self._reset_by_us(lane, PROTOCOL_ERROR)
            return
        lane.end_request(section)
        self._ready[lane] = self._ready.get(lane, 0) | IN

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        self._received -= size
        if self._received < 0:
            raise ConnectionProblem(FLOW_CONTROL_ERROR, "more than the connection's window")
        lane = self._streams.get(stream)
        if lane is None or lane.received:
            self._credit_connection(size)
            if not stream or stream > self._last or not stream & 1:
                raise ConnectionProblem(PROTOCOL_ERROR, "DATA on a stream that has not begun")
            if lane is not None:
                self._reset_by_us(lane, STREAM_CLOSED)
            elif stream not in self._reset:
                raise ConnectionProblem(STREAM_CLOSED, "DATA on a closed stream")
            else:
                self._charge(1, "DATA on a stream that was reset")
            return
        lane.receive_window -= size
        if lane.receive_window < 0:
            self._credit_connection(size)
            self._reset_by_us(lane, FLOW_CONTROL_ERROR)
            return
        data = unpad(payload, flags) if flags & PADDED else payload
        if not data and not flags & END_STREAM:
            self._charge(1, "empty DATA")
        if size > len(data):
            # Padding is read as it comes.
            self._give(lane, size - len(data))
        if not lane.takes(len(data)):
            self._credit_connection(len(data))
            self._charge(10, "malformed requests: more than content-length")
            self._reset_by_us(lane, PROTOCOL_ERROR)
            return
        if data:
            lane.feed(data)
        if flags & END_STREAM:
            if lane.request_left > 0:
                self._charge(10, "malformed requests: less than content-length")
                self._reset_by_us(lane, PROTOCOL_ERROR)
                return
            lane.end_request()
        self._ready[lane] = self._ready.get(lane, 0) | IN

    def _on_window(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionProblem(FRAME_SIZE_ERROR, "a WINDOW_UPDATE of another size")
        increment = U32.unpack(payload)[0] & MAX_WINDOW
        self._charge(1, "WINDOW_UPDATE")
        if not stream:
            if not increment or self.window + increment > MAX_WINDOW:
                code = FLOW_CONTROL_ERROR if increment else PROTOCOL_ERROR
                raise ConnectionProblem(code, "the connection's window")
            self.window += increment
            self._wake_stalled()
            return
        if stream > self._last or not stream & 1:
            raise ConnectionProblem(PROTOCOL_ERROR, "WINDOW_UPDATE of a stream that has not begun")
        lane = self._streams.get(stream)
        if lane is None:
            return  # it is over, and the client does not know yet
        if not increment or lane.window + increment > MAX_WINDOW:
            self._reset_by_us(lane, FLOW_CONTROL_ERROR if increment else PROTOCOL_ERROR)
            return
        lane.window += increment
        if lane in self.stalled:
            self._edge.loop.soon(self._wake_stalled)

    def _on_other(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == CONTINUATION:
            self._on_continuation(flags, stream, payload)
        elif kind == RST_STREAM:
            self._on_reset(stream, payload)
        elif kind == SETTINGS:
            self._on_settings(flags, stream, payload)
        elif kind == PING:
            if stream:
                raise ConnectionProblem(PROTOCOL_ERROR, "PING on a stream")
            if len(payload) != 8:
                raise ConnectionProblem(FRAME_SIZE_ERROR, "a PING of another size")
            self._charge(1, "PING")
            if not flags & ACK:
                self.put(frame(PING, ACK, 0, payload))
        elif kind == PRIORITY:
            if not stream:
                raise ConnectionProblem(PROTOCOL_ERROR, "PRIORITY of no stream")
            self._charge(1, "PRIORITY")
            lane = self._streams.get(stream)
            if len(payload) != 5:
                # RFC 9113, 6.3: of the stream; one that has not begun cannot be reset.
                if lane is None:
                    raise ConnectionProblem(FRAME_SIZE_ERROR, "a PRIORITY of another size")
                self._reset_by_us(lane, FRAME_SIZE_ERROR)
            elif U32.unpack_from(payload)[0] & MAX_WINDOW == stream:
                if lane is None:
                    raise ConnectionProblem(PROTOCOL_ERROR, "a stream that depends on itself")
                self._reset_by_us(lane, PROTOCOL_ERROR)
        elif kind == GOAWAY:
            if stream:
                raise ConnectionProblem(PROTOCOL_ERROR, "GOAWAY on a stream")
            if len(payload) < 8:
                raise ConnectionProblem(FRAME_SIZE_ERROR, "a GOAWAY that is too small")
            self.leave()
        elif kind == PUSH_PROMISE:
            raise ConnectionProblem(PROTOCOL_ERROR, "PUSH_PROMISE of a client")
        else:
            self._charge(1, "unknown frames")  # RFC 9113, 4.1

    def _on_reset(self, stream: int, payload: bytes) -> None:
        if not stream or stream > self._last or not stream & 1:
            raise ConnectionProblem(PROTOCOL_ERROR, "RST_STREAM of a stream that has not begun")
        if len(payload) != 4:
            raise ConnectionProblem(FRAME_SIZE_ERROR, "a RST_STREAM of another size")
        self._charge(1, "RST_STREAM")
        lane = self._streams.get(stream)
        if lane is not None:
            # CVE-2023-44487: a stream that is reset as it begins has cost the client nothing.
            self._charge(4, "RST_STREAM")
            self._drop(lane)

    def _on_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise ConnectionProblem(PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            if payload:
                raise ConnectionProblem(FRAME_SIZE_ERROR, "an acknowledgement with a payload")
            self._charge(1, "SETTINGS")
            return
        if len(payload) % SETTING.size:
            raise ConnectionProblem(FRAME_SIZE_ERROR, "SETTINGS of another size")
        self._charge(5, "SETTINGS")
        for identifier, value in SETTING.iter_unpack(payload):
            self._set(identifier, value)
        self.put(frame(SETTINGS, ACK, 0))

    def _set(self, identifier: int, value: int) -> None:
        if identifier == INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise ConnectionProblem(FLOW_CONTROL_ERROR, "an initial window that is too large")
            change = value - self._initial_window
            self._initial_window = value
            for lane in self._streams.values():
                lane.window += change
                if lane.window > MAX_WINDOW:
                    raise ConnectionProblem(FLOW_CONTROL_ERROR, "a window that is too large")
            if change > 0:
                self._edge.loop.soon(self._wake_stalled)
        elif identifier == MAX_FRAME_SIZE:
            if not DEFAULT_FRAME_SIZE <= value <= LARGEST_FRAME_SIZE:
                raise ConnectionProblem(PROTOCOL_ERROR, "a frame size out of range")
        elif identifier in (ENABLE_PUSH, ENABLE_CONNECT_PROTOCOL) and value > 1:
            raise ConnectionProblem(PROTOCOL_ERROR, "neither 0 nor 1")

    # -- Streams ------------------------------------------------------------------------

    def _lane(self) -> Lane:
        """Return a lane that is free, or a new one with a Downstream of its own."""
        free = self._free
        while free:
            lane = free.pop()
            if not lane.closed and lane.down.phase == IDLE and not lane.down.outbox:
                return lane
        edge = self._edge
        edge.next_virtual_fd -= 1
        lane = Lane(self, edge.next_virtual_fd)
        lane.down = Downstream(edge, lane, self._ip, self._scheme, self._identity, multiplexed=True)
        return lane

    def _refuse(self, stream: int, code: int) -> None:
        """Reset a stream that no lane carries."""
        self._remember_reset(stream)
        self.put(reset_frame(stream, code))

    def _reset_by_us(self, lane: Lane, code: int) -> None:
        """Reset a stream for what its client did wrong (CVE-2025-8671: it costs as if it did that itself)."""
        self._charge(5, "streams that had to be reset")
        stream = lane.stream
        self._drop(lane)
        self._remember_reset(stream)
        self.put(reset_frame(stream, code))

    def _remember_reset(self, stream: int) -> None:
        if len(self._reset) >= _RESET_REMEMBERED:
            del self._reset[next(iter(self._reset))]
        self._reset[stream] = None

    def _drop(self, lane: Lane) -> None:
        """A stream is over before its response: whoever serves it need not go on."""
        self._remember_reset(lane.stream)
        self._forget(lane)
        lane.give_up()
        self._ready[lane] = RESET

    def _forget(self, lane: Lane) -> None:
        self._streams.pop(lane.stream, None)
        self.stalled.pop(lane, None)
        self._lingering.pop(lane, None)
        if lane.credit:
            self._credit_connection(lane.credit)
            lane.credit = 0
        if not self._streams:
            self._deadline_ns = self._edge.loop.now_ns + self._edge.idle_ns
            if self._said < MAX_WINDOW:
                self._edge.loop.soon(self._end_if_idle)

    def end_stream(self, lane: Lane) -> None:
        """A request and its response are over: the lane is free."""
        self._forget(lane)
        lane.stream = 0
        self.free(lane)

    def reset_stream(self, lane: Lane, code: int) -> None:
        """Reset a stream whose response is over, or will never be."""
        stream = lane.stream
        self._forget(lane)
        lane.stream = 0
        self._refuse(stream, code)

    def free(self, lane: Lane) -> None:
        """The lane may carry another stream."""
        if not lane.closed:
            self._free.append(lane)

    def linger(self, lane: Lane) -> None:
        """The response is over and whoever gave it has gone: give the client time to see that."""
        self._lingering[lane] = self._edge.loop.now_ns + LINGER_NS

    def give_credit(self, lane: Lane) -> None:
        """What a stream brought was read: its client may send as much again."""
        size, lane.credit = lane.credit, 0
        if lane.stream and not lane.received:
            self._give(lane, size)
        else:
            self._credit_connection(size)

    def _give(self, lane: Lane, size: int) -> None:
        lane.receive_window += size
        self._credit_connection(size)
        self.put(window_frame(lane.stream, size))

    def _credit_connection(self, size: int) -> None:
        self._received += size
        self._credit += size
        if self._credit >= CONNECTION_WINDOW // 4:
            self.put(window_frame(0, self._credit))
            self._credit = 0

    def _charge(self, price: int, what: str) -> None:
        """Have the client pay for what brings nobody anything. Raise ConnectionProblem."""
        self._patience -= price
        if self._patience < 0:
            now_ns = self._edge.loop.now_ns
            earned = (now_ns - self._patience_at_ns) * PATIENCE_A_SECOND / SECOND_NS
            self._patience_at_ns = now_ns
            self._patience = min(PATIENCE, self._patience + earned)
            if self._patience < 0:
                raise ConnectionProblem(ENHANCE_YOUR_CALM, f"too many {what}")

    # -- What goes ----------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether so much waits that nobody should write more."""
        return self._out_bytes > OUT_BYTES

    def put(self, data: bytes) -> None:
        """Send at the end of the round."""
        self._out.append(data)
        self._out_bytes += len(data)
        if not self._is_flushing:
            self._is_flushing = True
            self._edge.loop.soon(self._flush)

    def put_block(self, stream: int, block: bytes, *, ended: bool) -> None:
        """Send a field block of any size (RFC 9113, 4.3)."""
        kind, flags = HEADERS, END_STREAM if ended else 0
        while len(block) > DEFAULT_FRAME_SIZE:
            self.put(frame(kind, flags, stream, block[:DEFAULT_FRAME_SIZE]))
            block = block[DEFAULT_FRAME_SIZE:]
            kind, flags = CONTINUATION, 0
        self.put(frame(kind, flags | END_HEADERS, stream, block))

    def sent_data(self) -> None:
        """A frame of DATA was sent: the client may tell twice that it has read it."""
        if self._patience < PATIENCE:
            self._patience += 2

    def _flush(self) -> None:
        """Send what was gathered, as far as the client takes it."""
        self._is_flushing = False
        if self._state == _CLOSED:
            return
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            if self._waiting:
                data = self._waiting + data
        else:
            data = self._waiting
        if not data:
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._gone()
            return
        if sent < len(data):
            if sent:
                self._deadline_ns = self._edge.loop.now_ns + self._edge.idle_ns
            self._waiting = data[sent:]
            self._out_bytes = len(self._waiting)
            if not self._waits_writable:
                self._waits_writable = True
                self._edge.loop.change(self.fd, READ_WRITE)
            return
        self._waiting = b""
        self._out_bytes = 0
        if self._state == _LINGERING:
            self._linger()
            return
        if self.stalled:
            self._wake_stalled()
        if self._paused:
            self._paused = False
            self._edge.loop.soon(self.go_on)

    def _wake_stalled(self) -> None:
        """Let those go on who could not write, each in its turn."""
        if self._state != _OPEN:
            return
        for lane in tuple(self.stalled):
            if self.is_full or self.window <= 0:
                return
            if lane.may_go_on():
                self.stalled.pop(lane, None)
                self._tell(lane, OUT)

    # -- The end ------------------------------------------------------------------------

    def tick(self, now_ns: int) -> None:
        """Look for what is overdue, and say that we are leaving."""
        if self._edge.draining and self._state == _OPEN:
            self._tick_draining(now_ns)
        while self._lingering:
            lane, deadline_ns = next(iter(self._lingering.items()))
            if deadline_ns > now_ns:
                break
            self.reset_stream(lane, NO_ERROR)
        if now_ns < self._deadline_ns or self._state == _CLOSED:
            return
        if self._waiting and self._is_moving():
            self._deadline_ns = now_ns + self._edge.idle_ns
        elif self._state == _LINGERING or self._waiting or not self._is_greeted:
            self._gone()
        elif self._inbox or self._block_stream:
            self._edge.worker_counts[Worker.HEAD_TIMEOUTS] += 1
            self._fail(ConnectionProblem(PROTOCOL_ERROR, "a frame that took too long"))
        elif not self._streams:
            self.leave()

    def _tick_draining(self, now_ns: int) -> None:
        """RFC 9113, 6.8: say that no more should come, and once that was heard, which were the last."""
        if not self._is_greeted:
            # One that was just accepted is given a moment to say what it came for.
            if now_ns >= self._begun_ns + SECOND_NS // 2:
                self._gone()
        elif self._said > MAX_WINDOW:
            self._said = MAX_WINDOW
            self._leave_ns = now_ns + _LAST_STREAMS_NS
            self.put(goaway_frame(MAX_WINDOW, NO_ERROR))
        elif self._said == MAX_WINDOW and now_ns >= self._leave_ns:
            self.leave()

    def _is_moving(self) -> bool:
        """Tell whether the client has taken something since this was asked last."""
        before, self._untaken = self._untaken, untaken(self._sock)
        return self._untaken != before

    def leave(self) -> None:
        """Take no more streams; close when those that are under way are over."""
        if self._state != _OPEN:
            return
        if self._said >= MAX_WINDOW:
            self._said = self._last
            self.put(goaway_frame(self._last, NO_ERROR))
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._state == _OPEN and not self._streams and self._said < MAX_WINDOW:
            self._begin_to_linger()

    def _tell_ready(self) -> None:
        ready, self._ready = self._ready, {}
        for lane, events in ready.items():
            self._tell(lane, events)

    def _fail(self, problem: ConnectionProblem) -> None:
        """End the connection for what the client did wrong."""
        edge = self._edge
        edge.teller.tell(
            "info",
            "HTTP/2 connection ended",
            OFTEN_NS,
            of_requests=False,
            client=self._ip,
            reason=problem.reason,
        )
        edge.worker_counts[Worker.H2_ERRORS] += 1
        self._inbox = b""
        for lane in tuple(self._streams.values()):
            self._drop(lane)
        self._tell_ready()
        self.put(goaway_frame(self._last, problem.code, problem.reason))
        self._begin_to_linger()

    def _begin_to_linger(self) -> None:
        self._state = _LINGERING
        self._deadline_ns = self._edge.loop.now_ns + LINGER_NS
        if not self._out_bytes:
            self._linger()

    def _linger(self) -> None:
        """All is said: read on until the client is done, so that it gets to read it (RFC 9112, 9.6)."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._gone()
            return
        self._discard()

    def _discard(self) -> None:
        while self._lingered_bytes < _LINGER_BYTES:
            try:
                size = len(self._sock.recv(_READ_BYTES))
            except BlockingIOError:
                return
            except OSError:
                break
            if not size:
                break
            self._lingered_bytes += size
        self._gone()

    def _gone(self) -> None:
        """The connection is closed."""
        if self._state == _CLOSED:
            return
        self._state = _CLOSED
        edge = self._edge
        for lane in tuple(self._streams.values()):
            self._drop(lane)
        for lane in self._free:
            if not lane.closed:
                lane.give_up()
                self._ready[lane] = RESET
        self._free.clear()
        self._tell_ready()
        self._out.clear()
        self._waiting = b""
        edge.multiplexed.discard(self)
        edge.loop.unsettled = True
        edge.loop.close(self.fd, self)

    def dispose(self) -> None:
        """Close the socket."""
        self._sock.close()

    def crash(self) -> None:
        """End what a bug has broken."""
        self._gone()
