"""The wire between our processes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from sillyproxy.config.schema import Config
from sillyproxy.tools.channel import MAX_SOCKETS, Channel, Hello, Message, Refused, Serve, make_pair


@pytest.fixture
def wire() -> Iterator[tuple[Channel, Channel]]:
    left, right = (Channel(end) for end in make_pair())
    yield left, right
    left.close()
    right.close()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_messages_arrive_whole_and_in_order(wire: tuple[Channel, Channel]) -> None:
    """What is sent is read as it was, oldest first, and once."""
    left, right = wire
    sent: list[Message] = [Hello(0, 7, 1), Serve(Config(workers=3)), Refused(("no", "not this"))]
    assert all(left.send(message) for message in sent)
    assert right.receive() == sent
    assert right.receive() == []


def test_sockets_travel_with_their_message(wire: tuple[Channel, Channel]) -> None:
    """A socket that is sent along is the same socket at the other end, also when the sender has closed it."""
    left, right = wire
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        address = listening.getsockname()
        assert left.send(Hello(0, 7, 1))
        assert left.send(Serve(Config()), [listening])
        inode = os.fstat(listening.fileno()).st_ino
    (_, none), (_, (arrived,)) = right.receive_with_sockets()
    assert none == ()
    assert os.fstat(arrived.fileno()).st_ino == inode
    socket.create_connection(address).close()
    arrived.close()


def test_sockets_that_nobody_asks_for_are_closed(wire: tuple[Channel, Channel]) -> None:
    """Who reads the messages alone is not left with open descriptors."""
    left, right = wire
    before = open_descriptors()
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        left.send(Serve(Config()), [listening] * 3)
    assert right.receive() == [Serve(Config())]
    assert open_descriptors() == before


def test_full_wire_says_so(wire: tuple[Channel, Channel]) -> None:
    """A reader that has stopped reading never blocks the sender: it is told that nothing was sent."""
    left, right = wire
    count = 0
    while left.send(Refused(("x" * 10_000,))):
        count += 1
    assert count > 10
    assert len(right.receive()) == count
    assert left.send(Refused(()))


def test_more_sockets_than_a_message_carries_are_refused(wire: tuple[Channel, Channel]) -> None:
    """More sockets than Linux passes at once are not sent, rather than lost on the way."""
    left, right = wire
    with closing(socket.socket()) as one:
        assert not left.send(Serve(Config()), [one] * (MAX_SOCKETS + 1))
        assert left.send(Serve(Config()), [one] * MAX_SOCKETS)
    ((_, sockets),) = right.receive_with_sockets()
    assert len(sockets) == MAX_SOCKETS
    for sock in sockets:
        sock.close()


def test_nudge_is_seen_by_no_reader_and_tells_whether_there_is_one(wire: tuple[Channel, Channel]) -> None:
    """A nudge is unread until the other side reads; it is no message."""
    left, right = wire
    assert not left.has_unread()
    left.nudge()
    assert left.has_unread()
    assert left.send(Hello(0, 7, 1))
    assert right.receive() == [Hello(0, 7, 1)]
    assert not left.has_unread()


def test_sending_to_nobody_is_no_error(wire: tuple[Channel, Channel]) -> None:
    """A process that died is found by its parent, not by who writes to it."""
    left, right = wire
    right.close()
    assert not left.send(Hello(0, 7, 1))
    assert left.receive() == []
