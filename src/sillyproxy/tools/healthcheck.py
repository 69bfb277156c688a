"""
Ask the admin listener of this machine whether the proxy is ready.

A container runs this again and again, so it imports next to nothing and reads the one
setting that it needs by itself. The process it asks has checked the setting already.
"""

from __future__ import annotations

import os
import socket
import sys

DEFAULT_ADMIN = "127.0.0.1:9080"
TIMEOUT_S = 3.0
MAX_BYTES = 4096

_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}  # noqa: S104


class Unready(Exception):
    """The proxy is not ready, or does not say. The message is the reason."""


def main() -> int:
    """Print what the proxy says about itself; return 0 if it is ready, else 1."""
    try:
        print(ask(os.environ.get("SILLYPROXY_ADMIN", "").strip() or DEFAULT_ADMIN))
    except Unready as error:
        print(f"sillyproxy: {error}", file=sys.stderr)
        return 1
    return 0


def ask(admin: str) -> str:
    """Return what `/readyz` says on this admin address. Raise Unready unless it says 200."""
    if admin.lower() == "off":
        raise Unready("the admin listener is off (SILLYPROXY_ADMIN=off), so nobody can say")
    try:
        with _connect(admin) as sock:
            sock.settimeout(TIMEOUT_S)
            sock.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b""
            while len(answer) < MAX_BYTES and (data := sock.recv(MAX_BYTES)):
                answer += data
    except (OSError, ValueError) as error:
        raise Unready(f"no answer on {admin}: {error}") from None
    head, _, body = answer.partition(b"\r\n\r\n")
    text = body.decode("utf-8", "replace").strip()
    if head.split(b" ")[1:2] != [b"200"]:
        raise Unready(text or f"no HTTP answer on {admin}")
    return text


def _connect(admin: str) -> socket.socket:
    if admin.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(TIMEOUT_S)
        sock.connect(admin.removeprefix("unix:"))
        return sock
    host, _, port = admin.rpartition(":")
    host = host.strip("[]")
    return socket.create_connection((_LOOPBACK.get(host, host), int(port)), TIMEOUT_S)
