"""
The data plane's own work for one exchange, without the kernel: µs of CPU per exchange.

Sockets are stand-ins that hand out the same bytes again and again, so what is left is our
Python: two events, a head read and forwarded, a response read and passed on, the record.
The smallest of many rounds is the figure, because noise only ever adds.

    python -m bench.exchange
"""

from __future__ import annotations

import gc
import socket
import timeit
from collections.abc import Callable
from typing import Any

from sillyproxy.config.schema import Color, Config, Upstream
from sillyproxy.metrics.layout import BLOCK_SIZE
from sillyproxy.metrics.slab import Counts
from sillyproxy.proxy.downstream import Downstream
from sillyproxy.proxy.edge import Edge
from sillyproxy.proxy.exchange import Exchange
from sillyproxy.proxy.record import Recorder
from sillyproxy.proxy.upstream import Upstream as Connection
from sillyproxy.tools.channel import Address, Endpoints

BROWSER = (
    b"GET /shop/basket?item=42 HTTP/1.1\r\nHost: shop.example\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Referer: https://shop.example/catalogue?page=3\r\nConnection: keep-alive\r\n"
    b"Cookie: session=%08d; theme=dark; _ga=GA1.1.123456789.1234567890\r\n"
    b"Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n"
    b"Sec-Fetch-Site: same-origin\r\nSec-Fetch-User: ?1\r\nPriority: u=0, i\r\nDNT: 1\r\n\r\n"
)
TINY = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"
SMALL = (
    b"HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Sun, 01 Mar 2026 12:00:00 GMT\r\n"
    b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
)


class Stub:
    """A socket without a kernel: `requests` are handed out in turn, what is sent is counted."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks
        self._next = 0

    def recv(self, _size: int) -> bytes:
        self._next = turn = (self._next + 1) % len(self._chunks)
        return self._chunks[turn]

    recv_into = len
    send = len

    def fileno(self) -> int:
        return 1 << 20


def make_exchange(requests: list[bytes], response: bytes) -> Callable[[], None]:
    """Return a function that runs one exchange from the client's event to the record."""
    config = Config(
        colors=(
            Color("blue", (Upstream("http", "127.0.0.1", 1),), 4.0),
            Color("green", (Upstream("http", "127.0.0.1", 2),), 1.0),
        )
    )
    counts = Counts(memoryview(bytearray(BLOCK_SIZE * 8)).cast("q"), 3)
    nobody = lambda *_a, **_k: None  # noqa: E731
    edge = Edge(config, counts, Recorder(), nobody, nobody, nobody)
    edge.loop.add = lambda *_a: None  # type: ignore[method-assign]
    edge.set_endpoints(
        Endpoints({"blue": (Address(0, "127.0.0.1", 1),), "green": (Address(0, "127.0.0.1", 2),)})
    )
    stub: Any = Stub(requests)
    down = Downstream(edge, stub, "203.0.113.9")
    answer: Any = Stub([response])
    connections = []
    for color in edge.table.colors:
        endpoint = color.endpoints[0]
        connection = Connection(edge, endpoint, down.exchange)
        connection.sock.close()
        connection.recv = answer.recv
        connection.send = answer.send
        connection.connecting = False
        connection.exchange = None
        connection.used = True
        endpoint.idle.append(connection)
        connections.append(connection)
    exchange: Exchange = down.exchange

    def run() -> None:
        down.on_event(1)
        upstream = exchange.upstream
        assert upstream is not None
        upstream.on_event(1)

    return run


def measure(name: str, requests: list[bytes], response: bytes) -> None:
    """Print the cost of one kind of exchange."""
    run = make_exchange(requests, response)
    count = 5000
    best = min(timeit.repeat(run, number=count, repeat=30)) / count
    print(f"{name:28} {best * 1e6:6.2f} µs")


def main() -> None:
    """Measure."""
    gc.freeze()  # as a worker does
    gc.set_threshold(50_000, 20, 100)
    tiny = SMALL % 12 + b"hello world\n"
    page = SMALL % 4096 + b"x" * 4096
    measure("tiny GET", [TINY], tiny)
    measure("browser's GET", [BROWSER % 1], page)
    measure("browser's GET, never twice", [BROWSER % n for n in range(20_000)], page)


if __name__ == "__main__":
    assert socket is not None
    main()
