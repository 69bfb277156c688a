"""
What a line of the access log costs: µs of CPU a line in each format, without the writing.

    python -m bench.record

Lines are those of a tiny GET and of a browser's, over one recorder; the smallest of many rounds
is the figure, because noise only ever adds.
"""

from __future__ import annotations

import gc
import os
import timeit

from bench.exchange import BROWSER, SMALL, TINY, make_exchange
from sillyproxy.config.schema import AccessLog
from sillyproxy.proxy.exchange import Exchange
from sillyproxy.proxy.formats import make_recorder
from sillyproxy.proxy.logfile import LineWriter

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
    run = make_exchange([request], SMALL % 12 + b"hello world\n")
    for _ in range(3):
        run()
    owner = run.__closure__
    assert owner is not None
    exchange = next(c.cell_contents for c in owner if isinstance(c.cell_contents, Exchange))
    color = exchange.edge.table.colors[0]
    exchange.color, exchange.endpoint = color, color.endpoints[0]
    exchange.bytes_out = 12
    exchange.first_byte_ns = exchange.started_ns + 1_000_000
    return exchange


def measure(format_: str, request: bytes, writer: LineWriter) -> float:
    """Return the µs of one line; the millisecond on it changes with every 20th, as at 20,000 a second."""
    exchange = make_finished(request)
    recorder = make_recorder(AccessLog("/dev/null", format_), writer)

    def run() -> None:
        add = recorder.add
        start = exchange.started_ns
        for number in range(LINES):
            exchange.started_ns = start + number * 50_000
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
