"""
What the processes say to each other, and the wires between them.

Controller and workers: one SOCK_SEQPACKET pair a worker, made by the supervisor before it
forks, so that either side may die and be replaced without a new connection. Every message
carries a whole state, never a difference: reading an old one twice is harmless.

Supervisor and each of the others: a pair for every process that is forked, because what its
predecessor had not read is older than what it was born with. Sockets travel along with the
messages (SCM_RIGHTS, unix(7)).

Both ends are our own forks, so messages are pickled.
"""

from __future__ import annotations

import contextlib
import fcntl
import pickle
import socket
import struct
import termios
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sillyproxy.config.schema import Config, Listener

# Above the default of net.core.wmem_max on Linux (208 KiB) a packet would not fit.
MAX_MESSAGE_BYTES = 160 * 1024

# Linux passes so many descriptors with one message (SCM_MAX_FD).
MAX_SOCKETS = 253


# No pickle is one byte long.
_NUDGE = b"\0"


class Address(NamedTuple):
    """One endpoint: the upstream of its color (index into `Color.upstreams`), an IP address, a port."""

    upstream: int
    ip: str
    port: int


@dataclass(frozen=True, slots=True)
class Hello:
    """A worker's first word: it wants to know everything. It has applied `generation`."""

    worker: int
    pid: int
    generation: int


@dataclass(frozen=True, slots=True)
class Applied:
    """A worker serves by this generation from now on."""

    worker: int
    generation: int


class Ejection(NamedTuple):
    """An ejection: until when (monotonic ns, one clock for all processes); how many there were so far."""

    until_ns: int
    times: int


@dataclass(frozen=True, slots=True)
class Endpoints:
    """
    The endpoints of colors, by name, and what is known of them. Always the whole of it.

    Of a color that is not in `colors` nothing is known yet: it keeps its own. `unhealthy` are
    those that failed their active check, `ejected` those that some worker found to be outliers.
    `generation` is that of the Config whose upstreams the addresses name. `shedding`: memory
    runs out, nobody new should be let in.
    """

    colors: dict[str, tuple[Address, ...]]
    unhealthy: dict[str, frozenset[Address]] = field(default_factory=dict)
    ejected: dict[str, dict[Address, Ejection]] = field(default_factory=dict)
    generation: int = 0
    shedding: bool = False


@dataclass(frozen=True, slots=True)
class EndpointState:
    """A worker's passive view of one endpoint: it answers, or is avoided for now, and why."""

    worker: int
    color: str
    address: Address
    up: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Ejected:
    """A worker found an endpoint to be an outlier, and why: nobody should use it until then."""

    worker: int
    color: str
    address: Address
    ejection: Ejection
    reason: str


@dataclass(frozen=True, slots=True)
class Serve:
    """
    Serve by this configuration from now on.

    To a worker: on these addresses, whose sockets come along with the message, in this order;
    one address may have several.
    """

    config: Config
    listeners: tuple[Listener, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """A new configuration was wrong, and these are all its problems; the old one goes on."""

    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reopen:
    """Write the access log to the file that has its name now: the one before has been renamed."""


Message = Hello | Applied | Endpoints | EndpointState | Ejected | Serve | Refused | Reopen


class Channel:
    """One end of the wire. Never blocks: `send` says False when the other side does not read."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self.sock.fileno()

    def close(self) -> None:
        """Close this end, in this process."""
        self.sock.close()

    def send(self, message: Message, sockets: Sequence[socket.socket] = ()) -> bool:
        """Send one message, and sockets along with it; False if the wire is full or the message too large."""
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        if len(data) > MAX_MESSAGE_BYTES or len(sockets) > MAX_SOCKETS:
            return False
        try:
            if sockets:
                socket.send_fds(self.sock, [data], [sock.fileno() for sock in sockets])
            else:
                self.sock.send(data)
        except (BlockingIOError, ConnectionError):
            return False
        return True

    def nudge(self) -> None:
        """Send what no reader ever sees: whether it was taken is what `has_unread` says."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self.sock.send(_NUDGE)

    def has_unread(self) -> bool:
        """Tell whether the other side has left something unread (SIOCOUTQ, unix(7))."""
        (waiting,) = struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)))
        return bool(waiting)

    def receive(self) -> list[Message]:
        """Return every message that has come, oldest first; empty if none. Sockets are closed unseen."""
        messages: list[Message] = []
        for message, sockets in self.receive_with_sockets():
            messages.append(message)
            for sock in sockets:
                sock.close()
        return messages

    def receive_with_sockets(self) -> list[tuple[Message, tuple[socket.socket, ...]]]:
        """Return every message that has come, oldest first, with the sockets that came along."""
        messages: list[tuple[Message, tuple[socket.socket, ...]]] = []
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(
                    self.sock, MAX_MESSAGE_BYTES, MAX_SOCKETS, socket.MSG_CMSG_CLOEXEC
                )
            except (BlockingIOError, ConnectionError):
                return messages
            if not data:
                return messages
            if data == _NUDGE:
                continue
            sockets = tuple(socket.socket(fileno=descriptor) for descriptor in descriptors)
            messages.append((pickle.loads(data), sockets))  # noqa: S301  (our own fork at the other end)


def make_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a wire."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (left, right):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MAX_MESSAGE_BYTES)
    return left, right
