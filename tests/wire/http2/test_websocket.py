"""Promise: WebSockets over a stream (RFC 8441) are those that they are over a connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import threading
from collections.abc import Iterator

import pytest
import websockets
from websockets.asyncio.server import ServerConnection, serve

from tests.wire.harness import OK, Origin, find_free_port
from tests.wire.http2.peer import (
    CANCEL,
    DATA,
    END_STREAM,
    RST_STREAM,
    Answer,
    Peer,
    frame,
    headers,
    request,
    u32,
)
from tests.wire.stress_tools import read_status, serving, wait_at_rest, wait_until

CONNECT = [
    *request("/chat", "CONNECT"),
    (":protocol", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-protocol", "talk"),
]


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    """A real server of WebSockets, which says everything twice."""
    port = find_free_port()
    loop = asyncio.new_event_loop()

    async def talk(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)
            await connection.send(message)

    async def run() -> None:
        async with serve(talk, "127.0.0.1", port, subprotocols=[websockets.Subprotocol("talk")]):
            started.set()
            await asyncio.Future()

    started = threading.Event()
    task = loop.create_task(run())
    threading.Thread(target=_run, args=(loop, task), daemon=True).start()
    assert started.wait(10)
    yield f"http://127.0.0.1:{port}"
    loop.call_soon_threadsafe(task.cancel)


def _run(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(task)


def text(data: bytes) -> bytes:
    """A client's frame: masked (RFC 6455, 5.3)."""
    mask = os.urandom(4)
    size = bytes((0x80 | len(data),)) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
    return b"\x81" + size + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))


def said(data: bytes) -> bytes:
    """A server's frame."""
    return (
        b"\x81" + (bytes((len(data),)) if len(data) < 126 else b"\x7e" + struct.pack(">H", len(data))) + data
    )


def read_until(answer: Answer, peer: Peer, size: int) -> bytes:
    while len(answer.body) < size:
        peer.read_frame()
    return answer.body


def test_talk(echo: str) -> None:
    """Messages both ways, several sockets on one connection, each closed in its own way."""
    with serving({"BLUE": echo}) as proxy:
        peer = Peer(proxy.port)
        assert peer.is_alive()
        assert peer.theirs[8] == 1
        for number in (1, 3, 5):
            peer.send(headers(number, CONNECT, 0))
        answers = {number: peer.answers.setdefault(number, Answer()) for number in (1, 3, 5)}
        for number, answer in answers.items():
            while not answer.fields:
                peer.read_frame()
            assert answer.status == 200
            assert answer.value("sec-websocket-protocol") == "talk"
            assert answer.value("sec-websocket-accept") is None
            words = b"hello %d" % number
            peer.send(frame(DATA, 0, number, text(words)))
            assert read_until(answer, peer, 2 * len(said(words))) == 2 * said(words)
        wait_until(lambda: read_status(proxy)["counters"]["tunnels_open"] == 3, "the count")
        large = b"x" * 20_000
        masked = text(large)
        peer.send(frame(DATA, 0, 1, masked[:9000]) + frame(DATA, 0, 1, masked[9000:]))
        before = 2 * len(said(b"hello 1"))
        assert read_until(answers[1], peer, before + 2 * len(said(large)))[before:] == 2 * said(large)
        # By Close, whose answer ends the stream; by END_STREAM; by RST_STREAM.
        peer.send(frame(DATA, 0, 1, b"\x88\x82" + bytes(4) + b"\x03\xe8"))
        assert peer.read_answer(1).end == "ended"
        assert answers[1].body.endswith(b"\x88\x02\x03\xe8")
        # The client says nothing to that, as browsers do: it has a moment for it.
        peer.send(frame(DATA, END_STREAM, 3))
        assert peer.read_answer(3).end in ("ended", "reset")
        peer.send(frame(RST_STREAM, 0, 5, u32(CANCEL)))
        wait_until(lambda: read_status(proxy)["counters"]["tunnels_open"] == 0, "the end of all")
        peer.send(headers(7, request()))
        assert peer.read_answer(7).status == 426  # no WebSocket
        peer.close()
        wait_at_rest(proxy)


def test_no_websocket_there() -> None:
    """Whoever does not switch has given its answer; the connection serves on."""
    server = Origin()
    with serving({"BLUE": server.url}) as proxy:
        peer = Peer(proxy.port)
        peer.send(headers(1, CONNECT, 0))
        answer = peer.read_answer(1)
        assert (answer.status, answer.body) == (200, b"ok")
        got = server.wait()
        assert got.line == b"GET /chat HTTP/1.1"
        assert got.list("connection") == [b"upgrade"]
        assert got.values("upgrade") == [b"websocket"]
        assert len(got.values("sec-websocket-key")) == 1
        peer.send(headers(3, request()))
        assert peer.read_answer(3).status == 200
        peer.close()
    server.close()


@pytest.mark.parametrize("accept", [b"", b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n"])
def test_server_that_did_not_understand(accept: bytes) -> None:
    """A 101 that does not prove that the key was read is none (RFC 6455, 4.1)."""
    server = Origin()
    server.restart(b"HTTP/1.1 101 Yes\r\nConnection: upgrade\r\nUpgrade: websocket\r\n%b\r\n" % accept)
    with serving({"BLUE": server.url}) as proxy:
        peer = Peer(proxy.port)
        peer.send(headers(1, CONNECT, 0))
        answer = peer.read_answer(1)
        assert answer.end == "reset"
        assert not answer.fields
        server.restart(OK)
        peer.send(headers(3, request()))
        assert peer.read_answer(3).status == 200
        peer.close()
    server.close()


def test_goodbye_in_a_drain(echo: str) -> None:
    """What is open when time is up is told 1001, as any WebSocket is."""
    with serving({"BLUE": echo}) as proxy:
        peer = Peer(proxy.port)
        peer.send(headers(1, CONNECT, 0))
        answer = peer.answers.setdefault(1, Answer())
        while not answer.fields:
            peer.read_frame()
        proxy.process.terminate()
        assert peer.read_end() == "closed"
        assert answer.body == b"\x88\x02\x03\xe9"
        assert [code for _, code, _ in peer.goaway] == [0, 0]
