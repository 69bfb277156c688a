"""Promise: who has to go is told so: a WebSocket in its own words, never amid a frame, not all at once."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.wire.harness import Client
from tests.wire.stress_tools import (
    LoneWorker,
    QuickOrigin,
    is_balanced,
    lone_worker,
    origins,
    request,
    show,
    wait_until,
)

PATIENCE_S = 30
CLOSE = bytes([0x88, 2, 3, 233])
# A client's frame of 4,096 bytes, and the half of it that comes.
HALF_A_FRAME = bytes([0x82, 0x80 | 126, 0x10, 0]) + b"mask" + b"x" * 2000


class Chat:
    """A WebSocket server that echoes; `closed` are the codes of the Close frames that came."""

    def __init__(self) -> None:
        self.port = 0
        self.closed: list[int | None] = []

    async def handle(self, connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                await connection.send(message)
        came = connection.protocol.close_rcvd
        self.closed.append(came.code if came else None)


@contextlib.asynccontextmanager
async def chatting() -> AsyncIterator[Chat]:
    """Run such a server."""
    chat = Chat()
    async with serve(chat.handle, "127.0.0.1", 0) as server:
        (sock,) = server.sockets
        chat.port = sock.getsockname()[1]
        yield chat


@contextlib.asynccontextmanager
async def edge(**settings: str | int | float) -> AsyncIterator[LoneWorker]:
    """Run a worker, beside the event loop."""
    running = lone_worker(**settings)
    worker = await asyncio.to_thread(running.__enter__)
    try:
        yield worker
    except BaseException as error:
        await asyncio.to_thread(running.__exit__, type(error), error, error.__traceback__)
        raise
    await asyncio.to_thread(running.__exit__, None, None, None)


def dial(worker: LoneWorker) -> connect:
    return connect(f"ws://127.0.0.1:{worker.port}/", open_timeout=PATIENCE_S, proxy=None)


async def test_both_ends_are_told_at_the_end_of_the_drain() -> None:
    """When the worker's drain timeout is over both ends of a WebSocket get Close 1001."""
    settings = {"SILLYPROXY_DRAIN_TIMEOUT": "3s"}
    async with asyncio.timeout(2 * PATIENCE_S), chatting() as chat, edge(**settings) as worker:
        worker.use(chat)
        async with dial(worker) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            worker.process.send_signal(signal.SIGTERM)
            # It goes on until then.
            await client.send("still there?")
            assert await client.recv() == "still there?"
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001
        await asyncio.to_thread(wait_until, lambda: chat.closed == [1001], "the server to be told")


async def test_those_of_a_removed_color_are_told_one_after_the_other() -> None:
    """
    A reload takes a color away: its WebSockets get Close 1001 within the drain timeout, spread over it, so
    that their clients do not all come back at once; those of a color that stays do not notice.
    """
    count = 24
    async with (
        asyncio.timeout(3 * PATIENCE_S),
        chatting() as blue,
        chatting() as green,
        edge(SILLYPROXY_DRAIN_TIMEOUT="3s") as worker,
    ):
        worker.use(blue, green=[green])
        leaving = [await dial(worker) for _ in range(count)]
        worker.serve(BLUE_WEIGHT=0, GREEN_WEIGHT=1)
        staying = await dial(worker)
        begun = time.monotonic()
        worker.serve(BLUE="")
        closed_s = []
        for client in leaving:
            client_closed = asyncio.create_task(client.wait_closed())
            client_closed.add_done_callback(lambda _: closed_s.append(time.monotonic() - begun))
        await asyncio.gather(*(client.wait_closed() for client in leaving))
        await staying.send("hello")
        assert await staying.recv() == "hello"
        await staying.close()
        codes = [client.protocol.close_rcvd and client.protocol.close_rcvd.code for client in leaving]
        show("goodbye", first_s=min(closed_s), last_s=max(closed_s))
        assert codes == [1001] * count
        await asyncio.to_thread(wait_until, lambda: blue.closed == [1001] * count, "the servers to be told")
        # Of 24 moments drawn at random from 3 s all are within one second once in a billion times.
        assert max(closed_s) - min(closed_s) > 1
        assert max(closed_s) < 3 + 5
        await asyncio.to_thread(
            wait_until, lambda: not worker.read_counts()["worker"]["connections_open"], "the end of all"
        )
        assert is_balanced(worker.read_counts()["worker"])


def open_tunnel(worker: LoneWorker, server: QuickOrigin, path: str) -> Client:
    """Upgrade; return the connection behind the 101."""
    client = Client(worker.port)
    client.send(request(path, Connection="upgrade", Upgrade=path.split("/")[2]))
    assert client.read_head().status == 101
    return client


def read_rest(client: Client) -> bytes:
    """Return all that still comes."""
    client.wait_end()
    return bytes(client.stream.buffer)


def evict(worker: LoneWorker, server: QuickOrigin) -> None:
    """Take the color away, and every tunnel of it at once."""
    worker.serve(BLUE="", GREEN_WEIGHT=1, SILLYPROXY_DRAIN_TIMEOUT="100ms")
    worker.tell(colors={"green": [[0, "127.0.0.1", server.port]]}, generation=2)


def test_no_word_amid_a_frame() -> None:
    """
    Both directions of a WebSocket are in the middle of a frame when it has to go: neither end finds a byte
    of ours among its data.
    """
    with origins(1) as (server,), lone_worker(server) as worker:
        client = open_tunnel(worker, server, "/switch/websocket")
        client.send(HALF_A_FRAME)
        assert client.read_exactly(len(HALF_A_FRAME)) == HALF_A_FRAME
        evict(worker, server)
        assert read_rest(client) == b""
        wait_until(lambda: server.ended["/switch/websocket"], "the end at the server")
        assert bytes(server.tunnelled) == HALF_A_FRAME
        client.close()


def test_each_direction_is_looked_at_by_itself() -> None:
    """The client is amid a frame, the server is not: the client is told, the server is not."""
    with origins(1) as (server,), lone_worker(server) as worker:
        client = open_tunnel(worker, server, "/switch/websocket/mute")
        client.send(HALF_A_FRAME)
        wait_until(lambda: len(server.tunnelled) == len(HALF_A_FRAME), "the half frame")
        evict(worker, server)
        assert read_rest(client) == CLOSE
        assert bytes(server.tunnelled) == HALF_A_FRAME
        client.close()


def test_frames_that_ended_are_followed_by_a_close() -> None:
    """After a frame that came in two parts both ends are told; the server's word is masked."""
    rest = b"y" * (4096 + 8 - len(HALF_A_FRAME))
    with origins(1) as (server,), lone_worker(server) as worker:
        client = open_tunnel(worker, server, "/switch/websocket")
        for part in (HALF_A_FRAME, rest):
            client.send(part)
            assert client.read_exactly(len(part)) == part
        evict(worker, server)
        assert read_rest(client).startswith(CLOSE)
        wait_until(lambda: server.ended["/switch/websocket"], "the end at the server")
        assert bytes(server.tunnelled) == HALF_A_FRAME + rest + bytes([0x88, 0x82, 0, 0, 0, 0, 3, 233])
        client.close()


def test_other_protocols_are_closed_without_a_word() -> None:
    """What is no WebSocket has no Close of ours: its ends see their connections end."""
    with origins(1) as (server,), lone_worker(server) as worker:
        client = open_tunnel(worker, server, "/switch/echo")
        client.send(b"hello")
        assert client.read_exactly(5) == b"hello"
        evict(worker, server)
        assert read_rest(client) == b""
        wait_until(lambda: server.ended["/switch/echo"], "the end at the server")
        assert bytes(server.tunnelled) == b"hello"
        client.close()
