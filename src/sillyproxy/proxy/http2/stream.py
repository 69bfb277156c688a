"""
One stream of an HTTP/2 connection as a connection of HTTP/1.1, whichever side of it we are.

To who uses it a stream is a transport like a socket: what is read from it and written to it is HTTP/1.1.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

from sillyproxy.http1.framing import CHUNKED, UNTIL_CLOSE, Chunked
from sillyproxy.http2.frames import DATA, DEFAULT_FRAME_SIZE, END_STREAM, HEAD
from sillyproxy.http2.heads import write_trailers

if TYPE_CHECKING:
    from sillyproxy.proxy.http2.connection import Connection

AWAITS_HEAD, BODY, TUNNEL, ENDED = range(4)

# So much is read before the peer is told that it may send as much again.
_CREDIT_BYTES: Final = 32 * 1024


class Stream:
    """
    A `proxy.transport.Transport` over a stream; `stream` is its number, 0 if there is none.

    `phase` is that of what we send: its head, its body (`left` of it, or CHUNKED, or UNTIL_CLOSE), a
    tunnel's bytes, or nothing any more. `received`: all has come; `receive_window` is how much the peer
    may send, `credit` what was read of it and not told yet. `window` is how much the peer takes. What
    is sent is taken as far as that window, that of the connection, and its buffer allow.
    """

    __slots__ = (
        "_fd",
        "_fresh",
        "_is_waiting",
        "_sent_bytes",
        "abort",
        "chunks",
        "closed",
        "conn",
        "credit",
        "is_shut",
        "left",
        "partial",
        "phase",
        "receive_window",
        "received",
        "reset",
        "rx",
        "stream",
        "window",
    )

    def __init__(self, conn: Connection[Any], fd: int) -> None:
        self.conn = conn
        self._fd = fd
        self.closed = False
        self.reset = False
        self.stream = 0
        self.window = self.receive_window = self.credit = 0
        self.received = False
        self.abort = False
        self.chunks: Chunked | None = None
        self.is_shut = False
        self._is_waiting = False
        self.left = 0
        self.partial = b""
        self.phase = ENDED
        self.rx = b""
        self._fresh = bytearray()
        self._sent_bytes = 0

    # -- What each side does in its own way ---------------------------------------------

    def send_head(self, head: bytes, data: bytes | memoryview, at: int) -> None:
        """Send a head, given without its empty line; in `data`, from `at` on, is what comes behind it."""
        raise NotImplementedError

    def end_sending(self) -> None:
        """END_STREAM was sent."""
        raise NotImplementedError

    def takes(self, size: int) -> bool:
        """Tell whether the peer's message may have `size` bytes more."""
        raise NotImplementedError

    def feed(self, payload: bytes) -> None:
        """Take what DATA brought, by `keep`; the windows were looked at by the connection."""
        raise NotImplementedError

    def may_end(self) -> bool:
        """Tell whether the peer's message may end here: a content-length is kept to."""
        raise NotImplementedError

    def end(self, trailers: bytes = b"\r\n") -> None:
        """The peer's END_STREAM has come, with these trailer lines and their end."""
        raise NotImplementedError

    @property
    def is_chunked(self) -> bool:
        """Whether the peer's message has no length, so that HTTP/1.1 has it in chunks."""
        raise NotImplementedError

    @property
    def has_ended(self) -> bool:
        """Whether nothing is to be read any more, and that is known by nothing else."""
        return self.is_shut

    # -- What the connection brings -----------------------------------------------------

    def give_up(self) -> None:
        """The stream is over, by the peer's will or with its connection."""
        self.reset = True
        self.stream = 0
        self.forget_received()

    def forget_received(self) -> None:
        """What has come and was not read is for nobody."""
        self.rx = b""
        self._fresh.clear()

    def keep(self, payload: bytes) -> None:
        """
        Keep a part of a body until it is read.

        However small the parts are, they become one chunk, or one piece, of what is read at once.
        """
        self.credit += len(payload)
        self._fresh += payload

    def frame_received(self) -> None:
        """Frame what was kept as HTTP/1.1 does."""
        if not self._fresh:
            return
        if self.is_chunked:
            self.rx += b"%x\r\n%b\r\n" % (len(self._fresh), bytes(self._fresh))
        else:
            self.rx += bytes(self._fresh)
        self._fresh.clear()

    def may_go_on(self) -> bool:
        """Tell whether who had to wait here may write again, now that there is room somewhere."""
        if self._is_waiting and not self.closed:
            self._is_waiting = self.window <= 0 and self.phase != AWAITS_HEAD
            return not self._is_waiting
        return False

    # -- What a transport does ----------------------------------------------------------

    def fileno(self) -> int:
        """Return its virtual descriptor."""
        return self._fd

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Return up to `bufsize` bytes of the peer's message."""
        if self._fresh:
            self.frame_received()
        data = self.rx
        if not data:
            return self._nothing()
        if flags:
            return data[:bufsize]
        if len(data) <= bufsize:
            self.rx = b""
            if self.credit >= _CREDIT_BYTES:
                self.conn.give_credit(self)
            return data
        self.rx = data[bufsize:]
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
        if self.has_ended:
            return b""
        raise BlockingIOError

    def send(self, data: bytes | memoryview, /) -> int:
        """Send a message as HTTP/1.1 writes it; return how many bytes were taken."""
        if self.reset or not self.stream:
            raise ConnectionResetError
        if self.conn.is_full:
            self._wait()
            raise BlockingIOError
        at = 0
        while self.phase == AWAITS_HEAD:
            before = len(self.partial)
            head = self.partial + bytes(data[at:]) if before or at else bytes(data)
            end = head.find(b"\r\n\r\n")
            if end < 0:
                self.partial = head
                return len(data)
            self.partial = b""
            at += end + 4 - before
            self.send_head(head[:end], data, at)
            if self.phase == ENDED:
                return len(data)
        return at + self._send_body(data[at:] if at else data)

    def _send_body(self, data: bytes | memoryview) -> int:
        """Send what is no head; return how much was taken."""
        left = self.left
        if left == CHUNKED and self.phase == BODY:
            return self._send_chunks(data)
        size = len(data)
        is_counted = self.phase == BODY and left != UNTIL_CLOSE
        if is_counted:
            size = min(size, left)
        taken = self._put_data(data[:size], ends=is_counted and size == left)
        if is_counted:
            self.left -= taken
            if not self.left:
                self.end_sending()
        if taken < size:
            self._wait()
        return taken

    def _send_chunks(self, data: bytes | memoryview) -> int:
        """Send the payload of chunks, no more of them than there is room for it."""
        chunks = self.chunks
        assert chunks is not None
        conn = self.conn
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
            self.end_sending()
            break
        return at

    def _put_data(self, data: bytes | memoryview, *, ends: bool) -> int:
        """Write DATA as far as windows and buffer allow; return how much."""
        conn = self.conn
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
        self.conn.stalled[self] = None

    def setsockopt(self, level: int, option: int, _value: int | bytes, /) -> None:
        """Of a socket's options a stream has none; but one that is to be reset when it is closed is."""
        if level == socket.SOL_SOCKET and option == socket.SO_LINGER:
            self.abort = True

    def getsockopt(self, _level: int, _option: int, /) -> int:
        """Return 0."""
        return 0

    def carrier(self) -> int:
        """Return the descriptor of the connection."""
        return self.conn.fd

    def untaken(self) -> int:
        """Return a number that changes as long as the peer takes what is sent."""
        return self._sent_bytes
