"""
Tell the service manager how we are: sd_notify(3), without its library.

It is a datagram of `NAME=value` lines to the unix socket that NOTIFY_SOCKET names; where nobody
asked for it, nothing.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress


def notify(**state: str | int) -> None:
    """Tell it. Never fails: a service manager that is gone is no reason to stop serving."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    text = "\n".join(f"{name}={value}" for name, value in state.items())
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        sock.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)


def notify_reloading() -> None:
    """Tell it that a reload begins; its clock is the monotonic one, in microseconds."""
    notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
