"""
What the data plane takes for a connection: the methods of a non-blocking socket.

A plain socket is one. So is a TLS connection (`tls`), and one stream of an HTTP/2 connection
(`http2.lane`): who reads requests from it and writes responses to it need not know which.
"""

from __future__ import annotations

from fcntl import ioctl
from struct import Struct
from termios import TIOCOUTQ
from typing import Final, Protocol, cast

_INT: Final = Struct("i")


class Transport(Protocol):
    """
    A non-blocking, reliable, ordered stream of bytes both ways.

    `BlockingIOError` says "not now", any other `OSError` that it is broken, no bytes that the
    other side has ended. Events are edge-triggered, hence what every reader relies on: a read
    that brings fewer bytes than it asked for has left nothing behind.
    """

    def fileno(self) -> int:
        """Return the descriptor by which the loop knows it; one below 0 is virtual."""

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Return up to `bufsize` bytes. Of the flags MSG_PEEK alone is understood everywhere."""

    def recv_into(self, buffer: memoryview, nbytes: int = 0, /) -> int:
        """Read into `buffer`, up to `nbytes`, or as much as it holds; return how many bytes."""

    def send(self, data: bytes | memoryview, /) -> int:
        """
        Send; return how many bytes were taken.

        The rest has to be sent next, and nothing else, when the loop tells that it is writable.
        """

    def shutdown(self, how: int, /) -> None:
        """End what is sent (SHUT_WR), received (SHUT_RD), or both."""

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        """Set an option of the socket below, if there is one of its own."""

    def getsockopt(self, level: int, option: int, /) -> int:
        """Return an option of the socket below."""

    def close(self) -> None:
        """Close at once."""


class VirtualTransport(Transport, Protocol):
    """One whose descriptor is virtual."""

    def carrier(self) -> int:
        """Return the descriptor of the connection that carries it."""

    def untaken(self) -> int:
        """Return a number that changes as long as the other side takes what is sent."""


def carrier(transport: Transport) -> int:
    """Return the descriptor of the socket below."""
    fd = transport.fileno()
    return fd if fd >= 0 else cast(VirtualTransport, transport).carrier()


def plain_ip(ip: str) -> str:
    """
    Return an IPv4 client of a dual-stack socket in its own notation, and no zone.

    >>> plain_ip("::ffff:192.0.2.1"), plain_ip("fe80::1%eth0")
    ('192.0.2.1', 'fe80::1')
    """
    return ip[7:] if ip.startswith("::ffff:") and "." in ip else ip.partition("%")[0]


def untaken(transport: Transport) -> int:
    """Return a number that changes as long as the other side takes what is sent."""
    fd = transport.fileno()
    if fd < 0:
        return cast(VirtualTransport, transport).untaken()
    (left,) = _INT.unpack(ioctl(fd, TIOCOUTQ, bytes(_INT.size)))
    return int(left)
