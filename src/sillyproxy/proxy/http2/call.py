"""
A stream to an endpoint, as a connection of HTTP/1.1: of one request and its response.

The `Upstream` over it writes a request there, and reads its response.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from sillyproxy.http1.framing import CHUNKED, Chunked
from sillyproxy.http2.frames import (
    CANCEL,
    DEFAULT_FRAME_SIZE,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEADERS,
    PROTOCOL_ERROR,
)
from sillyproxy.http2.heads import Malformed, read_response, write_request
from sillyproxy.proxy.http2.stream import AWAITS_HEAD, BODY, ENDED, Stream

if TYPE_CHECKING:
    from sillyproxy.http2.hpack import Field
    from sillyproxy.proxy.http2.client import ClientConnection

# What no grammar takes for a response: who reads it will say so.
_MALFORMED = b"malformed HTTP/2\r\n\r\n"


class Call(Stream):
    """
    One request to an endpoint.

    `is_untouched`: the endpoint has said that it did nothing of it (RFC 9113, 8.7), so that it may be
    asked of another.
    """

    __slots__ = ("_client", "_has_head", "_is_head", "_left", "is_untouched")

    def __init__(self, conn: ClientConnection, fd: int) -> None:
        super().__init__(conn, fd)
        self._client = conn
        self._has_head = False
        self._is_head = False
        self._left = 0
        self.is_untouched = False
        self.phase = AWAITS_HEAD

    # -- The request --------------------------------------------------------------------

    def send(self, data: bytes | memoryview, /) -> int:
        """Send a request as HTTP/1.1 writes it; return how many bytes were taken."""
        if not self.stream and self.phase == AWAITS_HEAD and not self.reset:
            self._client.open(self)
        if self.phase == ENDED:
            raise BrokenPipeError  # nobody wants the rest of the request
        return super().send(data)

    def send_head(self, head: bytes, data: bytes | memoryview, at: int) -> None:
        """Send a request's head, and in one piece with it what is behind it in `data` from `at` on."""
        client = self._client
        request = write_request(head, client.scheme)
        self._is_head = request.is_head
        block, body = request.block, request.body
        self.phase = BODY
        self.left = body
        flags = END_HEADERS if body else END_HEADERS | END_STREAM
        if len(block) > DEFAULT_FRAME_SIZE:
            client.put_block(self.stream, block, ended=not body)
        else:
            client.put(HEAD.pack(0, len(block), HEADERS, flags, self.stream) + block)
        if body == CHUNKED:
            self.chunks = Chunked(decode=True)
        elif not body:
            self.end_sending()

    def end_sending(self) -> None:
        """All of the request is sent."""
        self.phase = ENDED
        if self.received:
            self._client.end_stream(self)

    # -- The response -------------------------------------------------------------------

    def take_head(self, fields: list[Field], *, ended: bool) -> None:
        """Take a head, an interim one perhaps. Raise Malformed."""
        response = read_response(fields, ended=ended, is_head=self._is_head)
        self.rx += response.head
        if response.status < 200:
            if ended:
                raise Malformed("an interim response that ends the stream")
            return
        self._has_head = True
        self._left = response.body
        if ended:
            self._end_response()

    @property
    def awaits_head(self) -> bool:
        """Whether the final head has not come yet."""
        return not self._has_head

    @property
    def is_chunked(self) -> bool:
        """Whether the response has no length."""
        return self._left == CHUNKED

    def takes(self, size: int) -> bool:
        """Tell whether the response may have `size` bytes more."""
        return self._has_head and (self._left == CHUNKED or size <= self._left)

    def may_end(self) -> bool:
        """Tell whether the response may end here."""
        return self._has_head and self._left <= 0

    def feed(self, payload: bytes) -> None:
        """Take a part of the body; the windows were looked at by the connection."""
        self.keep(payload)
        if self._left != CHUNKED:
            self._left -= len(payload)

    def end(self, trailers: bytes = b"\r\n") -> None:
        """The response is over, with these trailer lines and their end."""
        self.frame_received()
        if self._left == CHUNKED:
            self.rx += b"0\r\n" + trailers
        self._left = 0
        self._end_response()

    def _end_response(self) -> None:
        self.received = True
        if self.phase == ENDED:
            self._client.end_stream(self)

    def be_malformed(self) -> None:
        """What came is no response."""
        number = self.stream
        if number:
            self._client.reset_stream(self, PROTOCOL_ERROR)
        if self._has_head:
            self.reset = True
            self.forget_received()
        else:
            self.rx = _MALFORMED
        self.phase = ENDED

    def be_over(self) -> None:
        """The endpoint wants no more of the request, and has answered: what has come is the response."""
        self._client.forget(self)
        self.stream = 0
        self.phase = ENDED

    # -- What a transport does ----------------------------------------------------------

    def _nothing(self) -> bytes:
        if self.is_untouched:
            raise ConnectionResetError(errno.ECANCELED, "not processed")
        return super()._nothing()

    def shutdown(self, how: int, /) -> None:
        """A request tells of its own end."""

    def setsockopt(self, _level: int, _option: int, _value: int | bytes, /) -> None:
        """Of a socket's options a call has none."""

    def close(self) -> None:
        """Be used no more: what the endpoint still does for it, it need not do."""
        if not self.closed:
            self.closed = True
            if self.stream:
                self._client.reset_stream(self, CANCEL)
