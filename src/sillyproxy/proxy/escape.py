r"""
Make what a client sent fit to stand in a log: it ends no line, closes no quote, and is not endless.

Nearly everything is plain already; only what is not goes through here. Three ways, one a format:

    json       JSON's: \" \\ \u00e9; a byte is the character of that number (ISO 8859-1)
    quoted     Apache's: \" \\ \t \xe9
    word       of the text format, as it always was: a question mark
"""

from __future__ import annotations

import re
from json.encoder import encode_basestring_ascii
from typing import Final

# Visible ASCII and space, but for what could close a quote or begin an escape.
PLAIN: Final = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
# What one word of the text format may be made of.
WORD: Final = bytes(byte for byte in range(0x21, 0x7F) if byte != 0x22)

_TO_WORD: Final = bytes(byte if byte in WORD else 0x3F for byte in range(256))
_NOT_PLAIN: Final = re.compile(rb"[^ !#-\[\]-~]")
_BY_NAME: Final = {
    b'"': b'\\"',
    b"\\": b"\\\\",
    b"\b": b"\\b",
    b"\n": b"\\n",
    b"\r": b"\\r",
    b"\t": b"\\t",
    b"\v": b"\\v",
}
# The longest beginning that cuts no escape in two.
_WHOLE: Final = re.compile(rb"(?:[^\\]|\\u[0-9a-f]{4}|\\x[0-9a-f]{2}|\\[^ux])*+")
_DOTS: Final = b"..."


def is_plain(value: bytes, limit: int) -> bool:
    """Tell whether a value may stand between quotes as it is, in any format."""
    return len(value) <= limit and not value.translate(None, PLAIN)


def json_text(value: bytes, limit: int) -> bytes:
    r"""
    Return what goes between the quotes of a JSON string, at most `limit` bytes and three dots.

    >>> json_text(b'say "\xe9"', 100)
    b'say \\"\\u00e9\\"'
    """
    return cut(encode_basestring_ascii(value[:limit].decode("latin-1"))[1:-1].encode(), limit, value)


def quoted(value: bytes, limit: int) -> bytes:
    r"""
    Return what may stand between double quotes, as Apache escapes it; `-` for nothing.

    >>> quoted(b'say "\xe9"\n', 100)
    b'say \\"\\xe9\\"\\n'
    """
    return cut(_NOT_PLAIN.sub(_escape, value[:limit]), limit, value) or b"-"


def word(value: bytes, limit: int) -> bytes:
    """
    Return one word of visible ASCII; `-` for nothing.

    >>> word(b"a b", 100)
    b'a?b'
    """
    return cut(value[:limit].translate(_TO_WORD), limit, value) or b"-"


def cut(escaped: bytes, limit: int, value: bytes = b"") -> bytes:
    """Return at most `limit` bytes of it, and dots where it, or the `value` it was made of, is longer."""
    if len(escaped) <= limit and len(value) <= limit:
        return escaped
    match = _WHOLE.match(escaped[:limit])
    return match[0] + _DOTS if match else _DOTS


def _escape(match: re.Match[bytes]) -> bytes:
    return _BY_NAME.get(match[0]) or b"\\x%02x" % match[0][0]
