"""
A backend of the soak: what it answers can be checked by whoever asked.

    python -m bench.soak_backend PORT

    GET  /bytes/SEED/SIZE     SIZE bytes that follow from SEED
    GET  /stream/SEED/PARTS   PARTS parts, one each 100 ms, in chunks
    GET  /wait/MS             an answer after so long
    POST /sum                 SHA-256 and length of the body
    /echo                     a WebSocket that echoes
    GET  /healthz             200

At SIGTERM it takes no new connection, ends what is under way, closes WebSockets with 1001, and goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import signal
import sys

from bench.origin import accept_key, build_frame, read_frames

LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
KEY = re.compile(rb"\r\nsec-websocket-key:[ \t]*([^\s]+)", re.IGNORECASE)
GOING_AWAY = build_frame(0x88, (1001).to_bytes(2))
PART_S = 0.1


def build_bytes(seed: str, size: int) -> bytes:
    """
    The bytes that follow from a seed.

    >>> len(build_bytes("a", 100)), build_bytes("a", 5) == build_bytes("b", 5)
    (100, False)
    """
    block = hashlib.sha256(seed.encode()).digest()
    return (block * (size // len(block) + 1))[:size]


async def read_chunked(reader: asyncio.StreamReader) -> bytes:
    """Read a body that comes in chunks, to its end."""
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return body


class Backend:
    """The server, and who is busy with it."""

    def __init__(self) -> None:
        self._idle: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving = asyncio.Event()

    async def serve(self, port: int) -> None:
        """Serve until SIGTERM, and then what is under way."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._leaving.set)
        server = await asyncio.start_server(self._meet, "127.0.0.1", port, backlog=1024)
        await self._leaving.wait()
        server.close()
        for writer in list(self._idle):
            writer.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=8)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # Whoever is gone, is gone: clients of the soak break off on purpose, and the proxy with them.
            with contextlib.suppress(OSError, EOFError, ValueError, asyncio.LimitOverrunError):
                while not self._leaving.is_set():
                    self._idle.add(writer)
                    head = await reader.readuntil(b"\r\n\r\n")
                    self._idle.discard(writer)
                    if key := KEY.search(head):
                        await self._echo(reader, writer, key[1])
                        return
                    await self._answer(head, reader, writer)
        finally:
            self._idle.discard(writer)
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, _ = head.split(b" ", 2)
        _, what, *rest = target.decode().split("/")
        body = b""
        if length := LENGTH.search(head):
            body = await reader.readexactly(int(length[1]))
        elif CHUNKED.search(head):
            body = await read_chunked(reader)
        if what == "stream":
            await self._stream(rest[0], int(rest[1]), writer)
            return
        if what == "wait":
            await asyncio.sleep(int(rest[0]) / 1000)
            answer = b"waited\n"
        elif what == "bytes":
            answer = build_bytes(rest[0], int(rest[1]))
        elif what == "sum" and method == b"POST":
            answer = f"{hashlib.sha256(body).hexdigest()} {len(body)}".encode()
        else:
            answer = b"well\n"
        last = b"Connection: close\r\n" if self._leaving.is_set() else b""
        writer.write(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n" % (last, len(answer)) + answer)
        await writer.drain()

    async def _stream(self, seed: str, parts: int, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(parts):
            part = build_bytes(f"{seed}-{number}", 1000)
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
            await asyncio.sleep(PART_S)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes) -> None:
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_key(key) + b"\r\n\r\n"
        )
        buffer = bytearray()
        leaving = asyncio.create_task(self._leaving.wait())
        try:
            while True:
                more = asyncio.create_task(reader.read(65536))
                await asyncio.wait({more, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not more.done():
                    more.cancel()
                    writer.write(GOING_AWAY)
                    return
                data = more.result()
                if not data:
                    return
                buffer += data
                for first, message in read_frames(buffer):
                    writer.write(build_frame(first, message))
                    if first == 0x88:
                        return
                await writer.drain()
        finally:
            leaving.cancel()


if __name__ == "__main__":
    asyncio.run(Backend().serve(int(sys.argv[1])))
