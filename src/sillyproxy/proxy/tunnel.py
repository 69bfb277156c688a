"""
After 101 the two connections belong to each other: bytes both ways, until both are done.

Each direction ends by itself (a half-close is passed on), stops reading while the other
side does not take what it sent, and holds at most one read's worth of bytes. One side's
reset ends both.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from sillyproxy.proxy.edge import RELAY_ROUNDS, TUNNEL_IDLE_NS
from sillyproxy.proxy.loop import OUT, READ_WRITE, RESET

if TYPE_CHECKING:
    from sillyproxy.proxy.downstream import Downstream
    from sillyproxy.proxy.edge import Edge
    from sillyproxy.proxy.exchange import Exchange
    from sillyproxy.proxy.upstream import Upstream


class _Direction:
    """Bytes from one socket to the other. `waiting` is what the reader has not taken yet."""

    __slots__ = ("count", "edge", "ended", "sink", "source", "waiting")

    def __init__(
        self, edge: Edge, source: socket.SocketType, sink: socket.SocketType, waiting: bytes
    ) -> None:
        self.edge = edge
        self.source = source
        self.sink = sink
        self.waiting = waiting
        self.count = len(waiting)
        self.ended = False

    def move(self) -> bool:
        """Pass on what there is, as far as it is taken; False if a connection is broken."""
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
                self.waiting = bytes(buffer[:count])
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.edge.loop.soon(self._go_on)
        return True

    def _go_on(self) -> None:
        if self.source.fileno() >= 0 and self.sink.fileno() >= 0:
            self.move()


class Tunnel:
    """Owns the two sockets' events from `start` until both directions have ended, or one side is reset."""

    __slots__ = ("_closed", "_down", "_exchange", "_in", "_out", "_up")

    def __init__(self, exchange: Exchange, down: Downstream, up: Upstream) -> None:
        self._exchange = exchange
        self._down = down
        self._up = up
        edge = down.edge
        self._in = _Direction(edge, down.sock, up.sock, down.inbox)
        self._out = _Direction(edge, up.sock, down.sock, bytes(down.outbox))
        self._closed = False

    def start(self) -> None:
        """Take over: what was read ahead goes first."""
        down, up = self._down, self._up
        down.inbox = b""
        down.outbox = b""
        for sock in (down.sock, up.sock):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        loop = down.edge.loop
        loop.handlers[down.fd] = self.on_event
        loop.handlers[up.fd] = self.on_event
        loop.change(down.fd, READ_WRITE)
        self.on_event(0)

    def on_event(self, events: int) -> None:
        """Move what can be moved."""
        if self._closed:
            return
        if not (self._in.move() and self._out.move()) or (
            self._in.ended and self._out.ended and not self._waits()
        ):
            self.close()
            return
        if events & RESET and not events & OUT:
            self.close()
            return
        down = self._down
        down.deadline_ns = down.edge.loop.now_ns + TUNNEL_IDLE_NS

    def _waits(self) -> bool:
        return bool(self._in.waiting or self._out.waiting)

    def close(self) -> None:
        """End both connections."""
        if not self._closed:
            self._closed = True
            self._exchange.tunnel_closed(self._in.count, self._out.count)

    def crash(self) -> None:
        """End what a bug has broken."""
        self.close()
