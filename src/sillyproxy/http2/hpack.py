"""
Fields of a message as HTTP/2 writes them (HPACK, RFC 7541).

They are read by jh2's decoder, which is Rust: 1 to 9 µs a head, where Python needs 10 to 165. They are
written here, with the static table alone: what a head becomes is then a function of the head, and
remembered by its bytes for all connections.
"""

from __future__ import annotations

from typing import Final

from jh2._hazmat import (  # type: ignore[import-untyped]
    Decoder,
    HPACKError,
    OversizedHeaderListError,
)

from sillyproxy.http2.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, ConnectionProblem

Field = tuple[bytes, bytes]


# How many bits the Huffman code of a byte has (RFC 7541, Appendix B).
_HUFFMAN_BITS: Final = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a080b08060606"
    "0505050606060606060607080f060c0a0d06070707070707070707070707070707070707070707070807080d130d0e06"
    "0f05060506050606060507070606060506070605050607070707070f0b0e0d1c14161414161616171617171717171817"
    "181816171817171717151617161717181615141616171715171616181516171715151615171617171416161617161617"
    "1a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b14181415161515171616191918181a17"
    "1a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a"
)
# What a number may need besides its prefix: 28 bits are more than any length here may be.
_MAX_NUMBER_BYTES: Final = 4


class FieldBlocks:
    """
    Reads the field blocks of one connection, in order.

    `is_steady`: the last one has left the table as it was, so that those which were read since the
    table changed last would be read as the same again.
    """

    __slots__ = ("_decoder", "is_steady")

    def __init__(self, max_bytes: int) -> None:
        """A list of fields of more than `max_bytes` (RFC 9113, 6.5.2) is not read: it may be a bomb."""
        self._decoder = Decoder(max_bytes)
        self.is_steady = True

    def read(self, block: bytes) -> list[Field]:
        """Return the fields. Raise ConnectionProblem: the table is not what the peer thinks any more."""
        # The decoder is not given what is not well-formed: it may panic.
        self.is_steady, coded = survey(block)
        try:
            fields = [(name, value) for name, value, _ in self._decoder.decode(block, True)]
        except OversizedHeaderListError:
            raise ConnectionProblem(ENHANCE_YOUR_CALM, "too many fields") from None
        except HPACKError:
            raise ConnectionProblem(COMPRESSION_ERROR, "malformed field block") from None
        except BaseException as error:
            # Not that it has been seen to, behind `survey`; but it would be the end of the worker.
            if type(error).__name__ != "PanicException":
                raise
            raise ConnectionProblem(COMPRESSION_ERROR, "a field block that the decoder fails at") from None
        for place, part, last, size in coded:
            _check_padding(fields[place][part], last, size)
        return fields


def survey(block: bytes) -> tuple[bool, list[tuple[int, int, int, int]]]:
    """
    Tell whether reading a block leaves the table as it is, and which of its strings are Huffman code.

    Of such a string: the place of its field, 0 for the name or 1 for the value, its last byte and its
    size. Raise ConnectionProblem if the block is not well-formed (RFC 7541, 5 and 6),
    or changes the table's size behind a field (RFC 7541, 4.2).

    >>> survey(bytes([0x82, 0x04, 1, 0x2F])), survey(bytes([0x41, 1, 0x61]))
    ((True, []), (False, []))
    """
    at, size = 0, len(block)
    steady = True
    place = 0
    coded: list[tuple[int, int, int, int]] = []
    while at < size:
        first = block[at]
        at += 1
        if first >= 0x80:  # an indexed field
            if first == 0xFF:
                _, at = _number(block, at, 0x7F)
            place += 1
            continue
        if first >= 0x40:  # a field that enters the table
            steady = False
            index, prefix = first & 0x3F, 0x3F
        elif first >= 0x20:  # the table's size
            if place:
                raise ConnectionProblem(COMPRESSION_ERROR, "the table's size is changed behind a field")
            steady = False
            if first == 0x3F:
                _, at = _number(block, at, 0x1F)
            continue
        else:  # a field that does not enter it
            index, prefix = first & 0x0F, 0x0F
        if index == prefix:
            index, at = _number(block, at, prefix)
        for part in (0, 1) if not index else (1,):
            if at >= size:
                raise ConnectionProblem(COMPRESSION_ERROR, "a field block that is cut off")
            huffman = block[at] & 0x80
            length = block[at] & 0x7F
            at += 1
            if length == 0x7F:
                length, at = _number(block, at, 0x7F)
            at += length
            if at > size:
                raise ConnectionProblem(COMPRESSION_ERROR, "a string that is cut off")
            if huffman and length:
                coded.append((place, part, block[at - 1], length))
        place += 1
    return steady, coded


def _number(block: bytes, at: int, number: int) -> tuple[int, int]:
    """Return a number that does not fit its prefix, and where it ends (RFC 7541, 5.1)."""
    for shift in range(0, 7 * _MAX_NUMBER_BYTES, 7):
        if at >= len(block):
            break
        byte = block[at]
        at += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ConnectionProblem(COMPRESSION_ERROR, "a number without end")


def _check_padding(text: bytes, last: int, size: int) -> None:
    """Huffman code is padded with less than a byte of ones (RFC 7541, 5.2), which the decoder lets pass."""
    padding = 8 * size - sum(map(_HUFFMAN_BITS.__getitem__, text))
    if not 0 <= padding < 8 or ~last & ((1 << padding) - 1):
        raise ConnectionProblem(COMPRESSION_ERROR, "Huffman code with something behind it")


# RFC 7541, Appendix A.
_STATIC: Final = {
    name: index
    for index, name in enumerate(
        b":authority :method :method :path :path :scheme :scheme "
        b":status :status :status :status :status :status :status "
        b"accept-charset accept-encoding accept-language accept-ranges accept "
        b"access-control-allow-origin age allow authorization cache-control content-disposition "
        b"content-encoding content-language content-length content-location content-range content-type "
        b"cookie date etag expect expires from host if-match if-modified-since if-none-match if-range "
        b"if-unmodified-since last-modified link location max-forwards proxy-authenticate "
        b"proxy-authorization range referer refresh retry-after server set-cookie "
        b"strict-transport-security transfer-encoding user-agent vary via www-authenticate".split(),
        start=1,
    )
}
_STATUS: Final = {b"200": 8, b"204": 9, b"206": 10, b"304": 11, b"400": 12, b"404": 13, b"500": 14}


def write_status(status: bytes) -> bytes:
    """Return `:status`."""
    index = _STATUS.get(status)
    return bytes((0x80 | index,)) if index else b"\x08\x03" + status


def write_field(name: bytes, value: bytes) -> bytes:
    """
    Return a field that enters nobody's table (RFC 7541, 6.2.2).

    >>> write_field(b"content-length", b"5")
    b'\\x0f\\r\\x015'
    """
    index = _STATIC.get(name)
    if index is None:
        return b"\0" + _string(name) + _string(value)
    return (bytes((index,)) if index < 15 else bytes((0x0F, index - 15))) + _string(value)


def _string(text: bytes) -> bytes:
    """Return a string, not compressed (RFC 7541, 5.2)."""
    size = len(text)
    if size < 0x7F:
        return bytes((size,)) + text
    out = bytearray((0x7F,))
    size -= 0x7F
    while size >= 0x80:
        out.append(0x80 | (size & 0x7F))
        size >>= 7
    out.append(size)
    return bytes(out) + text
