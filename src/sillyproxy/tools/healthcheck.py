"""
Ask the admin listener of this machine whether the proxy has started.

Not whether it is ready: that its backends are gone is no reason to kill the proxy.

A container runs this again and again, so it imports next to nothing (`_socket` is
`socket` without the enumerations, which take longer to make than the whole question) and
reads the one setting that it needs by itself. The process it asks has checked it already.
"""

from __future__ import annotations

import os
import sys
from _socket import AF_INET, AF_INET6, AF_UNIX, SOCK_STREAM, socket

DEFAULT_ADMIN = "127.0.0.1:9080"
TIMEOUT_S = 3.0
MAX_BYTES = 4096

_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "localhost": "127.0.0.1", "::": "::1"}  # noqa: S104


class Unstarted(Exception):
    """The proxy has not started, is stopping, or does not say. The message is the reason."""


def main() -> int:
    """Print what the proxy says about itself; return 0 if it has started, else 1."""
    try:
        print(ask(os.environ.get("SILLYPROXY_ADMIN", "").strip() or DEFAULT_ADMIN))
    except Unstarted as error:
        print(f"sillyproxy: {error}", file=sys.stderr)
        return 1
    return 0


def ask(admin: str) -> str:
    """Return what `/startupz` says on this admin address. Raise Unstarted unless it says 200."""
    if admin.lower() == "off":
        raise Unstarted("the admin listener is off (SILLYPROXY_ADMIN=off), so nobody can say")
    try:
        sock = _connect(admin)
        sock.sendall(b"GET /startupz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while len(answer) < MAX_BYTES and (data := sock.recv(MAX_BYTES)):
            answer += data
        sock.close()
    except (OSError, ValueError) as error:
        raise Unstarted(f"no answer on {admin}: {error}") from None
    head, _, body = answer.partition(b"\r\n\r\n")
    text = body.decode("utf-8", "replace").strip()
    if head.split(b" ")[1:2] != [b"200"]:
        raise Unstarted(text or f"no HTTP answer on {admin}")
    return text


def _connect(admin: str) -> socket:
    # No name is looked up: the setting takes none but localhost.
    family, address = read_address(admin)
    sock = socket(family, SOCK_STREAM)
    sock.settimeout(TIMEOUT_S)
    sock.connect(address)
    return sock


def read_address(admin: str) -> tuple[int, str | tuple[str, int]]:
    """
    Return the family and the address to connect to; for a wildcard that is the loopback.

    >>> read_address(":9080")[1], read_address("[::]:80")[1], read_address("unix:/run/admin")[1]
    (('127.0.0.1', 9080), ('::1', 80), '/run/admin')
    """
    if admin[:5].lower() == "unix:":
        return AF_UNIX, admin[5:]
    host, _, port = admin.rpartition(":")
    host = host.strip("[]")
    return AF_INET6 if ":" in host else AF_INET, (_LOOPBACK.get(host.lower(), host), int(port))
