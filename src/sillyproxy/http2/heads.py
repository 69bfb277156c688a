"""
Heads from one version to the other: a request's fields to a head of HTTP/1.1, a response's head to fields.

RFC 9113, 8: what could be read in another way behind us than here is malformed. What is left for the
grammar of HTTP/1.1 to judge, a host for instance, it judges afterwards, as of any other client.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, NamedTuple

from sillyproxy.http1.framing import CHUNKED, UNTIL_CLOSE
from sillyproxy.http2.hpack import Field, write_field, write_status

_NAME: Final = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+")
_TOKEN: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
# RFC 9113, 8.2.2: fields of one connection.
_FORBIDDEN: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings")
)
_PSEUDO: Final = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
_NEEDS_LENGTH: Final = frozenset((b"POST", b"PUT", b"PATCH"))
_LEFT_OUT: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)

# There are clients of HTTP/1.1 that want one, and none in HTTP/2.
_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}

_known_names: set[bytes] = set()
_MAX_NAMES: Final = 1024


class Malformed(Exception):
    """The message is malformed (RFC 9113, 8.1.1). The text says why."""


class RequestHead(NamedTuple):
    """
    A request as HTTP/1.1 writes it.

    `body` is a length, or CHUNKED where it has none; `key` is the Sec-WebSocket-Key of ours where the
    stream is to become a WebSocket (RFC 8441), else empty.
    """

    head: bytes
    body: int
    is_head: bool
    key: bytes = b""


class ResponseHead(NamedTuple):
    """A response as HTTP/2 writes it: its field block, its status, and what its body would be."""

    block: bytes
    status: int
    body: int
    accept: bytes


def read_request(fields: list[Field], make_key: Callable[[], bytes], *, ended: bool) -> RequestHead:
    """
    Return the head of a request; `ended`: nothing comes behind it. Raise Malformed.

    `make_key` returns a Sec-WebSocket-Key that is like no other (RFC 6455, 4.1).
    """
    pseudo: dict[bytes, bytes] = {}
    lines: list[bytes] = []
    cookies: list[bytes] = []
    length = -1
    host = None
    regular = False
    for name, value in fields:
        if name.startswith(b":"):
            if regular:
                raise Malformed("a pseudo-field behind a field")
            if name not in _PSEUDO or name in pseudo:
                raise Malformed("an unknown or repeated pseudo-field")
            pseudo[name] = value
            continue
        regular = True
        _check_name(name)
        if value and (value[0] in b" \t" or value[-1] in b" \t"):
            raise Malformed("a value with white space around it")
        if name == b"cookie":
            cookies.append(value)
            continue
        if name == b"te" and value.lower() != b"trailers":
            raise Malformed("te other than trailers")
        if name == b"content-length":
            if length >= 0 or not _LENGTH.fullmatch(value):
                raise Malformed("a repeated or invalid content-length")
            length = int(value)
            if ended and length:
                raise Malformed("a content-length without content")
        elif name == b"host":
            if host is not None:
                raise Malformed("a repeated host")
            host = value
            continue
        lines.append(b"%b: %b" % (name, value))
    method, authority = pseudo.get(b":method", b""), pseudo.get(b":authority")
    if not _TOKEN.fullmatch(method):
        raise Malformed("no method")
    if authority is None:
        authority = host
    elif host is not None and host != authority:
        raise Malformed("host is not :authority")
    if cookies:
        lines.append(b"cookie: " + b"; ".join(cookies))  # RFC 9113, 8.2.3
    if method == b"CONNECT" and b":protocol" not in pseudo:
        if b":scheme" in pseudo or b":path" in pseudo or not authority:
            raise Malformed("CONNECT with :scheme or :path, or without :authority")
        return _finish(b"CONNECT " + authority, [b"Host: " + authority], 0, is_head=False)
    target = pseudo.get(b":path", b"")
    if pseudo.get(b":scheme", b"").lower() not in (b"http", b"https"):
        raise Malformed("no :scheme, or another one")
    if not target or (not target.startswith(b"/") and not (target == b"*" and method == b"OPTIONS")):
        raise Malformed("no :path, or one that does not begin with /")
    if b" " in target:
        raise Malformed("a blank in :path")
    # RFC 9113, 8.3.1: without an authority there is no host, which HTTP/1.1 does not allow.
    lines.insert(0, b"Host: " + (authority or b""))
    if b":protocol" in pseudo:
        return _extended_connect(method, target, pseudo[b":protocol"], lines, length, make_key)
    body = 0
    if not ended:
        body = length if length >= 0 else CHUNKED
        if length < 0:
            lines.append(b"Transfer-Encoding: chunked")
    elif length < 0 and method in _NEEDS_LENGTH:
        lines.append(b"Content-Length: 0")
    return _finish(b"%b %b" % (method, target), lines, body, is_head=method == b"HEAD")


def _extended_connect(
    method: bytes,
    target: bytes,
    protocol: bytes,
    lines: list[bytes],
    length: int,
    make_key: Callable[[], bytes],
) -> RequestHead:
    """RFC 8441: what asks for a WebSocket here asks by Upgrade there (RFC 6455, 4.1)."""
    if method != b"CONNECT" or length >= 0:
        raise Malformed(":protocol without CONNECT, or with content-length")
    if protocol.lower() != b"websocket":
        raise Malformed("a :protocol that is not known")
    key = make_key()
    kept = [line for line in lines if not line.startswith((b"sec-websocket-key:", b"sec-websocket-accept:"))]
    kept += (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: " + key)
    return _finish(b"GET " + target, kept, 0, is_head=False, key=key)


def _finish(start: bytes, lines: list[bytes], body: int, *, is_head: bool, key: bytes = b"") -> RequestHead:
    head = b"%b HTTP/1.1\r\n%b\r\n\r\n" % (start, b"\r\n".join(lines))
    _check_lines(head, len(lines) + 2)
    return RequestHead(head, body, is_head, key)


def _check_lines(text: bytes, lines: int) -> None:
    """No line is more than one (RFC 9113, 8.2.1)."""
    if text.count(b"\n") != lines or text.count(b"\r") != lines or b"\0" in text:
        raise Malformed("a line end or NUL in a field")


def _check_name(name: bytes) -> None:
    if name in _known_names:
        return
    if not _NAME.fullmatch(name):
        raise Malformed("a field name that is not in lower case, or no name")
    if name in _FORBIDDEN:
        raise Malformed("a field that concerns a connection")
    if len(name) <= 64 and len(_known_names) < _MAX_NAMES:
        _known_names.add(name)


def read_trailers(fields: list[Field]) -> bytes:
    """Return a trailer section as HTTP/1.1 writes it behind the last chunk. Raise Malformed."""
    lines = []
    for name, value in fields:
        if name.startswith(b":"):
            raise Malformed("a pseudo-field in trailers")
        _check_name(name)
        lines.append(b"%b: %b\r\n" % (name, value))
    section = b"".join(lines) + b"\r\n"
    _check_lines(section, len(lines) + 1)
    return section


def write_response(head: bytes) -> ResponseHead:
    """Return a response's head, which is ours and well-formed, without its empty line, as fields."""
    lines = head.split(b"\r\n")
    code = lines.pop(0)[9:12]
    status = int(code)
    parts = [write_status(b"200" if status == 101 else code)]
    body = UNTIL_CLOSE
    accept = b""
    for line in lines:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name in _LEFT_OUT:
            if name == b"transfer-encoding":
                body = CHUNKED
            continue
        if name == b"content-length":
            body = int(value)
        elif name == b"sec-websocket-accept" and status == 101:
            accept = value
            continue
        parts.append(write_field(name, value))
    if status < 200 or status in (204, 304):
        body = 0
    return ResponseHead(b"".join(parts), status, body, accept)


def write_trailers(section: bytes) -> bytes:
    """Return trailer lines, each with its end, as a field block; empty if there are none."""
    parts = []
    for line in section.split(b"\r\n"):
        if line:
            name, _, value = line.partition(b":")
            parts.append(write_field(name.lower(), value.strip(b" \t")))
    return b"".join(parts)


class Request(NamedTuple):
    """A request as HTTP/2 writes it: its field block, its body (a length or CHUNKED), whether it is HEAD."""

    block: bytes
    body: int
    is_head: bool


# Lines of requests that come again and again, as they are written here.
_written: dict[bytes, bytes] = {}
_MAX_LINES: Final = 1024
_MAX_LINE_BYTES: Final = 256


def write_request(head: bytes, scheme: bytes) -> Request:
    """Return a request's head, which is ours and well-formed, without its empty line, as fields."""
    lines = head.split(b"\r\n")
    method, target, _ = lines.pop(0).split(b" ")
    parts = [b""]
    authority = b""
    body = 0
    for line in lines:
        written = _written.get(line)
        if written is not None:
            parts.append(written)
            continue
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name == b"host":
            authority = value
            continue
        if name in _LEFT_OUT:
            if name == b"transfer-encoding":
                body = CHUNKED
            continue
        if name == b"content-length":
            body = int(value)
        written = write_field(name, value)
        parts.append(written)
        if name != b"content-length" and len(line) <= _MAX_LINE_BYTES and name != b"x-request-id":
            if len(_written) >= _MAX_LINES:
                _written.clear()
            _written[line] = written
    parts[0] = b"%b%b%b%b" % (
        b"\x82" if method == b"GET" else b"\x83" if method == b"POST" else write_field(b":method", method),
        b"\x87" if scheme == b"https" else b"\x86",
        write_field(b":path", target),
        write_field(b":authority", authority),
    )
    return Request(b"".join(parts), body, method == b"HEAD")


class Response(NamedTuple):
    """
    A response as HTTP/1.1 writes it, its status, and what DATA has to bring of its body.

    `body` is a length, or CHUNKED where it has none.
    """

    head: bytes
    status: int
    body: int


def read_response(fields: list[Field], *, ended: bool, is_head: bool) -> Response:
    """Return the head of a response; `ended`: nothing comes behind it. Raise Malformed."""
    lines = [b""]
    status = 0
    length = -1
    for name, value in fields:
        if name == b":status" and len(lines) == 1 and not status:
            if len(value) != 3 or not value.isdigit() or value < b"100":
                raise Malformed("a :status that is none")
            status = int(value)
            continue
        if name.startswith(b":"):
            raise Malformed("an unknown or repeated pseudo-field, or one behind a field")
        _check_name(name)
        if name == b"content-length":
            if length >= 0 or not _LENGTH.fullmatch(value):
                raise Malformed("a repeated or invalid content-length")
            length = int(value)
        lines.append(b"%b: %b" % (name, value))
    if not status or status == 101:
        raise Malformed("no :status, or 101")
    is_empty = is_head or status < 200 or status in (204, 304)
    if ended and not is_empty and length > 0:
        raise Malformed("a content-length without content")
    body = 0
    if not is_empty and not ended:
        body = length if length >= 0 else CHUNKED
        if length < 0:
            lines.append(b"transfer-encoding: chunked")
    elif not is_empty and length < 0:
        lines.append(b"content-length: 0")
    lines[0] = b"HTTP/1.1 %d %b" % (status, _PHRASES.get(status, b""))
    head = b"%b\r\n\r\n" % b"\r\n".join(lines)
    _check_lines(head, len(lines) + 1)
    return Response(head, status, body)
