"""
The load that wrk cannot make: large bodies in whole requests, WebSocket messages.

    python -m bench.load download PORT PATH CONNECTIONS SECONDS
    python -m bench.load upload PORT PATH CONNECTIONS SECONDS BYTES
    python -m bench.load echo PORT PATH CONNECTIONS SECONDS BYTES

It prints the same line of JSON as load.lua. A request that has begun is always finished, and
only what was sent counts, so that CPU per request is exact even where a second sees three of them.
"""

from __future__ import annotations

import base64
import json
import os
import re
import select
import socket
import sys
import threading
import time

from bench.origin import accept_key, build_frame, read_frames

LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
BLOCK = bytes(1 << 18)


class LoadError(Exception):
    """The answer is not what the scenario must see."""


def pick_percentile(ordered: list[float], percent: float) -> float:
    """
    The smallest value that is not below `percent` of all values.

    >>> pick_percentile([1.0, 2.0, 3.0, 4.0], 50), pick_percentile([1.0, 2.0, 3.0, 4.0], 99)
    (2.0, 4.0)
    """
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


def report(durations_us: list[float], size_bytes: int, seconds: float) -> str:
    durations_us.sort()
    numbers = {
        "requests": len(durations_us),
        "bytes": size_bytes,
        "seconds": seconds,
        "p50_us": pick_percentile(durations_us, 50),
        "p99_us": pick_percentile(durations_us, 99),
        "errors": 0,
    }
    return f"BENCH {json.dumps(numbers)}"


def read_head(sock: socket.socket) -> tuple[bytes, int]:
    """Read a response's head: it, and how many bytes of what follows came with it."""
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        more = sock.recv(65536)
        if not more:
            raise LoadError(f"closed within a response head: {data[:200]!r}")
        data += more
    return data[: end + 4], len(data) - end - 4


def exchange(sock: socket.socket, head: bytes, body_bytes: int) -> int:
    """Send one request, read its whole response, return the bytes of both bodies."""
    sock.sendall(head)
    left = body_bytes
    while left:
        block = BLOCK if left >= len(BLOCK) else BLOCK[:left]
        sock.sendall(block)
        left -= len(block)
    answer, have = read_head(sock)
    length = LENGTH.search(answer)
    if not answer.startswith(b"HTTP/1.1 200 ") or length is None:
        raise LoadError(f"not a 200 with a length: {answer[:200]!r}")
    left = int(length[1]) - have
    scratch = bytearray(1 << 20)
    while left:
        # MSG_TRUNC: the kernel drops the bytes without copying them to us
        count = sock.recv_into(scratch, min(left, len(scratch)), socket.MSG_TRUNC)
        if not count:
            raise LoadError(f"{left} bytes of the response are missing")
        left -= count
    return int(length[1]) + body_bytes


def move_bodies(port: int, head: bytes, connections: int, seconds: float, body_bytes: int) -> str:
    """Whole requests on every connection until the time is over."""
    durations_us: list[float] = []
    problems: list[str] = []
    moved = [0] * connections
    start = time.perf_counter()

    def work(index: int) -> None:
        try:
            with socket.create_connection(("127.0.0.1", port)) as sock:
                sock.settimeout(30)
                while (begin := time.perf_counter()) - start < seconds:
                    moved[index] += exchange(sock, head, body_bytes)
                    durations_us.append((time.perf_counter() - begin) * 1e6)
        except (OSError, LoadError) as error:
            problems.append(str(error))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise LoadError("; ".join(problems[:3]))
    return report(durations_us, sum(moved), time.perf_counter() - start)


def open_websocket(port: int, path: str) -> socket.socket:
    """Shake hands."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.settimeout(10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = base64.b64encode(os.urandom(16))
    sock.sendall(
        b"GET %s HTTP/1.1\r\nHost: bench.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n" % (path.encode(), key)
    )
    answer, _ = read_head(sock)
    if not answer.startswith(b"HTTP/1.1 101 ") or accept_key(key) not in answer:
        raise LoadError(f"not a 101 for our key: {answer[:200]!r}")
    return sock


def echo_messages(port: int, path: str, connections: int, seconds: float, size_bytes: int) -> str:
    """One message at a time on every connection until the time is over."""
    message = os.urandom(size_bytes)
    frame = build_frame(0x82, message, mask=os.urandom(4))
    socks = {}
    for _ in range(connections):
        sock = open_websocket(port, path)
        socks[sock.fileno()] = (sock, bytearray())
    poller = select.epoll()
    durations_us = []
    start = time.perf_counter()
    sent_at = {}
    for fd, (sock, _) in socks.items():
        poller.register(fd, select.EPOLLIN)
        sent_at[fd] = time.perf_counter()
        sock.sendall(frame)
    while sent_at:
        ready = poller.poll(10)
        if not ready:
            raise LoadError("no echo for 10 s")
        for fd, _ in ready:
            sock, buffer = socks[fd]
            data = sock.recv(65536)
            if not data:
                raise LoadError("closed within a conversation")
            buffer += data
            for first, echoed in read_frames(buffer):
                if first != 0x82 or echoed != message:
                    raise LoadError("the echo is not what was said")
                now = time.perf_counter()
                durations_us.append((now - sent_at.pop(fd)) * 1e6)
                if now - start < seconds:
                    sent_at[fd] = now
                    sock.sendall(frame)
    return report(durations_us, len(durations_us) * size_bytes * 2, time.perf_counter() - start)


def main(kind: str, port: str, path: str, connections: str, seconds: str, size: str = "0") -> str:
    if kind == "echo":
        return echo_messages(int(port), path, int(connections), float(seconds), int(size))
    method = {"download": "GET", "upload": "POST"}[kind]
    length = f"Content-Length: {size}\r\n" if kind == "upload" else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: bench.example\r\n{length}\r\n".encode()
    return move_bodies(int(port), head, int(connections), float(seconds), int(size))


if __name__ == "__main__":
    try:
        print(main(*sys.argv[1:]))
    except (LoadError, OSError) as problem:
        sys.exit(f"bench.load: {problem}")
