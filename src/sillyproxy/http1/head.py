"""
Read and check the head of a request or a response.

Nothing here repairs anything: a head is what RFC 9110 and RFC 9112 allow, or it is
refused with the reason. What is ambiguous about where a body ends is refused too, for
two readers that disagree about it are how requests are smuggled (RFC 9112, 11.2).

Functions return facts; what becomes of them is decided in `forward`.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import Final, NamedTuple

from sillyproxy import errors
from sillyproxy.errors import BadRequest, BadResponse
from sillyproxy.http1.framing import CHUNKED
from sillyproxy.http1.grammar import ABSOLUTE_TARGET, ANY_LINE, HOST, LENGTH, TOKEN

# RFC 9112, 7: the codings a recipient may know. We know only chunked; the others tell
# "chunked is not the last" (400, 9112 6.3) from "what is that" (501, 9112 6.1).
_CODINGS: Final = frozenset(
    (b"chunked", b"compress", b"deflate", b"gzip", b"x-compress", b"x-gzip", b"identity")
)

# The few values that Host and Connection have come again and again; longer ones are not kept.
_MAX_REMEMBERED: Final = 1024


class RequestLine(NamedTuple):
    """A request line's facts. `authority` replaces Host when the target came in absolute-form."""

    method: bytes
    target: bytes
    minor: int
    authority: bytes | None


def read_request_line(line: bytes) -> RequestLine:
    """
    Read a request line of any form (RFC 9112, 3). Raises BadRequest.

    >>> read_request_line(b"GET http://shop.example:8080?q=1 HTTP/1.0")
    RequestLine(method=b'GET', target=b'/?q=1', minor=0, authority=b'shop.example:8080')
    """
    match = ANY_LINE.fullmatch(line)
    if match is None:
        raise BadRequest(errors.BAD_LINE)
    method, target, major, digit = match.groups()
    if major != b"1":
        raise BadRequest(errors.BAD_VERSION)
    # RFC 9110, 2.5: a higher minor version is read as the highest that we know.
    minor = 0 if digit == b"0" else 1
    if method == b"CONNECT":
        raise BadRequest(errors.NO_CONNECT)
    if target.startswith(b"/"):
        return RequestLine(method, target, minor, None)
    if target == b"*":
        if method != b"OPTIONS":
            raise BadRequest(errors.BAD_TARGET)
        return RequestLine(method, target, minor, None)
    absolute = ABSOLUTE_TARGET.fullmatch(target)
    if absolute is None:
        raise BadRequest(errors.BAD_TARGET)
    authority, path, query = absolute.groups()
    # RFC 9110, 4.2.1: an http URI without a host is invalid; so is one with user information, 4.2.4.
    if not authority or authority.startswith(b":") or not is_host(authority):
        raise BadRequest(errors.BAD_TARGET)
    if not path and not query and method == b"OPTIONS":
        return RequestLine(method, b"*", minor, authority)  # RFC 9112, 3.2.4
    return RequestLine(method, (path or b"/") + query, minor, authority)


def check_partial_head(data: bytes, max_bytes: int) -> None:
    """
    Raise BadRequest if a head that is still incomplete is too large or already wrong.

    Without this, whoever ends lines with a bare LF, or speaks TLS to us, would wait for the
    header timeout instead of being told.
    """
    # Up to three bytes of the empty line may be at the end.
    if len(data.rstrip(b"\r\n")) > max_bytes:
        raise BadRequest(errors.HEAD_TOO_LARGE if b"\r\n" in data[:max_bytes] else errors.TARGET_TOO_LONG)
    if data.count(b"\n") != data.count(b"\r\n"):
        raise BadRequest(errors.MALFORMED)
    line, end, _ = data.partition(b"\r\n")
    if end:
        read_request_line(line)
    elif line not in (b"", b"\r") and TOKEN.match(line) is None:
        raise BadRequest(errors.BAD_LINE)


def is_host(value: bytes) -> bool:
    """
    Tell whether `value` is `uri-host [ ":" port ]` (RFC 9110, 7.2) with a port that exists.

    >>> is_host(b"[::1]:8080"), is_host(b"user@host"), is_host(b"host:99999"), is_host(b"[::1")
    (True, False, False, False)
    >>> is_host(b"[::1::2]:80")
    False
    """
    return len(value) < _MAX_REMEMBERED and _is_host(value)


@lru_cache(512)
def _is_host(value: bytes) -> bool:
    match = HOST.fullmatch(value)
    if match is None or (match[1] and int(match[1]) > 65535):
        return False
    if value.startswith(b"[") and value[1] not in b"vV":
        try:
            IPv6Address(value[1 : value.index(b"]")].decode())
        except AddressValueError:
            return False
    return True


def read_length(value: bytes) -> int | None:
    """Return a Content-Length; None if it is not plain digits (RFC 9110, 8.6: no list, no sign)."""
    return int(value) if LENGTH.fullmatch(value) else None


def read_options(value: bytes) -> tuple[bytes, ...]:
    """
    Return a list field's members in lower case (RFC 9110, 5.6.1), as in Connection or TE.

    >>> read_options(b"Keep-Alive, ,Foo")
    (b'keep-alive', b'foo')
    """
    return _read_options(value) if len(value) < _MAX_REMEMBERED else _read_options.__wrapped__(value)


@lru_cache(512)
def _read_options(value: bytes) -> tuple[bytes, ...]:
    return tuple(option for part in value.lower().split(b",") if (option := part.strip(b" \t")))


def check_request_coding(value: bytes) -> None:
    """
    Accept `chunked` and nothing else as a request's Transfer-Encoding. Raises BadRequest.

    RFC 9112, 6.1 and 6.3: what we do not know is 501; where chunked is not the last, or
    there twice, the body's end cannot be known: 400.
    """
    codings = read_options(value)
    if codings == (b"chunked",) and value.lower() == b"chunked":
        return
    if not codings or any(TOKEN.fullmatch(coding) is None for coding in codings):
        raise BadRequest(errors.BAD_CODING)
    if codings.count(b"chunked") > 1 or (b"chunked" in codings and codings[-1] != b"chunked"):
        raise BadRequest(errors.BAD_CODING)
    if codings == (b"chunked",):
        raise BadRequest(errors.BAD_CODING)  # ", chunked": an empty member hides the coding from some
    if b"chunked" not in codings and all(coding in _CODINGS for coding in codings):
        raise BadRequest(errors.BAD_CODING)
    raise BadRequest(errors.UNKNOWN_CODING)


def read_request_body(length: bytes | None, coding: bytes | None, minor: int) -> int:
    """Return the length of a request's body, or CHUNKED (RFC 9112, 6.3). Raises BadRequest."""
    if coding is not None:
        # RFC 9112, 6.1: both fields, or chunked from HTTP/1.0, is an attack or a fault.
        if length is not None or minor == 0:
            raise BadRequest(errors.BAD_CODING)
        check_request_coding(coding)
        return CHUNKED
    if length is None:
        return 0
    size = read_length(length)
    if size is None:
        raise BadRequest(errors.BAD_LENGTH)
    return size


def read_response_body(length: bytes | None, coding: bytes | None, minor: int, *, otherwise: int) -> int:
    """
    Return the length of a response's body, CHUNKED, or `otherwise`. Raises BadResponse.

    We ask upstreams for no other coding than chunked, so none is expected (RFC 9112, 7.4).
    """
    if coding is not None:
        if length is not None or minor == 0 or coding.lower() != b"chunked":
            raise BadResponse(errors.BAD_RESPONSE)
        return CHUNKED
    if length is None:
        return otherwise
    size = read_length(length)
    if size is None:
        raise BadResponse(errors.BAD_RESPONSE)
    return size
