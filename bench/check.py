"""
Hold a subject to the work before it is measured.

A proxy that splits otherwise, leaves a field out or connects anew for each request does other work,
and its figure would compare with nothing.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections import Counter
from dataclasses import asdict, dataclass

from bench.process import BrokenError

KEPT, FRESH, CLIENTS = 3000, 600, 8
REQUEST = "GET /seen HTTP/1.1\r\nHost: shop.example.com\r\nColor: forged\r\nConnection: {connection}\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Seen:
    """What the origin saw of one request."""

    pool: str
    color: str
    forwarded_for: str
    protocol: str
    host: str
    connection: str


@dataclass(frozen=True)
class Verdict:
    """What was found; kept with the results."""

    requests: int
    blue_share: float
    upstream_connections: int


def is_address(text: str) -> bool:
    """Any address will do: of a client on the loopback interface Envoy writes its own host's instead."""
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def judge(seen: list[Seen]) -> Verdict:
    """
    Judge what the origins saw of one subject; BrokenError says all that is wrong.

    A random split of 3,600 is within 2.7 points of 80 in all but one of 10,000 runs.
    """
    pools = Counter(one.pool for one in seen)
    verdict = Verdict(
        len(seen),
        round(pools["blue"] / len(seen), 4),
        len({(one.pool, one.connection) for one in seen}),
    )
    problems = []
    if not 0.77 <= verdict.blue_share <= 0.83:
        problems.append(f"{verdict.blue_share:.1%} went to blue, not 80 %")
    if wrong := sum(one.color != one.pool for one in seen):
        problems.append(f"{wrong} requests did not carry the color of their pool")
    if wrong := sum(not is_address(one.forwarded_for) for one in seen):
        problems.append(f"{wrong} requests without one address in X-Forwarded-For")
    if wrong := sum(one.protocol != "HTTP/1.1" for one in seen):
        problems.append(f"{wrong} requests were not HTTP/1.1")
    if wrong := sum(one.host != "shop.example.com" for one in seen):
        problems.append(f"{wrong} requests did not carry the client's Host")
    if verdict.upstream_connections > len(seen) // 20:
        problems.append(f"{verdict.upstream_connections} connections to the origins: they are not reused")
    if problems:
        raise BrokenError("does other work: " + "; ".join(problems))
    return verdict


def ask(sock: socket.socket, connection: str) -> Seen:
    sock.sendall(REQUEST.format(connection=connection).encode())
    data = b""
    while True:
        more = sock.recv(65536)
        if not more:
            raise BrokenError(f"closed the connection within a response: {data[:200]!r}")
        data += more
        head, gap, body = data.partition(b"\r\n\r\n")
        if not gap:
            continue
        length = LENGTH.search(head)
        if not head.startswith(b"HTTP/1.1 200 ") or length is None:
            raise BrokenError(f"not a 200 with a length: {head[:200]!r}")
        if len(body) >= int(length[1]):
            return Seen(*body.decode().strip().split("|"))


def check_reuse(port: int, requests: int = 300) -> None:
    """
    Ask on one connection; BrokenError unless the connections to the origins are used again and again.

    Fewer than half as many connections as requests: a pool of a load's size may be gone round in turn.
    """
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        seen = [ask(sock, "keep-alive") for _ in range(requests)]
    used = len({(one.pool, one.connection) for one in seen})
    if used > requests // 2:
        raise BrokenError(f"does other work: {used} connections to the origins for {requests} requests")


def check(port: int) -> dict[str, float]:
    """Ask a few thousand times, over kept connections and over new ones."""
    seen = []
    for _ in range(CLIENTS):
        with socket.create_connection(("127.0.0.1", port), 10) as sock:
            seen += [ask(sock, "keep-alive") for _ in range(KEPT // CLIENTS)]
    for _ in range(FRESH):
        with socket.create_connection(("127.0.0.1", port), 10) as sock:
            seen.append(ask(sock, "close"))
    return asdict(judge(seen))
