"""
Accept connections, up to a limit, and stop accepting without losing one.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable
from typing import Any, Final

from sillyproxy.errors import OVERLOADED
from sillyproxy.http1.reply import build_reply
from sillyproxy.metrics.layout import Worker
from sillyproxy.proxy.downstream import Downstream
from sillyproxy.proxy.edge import SECOND_NS, UNKNOWN, Edge
from sillyproxy.proxy.loop import LEVEL_IN
from sillyproxy.proxy.transport import plain_ip

_BATCH: Final = 64
_TELL_EVERY_NS: Final = 10 * SECOND_NS
_CONNECTIONS: Final = int(Worker.CONNECTIONS)
_SHED: Final = int(Worker.SHED)
# A socket may be shared by several workers; who comes wakes one of them, not all (epoll_ctl(2)).
_EVENTS: Final = LEVEL_IN | select.EPOLLEXCLUSIVE
_OUT_OF_DESCRIPTORS: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Listener:
    """
    One listening socket of a worker.

    No more than `max_connections` are served, those that `count_others` tells of among them, and
    nobody new while the edge is shedding. With `handshake` who connects is handed to it, to begin TLS.
    """

    def __init__(
        self,
        edge: Edge,
        sock: socket.socket,
        max_connections: int,
        count_others: Callable[[], int],
        handshake: Callable[[socket.SocketType, str], object] | None = None,
    ) -> None:
        self._edge = edge
        self._sock = sock
        self._fd = sock.fileno()
        self.max_connections = max_connections
        self._count_others = count_others
        self._handshake = handshake
        self._unix = sock.family == socket.AF_UNIX
        # Given up for a moment when descriptors run out, so that a client is told and not left hanging.
        self._spare: int | None = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._open = True
        self._burst = 1
        self._refused = 0
        self._tell_again_ns = 0
        sock.setblocking(False)
        edge.loop.add(self._fd, self.on_event, _EVENTS)

    def on_event(self, _events: int) -> None:
        """
        Accept what has come, but not for ever: others want their turn.

        As many as came at a time lately: to find that nobody else is waiting costs a call.
        """
        if self.accept(self._burst):
            self._burst = 1
        else:
            self._burst = min(2 * self._burst, _BATCH)

    def accept(self, most: int) -> bool:
        """Accept up to `most` connections; True when nobody is waiting any more."""
        edge = self._edge
        for _ in range(most):
            try:
                sock, address = self._accept()
            except BlockingIOError:
                return True
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    # A connection that is only kept gives way; when it is closed we are called again.
                    if not edge.close_idle():
                        self._refuse_without_descriptor()
                    return True
                continue  # that client has gone again
            edge.worker_counts[_CONNECTIONS] += 1
            edge.loop.ticking = True
            sock.setblocking(False)
            if edge.shedding or edge.clients + self._count_others() >= self.max_connections:
                edge.worker_counts[_SHED] += edge.shedding
                self._refuse(sock)
                continue
            ip = UNKNOWN if self._unix else plain_ip(address[0])
            if edge.proxied_from and edge.is_proxied(ip):
                self._await_header(sock, ip)
            else:
                self._begin(sock, ip)
        return False

    def _begin(self, sock: socket.SocketType, ip: str) -> None:
        """Let the client speak."""
        if self._handshake is None:
            Downstream(self._edge, sock, ip)
        else:
            self._handshake(sock, ip)

    def _await_header(self, sock: socket.SocketType, ip: str) -> None:
        """First hear who it is."""
        # Imported here it is in the memory of those alone that need it.
        from sillyproxy.proxy.proxied import ProxyHeader

        ProxyHeader(self._edge, sock, ip, self._begin)

    def _accept(self) -> tuple[socket.SocketType, Any]:
        """
        Do what `socket.accept` does, without its Python layer: 2 µs of every new connection.

        `_accept` is what that layer itself calls; `SocketType` is the class below `socket.socket`.
        """
        sock = self._sock
        fd, address = sock._accept()  # type: ignore[attr-defined]
        return socket.SocketType(sock.family, sock.type, sock.proto, fd), address

    def _refuse(self, sock: socket.SocketType, reason: str = "") -> None:
        """Tell one client too many, and close; the log hears of some."""
        self._edge.worker_counts[Worker.CONNECTIONS_REFUSED] += 1
        self._refused += 1
        now_ns = self._edge.loop.now_ns
        if now_ns >= self._tell_again_ns:
            self._tell_again_ns = now_ns + _TELL_EVERY_NS
            if not reason:
                reason = "memory is short" if self._edge.shedding else f"the limit is {self.max_connections}"
            self._edge.log(
                "warning", "too many connections, new ones get 503", reason=reason, refused=self._refused
            )
            self._refused = 0
        self._edge.loop.unsettled = True
        try:
            if self._handshake is None:  # a handshake first would be too much for who has too much to do
                sock.send(
                    build_reply(OVERLOADED, date=self._edge.date(), close=True, extra=b"Retry-After: 1\r\n")
                )
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        sock.close()

    def _refuse_without_descriptor(self) -> None:
        if self._spare is None:
            return
        os.close(self._spare)
        self._spare = None
        try:
            sock, _ = self._accept()
            sock.setblocking(False)
            self._refuse(sock, "out of file descriptors")
        except OSError:
            pass
        try:
            self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._edge.log("error", "out of file descriptors")

    def close(self) -> None:
        """Accept who is waiting already, then nobody."""
        if not self._open:
            return
        self._open = False
        while not self.accept(_BATCH):
            pass
        self._edge.loop.remove(self._fd)
        # The socket is closed with its last copy. If the supervisor, another worker or whoever we
        # inherited it from has one, who comes now is accepted there, or waits for a successor.
        self._sock.close()
        if self._spare is not None:
            os.close(self._spare)
