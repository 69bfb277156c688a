"""
One check of one endpoint: a request on a connection of its own, and what came of it.

Only the head of the response counts, and it is read as strictly as the workers read it.
The body is read as far as it comes at once, so that the endpoint does not see a reset
with each check.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from dataclasses import dataclass
from ssl import SSLContext
from typing import Final

from sillyproxy.config.schema import Color, Probe
from sillyproxy.errors import BadResponse, reason_of
from sillyproxy.health import http2
from sillyproxy.health.target import Target
from sillyproxy.http1.forward import ResponsePlan, ResponsePlans
from sillyproxy.http2.frames import ConnectionProblem
from sillyproxy.http2.heads import Malformed
from sillyproxy.tools.pem import make_client_context, why_failed
from sillyproxy.tools.proxied import write_header
from sillyproxy.traffic.table import authority_of

MAX_BYTES: Final = 65536
LINGER_S: Final = 0.1
_READ_BYTES: Final = 16384
_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Way:
    """How the endpoints of a color are spoken to: over TLS in which context, to whom; and what goes first."""

    context: SSLContext | None = None
    name: str = ""
    proxy_protocol: str = "off"


DIRECT: Final = Way()


def way_of(color: Color) -> Way:
    """Return it."""
    context = None
    if any(upstream.scheme == "https" for upstream in color.upstreams):
        tls = color.tls
        context = make_client_context(
            tls.ca,
            verify=tls.verify == "on",
            chain=tls.chain,
            key=tls.key,
            minimum=tls.minimum,
            protocols=["h2", "http/1.1"],
        )
    return Way(context, color.tls.name, color.proxy_protocol)


class CheckFailed(Exception):
    """The check is bad. The message is the reason, in a word or two."""


async def connect(ip: str, port: int) -> socket.socket:
    """Return a connection, non-blocking. Raise CheckFailed."""
    is_local = ip.startswith("/")
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    sock = socket.socket(socket.AF_UNIX if is_local else family, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ip if is_local else (ip, port))
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


async def check(
    target: Target, probe: Probe, color_header: str, plans: ResponsePlans, way: Way = DIRECT
) -> str:
    """Ask once. Return why the check is bad; empty if it is good."""
    sock = writer = None
    try:
        async with asyncio.timeout(probe.timeout_s):
            sock = await connect(target.ip, target.upstream.port)
            reader, writer = await _open(sock, target, way)
            if _speaks_2(target, writer):
                return _judge(await _ask_2(reader, writer, target, probe, color_header), probe)
            if probe.is_grpc:
                return "no HTTP/2"
            answer = _Answer(reader)
            plan = await _ask(answer, writer, _request(target, probe, color_header), plans)
        await answer.read_rest(plan)
    except CheckFailed as failed:
        return str(failed)
    except TimeoutError:
        return "timeout"
    finally:
        if writer is not None:
            writer.close()
        elif sock is not None:
            sock.close()
    return _judge_status(plan.status, probe)


def _judge_status(status: int, probe: Probe) -> str:
    return "" if any(first <= status <= last for first, last in probe.statuses) else f"status {status}"


def _judge(answer: http2.Answer, probe: Probe) -> str:
    return http2.why_not_serving(answer) if probe.is_grpc else _judge_status(answer.status, probe)


def _speaks_2(target: Target, writer: StreamWriter) -> bool:
    if target.upstream.scheme == "h2c":
        return True
    session = writer.get_extra_info("ssl_object")
    return session is not None and session.selected_alpn_protocol() == "h2"


async def _ask_2(
    reader: StreamReader, writer: StreamWriter, target: Target, probe: Probe, color_header: str
) -> http2.Answer:
    """Return what is answered over HTTP/2. Raise CheckFailed."""
    path = http2.GRPC_PATH if probe.is_grpc else (target.upstream.base + probe.path).encode()
    fields = [
        (b":method", b"POST" if probe.is_grpc else b"GET"),
        (b":scheme", b"https" if target.upstream.scheme == "https" else b"http"),
        (b":path", path),
        (b":authority", authority_of(target.upstream)),
        (b"user-agent", b"sillyproxy-health"),
        (color_header.lower().encode(), target.color.encode()),
    ]
    body = b""
    if probe.is_grpc:
        fields += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
        body = http2.grpc_question(probe.service.encode())
    try:
        return await http2.ask(reader, writer, fields, body, MAX_BYTES)
    except (Malformed, ConnectionProblem):
        raise CheckFailed("malformed") from None
    except asyncio.IncompleteReadError:
        raise CheckFailed("closed") from None
    except OSError as error:
        raise CheckFailed(reason_of(error.errno)) from None


async def _open(sock: socket.socket, target: Target, way: Way) -> tuple[StreamReader, StreamWriter]:
    """Say what has to be said before a request. Raise CheckFailed."""
    try:
        if way.proxy_protocol != "off":
            await asyncio.get_running_loop().sock_sendall(sock, write_header(way.proxy_protocol, "", 0, None))
        if target.upstream.scheme != "https":
            return await asyncio.open_connection(sock=sock)
        name = way.name or target.upstream.host
        return await asyncio.open_connection(sock=sock, ssl=way.context, server_hostname=name)
    except OSError as error:
        raise CheckFailed(why_failed(error)[1]) from None


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


async def _ask(answer: _Answer, writer: StreamWriter, request: bytes, plans: ResponsePlans) -> ResponsePlan:
    """Return what the response's head says. Raise CheckFailed."""
    try:
        writer.write(request)
        await writer.drain()
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

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader
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
        data = await self._reader.read(min(_READ_BYTES, self._left))
        self._left -= len(data)
        self._data += data
        return bool(data)
