"""The admin listener itself, on real sockets: who is let in when there are many, and who is let go."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from sillyproxy.admin import live, server, stream
from sillyproxy.admin.app import build_app
from sillyproxy.admin.board import Board
from sillyproxy.admin.events import Chronicle
from sillyproxy.admin.history import History
from sillyproxy.admin.live import Live
from sillyproxy.admin.server import MAX_CONNECTIONS, MAX_STREAMS, serve_admin
from sillyproxy.admin.view import build_frame
from tests.admin.boards import Proxy

PATIENCE_S = 20.0


class Site:
    """A proxy's admin listener in this process; seconds pass when the test says so."""

    def __init__(self, proxy: Proxy, live: Live, port: int) -> None:
        self.proxy = proxy
        self.live = live
        self.port = port

    def tick(self) -> None:
        """Let a second pass, and tell who watches."""
        self.proxy.tick()
        self.live._wake()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, path: str, *lines: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """Ask on a connection of its own; return status, fields, body."""
        reader, writer = await self.connect()
        try:
            return await asyncio.wait_for(exchange(reader, writer, path, *lines, method=method), PATIENCE_S)
        finally:
            writer.close()


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, *lines: str, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    fields = lines if any(line.startswith("Host:") for line in lines) else ("Host: localhost", *lines)
    writer.write("\r\n".join([f"{method} {path} HTTP/1.1", *fields, "", ""]).encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
    found = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    size = int(found.get("content-length", 0))
    return int(head[0].split()[1]), found, b"" if method == "HEAD" else await reader.readexactly(size)


async def until(is_true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_true():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def site(**settings: str) -> AsyncIterator[Site]:
    proxy = Proxy(SILLYPROXY_ADMIN="127.0.0.1:9080", **settings)
    Chronicle(proxy.board)
    frames = Live(proxy.board, proxy.history)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as sock:
        sock.setblocking(False)
        task = asyncio.create_task(serve_admin(build_app(proxy.board, frames), sock))
        try:
            yield Site(proxy, frames, sock.getsockname()[1])
        finally:
            frames.close()
            task.cancel()
            await asyncio.wait({task})


PATHS = ("/", "/metrics", "/api/status", "/api/live", "/api/samples", "/api/events", "/static/x", "/nonsense")
HEALTH = ("/healthz", "/readyz", "/startupz")
TOKEN = "correct-horse"


async def test_without_the_token_there_is_health_alone() -> None:
    """With a token set every path but the three of health needs it, and those need none."""
    async with site(SILLYPROXY_ADMIN_TOKEN=TOKEN) as admin:
        for path in PATHS:
            status, fields, body = await admin.ask(path)
            assert status == 401, path
            assert "www-authenticate" in fields
            assert TOKEN.encode() not in body
            assert (await admin.ask(path, "Authorization: Bearer wrong-horse"))[0] == 401
        for path in HEALTH:
            assert (await admin.ask(path))[0] in (200, 503)


async def test_with_the_token_everything_is_there() -> None:
    """With the token as Bearer or as password every path answers as it would without a token."""
    async with site() as unlocked, site(SILLYPROXY_ADMIN_TOKEN=TOKEN) as admin:
        for path in (*HEALTH, *PATHS):
            method = "HEAD" if path == "/api/events" else "GET"
            wanted = (await unlocked.ask(path, method=method))[0]
            for field in (f"Bearer {TOKEN}", "Basic YWRtaW46Y29ycmVjdC1ob3JzZQ=="):
                assert (await admin.ask(path, f"Authorization: {field}", method=method))[0] == wanted, path


async def test_new_token_holds_at_once() -> None:
    """After a reload the old token opens nothing any more."""
    async with site(SILLYPROXY_ADMIN_TOKEN=TOKEN) as admin:
        admin.proxy.reload(SILLYPROXY_ADMIN_TOKEN="another-horse")
        assert (await admin.ask("/api/live", f"Authorization: Bearer {TOKEN}"))[0] == 401
        assert (await admin.ask("/api/live", "Authorization: Bearer another-horse"))[0] == 200


async def test_stream_ends_when_the_token_is_another() -> None:
    """A dashboard that was opened with a token that is not valid any more is told nothing more."""
    async with site(SILLYPROXY_ADMIN_TOKEN=TOKEN) as admin:
        reader, writer = await admin.connect()
        fields = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}"
        writer.write(f"GET /api/events HTTP/1.1\r\n{fields}\r\n\r\n".encode())
        await reader.readuntil(b"event: frame\n")
        await reader.readuntil(b"\n\n")
        admin.proxy.reload(SILLYPROXY_ADMIN_TOKEN="another-horse")
        admin.tick()
        assert b"event:" not in await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), PATIENCE_S)
        writer.close()


async def test_page_of_another_site_cannot_ask_by_its_own_name() -> None:
    """On the loopback and without a token, a Host field with another site's name is refused."""
    async with site() as admin:
        for path in PATHS:
            assert (await admin.ask(path, "Host: evil.example:9080"))[0] == 403, path
        assert (await admin.ask("/healthz", "Host: evil.example:9080"))[0] == 200
        assert (await admin.ask("/api/live", "Host: 127.0.0.1:9080"))[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_nothing_can_be_changed(method: str) -> None:
    """No path takes a method that could change anything, with the token or without."""
    async with site(SILLYPROXY_ADMIN_TOKEN=TOKEN) as admin:
        for path in (*HEALTH, *PATHS):
            for lines in ((), (f"Authorization: Bearer {TOKEN}",)):
                status, fields, _ = await admin.ask(path, "Content-Length: 0", *lines, method=method)
                assert (status, fields["allow"]) == (405, "get, head")


async def test_every_answer_has_the_security_headers() -> None:
    """Whatever is answered, a refusal or no HTTP at all, says what a browser must not do with it."""
    async with site(SILLYPROXY_ADMIN_TOKEN=TOKEN) as admin:
        answers = [
            await admin.ask("/healthz"),
            await admin.ask("/api/live"),
            await admin.ask("/api/live", f"Authorization: Bearer {TOKEN}"),
            await admin.ask("/api/events", f"Authorization: Bearer {TOKEN}", method="HEAD"),
            await admin.ask("/api/live?window=7", f"Authorization: Bearer {TOKEN}"),
            await admin.ask("/nonsense", f"Authorization: Bearer {TOKEN}"),
            await admin.ask("/", "Content-Length: 0", method="POST"),
        ]
        assert [status for status, _, _ in answers] == [200, 401, 200, 200, 400, 404, 405]
        reader, writer = await admin.connect()
        writer.write(b"no http\r\n\r\n")
        broken = (await reader.read()).decode().lower()
        writer.close()
        for fields in (*(fields for _, fields, _ in answers), broken):
            assert "content-security-policy" in fields
            assert "x-content-type-options" in fields
            assert "referrer-policy" in fields
        assert "unsafe" not in answers[0][1]["content-security-policy"]
        assert answers[1][1]["cache-control"] == "no-store"


async def test_page_is_served_and_not_sent_twice() -> None:
    """The page comes with its type, and a browser that has it already is told so."""
    async with site() as admin:
        status, fields, body = await admin.ask("/")
        assert (status, fields["content-type"]) == (200, "text/html; charset=utf-8")
        assert body.lstrip().lower().startswith(b"<!doctype html>")
        assert (await admin.ask("/", f"If-None-Match: {fields['etag']}"))[0] == 304


async def test_health_check_is_answered_however_many_there_are() -> None:
    """
    With all streams taken, and more silent, idle and unread connections than are allowed, health, readiness
    and a scrape are answered at once; the streams go on.
    """
    async with site() as admin, contextlib.AsyncExitStack() as stack:
        streams = []
        for _ in range(MAX_STREAMS):
            reader, writer = await admin.connect()
            stack.callback(writer.close)
            writer.write(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 200 " in await reader.readuntil(b"event: frame\n")
            streams.append(reader)
        for number in range(MAX_CONNECTIONS + 20):
            reader, writer = await admin.connect()
            stack.callback(writer.close)
            if number % 2:
                await exchange(reader, writer, "/healthz")
        for path in ("/healthz", "/readyz", "/metrics", "/api/live"):
            status, _, _ = await admin.ask(path)
            assert status == (503 if path == "/readyz" else 200)
        admin.tick()
        for reader in streams:
            await asyncio.wait_for(reader.readuntil(b"event: frame\n"), PATIENCE_S)


async def test_one_dashboard_too_many_is_told_to_come_back() -> None:
    """The stream past the limit is refused with 503 and when to try again; when one ends there is room."""
    async with site() as admin, contextlib.AsyncExitStack() as stack:
        writers = []
        for _ in range(MAX_STREAMS):
            reader, writer = await admin.connect()
            stack.callback(writer.close)
            writers.append(writer)
            writer.write(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"event: frame\n")
        status, fields, _ = await admin.ask("/api/events")
        assert (status, fields["retry-after"]) == (503, "10")
        writers[0].close()
        await until(lambda: len(admin.live._watchers) < MAX_STREAMS)
        reader, writer = await admin.connect()
        stack.callback(writer.close)
        writer.write(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 " in await reader.readuntil(b"event: frame\n")


async def test_stream_lasts_longer_than_an_exchange_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exchange has a deadline; a stream whose client reads has none."""
    monkeypatch.setattr(server, "EXCHANGE_TIMEOUT_S", 0.2)
    async with site() as admin:
        reader, writer = await admin.connect()
        writer.write(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in range(5):
            await asyncio.wait_for(reader.readuntil(b"event: frame\n"), PATIENCE_S)
            await asyncio.sleep(0.1)
            admin.tick()
        writer.close()


async def test_client_that_does_not_read_is_ended_and_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A dashboard that takes nothing for too long is cut off; it has cost no more than its buffers, and one
    beside it has had every second.
    """
    monkeypatch.setattr(stream, "STALL_S", 0.3)
    async with site() as admin:
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        await asyncio.get_running_loop().sock_connect(deaf, ("127.0.0.1", admin.port))
        deaf.send(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        reader, writer = await admin.connect()
        writer.write(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"event: frame\n")
        await until(lambda: len(admin.live._watchers) == 2)
        seconds = 0
        async with asyncio.timeout(PATIENCE_S):
            while len(admin.live._watchers) == 2:
                admin.tick()
                seconds += 1
                await reader.readuntil(b"event: frame\n")
                assert await reader.readline() == f"id: {admin.live._id()}\n".encode()
                await asyncio.sleep(0.005)
        assert seconds > 3
        writer.close()
        deaf.close()


async def test_frames_are_made_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many dashboards are open, each window in use has one frame a second."""
    made: list[int] = []

    def counted(board: Board, history: History, window_s: int) -> dict[str, Any]:
        made.append(window_s)
        return build_frame(board, history, window_s)

    monkeypatch.setattr(live, "build_frame", counted)
    async with site() as admin, contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            admin.tick()
        assert made == []
        readers = []
        for number in range(10):
            reader, writer = await admin.connect()
            stack.callback(writer.close)
            window = (60, 300)[number % 2]
            writer.write(f"GET /api/events?window={window} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await reader.readuntil(b"event: frame\n")
            readers.append(reader)
        assert sorted(made) == [60, 300]
        admin.tick()
        for reader in readers:
            await reader.readuntil(b"event: frame\n")
        await admin.ask("/api/live")
        await admin.ask("/api/samples")
        assert sorted(made) == [60, 60, 300, 300]


@pytest.mark.parametrize("window", ["7", "0", "-60", "60.0", "x", "", "99999999999999999999"])
async def test_window_that_there_is_not_is_refused(window: str) -> None:
    """A window that the proxy does not keep is a mistake that is named."""
    async with site() as admin:
        for path in ("/api/live", "/api/events"):
            status, _, body = await admin.ask(f"{path}?window={window}")
            assert status == 400
            assert b"60, 300, 900" in body
