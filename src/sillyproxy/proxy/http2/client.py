"""
An endpoint's HTTP/2 connection (RFC 9113): calls come aboard as long as there is room.

It belongs to its endpoint's `carriers` until it takes no more calls.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from sillyproxy.http2.frames import (
    ACK,
    DEFAULT_WINDOW,
    ENABLE_PUSH,
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
    settings_frame,
    window_frame,
)
from sillyproxy.http2.heads import Malformed, read_trailers
from sillyproxy.proxy.http2.call import Call
from sillyproxy.proxy.http2.connection import CONNECTION_WINDOW, OPEN, STREAM_WINDOW, Connection
from sillyproxy.proxy.loop import IN
from sillyproxy.proxy.teller import OFTEN_NS

if TYPE_CHECKING:
    from sillyproxy.proxy.edge import Edge
    from sillyproxy.proxy.transport import Transport
    from sillyproxy.traffic.endpoint import Endpoint

# Until the endpoint says how many calls it takes at once; what RFC 9113, 6.5.2 wants at least.
_FIRST_ROOM: Final = 100
# Of one connection no more are asked, whatever the endpoint would take.
_MAX_CALLS: Final = 1000


class ClientConnection(Connection[Call]):
    """
    One connection to `endpoint`; what it speaks over is `scheme`.

    `told` is called with True once the endpoint has said its first word, or with False if it never
    will. What is sent before that may be lost with a server that is just going, and nobody could tell.
    """

    __slots__ = ("_endpoint", "_is_leaving", "_room", "_told", "scheme")

    def __init__(self, edge: Edge, sock: Transport, endpoint: Endpoint, told: Callable[[bool], None]) -> None:
        super().__init__(edge, sock)
        self._told: Callable[[bool], None] | None = told
        self._endpoint = endpoint
        self._room = _FIRST_ROOM
        self._is_leaving = False
        self.scheme = b"https" if endpoint.scheme == "https" else b"http"
        self.last = -1
        endpoint.carriers.append(self)
        self.put(
            PREFACE
            + settings_frame(
                {ENABLE_PUSH: 0, INITIAL_WINDOW_SIZE: STREAM_WINDOW, MAX_HEADER_LIST_SIZE: edge.max_head}
            )
            + window_frame(0, CONNECTION_WINDOW - DEFAULT_WINDOW)
        )

    # -- Calls --------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether another call may come aboard."""
        return (
            self.state == OPEN and self.is_greeted and not self._is_leaving and len(self.streams) < self._room
        )

    def make_call(self) -> Call:
        """Return a call; it comes aboard when its request does."""
        edge = self.edge
        edge.next_virtual_fd -= 1
        return Call(self, edge.next_virtual_fd)

    def open(self, call: Call) -> None:
        """Take a call aboard. Raise OSError if there is no room any more."""
        if not self.has_room or self.last > MAX_WINDOW - 2:
            raise ConnectionResetError(errno.ECANCELED, "no room")
        if not self.streams:
            self.deadline_ns = self.edge.loop.now_ns + self.edge.idle_ns
        self.last = number = self.last + 2
        call.stream = number
        call.window = self.initial_window
        call.receive_window = STREAM_WINDOW
        self.streams[number] = call

    def forget(self, stream: Call) -> None:
        """A call is over; the last one may be the end."""
        super().forget(stream)
        if not self.streams:
            self.deadline_ns = self.edge.loop.now_ns + self.edge.idle_ns
            if self._is_leaving:
                self.edge.loop.soon(self._end_if_idle)

    # -- What comes ---------------------------------------------------------------------

    def greet(self, data: bytes) -> int:
        """RFC 9113, 3.4: SETTINGS come first."""
        if len(data) < HEAD_BYTES:
            return -1
        if data[3] != SETTINGS or data[4] & ACK:
            raise ConnectionProblem(PROTOCOL_ERROR, "no SETTINGS at the beginning")
        self.edge.loop.soon(partial(self._say, True))
        return 0

    def _say(self, is_ready: bool) -> None:
        told, self._told = self._told, None
        if told is not None:
            told(is_ready)

    @property
    def last_taken(self) -> int:
        """Endpoints begin no streams (ENABLE_PUSH is 0)."""
        return 0

    def set_other(self, identifier: int, value: int) -> None:
        """Take note of how many calls there may be at once."""
        if identifier == MAX_CONCURRENT_STREAMS:
            self._room = min(value, _MAX_CALLS)

    def on_block(self, stream: int, block: bytes, *, ended: bool, is_circular: bool) -> None:
        """Take a head, or trailers."""
        fields = self.blocks.read(block)
        call = self.streams.get(stream)
        if call is None:
            if stream > self.last:
                raise ConnectionProblem(PROTOCOL_ERROR, "HEADERS on a stream that has not begun")
            self.charge(1, "fields on a stream that is over")
            return
        if call.received:
            raise ConnectionProblem(STREAM_CLOSED, "HEADERS behind the end")
        try:
            if call.awaits_head:
                call.take_head(fields, ended=ended)
            else:
                if not ended or not call.may_end():
                    raise Malformed("trailers that do not end the stream, or come too early")
                call.end(read_trailers(fields))
        except Malformed:
            call.be_malformed()
        self._ready[call] = IN

    def on_reset(self, one: Call, code: int) -> None:
        """The endpoint has reset a stream."""
        if code == NO_ERROR and one.received:
            one.be_over()
            return
        one.is_untouched = code == REFUSED_STREAM
        self.drop(one)

    def on_goaway(self, last: int, code: int) -> None:
        """Calls behind the last that was served may be made elsewhere (RFC 9113, 6.8)."""
        self._take_leave()
        for number, call in tuple(self.streams.items()):
            if number > last:
                call.is_untouched = True
                self.drop(call)
        self._end_if_idle()

    # -- The end ------------------------------------------------------------------------

    def tick(self, now_ns: int) -> None:
        """Look for what is overdue."""
        if now_ns < self.deadline_ns:
            return
        if self._waiting and self.is_moving():
            self.deadline_ns = now_ns + self.edge.idle_ns
        elif not self.streams or not self.is_greeted or self._waiting:
            self.gone()

    def leave(self) -> None:
        """Take no more calls; close when those that are under way are over."""
        self._take_leave()
        self._end_if_idle()

    def _take_leave(self) -> None:
        self._is_leaving = True
        if self in self._endpoint.carriers:
            self._endpoint.carriers.remove(self)
            self.edge.leaving_carriers.add(self)

    def _end_if_idle(self) -> None:
        if not self.streams:
            self.gone()

    def fail(self, problem: ConnectionProblem) -> None:
        """Tell it."""
        self.edge.teller.tell(
            "warning",
            "HTTP/2 connection to an endpoint ended",
            OFTEN_NS,
            of_requests=False,
            endpoint=self._endpoint.name,
            reason=problem.reason,
        )
        self._take_leave()

    def dismiss(self) -> None:
        """Nobody comes aboard any more."""
        self._take_leave()
        self.edge.leaving_carriers.discard(self)
        self._say(False)
