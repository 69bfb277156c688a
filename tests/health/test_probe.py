"""One check of one endpoint."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack, closing

import pytest

from sillyproxy.config.schema import Probe, Upstream
from sillyproxy.health.probe import MAX_BYTES, check, knock
from sillyproxy.health.target import Target
from sillyproxy.http1.forward import ResponsePlans
from tests.health.backend import BAD, OK, Backend, backend, dead_target, wait_until

PROBE = Probe("/healthz", timeout_s=10.0)


async def ask(server: Backend | Target, probe: Probe = PROBE) -> str:
    target = server.target() if isinstance(server, Backend) else server
    return await check(target, probe, "Color", ResponsePlans())


async def test_what_is_asked() -> None:
    """A check is a request as clients send it, with the host of the URL, its base path and the color."""
    async with backend() as server:
        target = server.target("green", base="/app")
        assert await check(target, Probe("/healthz?deep=1"), "X-Color", ResponsePlans()) == ""
        assert server.heads == [
            b"GET /app/healthz?deep=1 HTTP/1.1\r\nHost: app:%d\r\nUser-Agent: sillyproxy-health\r\n"
            b"Accept: */*\r\nX-Color: green\r\nConnection: close\r\n\r\n" % server.port
        ]


@pytest.mark.parametrize(
    ("status", "statuses", "expected"),
    [
        (200, ((200, 399),), ""),
        (302, ((200, 399),), ""),
        (404, ((200, 399),), "status 404"),
        (503, ((200, 399),), "status 503"),
        (200, ((204, 204), (301, 308)), "status 200"),
        (204, ((204, 204), (301, 308)), ""),
    ],
)
async def test_status_decides(status: int, statuses: tuple[tuple[int, int], ...], expected: str) -> None:
    """A check is good if the status is one of those that were asked for."""
    answer = b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n" % status
    async with backend(answer) as server:
        assert await ask(server, Probe("/", timeout_s=10.0, statuses=statuses)) == expected


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "malformed"),
        (b"HTTP/1.1 200 OK\n\n", "malformed"),
        (b"hello\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nno field\r\n\r\n", "malformed"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "malformed"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, "malformed"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, "malformed"),
    ],
)
async def test_nonsense_is_a_bad_check(answer: bytes, reason: str) -> None:
    """What is no response, or never ends, is a bad check, and says why."""
    async with backend(answer) as server:
        assert await ask(server) == reason


async def test_interim_responses_are_passed_over() -> None:
    """100 and 103 are not the answer."""
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with backend(early * 3 + OK) as server:
        assert await ask(server) == ""


async def test_nobody_there() -> None:
    """An endpoint that nothing listens at is refused, not a timeout."""
    assert await ask(dead_target()) == "refused"


async def test_no_answer_in_time() -> None:
    """An endpoint that takes the connection and says nothing has the probe's timeout."""
    async with backend(None) as server:
        assert await ask(server, Probe("/", timeout_s=0.1)) == "timeout"


async def test_head_counts_and_not_the_body() -> None:
    """A check is good with the head: a body that never ends does not hold it up."""
    async with backend(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf") as server:
        server.closes = False
        async with asyncio.timeout(5):
            assert await ask(server) == ""


async def test_small_answer_is_read_to_its_end() -> None:
    """Ordinary checks end without a reset, which would be in the backend's log each time."""
    async with backend(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n") as server:
        server.answer = b"HTTP/1.1 200 OK\r\n\r\n" + bytes(30_000)
        assert await ask(server) == ""
        await wait_until(lambda: server.ends)
        assert server.ends == ["closed"]


async def test_endless_answer_is_not_read() -> None:
    """Of an answer no more is read than 64 KiB, however much there is."""
    async with backend() as server:
        server.answer = b"HTTP/1.1 200 OK\r\n\r\n" + bytes(50_000_000)
        assert await ask(server) == ""
        await wait_until(lambda: server.ends)
        assert server.ends == ["reset"]
    assert MAX_BYTES == 65536


async def test_bad_status_is_told_with_its_number() -> None:
    """The reason of a bad check is what an operator looks for first."""
    async with backend(BAD) as server:
        assert await ask(server) == "status 503"


async def test_knock_needs_no_answer() -> None:
    """Without a probe a connection that opens is an answer, and one that does not says why."""
    async with backend(None) as server:
        assert await knock(server.target(), 10.0) == ""
    assert await knock(dead_target(), 10.0) == "refused"


async def test_knock_has_a_timeout() -> None:
    """An endpoint that swallows packets, here because its queue is full, is a timeout."""
    with ExitStack() as stack:
        listener = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0), backlog=0)))
        host, port = listener.getsockname()
        for _ in range(3):
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex((host, port))
        assert await knock(Target("blue", Upstream("http", "app", port), host), 0.2) == "timeout"
