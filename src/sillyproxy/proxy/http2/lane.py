"""
A stream of a client's, as its connection of HTTP/1.1.

The `Downstream` over it reads a request there, and writes its response. So splitting, retries,
limits, records and tunnels are the one way that there is, and a request is judged by the same grammar
whatever it came in. When a stream is over the lane carries the next, as a kept connection would.
"""

from __future__ import annotations

import socket
from base64 import b64encode
from hashlib import sha1
from typing import TYPE_CHECKING, Final

from sillyproxy.http1.framing import CHUNKED, UNTIL_CLOSE, Chunked
from sillyproxy.http2.frames import (
    CANCEL,
    DATA,
    DEFAULT_FRAME_SIZE,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEADERS,
    INTERNAL_ERROR,
    NO_ERROR,
)
from sillyproxy.proxy.http2.stream import AWAITS_HEAD, BODY, ENDED, TUNNEL, Stream

if TYPE_CHECKING:
    from sillyproxy.http2.heads import RequestHead
    from sillyproxy.proxy.downstream import Downstream
    from sillyproxy.proxy.http2.server import ServerConnection

# RFC 6455, 1.3.
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Lane(Stream):
    """
    One stream at a time of a client's connection.

    `request_left` is what DATA has still to bring of the request: bytes, or CHUNKED.
    """

    __slots__ = ("_is_head", "_key", "_server", "down", "request_left")

    down: Downstream

    def __init__(self, conn: ServerConnection, fd: int) -> None:
        super().__init__(conn, fd)
        self._server = conn
        self.request_left = 0
        self._is_head = False
        self._key = b""

    def begin(
        self, stream: int, request: RequestHead, window: int, receive_window: int, *, ended: bool
    ) -> None:
        """Carry another stream; its head is there to be read."""
        self.stream = stream
        self.window = window
        self.receive_window = receive_window
        self.received = ended
        self.request_left = request.body
        self._is_head = request.is_head
        self._key = request.key
        self.forget_received()
        self.rx = request.head
        self.partial = b""
        self.left = 0
        self.chunks = None
        self.phase = AWAITS_HEAD

    @property
    def is_chunked(self) -> bool:
        """Whether the request has no length; what is said in a tunnel is no body."""
        return self.request_left == CHUNKED and not self._key

    def takes(self, size: int) -> bool:
        """Tell whether the request may have `size` bytes more: a content-length is kept to."""
        return self.request_left == CHUNKED or self._key != b"" or size <= self.request_left

    def may_end(self) -> bool:
        """Tell whether the request may end here."""
        return self.request_left <= 0

    def feed(self, payload: bytes) -> None:
        """Take what DATA brought; the windows were looked at by the connection."""
        self.keep(payload)
        if self.phase == ENDED:
            # The response is over, and the rest of the request is for nobody.
            self.forget_received()
            self._server.give_credit(self)
        elif not self._key and self.request_left != CHUNKED:
            self.request_left -= len(payload)

    def end(self, trailers: bytes = b"\r\n") -> None:
        """The stream's END_STREAM has come, with these trailer lines and their end."""
        self.received = True
        self.frame_received()
        if self.request_left == CHUNKED and self.phase != ENDED:
            self.rx += b"0\r\n" + trailers
        self.request_left = 0
        if self.phase == ENDED:
            self.forget_received()
            self._server.end_stream(self)

    @property
    def has_ended(self) -> bool:
        """Whether who lingers, or is a tunnel, has all: a request tells of its own end."""
        return self.is_shut or (self._key != b"" and self.received)

    def send_head(self, head: bytes, data: bytes | memoryview, at: int) -> None:
        """Send the head of a response, and in one piece with it what is behind it in `data` from `at` on."""
        conn = self._server
        response = conn.responses[head]
        body = 0 if self._is_head else response.body
        status = response.status
        flags = END_HEADERS
        rest = len(data) - at
        if status < 200:
            if status == 101:
                self.phase = TUNNEL
                self._check_accept(response.accept)
        elif body == 0:
            flags = END_HEADERS | END_STREAM
        else:
            self.phase = BODY
            self.left = body
            if body == CHUNKED:
                self.chunks = Chunked(decode=True)
        block = response.block
        size = len(block)
        stream = self.stream
        if size > DEFAULT_FRAME_SIZE:
            conn.put_block(stream, block, ended=flags & END_STREAM != 0)
        elif 0 < body == rest <= min(self.window, conn.window, DEFAULT_FRAME_SIZE) and status >= 200:
            # All of it is here, as nearly always, and goes in one piece.
            self.window -= rest
            conn.window -= rest
            conn.put(
                b"%b%b%b%b"
                % (
                    HEAD.pack(0, size, HEADERS, flags, stream),
                    block,
                    HEAD.pack(0, rest, DATA, END_STREAM, stream),
                    bytes(data[at:]),
                )
            )
            conn.sent_data()
            self.end_sending()
            return
        else:
            conn.put(HEAD.pack(0, size, HEADERS, flags, stream) + block)
        if flags & END_STREAM:
            self.end_sending()

    def _check_accept(self, accept: bytes) -> None:
        """RFC 6455, 4.1: what does not prove that it understood is no WebSocket."""
        proof = b64encode(sha1(self._key + _GUID, usedforsecurity=False).digest())
        if accept != proof:
            self._server.reset_stream(self, INTERNAL_ERROR)
            self.reset = True
            raise ConnectionResetError

    def end_sending(self) -> None:
        """The response is over; the stream is if the request is."""
        self.phase = ENDED
        if self.received:
            self.forget_received()
            self._server.end_stream(self)
        elif self._key:
            # It will be no WebSocket; what the client says there is for nobody.
            self.forget_received()
            self._server.reset_stream(self, NO_ERROR)
            self._server.free(self)

    def _end(self) -> None:
        """Nothing more is written to the stream."""
        if not self.stream:
            return
        conn = self._server
        if not self.abort and (self.phase == TUNNEL or (self.phase == BODY and self.left == UNTIL_CLOSE)):
            conn.put(HEAD.pack(0, 0, DATA, END_STREAM, self.stream))
            self.phase = ENDED
            if self.received:
                conn.end_stream(self)
        elif self.phase != ENDED:
            conn.reset_stream(self, INTERNAL_ERROR)

    def shutdown(self, how: int, /) -> None:
        """End the response; one that is cut short is a stream that is reset, never one that ended."""
        if how == socket.SHUT_RD:
            return
        if self.phase != TUNNEL:
            self.is_shut = True
        self._end()

    def close(self) -> None:
        """Be used no more."""
        if self.closed:
            return
        self.closed = True
        self._end()
        if self.stream and (self._key or self.abort):
            self._server.reset_stream(self, CANCEL)  # the half of a tunnel that is still open
        elif self.stream:
            # The rest of the request is not wanted (RFC 9113, 8.1), but a client that is told so at
            # once may not look at its response any more.
            self._server.linger(self)
