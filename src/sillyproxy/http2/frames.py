"""
Frames of HTTP/2 (RFC 9113, 4 and 6): their numbers, how they are written, and what is wrong with them.

Each is nine bytes of length, type, flags and stream, and a payload that the length tells the size of.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

# RFC 9113, 3.4: with what a client begins that knows we speak HTTP/2.
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

# RFC 9113, 7.
NO_ERROR: Final = 0
PROTOCOL_ERROR: Final = 1
INTERNAL_ERROR: Final = 2
FLOW_CONTROL_ERROR: Final = 3
SETTINGS_TIMEOUT: Final = 4
STREAM_CLOSED: Final = 5
FRAME_SIZE_ERROR: Final = 6
REFUSED_STREAM: Final = 7
CANCEL: Final = 8
COMPRESSION_ERROR: Final = 9
CONNECT_ERROR: Final = 10
ENHANCE_YOUR_CALM: Final = 11

# RFC 9113, 6.5.2; RFC 8441, 3.
HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6
ENABLE_CONNECT_PROTOCOL: Final = 8

HEAD_BYTES: Final = 9
MAX_WINDOW: Final = (1 << 31) - 1
DEFAULT_WINDOW: Final = 65535
DEFAULT_FRAME_SIZE: Final = 16384
LARGEST_FRAME_SIZE: Final = (1 << 24) - 1

HEAD: Final = Struct(">BHBBL")
U32: Final = Struct(">L")
SETTING: Final = Struct(">HL")


class ConnectionProblem(Exception):
    """The peer broke a rule that ends the connection (RFC 9113, 5.4.1). `code` is that of GOAWAY."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    size = len(payload)
    return HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def settings_frame(settings: dict[int, int]) -> bytes:
    """Return SETTINGS with these values."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*pair) for pair in settings.items()))


def reset_frame(stream: int, code: int) -> bytes:
    """Return RST_STREAM."""
    return frame(RST_STREAM, 0, stream, U32.pack(code))


def window_frame(stream: int, increment: int) -> bytes:
    """Return WINDOW_UPDATE."""
    return frame(WINDOW_UPDATE, 0, stream, U32.pack(increment))


def goaway_frame(last: int, code: int, reason: str = "") -> bytes:
    """Return GOAWAY; `reason` is for whoever looks into the connection."""
    return frame(GOAWAY, 0, 0, U32.pack(last) + U32.pack(code) + reason.encode())


def unpad(payload: bytes, flags: int, *, headers: bool = False) -> bytes:
    """Return a payload without padding and priority (RFC 9113, 6.1 and 6.2). Raise ConnectionProblem."""
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise ConnectionProblem(FRAME_SIZE_ERROR, "no room for the length of the padding")
        start, end = 1, end - payload[0]
    if headers and flags & WITH_PRIORITY:
        start += 5
    if start > end:
        raise ConnectionProblem(PROTOCOL_ERROR, "more padding than payload")
    return payload[start:end]
