"""
Bind the addresses that we serve on.

A TCP address gets one socket a worker (SO_REUSEPORT: the kernel spreads the connections,
and no worker waits for another). A unix socket is one, shared by all.

SO_REUSEPORT would also let two sillyproxies share an address without a word. So the first
socket of an address is bound without it, which fails if anybody else is there, and gets it
afterwards, before the others are bound.

Whoever may open the path of a unix socket may use it (mode 0666, as with nginx): who that
is, is said by the permissions of its directory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from dataclasses import dataclass, replace
from typing import Any

from sillyproxy.config.schema import Listener

BACKLOG = 4096  # the kernel lowers it to net.core.somaxconn

_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class CannotListen(Exception):
    """An address cannot be served on. The message is for the operator, whole."""

    def __init__(self, listener: Listener, reason: str) -> None:
        super().__init__(f"cannot listen on {listener}: {reason}")


@dataclass(frozen=True, slots=True)
class Bound:
    """An address that we listen on: with the port that it really has, and a socket for each worker."""

    listener: Listener
    sockets: tuple[socket.socket, ...]
    inode: int = 0

    def close(self) -> None:
        """Close every socket, in this process."""
        for sock in self.sockets:
            sock.close()

    def unlink(self) -> None:
        """Remove the path of a unix socket, if it is still ours."""
        if self.listener.path:
            with contextlib.suppress(OSError):
                if os.lstat(self.listener.path).st_ino == self.inode:
                    os.unlink(self.listener.path)


def bind(listener: Listener, copies: int) -> Bound:
    """Listen on an address, with `copies` sockets. Raise CannotListen."""
    try:
        return _bind_unix(listener, copies) if listener.path else _bind_tcp(listener, copies)
    except socket.gaierror as error:
        raise CannotListen(listener, f"no such host ({error.strerror})") from None
    except OSError as error:
        raise CannotListen(listener, (error.strerror or str(error)).lower()) from None


def _bind_tcp(listener: Listener, copies: int) -> Bound:
    first = _bind_first(listener)
    sockets = [first]
    try:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        address = first.getsockname()
        for _ in range(copies - 1):
            sock = _socket(first.family)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
        for sock in sockets:
            sock.listen(BACKLOG)
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return Bound(replace(listener, port=address[1]), tuple(sockets))


def _bind_first(listener: Listener) -> socket.socket:
    if listener.host:
        found = socket.getaddrinfo(listener.host, listener.port, type=socket.SOCK_STREAM)
        family, address = found[0][0], found[0][4]
        return _bind_exclusively(family, address)
    try:
        return _bind_exclusively(socket.AF_INET6, ("::", listener.port))
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise
        return _bind_exclusively(socket.AF_INET, ("0.0.0.0", listener.port))  # noqa: S104  (asked for)


def _bind_exclusively(family: int, address: Any) -> socket.socket:
    sock = _socket(family)
    try:
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _socket(family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted sockets inherit it: one system call less a connection.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if family == socket.AF_INET6:
        # `[::]` takes IPv4 as well, whatever net.ipv6.bindv6only says.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return sock


def _bind_unix(listener: Listener, copies: int) -> Bound:
    _remove_stale(listener)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.bind(listener.path)
        os.chmod(listener.path, 0o666)  # noqa: S103  (see the module's head)
        sock.listen(BACKLOG)
        return Bound(listener, (sock,) * copies, os.lstat(listener.path).st_ino)
    except OSError:
        sock.close()
        raise


def _remove_stale(listener: Listener) -> None:
    """Remove the path of a unix socket that nobody listens on, as a killed process leaves it."""
    try:
        mode = os.lstat(listener.path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise CannotListen(listener, "the path exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(listener.path)
        except ConnectionRefusedError:
            os.unlink(listener.path)
            return
        except BlockingIOError:  # its queue is full: somebody is there
            pass
    raise CannotListen(listener, "address already in use")
