"""
The origins that nginx cannot play: `sink` swallows uploads, `echo` speaks WebSocket.

    python -m bench.origin PORT [PORT ...]

It stands alone on one epoll loop and does as little as is right, so that the subject stays the
slower side: bodies are thrown away unread, and an echo is the message with its mask taken off.
"""

from __future__ import annotations

import base64
import hashlib
import re
import select
import socket
import sys
from collections.abc import Iterable

SOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
KEY = re.compile(rb"\r\nsec-websocket-key:[ \t]*([^\s]+)", re.IGNORECASE)
DISCARD_BYTES = 1 << 20


def accept_key(key: bytes) -> bytes:
    """
    The Sec-WebSocket-Accept of a Sec-WebSocket-Key (RFC 6455, 1.3).

    >>> accept_key(b"dGhlIHNhbXBsZSBub25jZQ==")
    b's3pPLMBiTxaQ9kYGzzhZRbK+xOo='
    """
    return base64.b64encode(hashlib.sha1(key + SOCKET_GUID).digest())


def read_frames(buffer: bytearray) -> list[tuple[int, bytes]]:
    """
    Take the whole frames out of the buffer: first byte (FIN and opcode) and message, unmasked.

    Messages of 64 KiB and more are not needed here and not understood.
    """
    frames = []
    while len(buffer) >= 2:
        size, start = buffer[1] & 0x7F, 2
        if size == 126:
            if len(buffer) < 4:
                break
            size, start = int.from_bytes(buffer[2:4]), 4
        elif size == 127:
            raise ValueError("message too long")
        masked = buffer[1] & 0x80
        end = start + (4 if masked else 0) + size
        if len(buffer) < end:
            break
        message = bytes(buffer[end - size : end])
        if masked:
            mask = bytes(buffer[start : start + 4]) * (size // 4 + 1)
            message = (int.from_bytes(message) ^ int.from_bytes(mask[:size])).to_bytes(size)
        frames.append((buffer[0], message))
        del buffer[:end]
    return frames


def build_frame(first: int, message: bytes, mask: bytes | None = None) -> bytes:
    """Build one frame of less than 64 KiB."""
    size, flag = len(message), 0x80 if mask else 0
    head = bytes([first, flag | size]) if size < 126 else bytes([first, flag | 126]) + size.to_bytes(2)
    if mask is None:
        return head + message
    keys = (mask * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(message) ^ int.from_bytes(keys)).to_bytes(size)


class Connection:
    """One connection of a proxy: heads are read, then a body is swallowed or messages are echoed."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = bytearray()
        self.body_left = 0
        self.websocket = False

    def receive(self) -> bool:
        """Take what has come; False when the connection is over."""
        if self.body_left:
            # MSG_TRUNC: the kernel drops the bytes without copying them to us
            count = self.sock.recv_into(SCRATCH, min(self.body_left, DISCARD_BYTES), socket.MSG_TRUNC)
            self.body_left -= count
            if count and not self.body_left:
                self._reply()
            return count > 0
        data = self.sock.recv(65536)
        self.buffer += data
        if self.websocket:
            self._echo()
        else:
            self._read_head()
        return len(data) > 0

    def _read_head(self) -> None:
        end = self.buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        head = bytes(self.buffer[:end])
        del self.buffer[:end]
        if key := KEY.search(head):
            self.websocket = True
            self.sock.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept_key(key[1]) + b"\r\n\r\n"
            )
            self._echo()
            return
        length = LENGTH.search(head)
        if length is None and not head.startswith((b"GET ", b"HEAD ")):
            self.sock.sendall(b"HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\n\r\n")
            return
        self.body_left = int(length[1]) - len(self.buffer) if length else 0
        self.buffer.clear()  # no proxy sends a second request before our answer
        if not self.body_left:
            self._reply()

    def _reply(self) -> None:
        self.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")

    def _echo(self) -> None:
        if frames := read_frames(self.buffer):
            self.sock.sendall(b"".join(build_frame(first, message) for first, message in frames))


SCRATCH = bytearray(DISCARD_BYTES)


def serve(ports: Iterable[int]) -> None:
    """Serve for ever."""
    poller = select.epoll()
    listeners: dict[int, socket.socket] = {}
    connections: dict[int, Connection] = {}
    for port in ports:
        listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        listeners[listener.fileno()] = listener
        poller.register(listener, select.EPOLLIN)
    while True:
        for fd, _ in poller.poll():
            if fd in listeners:
                sock, _ = listeners[fd].accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[sock.fileno()] = Connection(sock)
                poller.register(sock, select.EPOLLIN)
                continue
            connection = connections[fd]
            try:
                alive = connection.receive()
            except (OSError, ValueError):
                alive = False
            if not alive:
                del connections[fd]
                connection.sock.close()


if __name__ == "__main__":
    try:
        serve([int(port) for port in sys.argv[1:]])
    except KeyboardInterrupt:
        sys.exit(0)
