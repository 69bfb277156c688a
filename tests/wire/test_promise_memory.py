"""Promise: memory is bounded, whatever the size of a body and however slow its reader."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator

from tests.wire.harness import PATIENCE_S, Client, Proxy
from tests.wire.stress_tools import (
    GET,
    KIB,
    MIB,
    QuickOrigin,
    allow_descriptors,
    ask_once,
    count_queued,
    find_workers,
    origin,
    read_counters,
    read_memory,
    read_tree_memory,
    serving,
    show,
    wait_until,
)

IDLE_MIB = 45
IDLE_CONNECTIONS = int(os.environ.get("WIRE_IDLE", "5000"))
BODY_BYTES = int(os.environ.get("WIRE_BODY_MIB", "256")) * MIB
GROWTH_BYTES = 2 * MIB

# What the proxy itself may hold of a stream that nobody reads: one read of a body, and what frames it. What
# the kernel holds besides is its own affair (up to tcp_rmem and tcp_wmem a socket), so that is asked of it.
_HELD_BYTES = 512 * KIB


def test_idle_worker_is_small() -> None:
    """A worker that has nothing to do takes less than 45 MB."""
    with origin() as backend, serving({"BLUE": backend.url}) as proxy:
        ask_once(proxy.port, GET % b"/")
        (worker,) = find_workers(proxy)
        resident = read_memory(worker)
        show("idle worker", rss_mib=resident / MIB, tree_mib=read_tree_memory(proxy) / MIB)
        assert resident < IDLE_MIB * 1_000_000


def test_idle_connections_are_cheap() -> None:
    """5,000 kept-alive connections, each after a request, cost under 6 KB each, all processes together."""
    allow_descriptors(2 * IDLE_CONNECTIONS + 1000)
    with origin() as backend, serving({"BLUE": backend.url}) as proxy:
        for _ in range(20):
            ask_once(proxy.port, GET % b"/")
        before = read_tree_memory(proxy)
        clients = []
        for _ in range(IDLE_CONNECTIONS):
            client = socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE_S)
            client.sendall(GET % b"/")
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
            clients.append(client)
        wait_until(lambda: read_counters(proxy)["connections_open"] == IDLE_CONNECTIONS, "the connections")
        each = (read_tree_memory(proxy) - before) / IDLE_CONNECTIONS
        show("idle connections", count=IDLE_CONNECTIONS, bytes_each=each)
        for client in clients:
            client.close()
        assert each < 6000


@contextlib.contextmanager
def measuring(proxy: Proxy) -> Iterator[Callable[[], int]]:
    """Give a function that tells by how much the worker has grown at its largest; bytes."""
    (worker,) = find_workers(proxy)
    # The peak counts from here on.
    with open(f"/proc/{worker}/clear_refs", "w") as file:
        file.write("5")
    before = read_memory(worker)
    yield lambda: read_memory(worker, "VmHWM") - before


def _warm_up(proxy: Proxy) -> None:
    """Have each kind of body pass once, so that what is made once is there."""
    for _ in range(3):
        ask_once(proxy.port, GET % b"/bytes/2000000")
        ask_once(
            proxy.port,
            b"POST /echo HTTP/1.1\r\nHost: e\r\nContent-Length: 2000000\r\n\r\n" + bytes(2_000_000),
        )
        ask_once(proxy.port, _chunk_head(b"/echo") + _chunk(bytes(2_000_000)) + b"0\r\n\r\n")


def _chunk_head(path: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: e\r\nTransfer-Encoding: chunked\r\n\r\n" % path


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_large_download_to_a_slow_reader() -> None:
    """
    A download of 256 MiB whose reader stops for a while, then is slow, then quick: the worker
    grows by less than 2 MB, and while nobody reads, it holds no more than one read of it.
    """
    with origin() as backend, serving({"BLUE": backend.url}) as proxy:
        _warm_up(proxy)
        with measuring(proxy) as growth:
            backend.sent = 0
            client = Client(proxy.port, receive_buffer=64 * KIB)
            client.send(GET % b"/bytes/%d" % BODY_BYTES)
            head = client.read_head()
            sent = _wait_still(lambda: backend.sent)
            held = sent - len(client.stream.buffer) - count_queued(proxy.port, backend.port)
            left = BODY_BYTES - len(client.stream.buffer)
            while left:
                if left % 1000 == 0:
                    time.sleep(0.001)
                count = len(client.sock.recv(MIB))
                assert count
                left -= count
            show("download", sent_unread_kib=sent / KIB, held_kib=held / KIB, growth_kib=growth() / KIB)
            assert head.status == 200
            assert held < _HELD_BYTES
            assert growth() < GROWTH_BYTES
            client.close()


def test_large_upload_to_a_slow_backend() -> None:
    """An upload of 256 MiB to a backend that does not read at first: the worker grows by less than 2 MB."""
    with origin() as backend, serving({"BLUE": backend.url}) as proxy:
        _warm_up(proxy)
        with measuring(proxy) as growth:
            client = Client(proxy.port)
            client.send(b"POST /deaf HTTP/1.1\r\nHost: e\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES)
            held = _send_all(client, bytes(256 * KIB), BODY_BYTES // (256 * KIB), backend)
            reply = client.read_reply()
            show("upload", held_kib=held / KIB, growth_kib=growth() / KIB)
            assert (reply.status, reply.body) == (200, b"blue")
            assert held < _HELD_BYTES
            assert growth() < GROWTH_BYTES
            client.close()


def test_large_chunked_upload_to_a_slow_backend() -> None:
    """A chunked upload of 256 MiB, in large and in small chunks: the same."""
    with origin() as backend, serving({"BLUE": backend.url}) as proxy:
        _warm_up(proxy)
        piece = _chunk(bytes(200_000)) + _chunk(bytes(10)) * 20
        with measuring(proxy) as growth:
            client = Client(proxy.port)
            client.send(_chunk_head(b"/deaf"))
            held = _send_all(client, piece, BODY_BYTES // len(piece), backend)
            client.send(b"0\r\n\r\n")
            reply = client.read_reply()
            show("chunked upload", held_kib=held / KIB, growth_kib=growth() / KIB)
            assert reply.status == 200
            assert held < _HELD_BYTES
            assert growth() < GROWTH_BYTES
            client.close()


def test_many_stalled_downloads_are_bounded() -> None:
    """200 downloads whose readers have stopped hold at most 256 KiB of memory each."""
    count = 200
    with origin() as backend, serving({"BLUE": backend.url}) as proxy:
        _warm_up(proxy)
        with measuring(proxy) as growth:
            clients = [Client(proxy.port, receive_buffer=16 * KIB) for _ in range(count)]
            for client in clients:
                client.send(GET % b"/bytes/100000000")
            wait_until(lambda: backend.served >= count, "all of them")
            _wait_still(lambda: backend.sent)
            show("stalled downloads", each_kib=growth() / count / KIB)
            assert growth() < count * 256 * KIB
            for client in clients:
                client.close()


def _wait_still(read: Callable[[], int]) -> int:
    """Wait until a number stays the same for a second; return it."""
    end = time.monotonic() + 2 * PATIENCE_S
    value, since = read(), time.monotonic()
    while time.monotonic() < since + 1:
        time.sleep(0.05)
        if read() != value:
            value, since = read(), time.monotonic()
        assert time.monotonic() < end, "it never stands still"
    return value


def _send_all(client: Client, piece: bytes, times: int, backend: QuickOrigin) -> int:
    """
    Send `piece` many times; once it is no longer taken, let the backend read.

    Return how many bytes neither the client nor a socket of anybody held then.
    """
    sock = client.sock
    sock.settimeout(1.0)
    held = sent = 0
    stopped = False
    for _ in range(times):
        rest = memoryview(piece)
        while rest:
            try:
                count = sock.send(rest)
            except TimeoutError:
                assert not stopped, "it is not taken any more"
                stopped = True
                held = sent - count_queued(sock.getpeername()[1], backend.port)
                backend.hear.set()
                sock.settimeout(PATIENCE_S)
                continue
            sent += count
            rest = rest[count:]
    assert stopped, "all of it was taken although nobody read it"
    return held
