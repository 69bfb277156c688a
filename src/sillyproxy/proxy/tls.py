"""
A TLS connection as a transport.

OpenSSL works between two buffers in memory and never touches the socket. So one read of the
socket brings as many records as are there, where OpenSSL by itself would make two system
calls for each; and nothing that TLS does can block, or has to be told apart from what we do.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Final

# One read of the socket; a record is 16 KiB at most (RFC 8446, 5.1).
_READ_BYTES: Final = 64 * 1024
# What is encrypted before the kernel is asked whether it takes it: it bounds what waits here.
_WRITE_BYTES: Final = 64 * 1024


class TlsTransport:
    """
    A TLS connection over a non-blocking socket: a `proxy.transport.Transport`.

    What is encrypted cannot be taken back. While the kernel has not taken all of it, `send` says
    that it took one byte less than it did: the caller keeps that byte, waits until the connection
    is writable, and sends it again, which sends what waits here.
    """

    __slots__ = ("_ended", "_in", "_is_full", "_is_owed", "_out", "_reset", "_sock", "_tls", "_waiting")

    def __init__(
        self, context: ssl.SSLContext, sock: socket.SocketType, *, server: bool, name: str | None = None
    ) -> None:
        """`name` is the server's, for SNI and to verify its certificate by, if we are the client."""
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=server, server_hostname=name)
        self._sock = sock
        self._waiting = b""
        self._is_owed = False
        self._is_full = False  # the last read of the socket may have left something there
        self._ended = False
        self._reset = False

    # -- The handshake ------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take what was read from the socket by somebody else, before anything is read here."""
        self._in.write(data)

    def shake_hands(self) -> bool:
        """
        Go on with the handshake; True when it is done.

        False: it waits for the other side, or for the socket to take more (`is_waiting`). Raise
        ssl.SSLError if it failed, what there was to say about that having been sent; OSError if
        the connection broke.
        """
        self._flush()
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush_out()
                try:
                    self._fill()
                except BlockingIOError:
                    return False
                if self._ended:
                    raise ConnectionResetError("closed during the handshake") from None
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush_out()
                raise
            else:
                self._flush_out()
                return True

    @property
    def is_waiting(self) -> bool:
        """Whether the kernel has not yet taken all that was encrypted."""
        return self._waiting != b""

    def flush(self) -> bool:
        """Send what waits, as far as the kernel takes it; True if that is all. Raise OSError."""
        return self._flush()

    @property
    def session(self) -> ssl.SSLObject:
        """The TLS side, for what was agreed on: protocol, cipher, certificate."""
        return self._tls

    # -- What a transport does ----------------------------------------------------------

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._sock.fileno()

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Return up to `bufsize` bytes; of the flags MSG_PEEK with an answer that is only true or false."""
        if flags:
            return self._peek()
        data = self._read(bufsize)
        while len(data) < bufsize and self._has_more():
            try:
                more = self._read(bufsize - len(data))
            except OSError:
                break  # nothing more now; if it is broken, the next read says so
            if not more:
                break
            data += more
        return data

    def recv_into(self, buffer: memoryview, nbytes: int = 0, /) -> int:
        """Read into `buffer`; return how many bytes."""
        size = nbytes or len(buffer)
        count = self._read_into(buffer[:size])
        while 0 < count < size and self._has_more():
            try:
                more = self._read_into(buffer[count:size])
            except OSError:
                break
            if not more:
                break
            count += more
        return count

    def send(self, data: bytes | memoryview, /) -> int:
        """Encrypt and send; return how many bytes, less one while some wait here."""
        if self._waiting and not self._flush():
            raise BlockingIOError
        taken = 0
        if self._is_owed:
            self._is_owed = False
            taken = 1
        size = len(data)
        view = memoryview(data) if size - taken > _WRITE_BYTES else data
        while taken < size:
            piece = view[taken : taken + _WRITE_BYTES] if size > _WRITE_BYTES or taken else view
            try:
                taken += self._tls.write(piece)
            except ssl.SSLError as error:
                raise ConnectionResetError(str(error)) from None
            if not self._flush_out():
                self._is_owed = True
                return taken - 1
        return taken

    def shutdown(self, how: int, /) -> None:
        """Say that nothing more comes (close_notify; RFC 8446, 6.1), then end the sending side."""
        if how != socket.SHUT_RD:
            self._say_goodbye()
        self._sock.shutdown(how)

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        """Set an option of the socket; one that is to be reset when it is closed ends without a goodbye."""
        if level == socket.SOL_SOCKET and option == socket.SO_LINGER:
            self._reset = True
        self._sock.setsockopt(level, option, value)

    def getsockopt(self, level: int, option: int, /) -> int:
        """Return an option of the socket."""
        return self._sock.getsockopt(level, option)

    def close(self) -> None:
        """Close; the other side is told that this is the end, unless it is not."""
        if not self._reset:
            self._say_goodbye()
        self._sock.close()

    # -- Between the socket and OpenSSL -------------------------------------------------

    def _has_more(self) -> bool:
        """Tell whether a read may bring more: of what is here, or of what the last one left in the kernel."""
        return self._in.pending > 0 or self._tls.pending() > 0 or self._is_full

    def _peek(self) -> bytes:
        if self._tls.pending():
            return b"\0"
        # Nothing is asked of a connection that is peeked at: what is read here is unasked for, and
        # whoever is told so closes it. Session tickets come this way too, and are no bytes.
        return self._read(1)

    def _read(self, size: int) -> bytes:
        while True:
            try:
                data = self._tls.read(size)
            except ssl.SSLWantReadError:
                self._read_failed()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as error:
                raise self._broken(error) from None
            else:
                return data

    def _read_into(self, buffer: memoryview) -> int:
        while True:
            try:
                return int(self._tls.read(len(buffer), buffer))  # of a buffer it returns how much
            except ssl.SSLWantReadError:
                self._read_failed()
            except ssl.SSLZeroReturnError:
                return 0
            except ssl.SSLError as error:
                raise self._broken(error) from None

    def _read_failed(self) -> None:
        """OpenSSL has not enough for a record. Raise BlockingIOError if the kernel has not either."""
        if self._out.pending:
            self._flush_out()  # an answer to a key update
        if self._ended:
            # No close_notify: what came may not be all (RFC 8446, 6.1).
            raise ConnectionResetError("ended without close_notify")
        self._fill()

    def _broken(self, error: ssl.SSLError) -> ConnectionResetError:
        with contextlib.suppress(OSError):
            self._flush_out()
        return ConnectionResetError(str(error))

    def _fill(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            self._is_full = False
            raise
        except OSError:
            self._ended = True  # a reset is told once by the kernel, and by us whenever we are asked
            raise
        self._is_full = len(data) == _READ_BYTES
        if data:
            self._in.write(data)
        else:
            self._ended = True
            self._in.write_eof()

    def _flush(self) -> bool:
        waiting = self._waiting
        if waiting:
            try:
                waiting = self._waiting = waiting[self._sock.send(waiting) :]
            except BlockingIOError:
                return False
        return not waiting

    def _flush_out(self) -> bool:
        """Send what OpenSSL has written; True if the kernel took all of it."""
        data = self._out.read()
        if self._waiting:
            self._waiting += data
            return self._flush()
        if not data:
            return True
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._waiting = data[sent:]
            return False
        return True

    def _say_goodbye(self) -> None:
        # It waits for the other side's, which is not needed; or there is nothing to end.
        with contextlib.suppress(ssl.SSLError, OSError, ValueError):
            self._tls.unwrap()
        with contextlib.suppress(OSError):
            self._flush_out()
