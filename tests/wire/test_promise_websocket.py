"""Promise: a WebSocket passes through as if nobody stood between; `websockets` is at both ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedOK

from tests.wire.harness import Proxy
from tests.wire.stress_tools import (
    MIB,
    is_balanced,
    read_counters,
    serving,
    show,
    wait_at_rest,
    wait_until,
)

PATIENCE_S = 20


async def _handle(connection: ServerConnection) -> None:
    """Echo; `bye` closes with 4001; `color` tells the request's."""
    assert connection.request is not None
    async for message in connection:
        if message == "bye":
            await connection.close(4001, "as you wish")
            return
        await connection.send(
            connection.request.headers["Color"] if message == "color" else message,
        )


@contextlib.asynccontextmanager
async def edge() -> AsyncIterator[Proxy]:
    """Run a WebSocket server and a proxy before it."""
    async with serve(_handle, "127.0.0.1", 0, max_size=None) as server:
        (sock,) = server.sockets
        port = sock.getsockname()[1]
        running = serving({"BLUE": f"http://127.0.0.1:{port}"})
        proxy = await asyncio.to_thread(running.__enter__)
        try:
            yield proxy
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)


def dial(proxy: Proxy) -> connect:
    return connect(
        f"ws://127.0.0.1:{proxy.port}/chat?room=1", max_size=None, open_timeout=PATIENCE_S, proxy=None
    )


async def test_echo_and_ping_and_closing_handshake() -> None:
    """Text and binary messages come back as they were sent, pings are answered, and closing is clean."""
    async with asyncio.timeout(3 * PATIENCE_S), edge() as proxy:
        async with dial(proxy) as client:
            for message in ("hello", b"\x00\xff" * 100, "", "ä" * 70_000, "color"):
                await client.send(message)
                assert await client.recv() == ("blue" if message == "color" else message)
            await (await client.ping())
        assert client.close_code == 1000
        counters = (await asyncio.to_thread(wait_at_rest, proxy))["counters"]
        assert is_balanced(counters)
        assert counters["answered"] == 1


async def test_server_closes() -> None:
    """The server's closing reaches the client with its code and reason."""
    async with asyncio.timeout(3 * PATIENCE_S), edge() as proxy, dial(proxy) as client:
        await client.send("bye")
        with pytest.raises(Exception, match="as you wish") as caught:
            await client.recv()
        assert not isinstance(caught.value, ConnectionClosedOK)
        assert client.close_code == 4001


async def test_large_frames() -> None:
    """A message of 16 MiB comes back whole, although nobody between has room for it."""
    message = bytes(range(256)) * (16 * MIB // 256)
    async with asyncio.timeout(3 * PATIENCE_S), edge() as proxy, dial(proxy) as client:
        await client.send(message)
        assert await client.recv() == message


async def test_200_at_once() -> None:
    """200 WebSockets at once each get their own answers, are counted as tunnels, and leave nothing behind."""

    async def talk(client: ClientConnection, number: int) -> None:
        for turn in range(3):
            await client.send(f"{number}/{turn}")
            assert await client.recv() == f"{number}/{turn}"

    async with asyncio.timeout(3 * PATIENCE_S), edge() as proxy:
        clients = await asyncio.gather(*(dial(proxy) for _ in range(200)))
        await asyncio.gather(*(talk(client, number) for number, client in enumerate(clients)))
        await asyncio.to_thread(
            wait_until, lambda: read_counters(proxy)["tunnels_open"] == 200, "200 tunnels in the counts"
        )
        show("websockets", **await asyncio.to_thread(read_counters, proxy))
        await asyncio.gather(*(client.close() for client in clients))
        assert is_balanced((await asyncio.to_thread(wait_at_rest, proxy))["counters"])
