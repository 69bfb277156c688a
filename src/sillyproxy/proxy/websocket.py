"""
Where a WebSocket's frames begin and end (RFC 6455, 5.2), so that a word of ours fits between two.

Nothing is decoded and nothing held back: frames are counted as their bytes pass.
"""

from __future__ import annotations

from typing import Final

# Close, 1001 "going away" (RFC 6455, 7.4.1); what a client sends is masked, here with zeros.
GOING_AWAY: Final = b"\x88\x02\x03\xe9"
GOING_AWAY_MASKED: Final = b"\x88\x82\x00\x00\x00\x00\x03\xe9"

_CLOSE: Final = 8


class Frames:
    """
    The frames of one direction.

    `left` are the bytes to come of the frame under way, `part` what came of a frame's head;
    `closed`: a Close has passed, after which nobody says anything more.
    """

    __slots__ = ("closed", "left", "part")

    def __init__(self) -> None:
        self.left = 0
        self.part = b""
        self.closed = False

    @property
    def between(self) -> bool:
        """Whether a frame of ours may come next."""
        return not (self.left or self.part or self.closed)

    def feed(self, data: bytes | memoryview) -> None:
        """
        Note bytes that pass.

        >>> frames = Frames()
        >>> frames.feed(bytes([0x81, 3]) + b"ab"); frames.left, frames.between
        (1, False)
        >>> frames.feed(b"c" + bytes([0x82])); frames.left, frames.between
        (0, False)
        >>> frames.feed(bytes([126, 1, 0]) + bytes(256)); frames.between
        True
        """
        if self.part:
            data = self.part + bytes(data)
            self.part = b""
        size = len(data)
        at = self.left
        while at < size:
            if size - at < 2:
                break
            length = data[at + 1] & 0x7F
            head = 2 + (data[at + 1] >> 7) * 4
            if length == 126:
                if size - at < 4:
                    break
                length = data[at + 2] << 8 | data[at + 3]
                head += 2
            elif length == 127:
                if size - at < 10:
                    break
                length = int.from_bytes(data[at + 2 : at + 10], "big")
                head += 8
            if data[at] & 0x0F == _CLOSE:
                self.closed = True
            at += head + length
        if at < size:
            self.part = bytes(data[at:])
            self.left = 0
        else:
            self.left = at - size
