"""
Promise: an HTTP/2 client cannot make the proxy work or keep more than it pays for.

Each of the known attacks is begun; the client is cut off within a bounded number of frames, the worker's
memory stays, and others are served while and after it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest

from tests.wire.conformance.judge import case
from tests.wire.harness import Ended, Proxy, is_readable
from tests.wire.http2.peer import (
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    Peer,
    block,
    frame,
    get,
    headers,
    literal,
    request,
    settings,
    u32,
    window,
)
from tests.wire.stress_tools import (
    KIB,
    MIB,
    QuickOrigin,
    find_workers,
    read_memory,
    read_metrics,
    serving,
    wait_until,
)
from tests.wire.stress_tools import origin as quick_origin

LARGE = literal("a", "b" * 9000)
POST = block(request("/hang", "POST"))


@pytest.fixture(scope="module")
def backend() -> Iterator[QuickOrigin]:
    with quick_origin() as server:
        yield server


@pytest.fixture(scope="module")
def edge(backend: QuickOrigin) -> Iterator[Proxy]:
    with serving(
        {"BLUE": backend.url, "SILLYPROXY_HEADER_TIMEOUT": "1s", "SILLYPROXY_IDLE_TIMEOUT": "1s"}
    ) as proxy:
        yield proxy


def rapid_reset() -> Iterator[bytes]:
    """CVE-2023-44487."""
    for stream in range(1, 1 << 20, 2):
        yield get(stream, "/hang") + frame(RST_STREAM, 0, stream, u32(CANCEL))


def made_you_reset() -> Iterator[bytes]:
    """CVE-2025-8671."""
    for stream in range(1, 1 << 20, 2):
        yield get(stream, "/hang") + window(stream, 0)


def malformed_requests() -> Iterator[bytes]:
    for stream in range(1, 1 << 20, 2):
        yield headers(stream, [*request(), ("connection", "close")])


def too_many_streams() -> Iterator[bytes]:
    for stream in range(1, 1 << 20, 2):
        yield get(stream, "/hang")


def endless(*frames: bytes) -> Iterator[bytes]:
    yield frames[0]
    while True:
        yield frames[-1]


def ahead(flood: bytes) -> tuple[bytes, bytes]:
    return frame(HEADERS, END_HEADERS, 1, POST), flood


FLOODS = [
    case("rapid reset", rapid_reset),
    case("made you reset", made_you_reset),
    case("malformed requests", malformed_requests),
    case("streams past the limit", too_many_streams),
    case("CONTINUATION", lambda: endless(frame(HEADERS, 1, 1, POST), frame(CONTINUATION, 0, 1, LARGE))),
    case("CONTINUATION of nothing", lambda: endless(frame(HEADERS, 1, 1, POST), frame(CONTINUATION, 0, 1))),
    case("SETTINGS", lambda: endless(settings())),
    case("SETTINGS that move every window",
         lambda: endless(b"".join(get(1 + 2 * n, "/hang") for n in range(100)),
                         settings(*((INITIAL_WINDOW_SIZE, n) for n in range(1000))))),
    case("PING", lambda: endless(frame(PING, 0, 0, bytes(8)))),
    case("PRIORITY", lambda: endless(frame(PRIORITY, 0, 1, u32(0) + b"\x10"))),
    case("WINDOW_UPDATE", lambda: endless(window(0, 1))),
    case("unknown frames", lambda: endless(frame(0x42, 0, 0))),
    case("empty DATA", lambda: endless(*ahead(frame(DATA, 0, 1)))),
    case("padding", lambda: endless(*ahead(frame(DATA, 8, 1, b"\x01\0")))),
    case("DATA of a stream that was reset",
         lambda: endless(get(1, "/hang") + frame(RST_STREAM, 0, 1, u32(8)), frame(DATA, 0, 1))),
]  # fmt: skip


@pytest.mark.parametrize("flood", FLOODS)
def test_flood_is_cut_off(edge: Proxy, backend: QuickOrigin, flood: object) -> None:
    """Of frames that bring nobody anything: a thousand or so, then ENHANCE_YOUR_CALM."""
    assert callable(flood)
    (worker,) = find_workers(edge)
    memory = read_memory(worker)
    errors = read_metrics(edge)["sillyproxy_http2_errors_total"]
    served = backend.served
    peer = Peer(edge.port, greet=False)
    peer.send(PREFACE + settings())
    sent = 0
    peer.sock.settimeout(20)
    with contextlib.suppress(OSError, Ended):
        for part in flood():
            peer.sock.sendall(part)
            sent += 1
            if sent % 100 == 0:
                other = Peer(edge.port)
                assert other.get().status == 200
                other.close()
                while is_readable(peer.sock):
                    peer.read_frame()
                if peer.goaway:
                    break
            assert sent < 5_000, "never cut off"
        assert peer.read_end() in ("closed", "reset")
    assert [code for _, code, _ in peer.goaway] == [ENHANCE_YOUR_CALM]
    peer.close()
    wait_until(lambda: read_metrics(edge)["sillyproxy_http2_errors_total"] > errors, "the count")
    # The others' requests among them.
    assert backend.served - served < 500 + sent // 100
    assert read_memory(worker) - memory < 8 * MIB
    other = Peer(edge.port)
    assert other.get().status == 200
    other.close()


def test_bytes_one_by_one(edge: Proxy) -> None:
    """A body in frames of a byte each, which nobody reads: little memory, and little work."""
    (worker,) = find_workers(edge)
    memory = read_memory(worker)
    peer = Peer(edge.port, credits=False)
    for stream in range(1, 20, 2):
        peer.send(frame(HEADERS, END_HEADERS, stream, block(request("/deaf", "POST"))))
    start = time.monotonic()
    for stream in range(1, 20, 2):
        for _ in range(20):
            peer.send(frame(DATA, 0, stream, b"x") * 1000)
    assert peer.is_alive()
    assert time.monotonic() - start < 10
    assert read_memory(worker) - memory < 8 * MIB
    peer.close()


def test_hpack_bomb(edge: Proxy) -> None:
    """A few bytes that mean a few megabytes (CVE-2016-6581): read no further than a list may be large."""
    (worker,) = find_workers(edge)
    memory = read_memory(worker)
    big = (
        b"\x40\x01a"
        + b"\x7f"
        + bytes((0x81 - 0x7F + 0x80, 0x1E))
        + b"x" * (127 + (0x82 - 0x80) + (0x1E << 7))
    )
    peer = Peer(edge.port)
    peer.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, block(request()) + big + b"\xbe" * 12_000))
    assert peer.read_end() == "closed"
    assert peer.goaway[-1][1] == ENHANCE_YOUR_CALM
    assert read_memory(worker) - memory < 8 * MIB


def test_client_that_takes_nothing(edge: Proxy) -> None:
    """A hundred large responses to a window of 0 are not kept, and given up when nothing is taken."""
    (worker,) = find_workers(edge)
    peer = Peer(edge.port, (INITIAL_WINDOW_SIZE, 0))
    memory = read_memory(worker)
    numbers = [peer.ask(request(f"/bytes/{10 * MIB}")) for _ in range(100)]
    time.sleep(0.5)
    # A read of each endpoint's is here at most, and the kernel has the rest.
    assert read_memory(worker) - memory < 100 * 300 * KIB
    assert all(peer.read_answer(number).end == "reset" for number in numbers)
    assert peer.is_alive()
    peer.close()


def test_client_that_reads_nothing(edge: Proxy) -> None:
    """The windows are open, but the socket is not read: the connection is given up."""
    (worker,) = find_workers(edge)
    peer = Peer(edge.port, (INITIAL_WINDOW_SIZE, 1 << 30))
    peer.send(window(0, 1 << 30))
    memory = read_memory(worker)
    for _ in range(50):
        peer.ask(request(f"/bytes/{10 * MIB}"))
    time.sleep(0.5)
    assert read_memory(worker) - memory < 50 * 300 * KIB
    wait_until(lambda: read_metrics(edge)["sillyproxy_downstream_connections"] == 0, "its end")
    peer.close()


@pytest.mark.parametrize(
    "data",
    [
        case("half a preface", PREFACE[:10]),
        case("a preface", PREFACE),
        case("half of SETTINGS", PREFACE + settings()[:5]),
        case("half a frame", PREFACE + settings() + frame(PING, 0, 0, bytes(8))[:12]),
        case("half a block", PREFACE + settings() + frame(HEADERS, 1, 1, POST[:3])),
    ],
)
def test_client_that_stops_amid_a_frame(edge: Proxy, data: bytes) -> None:
    """It has the time of a request head for it."""
    peer = Peer(edge.port, greet=False)
    start = time.monotonic()
    peer.send(data)
    assert peer.wait_end() == "closed"
    assert 0.9 < time.monotonic() - start < 4
    peer.close()


def test_idle_connection_is_ended_with_a_word(edge: Proxy) -> None:
    """GOAWAY tells a client that what it sends now was not served."""
    peer = Peer(edge.port)
    assert peer.get().status == 200
    assert peer.read_end() == "closed"
    assert [(last, code) for last, code, _ in peer.goaway] == [(1, 0)]
    assert peer.frames[-1].kind == GOAWAY
    peer.close()
