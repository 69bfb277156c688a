"""
Where a body ends.

A body of a known length, or until the connection closes, is only counted, by whoever
relays it. A chunked body has to be read, because its end is inside: `Chunked` follows
it, strictly, and says which bytes may go on.

What goes on is only what was understood. A chunk's size line is held back until it is
complete, so that the next hop never sees a byte that we have not judged.
"""

from __future__ import annotations

from typing import Final

from sillyproxy.http1.grammar import CHUNK_LINE, FIELDS

# What stands for a body's length when it has none.
CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2

# A size line with its extensions, a trailer section, and all extensions of one body.
MAX_LINE_BYTES: Final = 4096
MAX_TRAILER_BYTES: Final = 16384
MAX_EXTENSION_BYTES: Final = 16384

_SIZE, _DATA, _DATA_END, _TRAILER, _DONE = range(5)

# RFC 9110, 6.5.1: what frames, routes or authenticates a message must not come after it.
# A server that merges trailers into the head would believe them.
FORBIDDEN_TRAILERS: Final = frozenset(
    b"authorization cache-control connection content-encoding content-length content-range content-type "
    b"cookie expect forwarded host keep-alive max-forwards proxy-authorization proxy-connection range "
    b"set-cookie te trailer transfer-encoding upgrade via".split()
)


class ChunkError(Exception):
    """The bytes are not a chunked body (RFC 9112, 7.1)."""


class Chunked:
    """
    Follows one chunked body.

    `feed` takes bytes as they come and returns what may go on; when `done`, `rest` holds
    what came behind the body. With `decode` the payload alone goes on, for a next hop
    that knows no chunks (HTTP/1.0); `trailer` then has the lines that would have followed it.
    `payload_bytes` counts the payload, `chunk_left` what the current chunk still has of it.

    >>> body = Chunked()
    >>> body.feed(b"3\\r\\nabc\\r\\n0\\r\\n"), body.done
    (b'3\\r\\nabc\\r\\n0\\r\\n', False)
    >>> body.feed(b"\\r\\nGET"), body.done, body.rest
    (b'\\r\\n', True, b'GET')
    """

    __slots__ = (
        "_decode",
        "_drop",
        "_extension_bytes",
        "_left",
        "_partial",
        "_state",
        "done",
        "payload_bytes",
        "rest",
        "trailer",
    )

    def __init__(self, *, decode: bool = False, drop: frozenset[bytes] = FORBIDDEN_TRAILERS) -> None:
        self._decode = decode
        self._drop = drop
        self._state = _SIZE
        self._left = 0
        self._partial = b""
        self._extension_bytes = 0
        self.payload_bytes = 0
        self.done = False
        self.rest = b""
        self.trailer = b""

    @property
    def chunk_left(self) -> int:
        """Return how many bytes of payload the current chunk still has; 0 between two."""
        return self._left if self._state == _DATA else 0

    def feed(self, data: bytes | memoryview) -> bytes | memoryview:
        """Take the next bytes; return what may go on. Raises ChunkError, after which the body is unusable."""
        if self.done:
            self.rest += bytes(data)
            return b""
        if self._state == _DATA and len(data) <= self._left:
            # Inside a large chunk: nothing to read, nothing to copy.
            self._left -= len(data)
            self.payload_bytes += len(data)
            if not self._left:
                self._state = _DATA_END
            return data
        data = self._partial + data if self._partial else bytes(data)
        self._partial = b""
        payload: list[bytes] = []
        # With an extension the line goes on without it: whoever reads after us may not
        # expect one, and blanks before it must not go on (RFC 9112, 7.1.1).
        rewritten: list[bytes] = []
        start = at = 0
        size = len(data)
        while True:
            if self._state == _DATA:
                end = min(at + self._left, size)
                payload.append(data[at:end])
                self._left -= end - at
                self.payload_bytes += end - at
                at = end
                if self._left:
                    break
                self._state = _DATA_END
            if self._state == _DATA_END:
                if size - at < 2:
                    if data[at:] not in (b"", b"\r"):
                        raise ChunkError("no line end after chunk data")
                    break
                if data[at : at + 2] != b"\r\n":
                    raise ChunkError("no line end after chunk data")
                at += 2
                self._state = _SIZE
            if self._state == _SIZE:
                line = CHUNK_LINE.match(data, at)
                if line is None:
                    self._check_partial_line(data, at)
                    break
                self._begin_chunk(line[1], line[2])
                at = line.end()
                if line[2]:
                    rewritten += (data[start : line.end(1)], b"\r\n")
                    start = at
            if self._state == _TRAILER:
                end = self._trailer_end(data, at)
                if end < 0:
                    break
                trailer = self._filter_trailer(data[at : end - 2])
                self._state = _DONE
                self.done = True
                self.rest = data[end:]
                if self._decode:
                    self.trailer = trailer
                    return b"".join(payload)
                return b"".join((*rewritten, data[start:at], trailer, b"\r\n"))
        self._partial = data[at:]
        if self._decode:
            return b"".join(payload)
        if rewritten:
            return b"".join((*rewritten, data[start:at]))
        return data[:at]

    def _begin_chunk(self, digits: bytes, extension: bytes) -> None:
        if extension:
            self._extension_bytes += len(extension)
            if len(extension) > MAX_LINE_BYTES or self._extension_bytes > MAX_EXTENSION_BYTES:
                raise ChunkError("chunk extensions too long")
        self._left = int(digits, 16)
        self._state = _DATA if self._left else _TRAILER

    @staticmethod
    def _check_partial_line(data: bytes, at: int) -> None:
        """Let an incomplete size line wait, unless it can no longer become a good one."""
        partial = data[at:]
        # The limit is the extensions': up to 15 digits come before them, and CR behind.
        if b"\n" in partial or len(partial) > MAX_LINE_BYTES + 16:
            raise ChunkError("malformed chunk size")
        digits = partial[:16].rstrip(b"\r").partition(b";")[0].rstrip(b" \t")
        if digits.strip(b"0123456789abcdefABCDEF") or len(digits) > 15 or (partial and not digits):
            raise ChunkError("malformed chunk size")
        carriage = partial.find(b"\r")
        if 0 <= carriage < len(partial) - 1:
            raise ChunkError("malformed chunk size")

    @staticmethod
    def _trailer_end(data: bytes, at: int) -> int:
        """Return where the trailer section ends (behind its empty line), -1 if it has not come yet."""
        if data.startswith(b"\r\n", at):
            return at + 2
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            tail = data[at:]
            if len(tail) > MAX_TRAILER_BYTES + 3 or b"\n" in tail.replace(b"\r\n", b""):
                raise ChunkError("malformed or too large trailer section")
            return -1
        if end - at > MAX_TRAILER_BYTES or not FIELDS.fullmatch(b"\r\n" + data[at:end]):
            raise ChunkError("malformed or too large trailer section")
        return end + 4

    def _filter_trailer(self, trailer: bytes) -> bytes:
        """Return the trailer fields without those that must not come in a trailer."""
        kept = [
            line + b"\r\n"
            for line in trailer.split(b"\r\n")
            if line
            and (name := line.partition(b":")[0].lower()) not in self._drop
            and not name.startswith(b"x-forwarded-")
        ]
        return b"".join(kept)
