"""
After 101 the two connections belong to each other: bytes both ways, until both are done.

Each direction ends by itself (a half-close is passed on), stops reading while the other
side does not take what it sent, and holds at most one read's worth of bytes. One side's
reset ends both.

What passes is looked at only where it is a WebSocket, and only for where its frames end: when
we have to close one, both sides are told so in its own words.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from sillyproxy.proxy.limits import LINGER_NS, RELAY_BYTES, RELAY_ROUNDS, TUNNEL_IDLE_NS
from sillyproxy.proxy.loop import ENDED, GONE, OUT, READ_WRITE, RESET
from sillyproxy.proxy.websocket import GOING_AWAY, GOING_AWAY_MASKED, Frames

if TYPE_CHECKING:
    from sillyproxy.proxy.downstream import Downstream
    from sillyproxy.proxy.edge import Edge
    from sillyproxy.proxy.exchange import Exchange
    from sillyproxy.proxy.transport import Transport
    from sillyproxy.proxy.upstream import Upstream


class _Direction:
    """
    Bytes from one socket to the other.

    `waiting` is what the reader has not taken yet; `go_on` is called to move more in a later
    round; `frames` counts what passes, if it is a WebSocket's.
    """

    __slots__ = ("count", "edge", "ended", "frames", "go_on", "sink", "source", "waiting")

    def __init__(
        self,
        edge: Edge,
        source: Transport,
        sink: Transport,
        waiting: bytes,
        go_on: Callable[[], None],
        frames: Frames | None,
    ) -> None:
        self.edge = edge
        self.source = source
        self.sink = sink
        self.waiting = waiting
        self.go_on = go_on
        self.count = len(waiting)
        self.ended = False
        self.frames = frames

    def move(self, *, thorough: bool = True) -> bool:
        """
        Pass on what there is, as far as it is taken; False if a connection is broken.

        Unless `thorough` a read that does not fill the buffer is the last: it has emptied the socket.
        """
        buffer = self.edge.buffer
        try:
            for _ in range(RELAY_ROUNDS):
                if self.waiting:
                    self.waiting = self.waiting[self.sink.send(self.waiting) :]
                    if self.waiting:
                        return True
                if self.ended:
                    return True
                count = self.source.recv_into(buffer)
                if not count:
                    self.ended = True
                    self.sink.shutdown(socket.SHUT_WR)
                    return True
                self.count += count
                if self.frames is not None:
                    self.frames.feed(buffer[:count])
                sent = self._send(buffer[:count])
                if sent < count:
                    self.waiting = bytes(buffer[sent:count])
                    return True
                if count < RELAY_BYTES and not thorough:
                    return True
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.edge.loop.soon(self.go_on)
        return True

    def say(self, word: bytes) -> bool:
        """Say a word of our own, if it fits between two frames now."""
        if self.frames is None or not self.frames.between or self.waiting or self.ended:
            return False
        try:
            return self.sink.send(word) == len(word)
        except OSError:
            return False

    def _send(self, data: memoryview) -> int:
        try:
            return self.sink.send(data)
        except BlockingIOError:
            return 0


class Tunnel:
    """Owns the two sockets' events from `start` until both directions have ended, or one side is reset."""

    __slots__ = ("_closed", "_down", "_exchange", "_in", "_out", "_up")

    def __init__(
        self, exchange: Exchange, down: Downstream, up: Upstream, rest: bytes, *, framed: bool
    ) -> None:
        """`rest` came behind the endpoint's head and is with the client, or in its outbox."""
        self._exchange = exchange
        self._down = down
        self._up = up
        edge = down.edge
        ahead = bytes(down.outbox)
        in_frames, out_frames = (Frames(), Frames()) if framed else (None, None)
        if in_frames is not None and out_frames is not None:
            in_frames.feed(down.inbox)
            out_frames.feed(rest)
        self._in = _Direction(edge, down.sock, up.sock, down.inbox, self._look_at_client, in_frames)
        self._out = _Direction(edge, up.sock, down.sock, ahead, self._look_at_endpoint, out_frames)
        self._closed = False

    def start(self) -> None:
        """Take over: what was read ahead goes first."""
        down, up = self._down, self._up
        down.inbox = b""
        down.outbox = b""
        for sock in (down.sock, up.sock):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        loop = down.edge.loop
        loop.handlers[down.fd] = self.on_client
        loop.handlers[up.fd] = self.on_endpoint
        loop.change(down.fd, READ_WRITE)
        loop.change(up.fd, READ_WRITE)
        self._look_at_client()
        self._look_at_endpoint()

    def _look_at_client(self) -> None:
        self.on_client(ENDED)

    def _look_at_endpoint(self) -> None:
        self.on_endpoint(ENDED)

    def on_client(self, events: int) -> None:
        """The client has sent something, has closed, or takes more."""
        self._on_event(events, self._in, self._out)

    def on_endpoint(self, events: int) -> None:
        """The endpoint has sent something, has closed, or takes more."""
        self._on_event(events, self._out, self._in)

    def _on_event(self, events: int, from_here: _Direction, to_here: _Direction) -> None:
        if self._closed:
            return
        alive = from_here.move(thorough=events & GONE != 0)
        if alive and to_here.waiting and events & OUT:
            alive = to_here.move()
        if not alive or (from_here.ended and to_here.ended and not self._waits()):
            self.close()
            return
        if events & RESET and not events & OUT:
            self.close()
            return
        down = self._down
        # Where the server of a WebSocket has closed, the client has nothing left to say (RFC 6455, 7.1.1);
        # over HTTP/2 browsers do not end their side.
        is_over = self._out.ended and self._out.frames is not None
        down.deadline_ns = down.edge.loop.now_ns + (LINGER_NS if is_over else TUNNEL_IDLE_NS)

    def _waits(self) -> bool:
        return bool(self._in.waiting or self._out.waiting)

    def close(self) -> None:
        """End both connections."""
        if not self._closed:
            self._closed = True
            self._exchange.tunnel_closed(self._in.count, self._out.count)

    def say_goodbye(self) -> None:
        """
        End both connections; a WebSocket's ends are told that we are going away (RFC 6455, 7.4.1).

        One that is in the middle of a frame, or does not read, cannot be told.
        """
        if not self._closed:
            told = self._out.say(GOING_AWAY)
            self._in.say(GOING_AWAY_MASKED)
            self._closed = True
            self._exchange.tunnel_closed(self._in.count, self._out.count, linger=told)

    def crash(self) -> None:
        """End what a bug has broken."""
        self.close()
