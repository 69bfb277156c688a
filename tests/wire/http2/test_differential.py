"""The same request over HTTP/1.1 and over HTTP/2 is the same request at the origin."""

from __future__ import annotations

import secrets
from random import Random

from tests.wire.harness import Client, Origin, Proxy, Received
from tests.wire.http2.peer import Peer

METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "M-SEARCH")
NAMES = [
    "accept",
    "user-agent",
    "x-a",
    "x_b",
    "authorization",
    "if-none-match",
    "forwarded",
    "color",
    "x-request-id",
    "x-forwarded-for",
    "client-cert",
    "range",
    "referer",
    "origin",
    "cache-control",
    "traceparent",
]
PIECES = ("a", "Zz09", "%20", "ü", '"q"', ";=,", "(x)", "~", "1", "/", "\\", "<b>", "\xff", "  x", "\tx")
OURS = frozenset((b"via", b"x-request-id"))


def make(random: Random) -> tuple[str, str, list[tuple[str, str]], bytes | None]:
    path = "/" + "".join(
        random.choice(("a", "b/", "%2F", "..", "?x=1", "&y", "+", ":", "@", "*", "//"))
        for _ in range(random.randrange(6))
    )
    method = random.choice(METHODS)
    fields = [
        (random.choice(NAMES), "".join(random.choices(PIECES, k=random.randrange(4))).strip(" \t"))
        for _ in range(random.randrange(6))
    ]
    fields += [
        ("cookie", f"c{random.randrange(9)}={random.randrange(99)}") for _ in range(random.randrange(3))
    ]
    has_body = method in ("POST", "PUT", "PATCH") or random.random() < 0.2
    return method, path, fields, random.randbytes(random.choice((0, 1, 100, 5000))) if has_body else None


def over_1(proxy: Proxy, method: str, path: str, fields: list[tuple[str, str]], body: bytes | None) -> int:
    client = Client(proxy.port)
    cookies = "; ".join(value for name, value in fields if name == "cookie")
    lines = [f"{method} {path} HTTP/1.1", "Host: edge"]
    lines += [f"{name}: {value}" for name, value in fields if name != "cookie"]
    lines += [f"cookie: {cookies}"] if cookies else []
    lines += [f"content-length: {len(body)}"] if body is not None else []
    client.send("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))
    status = client.read_reply(method.encode()).status
    client.close()
    return status


def over_2(proxy: Proxy, method: str, path: str, fields: list[tuple[str, str]], body: bytes | None) -> int:
    peer = Peer(proxy.port)
    pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "edge")]
    length = [("content-length", str(len(body)))] if body is not None else []
    status = peer.read_answer(peer.ask([*pseudo, *fields, *length], body)).status
    peer.close()
    return status


def essence(got: Received) -> object:
    """What must be the same: everything but how it came, and the order of names that differ."""
    fields = sorted(
        (name, [value for other, value in got.fields if other.lower() == name])
        for name in {name.lower() for name, _ in got.fields} - OURS
    )
    return got.line, fields, got.body


def test_requests_are_the_same(proxy: Proxy, origin: Origin) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    random = Random(seed)
    served = 0
    for _ in range(300):
        asked = make(random)
        seen = []
        for over in (over_1, over_2):
            origin.restart()
            status = over(proxy, *asked)
            seen.append((status, [essence(got) for got in origin.requests]))
        assert seen[0] == seen[1], (seed, asked)
        served += seen[0][0] == 200
    assert served > 200
