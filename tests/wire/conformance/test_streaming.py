"""Bodies flow while they come, and wait while the other side is slow (contract; RFC 9112, section 6)."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.wire.conformance.judge import case
from tests.wire.harness import CLOSE, OK, Edge, Exchange, wait_for

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
MEBIBYTE = 1 << 20

RESPONSES = [
    case("9112-6.2 a length", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", b"hello", b"world"),
    case(
        "9112-7.1 chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"5\r\nhello\r\n",
        b"5\r\nworld\r\n0\r\n\r\n",
    ),
    case("9112-6.3 until the close", b"HTTP/1.1 200 OK\r\n\r\n", b"hello", b"world"),
]


@pytest.mark.parametrize(("head", "first", "rest"), RESPONSES)
def test_response_flows_before_it_is_whole(edge: Edge, head: bytes, first: bytes, rest: bytes) -> None:
    """
    The client has the head, and then the first bytes, while the backend still works on the rest.
    """
    steps = [threading.Event(), threading.Event()]
    closing = [CLOSE] if b"Length" not in head and b"chunked" not in head else []
    edge.origin.restart(
        [head, lambda _: steps[0].wait(10), first, lambda _: steps[1].wait(10), rest, *closing]
    )
    client = edge.connect()
    client.send(GET)
    reply = client.read_head()
    assert reply.status == 200
    steps[0].set()
    while b"hello" not in client.stream.buffer:
        client.stream.fill()
    steps[1].set()
    assert client.read_body(reply).body == b"helloworld"


REQUESTS = [
    case("9112-6.2 a length", b"Content-Length: 10\r\n\r\n", b"hello", b"world"),
    case(
        "9112-7.1 chunked",
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"5\r\nhello\r\n",
        b"5\r\nworld\r\n0\r\n\r\n",
    ),
]


@pytest.mark.parametrize(("fields", "first", "rest"), REQUESTS)
def test_request_flows_before_it_is_whole(edge: Edge, fields: bytes, first: bytes, rest: bytes) -> None:
    """
    The backend has the first bytes of an upload while the client still works on the rest.
    """
    edge.origin.restart(OK)
    client = edge.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + fields)
    request = edge.origin.wait(complete=False)
    client.send(first)
    assert wait_for(lambda: request.body == b"hello")
    client.send(rest)
    assert client.read_reply().status == 200
    assert request.body == b"helloworld"


def test_both_directions_flow_at_once(edge: Edge) -> None:
    """
    A backend that answers while it reads: 8 MiB each way, neither waits for the other's end.
    """
    size = 8 * MEBIBYTE

    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while data := exchange.read_some():
            exchange.send(data)

    edge.origin.restart(script)
    client = edge.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
    upload = threading.Thread(target=client.send, args=(b"0123456789abcdef" * (size // 16),))
    upload.start()
    reply = client.read_reply()
    upload.join(10)
    assert (reply.status, len(reply.body)) == (200, size)
    assert reply.body == b"0123456789abcdef" * (size // 16)


def wait_stalled(get_count: Callable[[], int]) -> int:
    """Wait until a counter has stood still for a second; return it."""
    count, since = -1, time.monotonic()
    end = time.monotonic() + 60
    while time.monotonic() - since < 1.0:
        assert time.monotonic() < end, "it never stalled"
        now = get_count()
        if now != count:
            count, since = now, time.monotonic()
        time.sleep(0.02)
    return count


def find_buffer_limit(name: str) -> int:
    """Return the most that the kernel lets a TCP socket's buffer grow to."""
    return int(Path(f"/proc/sys/net/ipv4/{name}").read_text().split()[2])


# What the kernel may hold between the two ends, and the proxy's own 256 KiB, with room for both.
HELD = find_buffer_limit("tcp_rmem") + 2 * find_buffer_limit("tcp_wmem") + 8 * MEBIBYTE
LARGE = HELD + 48 * MEBIBYTE
# Buffers of that size fit the proxy's memory several times over; bodies do not.
GROWTH = 4 * MEBIBYTE


@pytest.mark.parametrize("chunked", [case("9112-6.2 a length", False), case("9112-7.1 chunked", True)])
def test_slow_client_stops_the_backend(edge: Edge, chunked: bool) -> None:
    """
    A client that does not read makes the backend wait, instead of the proxy's memory grow.
    """
    piece = b"x" * 65536
    sent = [0]

    def script(exchange: Exchange) -> None:
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % LARGE
        exchange.stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        exchange.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        exchange.stream.sock.settimeout(60)
        while sent[0] < LARGE:
            exchange.stream.sock.sendall(b"10000\r\n" + piece + b"\r\n" if chunked else piece)
            sent[0] += len(piece)
        if chunked:
            exchange.send(b"0\r\n\r\n")

    edge.origin.restart(script)
    client = edge.connect(receive_buffer=65536)
    before = edge.proxy.measure_memory()
    client.send(GET)
    assert wait_stalled(lambda: sent[0]) < HELD
    assert edge.proxy.measure_memory() - before < GROWTH
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MEBIBYTE)
    reply = client.read_head()
    total = drain(client.sock, len(client.stream.buffer), LARGE)
    assert reply.status == 200
    assert total >= LARGE
    assert wait_for(lambda: sent[0] == LARGE)


def drain(sock: socket.socket, have: int, want: int) -> int:
    """Receive and forget until `want` bytes came."""
    buffer = bytearray(MEBIBYTE)
    while have < want:
        size = sock.recv_into(buffer)
        assert size, f"ended after {have} bytes"
        have += size
    return have


def test_slow_backend_stops_the_client(edge: Edge) -> None:
    """
    A backend that does not read makes the client wait.
    """
    go_on = threading.Event()
    got = [0]

    def script(exchange: Exchange) -> None:
        exchange.stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        go_on.wait(60)
        got[0] = len(exchange.stream.buffer)
        got[0] = drain(exchange.stream.sock, got[0], LARGE)
        exchange.request.complete = True
        exchange.send(OK)
        exchange.close()

    edge.origin.restart(script)
    client = edge.connect()
    before = edge.proxy.measure_memory()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % LARGE)
    sent = [0]

    def upload() -> None:
        client.sock.settimeout(60)
        piece = b"x" * 65536
        while sent[0] < LARGE:
            client.sock.sendall(piece)
            sent[0] += len(piece)

    thread = threading.Thread(target=upload, daemon=True)
    thread.start()
    assert wait_stalled(lambda: sent[0]) < HELD
    assert edge.proxy.measure_memory() - before < GROWTH
    go_on.set()
    thread.join(60)
    assert client.read_reply().status == 200
    assert (sent[0], got[0]) == (LARGE, LARGE)


class Flood:
    """Sends the same bytes again and again; `stop` before the socket is closed, or the close would wait."""

    def __init__(self, sock: socket.socket, data: bytes) -> None:
        self.sent = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(sock, data), daemon=True)
        self._thread.start()

    def _run(self, sock: socket.socket, data: bytes) -> None:
        sock.settimeout(0.1)
        at = 0
        while self.sent < LARGE and not self._over.is_set():
            try:
                count = sock.send(data[at:])
            except TimeoutError:
                continue
            except OSError:
                return
            self.sent += count
            at = (at + count) % len(data)

    def stop(self) -> None:
        """Send no more."""
        self._over.set()
        self._thread.join(10)


def test_pipelining_client_waits_for_its_answers(edge: Edge) -> None:
    """
    Requests behind one that takes long wait with the client, not in the proxy's memory.
    """
    go_on = threading.Event()
    edge.origin.restart([lambda _: go_on.wait(60), OK])
    client = edge.connect()
    before = edge.proxy.measure_memory()
    flood = Flood(client.sock, GET * 2000)
    assert wait_stalled(lambda: flood.sent) < HELD
    assert edge.proxy.measure_memory() - before < GROWTH
    flood.stop()
    client.reset()
    assert wait_for(lambda: bool(edge.received))
    time.sleep(0.1)
    go_on.set()


@pytest.mark.parametrize("from_backend", [case("9110-7.8 down", True), case("9110-7.8 up", False)])
def test_slow_end_of_a_tunnel_stops_the_other(edge: Edge, from_backend: bool) -> None:
    """
    A tunnel holds no more than a body does.
    """
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    over = threading.Event()
    floods: list[Flood] = []

    def script(exchange: Exchange) -> None:
        exchange.send(switch)
        if from_backend:
            floods.append(Flood(exchange.stream.sock, b"x" * 65536))
        over.wait(60)
        for flood in floods:
            flood.stop()
        exchange.reset()

    edge.origin.restart(script)
    client = edge.connect(receive_buffer=65536)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    assert client.read_reply().status == 101
    before = edge.proxy.measure_memory()
    if not from_backend:
        floods.append(Flood(client.sock, b"x" * 65536))
    assert wait_for(lambda: bool(floods))
    assert wait_stalled(lambda: floods[0].sent) < HELD
    assert edge.proxy.measure_memory() - before < GROWTH
    floods[0].stop()
    client.reset()
    over.set()
