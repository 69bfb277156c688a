"""A client's connection, event by event: what a real loop does in an order of its own."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from sillyproxy.config import load
from sillyproxy.metrics.slab import BLOCK_BYTES, Counts
from sillyproxy.proxy.downstream import Downstream
from sillyproxy.proxy.edge import Edge
from sillyproxy.proxy.formats import make_recorder
from sillyproxy.proxy.loop import IN


@pytest.fixture
def edge() -> Edge:
    """Return an edge without any color: every request is answered with 503 at once."""
    config, _ = load({"SILLYPROXY_ACCESS_LOG": "off"}, cpus=1)
    block = memoryview(bytearray(BLOCK_BYTES)).cast("q")
    counts = Counts(block, len(config.slots) + 1)

    def forget(*_words: object, **_fields: object) -> None:
        pass

    return Edge(config, counts, make_recorder(config.access_log, None), forget, forget, forget)


@pytest.fixture
def client() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return both ends of a connection."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(5)
    with ours, theirs:
        yield ours, theirs


def test_what_was_read_ahead_comes_before_what_comes_now(
    edge: Edge, client: tuple[socket.socket, socket.socket]
) -> None:
    """
    Pipelined requests, cut anywhere: the answer to one may be over when an event tells of more bytes,
    before the rest of what was read is looked at again.
    """
    ours, theirs = client
    down = Downstream(edge, ours, "192.0.2.1")
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(3))
    cut = len(requests) - 20
    theirs.sendall(requests[:cut])
    down.on_event(IN)
    assert down.inbox
    theirs.sendall(requests[cut:])
    down.on_event(IN)
    while edge.loop._soon:
        edge.loop._run_soon()
    answers = theirs.recv(65536)
    assert answers.count(b"HTTP/1.1 503 ") == 3
    assert b"HTTP/1.1 400 " not in answers
