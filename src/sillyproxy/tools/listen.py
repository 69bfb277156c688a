"""
Bind the addresses that we serve on, or take those that were bound for us.

A TCP address gets one socket a worker (SO_REUSEPORT: the kernel spreads the connections,
and no worker waits for another). A unix socket is one, shared by all, and so is a socket
that we inherit.

SO_REUSEPORT would also let two sillyproxies share an address without a word. So the first
socket of an address is bound without it, which fails if anybody else is there, and gets it
afterwards, before the others are bound.

Binding and listening are two steps: nobody is let in before all is known to be well.

Whoever may open the path of a unix socket may use it (mode 0666, as with nginx): who that
is, is said by the permissions of its directory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sillyproxy.config.schema import Listener

BACKLOG = 4096  # the kernel lowers it to net.core.somaxconn

# Where the sockets begin that a service manager passes on: sd_listen_fds(3).
FIRST_INHERITED = 3

_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class CannotListen(Exception):
    """An address cannot be served on. The message is for the operator, whole."""

    def __init__(self, where: Listener | str, reason: str) -> None:
        super().__init__(f"cannot listen on {where}: {reason}")


@dataclass(slots=True, eq=False)
class Bound:
    """
    An address that is bound for us.

    `asked` is how the operator wrote it, `listener` has the port that it really has. A socket of
    `sockets` is one worker's, or if `shared`, every worker's. An `inherited` one is kept open
    by somebody else, and outlives us. `inode` is that of the path of a unix socket that we made.
    """

    asked: Listener
    listener: Listener
    sockets: tuple[socket.socket, ...]
    shared: bool = False
    inherited: bool = False
    inode: int = 0

    def sockets_of(self, place: int, workers: int) -> tuple[socket.socket, ...]:
        """
        Return the sockets of the worker at `place` among so many.

        None is ever left out or closed because workers became fewer: connections may wait on it.
        """
        return self.sockets if self.shared else self.sockets[place::workers]

    def is_asked_by(self, listener: Listener) -> bool:
        """Tell whether this is the address that an operator means by `listener`."""
        return listener in (self.asked, self.listener)

    def close(self) -> None:
        """Close every socket, in this process."""
        for sock in self.sockets:
            sock.close()

    def unlink(self) -> None:
        """Remove the path of a unix socket, if it is still ours."""
        if self.inode:
            with contextlib.suppress(OSError):
                if os.lstat(self.listener.path).st_ino == self.inode:
                    os.unlink(self.listener.path)


def bind(listener: Listener, copies: int, *, shared: bool = False) -> Bound:
    """
    Bind an address, with a socket for each of `copies` workers. Raise CannotListen.

    `shared` says that it may be ours already, as part of another address (`127.0.0.1:80` of `:80`).
    """
    with _told_of(listener):
        return _bind_unix(listener) if listener.path else _bind_tcp(listener, copies, shared)


def bind_more(bound: Bound, copies: int) -> tuple[socket.socket, ...]:
    """Bind more sockets to an address of ours, so that there are `copies`. Raise CannotListen."""
    sockets: list[socket.socket] = []
    if bound.shared:
        return ()
    with _told_of(bound.listener), _closing(sockets):
        _add(sockets, bound.sockets[0].family, bound.sockets[0].getsockname(), copies - len(bound.sockets))
    return tuple(sockets)


def listen(listener: Listener, sockets: tuple[socket.socket, ...]) -> None:
    """Let connections in from now on. Raise CannotListen."""
    with _told_of(listener):
        for sock in sockets:
            sock.listen(BACKLOG)


@contextlib.contextmanager
def _told_of(listener: Listener) -> Any:
    try:
        yield
    except socket.gaierror as error:
        raise CannotListen(listener, f"no such host ({error.strerror})") from None
    except OSError as error:
        raise CannotListen(listener, (error.strerror or str(error)).lower()) from None


@contextlib.contextmanager
def _closing(sockets: list[socket.socket]) -> Any:
    """Close them all if not all went well."""
    try:
        yield
    except OSError:
        for sock in sockets:
            sock.close()
        raise


# TCP.


def _bind_tcp(listener: Listener, copies: int, shared: bool) -> Bound:
    first = _bind_first(listener, shared)
    sockets = [first]
    with _closing(sockets):
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        address = first.getsockname()
        _add(sockets, first.family, address, copies - 1)
    return Bound(listener, replace(listener, port=address[1]), tuple(sockets))


def _add(sockets: list[socket.socket], family: int, address: Any, count: int) -> None:
    for _ in range(count):
        sock = _socket(family)
        sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)


def _bind_first(listener: Listener, shared: bool) -> socket.socket:
    if listener.host:
        found = socket.getaddrinfo(listener.host, listener.port, type=socket.SOCK_STREAM)
        family, address = found[0][0], found[0][4]
        return _bind_one(family, address, shared)
    try:
        return _bind_one(socket.AF_INET6, ("::", listener.port), shared)
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise
        return _bind_one(socket.AF_INET, ("0.0.0.0", listener.port), shared)  # noqa: S104  (asked for)


def _bind_one(family: int, address: Any, shared: bool) -> socket.socket:
    sock = _socket(family)
    with _closing([sock]):
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
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


# Unix sockets.


def _bind_unix(listener: Listener) -> Bound:
    _remove_stale(listener)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    with _closing([sock]):
        sock.bind(listener.path)
        os.chmod(listener.path, 0o666)  # noqa: S103  (see the module's head)
        return Bound(listener, listener, (sock,), shared=True, inode=os.lstat(listener.path).st_ino)


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


# Sockets that were bound for us.


def inherit(environ: Mapping[str, str]) -> tuple[Bound, ...]:
    """
    Return the listening sockets that whoever started us has passed on (sd_listen_fds(3)).

    They are for us only if LISTEN_PID is our process. Raise CannotListen if one does not listen.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()) or not environ.get("LISTEN_FDS", "").isdecimal():
        return ()
    count = int(environ["LISTEN_FDS"])
    return tuple(_inherit(number) for number in range(FIRST_INHERITED, FIRST_INHERITED + count))


def _inherit(number: int) -> Bound:
    try:
        sock = socket.socket(fileno=number)
        listens = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CannotListen(f"inherited descriptor {number}", reason) from None
    if not listens or sock.type != socket.SOCK_STREAM:
        raise CannotListen(f"inherited descriptor {number}", "not a listening stream socket")
    sock.setblocking(False)
    sock.set_inheritable(False)
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        listener = Listener(path=os.fsdecode(name))
    else:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # `[::]` takes IPv4 as well, unless it was told not to; then there is a `0.0.0.0` beside it.
        listener = Listener("" if name[0] == "::" else name[0], name[1])
    return Bound(listener, listener, (sock,), shared=True, inherited=True)
