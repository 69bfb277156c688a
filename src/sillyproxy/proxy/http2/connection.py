"""
A connection of HTTP/2 (RFC 9113), whichever side of it we are: its frames, its windows, and what bounds them.

What goes out is gathered for a round of the loop and sent at once. Nothing that the peer sends may
make us work or keep more than it pays for: what costs us and brings nobody anything is charged to
its patience account.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from sillyproxy.http2.frames import (
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
    MAX_FRAME_SIZE,
    MAX_WINDOW,
    PADDED,
    PING,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
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
    unpad,
    window_frame,
)
from sillyproxy.http2.hpack import FieldBlocks
from sillyproxy.proxy.http2.stream import Stream
from sillyproxy.proxy.limits import LINGER_NS, SECOND_NS
from sillyproxy.proxy.loop import GONE, IN, OUT, READ, READ_WRITE, RESET
from sillyproxy.proxy.transport import untaken

if TYPE_CHECKING:
    from sillyproxy.proxy.edge import Edge
    from sillyproxy.proxy.transport import Transport

# What a peer may send before it is read: of one stream, and of all of a connection.
STREAM_WINDOW: Final = 128 * 1024
CONNECTION_WINDOW: Final = 2 * 1024 * 1024
# What waits to be sent: past it nobody may write more, and nothing more is read.
OUT_BYTES: Final = 256 * 1024
# How often a peer may do what costs us and brings nobody anything: at once, and every second.
PATIENCE: Final = 1000
PATIENCE_A_SECOND: Final = 50
# Pieces of one field block (CONTINUATION); the block's size is bounded besides.
MAX_PIECES: Final = 32

_READ_BYTES: Final = 64 * 1024
_READ_ROUNDS: Final = 4
# What a connection may still send that was told its end, before we stop listening to it.
_LINGER_BYTES: Final = 1024 * 1024
# Streams that we have reset, and whose peer may not know it yet.
_RESET_REMEMBERED: Final = 512
# Of a block's flags: its priority makes the stream depend on itself.
_CIRCULAR: Final = 0x100

OPEN, LINGERING, CLOSED = range(3)

S = TypeVar("S", bound=Stream)


class Connection(Generic[S]):
    """
    One connection.

    `window` is how much the peer takes, of all streams together; `stalled` are the streams that
    could not write all they had, the one that waits longest first. Those that came or began last
    have the number `last`.
    """

    __slots__ = (
        "_begun_ns",
        "_block",
        "_block_flags",
        "_block_pieces",
        "_block_stream",
        "_credit",
        "_inbox",
        "_is_flushing",
        "_lingered_bytes",
        "_out",
        "_out_bytes",
        "_patience",
        "_patience_at_ns",
        "_paused",
        "_ready",
        "_received",
        "_reset",
        "_untaken",
        "_waiting",
        "_waits_writable",
        "blocks",
        "deadline_ns",
        "edge",
        "fd",
        "initial_window",
        "is_greeted",
        "last",
        "sock",
        "stalled",
        "state",
        "streams",
        "window",
    )

    def __init__(self, edge: Edge, sock: Transport) -> None:
        self.edge = edge
        self.sock = sock
        self.fd = sock.fileno()
        self.state = OPEN
        self.is_greeted = False
        self.blocks = FieldBlocks(2 * edge.max_head + 64 * 1024)
        self.streams: dict[int, S] = {}
        self.stalled: dict[Stream, None] = {}
        self.last = 0
        self.window = DEFAULT_WINDOW
        self.initial_window = DEFAULT_WINDOW
        self.deadline_ns = edge.loop.now_ns + edge.header_ns
        self._begun_ns = edge.loop.now_ns
        self._inbox = b""
        self._block = b""
        self._block_stream = self._block_flags = self._block_pieces = 0
        self._ready: dict[Stream, int] = {}
        self._reset: dict[int, None] = {}
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._waiting = b""
        self._waits_writable = False
        self._is_flushing = False
        self._paused = False
        self._received = CONNECTION_WINDOW
        self._credit = 0
        self._patience = float(PATIENCE)
        self._patience_at_ns = edge.loop.now_ns
        self._lingered_bytes = 0
        self._untaken = 0
        edge.loop.add(self.fd, self.on_event, READ)

    # -- What each side does in its own way ---------------------------------------------

    def greet(self, data: bytes) -> int:
        """Return where the peer's first frame begins, -1 if that has not come. Raise ConnectionProblem."""
        raise NotImplementedError

    def on_block(self, stream: int, block: bytes, *, ended: bool, is_circular: bool) -> None:
        """Handle a whole field block."""
        raise NotImplementedError

    def on_reset(self, one: S, code: int) -> None:
        """Handle the end of a stream that the peer wants no more of."""
        raise NotImplementedError

    def on_goaway(self, last: int, code: int) -> None:
        """Handle the peer's goodbye."""
        raise NotImplementedError

    @property
    def last_taken(self) -> int:
        """The last stream of the peer's that was served, as GOAWAY says it."""
        return self.last

    def set_other(self, identifier: int, value: int) -> None:
        """Take note of a setting that concerns one side."""

    def fail(self, problem: ConnectionProblem) -> None:
        """Tell of a connection that ends for what its peer did wrong."""
        raise NotImplementedError

    def dismiss(self) -> None:
        """Forget the connection: it is closed."""
        raise NotImplementedError

    # -- What comes ---------------------------------------------------------------------

    def on_event(self, events: int) -> None:
        """Handle what epoll tells."""
        if events & OUT and self._waiting:
            self._flush()
        if self.state == LINGERING:
            self._discard()
        elif self.state == OPEN and not self._paused and events != OUT:
            self._read(thorough=events & GONE != 0)

    def go_on(self) -> None:
        """Read on: it is its turn again, or there is something that no event tells of."""
        if self.state == OPEN and not self._paused:
            self._read(thorough=True)

    def _read(self, *, thorough: bool) -> None:
        for _ in range(_READ_ROUNDS):
            try:
                data = self.sock.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.gone()
                return
            self.feed(data)
            if self.state != OPEN or self._paused:
                return
            if len(data) < _READ_BYTES and not thorough:
                return
        self.edge.loop.soon(self.go_on)

    def feed(self, data: bytes) -> None:
        """Take the next bytes, and do what they ask for."""
        if self._inbox:
            data = self._inbox + data
        block = self._block_stream
        try:
            at = self._parse(data)
        except ConnectionProblem as problem:
            self._fail(problem)
            return
        is_partial = at < len(data) or self._block_stream
        began_block = self._block_stream != block
        if is_partial and (began_block if self._block_stream else at or not self._inbox):
            # From its first byte on a frame, or a field block, has this long, however it trickles in.
            self.deadline_ns = self.edge.loop.now_ns + self.edge.header_ns
        elif not is_partial:
            self.deadline_ns = self.edge.loop.now_ns + self.edge.idle_ns
        self._inbox = data[at:]
        if self._ready:
            self.tell_ready()
        if self._out_bytes > OUT_BYTES:
            self._paused = True

    def _tell(self, one: Stream, events: int) -> None:
        handler = self.edge.loop.handlers.get(one.fileno())
        if handler is not None:
            try:
                handler(events)
            except Exception:
                self.edge.crash(handler)

    def _parse(self, data: bytes) -> int:
        """Do what all frames that are whole ask for; return where the rest begins."""
        at = 0
        size = len(data)
        if not self.is_greeted:
            at = self.greet(data)
            if at < 0:
                return 0
            self.is_greeted = True
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
            self.on_block(stream, block, ended=flags & END_STREAM != 0, is_circular=depends == stream)
        else:
            self._block_stream, self._block, self._block_pieces = stream, block, 0
            self._block_flags = flags | (_CIRCULAR if depends == stream else 0)

    def _on_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if not self._block_stream:
            raise ConnectionProblem(PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._block += payload
        self._block_pieces += 1
        if self._block_pieces > MAX_PIECES or len(self._block) > self.edge.max_head + 32 * 1024:
            raise ConnectionProblem(ENHANCE_YOUR_CALM, "a field block without end")
        if flags & END_HEADERS:
            self._block_stream = 0
            block, self._block = self._block, b""
            begun = self._block_flags
            self.on_block(stream, block, ended=begun & END_STREAM != 0, is_circular=begun & _CIRCULAR != 0)

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        self._received -= size
        if self._received < 0:
            raise ConnectionProblem(FLOW_CONTROL_ERROR, "more than the connection's window")
        one = self.streams.get(stream)
        if one is None or one.received:
            self._credit_connection(size)
            if not stream or stream > self.last or not stream & 1:
                raise ConnectionProblem(PROTOCOL_ERROR, "DATA on a stream that has not begun")
            if one is not None:
                self.reset_by_us(one, STREAM_CLOSED)
            elif stream not in self._reset:
                raise ConnectionProblem(STREAM_CLOSED, "DATA on a closed stream")
            else:
                self.charge(1, "DATA on a stream that was reset")
            return
        one.receive_window -= size
        if one.receive_window < 0:
            self._credit_connection(size)
            self.reset_by_us(one, FLOW_CONTROL_ERROR)
            return
        data = unpad(payload, flags) if flags & PADDED else payload
        if not data and not flags & END_STREAM:
            self.charge(1, "empty DATA")
        if size > len(data):
            # Padding is read as it comes.
            self._give(one, size - len(data))
        if not one.takes(len(data)):
            self._credit_connection(len(data))
            self.charge(10, "malformed requests: more than content-length")
            self.reset_by_us(one, PROTOCOL_ERROR)
            return
        if data:
            one.feed(data)
        if flags & END_STREAM:
            if not one.may_end():
                self.charge(10, "malformed requests: less than content-length")
                self.reset_by_us(one, PROTOCOL_ERROR)
                return
            one.end()
        self._ready[one] = self._ready.get(one, 0) | IN

    def _on_window(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionProblem(FRAME_SIZE_ERROR, "a WINDOW_UPDATE of another size")
        increment = U32.unpack(payload)[0] & MAX_WINDOW
        self.charge(1, "WINDOW_UPDATE")
        if not stream:
            if not increment or self.window + increment > MAX_WINDOW:
                code = FLOW_CONTROL_ERROR if increment else PROTOCOL_ERROR
                raise ConnectionProblem(code, "the connection's window")
            self.window += increment
            self._wake_stalled()
            return
        if stream > self.last or not stream & 1:
            raise ConnectionProblem(PROTOCOL_ERROR, "WINDOW_UPDATE of a stream that has not begun")
        one = self.streams.get(stream)
        if one is None:
            return  # it is over, and the client does not know yet
        if not increment or one.window + increment > MAX_WINDOW:
            self.reset_by_us(one, FLOW_CONTROL_ERROR if increment else PROTOCOL_ERROR)
            return
        one.window += increment
        if one in self.stalled:
            self.edge.loop.soon(self._wake_stalled)

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
            self.charge(1, "PING")
            if not flags & ACK:
                self.put(frame(PING, ACK, 0, payload))
        elif kind == PRIORITY:
            if not stream:
                raise ConnectionProblem(PROTOCOL_ERROR, "PRIORITY of no stream")
            self.charge(1, "PRIORITY")
            one = self.streams.get(stream)
            if len(payload) != 5:
                # RFC 9113, 6.3: of the stream; one that has not begun cannot be reset.
                if one is None:
                    raise ConnectionProblem(FRAME_SIZE_ERROR, "a PRIORITY of another size")
                self.reset_by_us(one, FRAME_SIZE_ERROR)
            elif U32.unpack_from(payload)[0] & MAX_WINDOW == stream:
                if one is None:
                    raise ConnectionProblem(PROTOCOL_ERROR, "a stream that depends on itself")
                self.reset_by_us(one, PROTOCOL_ERROR)
        elif kind == GOAWAY:
            if stream:
                raise ConnectionProblem(PROTOCOL_ERROR, "GOAWAY on a stream")
            if len(payload) < 8:
                raise ConnectionProblem(FRAME_SIZE_ERROR, "a GOAWAY that is too small")
            last, code = U32.unpack_from(payload)[0] & MAX_WINDOW, U32.unpack_from(payload, 4)[0]
            self.on_goaway(last, code)
        elif kind == PUSH_PROMISE:
            raise ConnectionProblem(PROTOCOL_ERROR, "PUSH_PROMISE that nobody wants")
        else:
            self.charge(1, "unknown frames")  # RFC 9113, 4.1

    def _on_reset(self, stream: int, payload: bytes) -> None:
        if not stream or stream > self.last or not stream & 1:
            raise ConnectionProblem(PROTOCOL_ERROR, "RST_STREAM of a stream that has not begun")
        if len(payload) != 4:
            raise ConnectionProblem(FRAME_SIZE_ERROR, "a RST_STREAM of another size")
        self.charge(1, "RST_STREAM")
        one = self.streams.get(stream)
        if one is not None:
            self.on_reset(one, U32.unpack(payload)[0])

    def _on_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise ConnectionProblem(PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            if payload:
                raise ConnectionProblem(FRAME_SIZE_ERROR, "an acknowledgement with a payload")
            self.charge(1, "SETTINGS")
            return
        if len(payload) % SETTING.size:
            raise ConnectionProblem(FRAME_SIZE_ERROR, "SETTINGS of another size")
        # A new window is one for each stream.
        count = len(payload) // SETTING.size
        self.charge(5 + count // 4 + count * len(self.streams) // 50, "SETTINGS")
        for identifier, value in SETTING.iter_unpack(payload):
            self._set(identifier, value)
        self.put(frame(SETTINGS, ACK, 0))

    def _set(self, identifier: int, value: int) -> None:
        if identifier == INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise ConnectionProblem(FLOW_CONTROL_ERROR, "an initial window that is too large")
            change = value - self.initial_window
            self.initial_window = value
            for one in self.streams.values():
                one.window += change
                if one.window > MAX_WINDOW:
                    raise ConnectionProblem(FLOW_CONTROL_ERROR, "a window that is too large")
            if change > 0:
                self.edge.loop.soon(self._wake_stalled)
        elif identifier == MAX_FRAME_SIZE:
            if not DEFAULT_FRAME_SIZE <= value <= LARGEST_FRAME_SIZE:
                raise ConnectionProblem(PROTOCOL_ERROR, "a frame size out of range")
        elif identifier in (ENABLE_PUSH, ENABLE_CONNECT_PROTOCOL) and value > 1:
            raise ConnectionProblem(PROTOCOL_ERROR, "neither 0 nor 1")
        else:
            self.set_other(identifier, value)

    # -- Streams ------------------------------------------------------------------------

    def refuse(self, stream: int, code: int) -> None:
        """Reset a stream that no one carries."""
        self._remember_reset(stream)
        self.put(reset_frame(stream, code))

    def reset_by_us(self, one: S, code: int) -> None:
        """Reset a stream for what its client did wrong (CVE-2025-8671: it costs as if it did that itself)."""
        self.charge(5, "streams that had to be reset")
        stream = one.stream
        self.drop(one)
        self._remember_reset(stream)
        self.put(reset_frame(stream, code))

    def _remember_reset(self, stream: int) -> None:
        if len(self._reset) >= _RESET_REMEMBERED:
            del self._reset[next(iter(self._reset))]
        self._reset[stream] = None

    def drop(self, one: S) -> None:
        """A stream is over before its response: whoever serves it need not go on."""
        self._remember_reset(one.stream)
        self.forget(one)
        one.give_up()
        self._ready[one] = RESET

    def forget(self, stream: S) -> None:
        """A stream is over."""
        self.streams.pop(stream.stream, None)
        self.stalled.pop(stream, None)
        if stream.credit:
            self._credit_connection(stream.credit)
            stream.credit = 0

    def end_stream(self, stream: S) -> None:
        """Both directions of a stream are over."""
        self.forget(stream)
        stream.stream = 0

    def reset_stream(self, stream: S, code: int) -> None:
        """Reset a stream that is over for us, or will never be."""
        number = stream.stream
        self.forget(stream)
        stream.stream = 0
        self.refuse(number, code)

    def give_credit(self, one: Stream) -> None:
        """What a stream brought was read: its client may send as much again."""
        size, one.credit = one.credit, 0
        if one.stream and not one.received:
            self._give(one, size)
        else:
            self._credit_connection(size)

    def _give(self, one: Stream, size: int) -> None:
        one.receive_window += size
        self._credit_connection(size)
        self.put(window_frame(one.stream, size))

    def _credit_connection(self, size: int) -> None:
        self._received += size
        self._credit += size
        if self._credit >= CONNECTION_WINDOW // 4:
            self.put(window_frame(0, self._credit))
            self._credit = 0

    def charge(self, price: int, what: str) -> None:
        """Have the client pay for what brings nobody anything. Raise ConnectionProblem."""
        self._patience -= price
        if self._patience < 0:
            now_ns = self.edge.loop.now_ns
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
            self.edge.loop.soon(self._flush)

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
        if self.state == CLOSED:
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
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.gone()
            return
        if sent < len(data):
            if sent:
                self.deadline_ns = self.edge.loop.now_ns + self.edge.idle_ns
            self._waiting = data[sent:]
            self._out_bytes = len(self._waiting)
            if not self._waits_writable:
                self._waits_writable = True
                self.edge.loop.change(self.fd, READ_WRITE)
            return
        self._waiting = b""
        self._out_bytes = 0
        if self.state == LINGERING:
            self._linger()
            return
        if self.stalled:
            self._wake_stalled()
        if self._paused:
            self._paused = False
            self.edge.loop.soon(self.go_on)

    def _wake_stalled(self) -> None:
        """Let those go on who could not write, each in its turn."""
        if self.state != OPEN:
            return
        for one in tuple(self.stalled):
            if self.is_full or self.window <= 0:
                return
            if one.may_go_on():
                self.stalled.pop(one, None)
                self._tell(one, OUT)

    def is_moving(self) -> bool:
        """Tell whether the client has taken something since this was asked last."""
        before, self._untaken = self._untaken, untaken(self.sock)
        return self._untaken != before

    # -- The end ------------------------------------------------------------------------

    def tell_ready(self) -> None:
        """Tell the streams what came for them."""
        ready, self._ready = self._ready, {}
        for one, events in ready.items():
            self._tell(one, events)

    def _fail(self, problem: ConnectionProblem) -> None:
        """End the connection for what its peer did wrong."""
        self._inbox = b""
        for stream in tuple(self.streams.values()):
            self.drop(stream)
        self.tell_ready()
        self.fail(problem)
        self.put(goaway_frame(self.last_taken, problem.code, problem.reason))
        self.begin_to_linger()

    def begin_to_linger(self) -> None:
        """Close when all is said."""
        self.state = LINGERING
        self.deadline_ns = self.edge.loop.now_ns + LINGER_NS
        if not self._out_bytes:
            self._linger()

    def _linger(self) -> None:
        """All is said: read on until the client is done, so that it gets to read it (RFC 9112, 9.6)."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.gone()
            return
        self._discard()

    def _discard(self) -> None:
        while self._lingered_bytes < _LINGER_BYTES:
            try:
                size = len(self.sock.recv(_READ_BYTES))
            except BlockingIOError:
                return
            except OSError:
                break
            if not size:
                break
            self._lingered_bytes += size
        self.gone()

    def gone(self) -> None:
        """The connection is closed."""
        if self.state == CLOSED:
            return
        self.state = CLOSED
        for stream in tuple(self.streams.values()):
            self.drop(stream)
        self.tell_ready()
        self._out.clear()
        self._waiting = b""
        self.dismiss()
        self.edge.loop.unsettled = True
        self.edge.loop.close(self.fd, self)

    def dispose(self) -> None:
        """Close the socket."""
        self.sock.close()

    def crash(self) -> None:
        """End what a bug has broken."""
        self.gone()
