"""
One check of one endpoint: a request on a connection of its own, and what came of it.

Only the head of the response counts, and it is read as strictly as the workers read it.
The body is read as far as it comes at once, so that the endpoint does not see a reset
with each check.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Final

from sillyproxy.config.schema import Probe
from sillyproxy.errors import BadResponse, reason_of
from sillyproxy.health.target import Target
from sillyproxy.http1.forward import ResponsePlan, ResponsePlans
from sillyproxy.traffic.table import authority_of

MAX_BYTES: Final = 65536
LINGER_S: Final = 0.1
_READ_BYTES: Final = 16384
_END: Final = b"\r\n\r\n"


class CheckFailed(Exception):
    """The check is bad. The message is the reason, in a word or two."""


async def connect(ip: str, port: int) -> socket.socket:
    """Return a connection, non-blocking. Raise CheckFailed."""
    sock = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (ip, port))
    except OSError as error:
        sock.close()
        raise CheckFailed(reason_of(error.errno)) from None
    except BaseException:
        sock.close()
        raise
    return sock


async def knock(target: Target, timeout_s: float) -> str:
    """Connect and say nothing. Return why it is not possible; empty if it is."""
    try:
        async with asyncio.timeout(timeout_s):
            (await connect(target.ip, target.upstream.port)).close()
    except CheckFailed as failed:
        return str(failed)
    except TimeoutError:
        return "timeout"
    return ""


async def check(target: Target, probe: Probe, color_header: str, plans: ResponsePlans) -> str:
    """Ask once. Return why the check is bad; empty if it is good."""
    sock = None
    try:
        async with asyncio.timeout(probe.timeout_s):
            sock = await connect(target.ip, target.upstream.port)
            answer = _Answer(sock)
            plan = await _ask(answer, _request(target, probe, color_header), plans)
        await answer.read_rest(plan)
    except CheckFailed as failed:
        return str(failed)
    except TimeoutError:
        return "timeout"
    finally:
        if sock is not None:
            sock.close()
    if any(first <= plan.status <= last for first, last in probe.statuses):
        return ""
    return f"status {plan.status}"


def _request(target: Target, probe: Probe, color_header: str) -> bytes:
    return (
        b"GET %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: sillyproxy-health\r\nAccept: */*\r\n%b: %b\r\n"
        b"Connection: close\r\n\r\n"
    ) % (
        (target.upstream.base + probe.path).encode(),
        authority_of(target.upstream),
        color_header.encode(),
        target.color.encode(),
    )


async def _ask(answer: _Answer, request: bytes, plans: ResponsePlans) -> ResponsePlan:
    """Return what the response's head says. Raise CheckFailed."""
    try:
        await asyncio.get_running_loop().sock_sendall(answer.sock, request)
        while True:
            plan = plans[await answer.read_head()]
            if plan.status >= 200:
                break
            if plan.status == 101:  # nobody asked to switch
                raise CheckFailed("malformed")
    except OSError as error:
        raise CheckFailed(reason_of(error.errno)) from None
    except BadResponse:
        raise CheckFailed("malformed") from None
    return plan


class _Answer:
    """What comes from an endpoint, up to MAX_BYTES."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._data = b""
        self._left = MAX_BYTES

    async def read_head(self) -> bytes:
        """Return the next head without its empty line. Raise CheckFailed, OSError."""
        while _END not in self._data:
            if not self._left:
                raise CheckFailed("malformed")
            if not await self._read():
                raise CheckFailed("malformed" if self._data else "closed")
        head, _, self._data = self._data.partition(_END)
        return head

    async def read_rest(self, plan: ResponsePlan) -> None:
        """Read the body if it is small and comes at once; it changes nothing any more."""
        if plan.status in (204, 304):
            return
        size = plan.body if plan.body >= 0 else MAX_BYTES
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while len(self._data) < size and self._left and await self._read():
                    pass

    async def _read(self) -> bool:
        """Read more; return whether there was any."""
        data = await asyncio.get_running_loop().sock_recv(self.sock, min(_READ_BYTES, self._left))
        self._left -= len(data)
        self._data += data
        return bool(data)
