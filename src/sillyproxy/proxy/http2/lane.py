"""
One stream of an HTTP/2 connection, as a connection of HTTP/1.1.

To the `Downstream` over it a lane is a transport like a socket: it reads a request there as HTTP/1.1
writes it, and writes its response. So splitting, retries, limits, records and tunnels are the one
way that there is, and a request is judged by the same grammar whatever it came in. When a stream is
over the lane carries the next, as a kept connection would.
"""

from __future__ import annotations

import socket
from base64 import b64encode
from hashlib import sha1
from typing import TYPE_CHECKING, Final

from sillyproxy.http1.framing import CHUNKED, UNTIL_CLOSE, Chunked
from sillyproxy.proxy.http2.frames import (
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
from sillyproxy.proxy.http2.heads import write_trailers

if TYPE_CHECKING:
    from sillyproxy.proxy.downstream import Downstream
    from sillyproxy.proxy.http2.heads import RequestHead
    from sillyproxy.proxy.http2.server import ServerConnection

_AWAITS_HEAD, _BODY, _TUNNEL, _ENDED = range(4)

# RFC 6455, 1.3.
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

# So much is read before the client is told that it may send as much again.
_CREDIT_BYTES: Final = 32 * 1024


class Lane:
    """
    A `proxy.transport.Transport` over one stream at a time; `stream` is its number, 0 between two.

    `request_left` is what DATA has still to bring: bytes, or CHUNKED; `received`: all has come;
    `receive_window` is how much the client may send, `credit` what was read of it and not told yet.
    `window` is how much the client takes. What is sent is taken as far as that window, that of the
    connection, and its buffer allow.
    """

    __slots__ = (
        "_abort",
        "_chunks",
        "_conn",
        "_fd",
        "_is_head",
        "_is_shut",
        "_is_waiting",
        "_key",
        "_left",
        "_partial",
        "_phase",
        "_rx",
        "_sent_bytes",
        "closed",
        "credit",
        "down",
        "receive_window",
        "received",
        "request_left",
        "reset",
        "stream",
        "window",
    )

    down: Downstream

    def __init__(self, conn: ServerConnection, fd: int) -> None:
        self._conn = conn
        self._fd = fd
        self.closed = False
        self.reset = False
        self.stream = 0
        self.window = self.receive_window = self.credit = 0
        self.received = False
        self.request_left = 0
        self._abort = False
        self._chunks: Chunked | None = None
        self._is_head = False
        self._is_shut = False
        self._is_waiting = False
        self._key = b""
        self._left = 0
        self._partial = b""
        self._phase = _ENDED
        self._rx = b""
        self._sent_bytes = 0

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
        self._rx = request.head
        self._partial = b""
        self._left = 0
        self._chunks = None
        self._phase = _AWAITS_HEAD

    # -- What the connection brings -----------------------------------------------------

    def takes(self, size: int) -> bool:
        """Tell whether the request may have `size` bytes more: a content-length is kept to."""
        return self.request_left == CHUNKED or self._key != b"" or size <= self.request_left

    def feed(self, payload: bytes) -> None:
        """Take what DATA brought; the windows were looked at by the connection."""
        self.credit += len(payload)
        if self._phase == _ENDED:
            self._conn.give_credit(self)  # the response is over, and the rest of the request is for nobody
            return
        if self._key:
            self._rx += payload
        elif self.request_left == CHUNKED:
            self._rx += b"%x\r\n%b\r\n" % (len(payload), payload)
        else:
            self.request_left -= len(payload)
            self._rx += payload

    def end_request(self, trailers: bytes = b"\r\n") -> None:
        """The stream's END_STREAM has come, with these trailer lines and their end."""
        self.received = True
        if self.request_left == CHUNKED and self._phase != _ENDED:
            self._rx += b"0\r\n" + trailers
        self.request_left = 0
        if self._phase == _ENDED:
            self._rx = b""
            self._conn.end_stream(self)

    def give_up(self) -> None:
        """The stream is over, by the client's will or with its connection."""
        self.reset = True
        self.stream = 0
        self._rx = b""

    def may_go_on(self) -> bool:
        """Tell whether who had to wait here may write again, now that there is room somewhere."""
        if self._is_waiting and not self.closed:
            self._is_waiting = self.window <= 0 and self._phase != _AWAITS_HEAD
            return not self._is_waiting
        return False

    # -- What a transport does ----------------------------------------------------------

    def fileno(self) -> int:
        """Return its virtual descriptor."""
        return self._fd

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Return up to `bufsize` bytes of the request."""
        data = self._rx
        if not data:
            return self._nothing()
        if flags:
            return data[:bufsize]
        if len(data) <= bufsize:
            self._rx = b""
            if self.credit >= _CREDIT_BYTES:
                self._conn.give_credit(self)
            return data
        self._rx = data[bufsize:]
        return data[:bufsize]

    def recv_into(self, buffer: memoryview, nbytes: int = 0, /) -> int:
        """Read up to `nbytes`, or as much as `buffer` holds; return how many bytes."""
        data = self.recv(nbytes or len(buffer))
        size = len(data)
        buffer[:size] = data
        return size

    def _nothing(self) -> bytes:
        if self.reset:
            raise ConnectionResetError
        # What lingers, or is a tunnel, is told of the end; a request tells of its own.
        if self._is_shut or (self._key and self.received):
            return b""
        raise BlockingIOError

    def send(self, data: bytes | memoryview, /) -> int:
        """Send a response as HTTP/1.1 writes it; return how many bytes were taken."""
        if self.reset or not self.stream:
            raise ConnectionResetError
        if self._conn.is_full:
            self._wait()
            raise BlockingIOError
        at = 0
        while self._phase == _AWAITS_HEAD:
            before = len(self._partial)
            head = self._partial + bytes(data[at:]) if before or at else bytes(data)
            end = head.find(b"\r\n\r\n")
            if end < 0:
                self._partial = head
                return len(data)
            self._partial = b""
            at += end + 4 - before
            self._send_head(head[:end], data, at)
            if self._phase == _ENDED:
                return len(data)
        return at + self._send_body(data[at:] if at else data)

    def _send_head(self, head: bytes, data: bytes | memoryview, at: int) -> None:
        conn = self._conn
        response = conn.responses[head]
        body = 0 if self._is_head else response.body
        status = response.status
        flags = END_HEADERS
        rest = len(data) - at
        if status < 200:
            if status == 101:
                self._phase = _TUNNEL
                self._check_accept(response.accept)
        elif body == 0:
            flags = END_HEADERS | END_STREAM
        else:
            self._phase = _BODY
            self._left = body
            if body == CHUNKED:
                self._chunks = Chunked(decode=True)
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
            self._end_response()
            return
        else:
            conn.put(HEAD.pack(0, size, HEADERS, flags, stream) + block)
        if flags & END_STREAM:
            self._end_response()

    def _check_accept(self, accept: bytes) -> None:
        """RFC 6455, 4.1: what does not prove that it understood is no WebSocket."""
        proof = b64encode(sha1(self._key + _GUID, usedforsecurity=False).digest())
        if accept != proof:
            self._conn.reset_stream(self, INTERNAL_ERROR)
            self.reset = True
            raise ConnectionResetError

    def _send_body(self, data: bytes | memoryview) -> int:
        """Send what is no head; return how much was taken."""
        left = self._left
        if left == CHUNKED and self._phase == _BODY:
            return self._send_chunks(data)
        size = len(data)
        is_counted = self._phase == _BODY and left != UNTIL_CLOSE
        if is_counted:
            size = min(size, left)
        taken = self._put_data(data[:size], ends=is_counted and size == left)
        if is_counted:
            self._left -= taken
            if not self._left:
                self._end_response()
        if taken < size:
            self._wait()
        return taken

    def _send_chunks(self, data: bytes | memoryview) -> int:
        """Send the payload of chunks, no more of them than there is room for it."""
        chunks = self._chunks
        assert chunks is not None
        conn = self._conn
        at = 0
        size = len(data)
        while at < size:
            room = 0 if conn.is_full else min(self.window, conn.window, DEFAULT_FRAME_SIZE)
            if room <= 0:
                if chunks.chunk_left or conn.is_full:
                    self._wait()
                    break
                room = 1  # what is between chunks costs no window: the end must not wait for one
            piece = data[at : at + room]
            at += len(piece)
            payload = chunks.feed(piece)
            if not chunks.done:
                if payload:
                    self._put_data(payload, ends=False)
                continue
            trailers = write_trailers(chunks.trailer)
            if payload:
                self._put_data(payload, ends=not trailers)
            elif not trailers:
                conn.put(HEAD.pack(0, 0, DATA, END_STREAM, self.stream))
            if trailers:
                conn.put_block(self.stream, trailers, ended=True)
            self._end_response()
            break
        return at

    def _put_data(self, data: bytes | memoryview, *, ends: bool) -> int:
        """Write DATA as far as windows and buffer allow; return how much."""
        conn = self._conn
        size = len(data)
        at = 0
        while at < size and not conn.is_full:
            part = min(size - at, self.window, conn.window, DEFAULT_FRAME_SIZE)
            if part <= 0:
                break
            self.window -= part
            conn.window -= part
            flags = END_STREAM if ends and at + part == size else 0
            conn.put(HEAD.pack(0, part, DATA, flags, self.stream))
            conn.put(bytes(data[at : at + part]))
            conn.sent_data()
            at += part
        self._sent_bytes += at
        return at

    def _wait(self) -> None:
        """Be told when more can be sent."""
        self._is_waiting = True
        self._conn.stalled[self] = None

    def _end_response(self) -> None:
        self._phase = _ENDED
        if self.received:
            self._rx = b""
            self._conn.end_stream(self)
        elif self._key:
            # It will be no WebSocket; what the client says there is for nobody.
            self._rx = b""
            self._conn.reset_stream(self, NO_ERROR)
            self._conn.free(self)

    def _end(self) -> None:
        """Nothing more is written to the stream."""
        if not self.stream:
            return
        conn = self._conn
        if not self._abort and (
            self._phase == _TUNNEL or (self._phase == _BODY and self._left == UNTIL_CLOSE)
        ):
            conn.put(HEAD.pack(0, 0, DATA, END_STREAM, self.stream))
            self._phase = _ENDED
            if self.received:
                conn.end_stream(self)
        elif self._phase != _ENDED:
            conn.reset_stream(self, INTERNAL_ERROR)

    def shutdown(self, how: int, /) -> None:
        """End the response; one that is cut short is a stream that is reset, never one that ended."""
        if how == socket.SHUT_RD:
            return
        if self._phase != _TUNNEL:
            self._is_shut = True
        self._end()

    def setsockopt(self, level: int, option: int, _value: int | bytes, /) -> None:
        """Of a socket's options a lane has none; but one that is to be reset when it is closed is."""
        if level == socket.SOL_SOCKET and option == socket.SO_LINGER:
            self._abort = True

    def getsockopt(self, _level: int, _option: int, /) -> int:
        """Return 0."""
        return 0

    def carrier(self) -> int:
        """Return the descriptor of the connection."""
        return self._conn.fd

    def untaken(self) -> int:
        """Return a number that changes as long as the client takes what is sent."""
        return self._sent_bytes

    def close(self) -> None:
        """Be used no more."""
        if self.closed:
            return
        self.closed = True
        self._end()
        if self.stream and (self._key or self._abort):
            self._conn.reset_stream(self, CANCEL)  # the half of a tunnel that is still open
        elif self.stream:
            # The rest of the request is not wanted (RFC 9113, 8.1), but a client that is told so at
            # once may not look at its response any more.
            self._conn.linger(self)
