"""
What a line of the access log costs: µs of CPU a line in each format, without the writing.

    python -m bench.record

Lines are those of a tiny GET and of a browser's, over one recorder; the smallest of many rounds
is the figure, because noise only ever adds.
"""

from __future__ import annotations

import gc
import os
import socket
import timeit

from bench.exchange import BROWSER, TINY
from sillyproxy.config.schema import AccessLog, Color, Config, Upstream
from sillyproxy.metrics.layout import BLOCK_SIZE
from sillyproxy.metrics.slab import Counts
from sillyproxy.proxy.downstream import Downstream
from sillyproxy.proxy.edge import Edge
from sillyproxy.proxy.exchange import Exchange
from sillyproxy.proxy.formats import make_recorder
from sillyproxy.proxy.logfile import LineWriter
from sillyproxy.proxy.record import Recorder
from sillyproxy.tools.channel import Address, Endpoints

TEMPLATE = '{time} {client} "{method} {target}" {status} {duration_ms} {http:User-Agent}'
FORMATS = {
    "text": "text",
    "json": "json",
    "common": "common",
    "combined": "combined",
    "a template": TEMPLATE,
    "the clock alone": "{time}",
}
LINES = 400  # as many as there are in 20 ms of 20,000 a second


def make_finished(request: bytes) -> Exchange:
    """Return an exchange as it is when it is recorded."""
    blue = Color("blue", (Upstream("http", "127.0.0.1", 1),))
    counts = Counts(memoryview(bytearray(BLOCK_SIZE * 8)).cast("q"), 3)
    edge = Edge(Config(colors=(blue,)), counts, Recorder(), *[lambda *_a, **_k: None] * 3)
    edge.set_endpoints(Endpoints({"blue": (Address(0, "127.0.0.1", 1),)}))
    client, _ = socket.socketpair()
    exchange = Downstream(edge, client, "203.0.113.9").exchange
    line, _, fields = request[:-4].partition(b"\r\n")
    exchange.method, exchange.target, _ = line.split()
    exchange.plan = edge.plans[1][b"\r\n" + fields]
    exchange.fields = exchange.plan.forward
    exchange.color = edge.table.colors[0]
    exchange.endpoint = exchange.color.endpoints[0]
    exchange.number = 123_456
    exchange.bytes_out = 12
    exchange.started_ns = 1_000_000_000
    return exchange


def measure(format_: str, request: bytes, writer: LineWriter) -> float:
    """Return the µs of one line; the millisecond on it changes with every 20th, as at 20,000 a second."""
    exchange = make_finished(request)
    recorder = make_recorder(AccessLog("/dev/null", format_), writer)

    def run() -> None:
        add = recorder.add
        start = exchange.started_ns
        for number in range(LINES):
            exchange.started_ns = now_ns = start + number * 50_000
            exchange.first_byte_ns = now_ns + 1_000_000
            add(exchange, 200, 1_234_567, None)
        exchange.started_ns = start + LINES * 50_000
        recorder.lines = bytearray()

    return min(timeit.repeat(run, number=20, repeat=30)) / 20 / LINES * 1e6


def main() -> None:
    """Measure."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    writer = LineWriter(os.open(os.devnull, os.O_WRONLY), owned=True)
    print(f"{'':20} {'tiny GET':>9} {'browser':>9}")
    for name, format_ in FORMATS.items():
        tiny, browser = (measure(format_, request, writer) for request in (TINY, BROWSER % 1))
        print(f"{name:20} {tiny:6.2f} µs {browser:6.2f} µs")
    writer.close(1.0)


if __name__ == "__main__":
    main()
