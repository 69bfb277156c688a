"""
Replies of our own, as ready bytes.

A reply is short, plain text, and says in `Proxy-Status` (RFC 9209) which of our failures
it stands for, so that whoever reads the client's side can tell it from a backend's.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from sillyproxy.errors import CONNECT_TIMEOUT, NO_CONNECT, Problem

# RFC 9110, 15.5.6: 405 must say what is allowed.
_ALLOW: Final = b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE\r\n"
_LONGEST_ID: Final = 128
_VISIBLE: Final = bytes(c if 0x21 <= c <= 0x7E else 0x3F for c in range(256))


def build_reply(
    problem: Problem,
    *,
    date: bytes,
    close: bool,
    request_id: bytes = b"",
    head_only: bool = False,
    extra: bytes = b"",
    minor: int = 1,
) -> bytes:
    """
    Return the reply that tells a client of `problem`.

    `date` is the value of Date (RFC 9110, 6.6.1); `close` announces the connection's end;
    `request_id` is how whoever runs the proxy finds the request in the log; `head_only` leaves out
    the body (HEAD); `extra` are more field lines, each with its end.
    """
    phrase = HTTPStatus(problem.status).phrase.encode()
    body = b"%d %b: %b\n" % (problem.status, phrase, problem.detail.encode())
    if request_id:
        # It may be a client's own: visible ASCII and not without end, whatever it is.
        request_id = request_id[:_LONGEST_ID].translate(_VISIBLE)
        body += b"request id: %b\n" % request_id
        extra += b"X-Request-ID: %b\r\n" % request_id
    if problem is NO_CONNECT:
        extra += _ALLOW
    if close:
        extra += b"Connection: close\r\n"
    elif minor == 0:
        extra += b"Connection: keep-alive\r\n"
    return (
        b"HTTP/1.1 %d %b\r\nDate: %b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
        b"Cache-Control: no-store\r\nProxy-Status: sillyproxy; error=%b\r\n%b\r\n%b"
        % (problem.status, phrase, date, len(body), problem.kind.encode(), extra, b"" if head_only else body)
    )


# What a client of gRPC may do about it: to ask again is safe after UNAVAILABLE alone.
_CALL_STATUS: Final = {400: 13, 405: 12, 408: 4, 413: 8, 414: 8, 431: 8, 500: 13, 501: 12, 502: 14, 503: 14}
_UNKNOWN: Final = 2
_DEADLINE_EXCEEDED: Final = 4
_UNAVAILABLE: Final = 14


def build_call_reply(problem: Problem, *, date: bytes, close: bool, request_id: bytes) -> bytes:
    """
    Return the reply that tells a client of gRPC of `problem`, as trailers without anything before them.

    https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, "Responses".
    """
    code = _CALL_STATUS.get(problem.status, _UNKNOWN)
    if problem.status == 504:
        # Whoever did not connect did nothing; whoever did not answer may have.
        code = _UNAVAILABLE if problem is CONNECT_TIMEOUT else _DEADLINE_EXCEEDED
    return (
        b"HTTP/1.1 200 OK\r\nDate: %b\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n"
        b"grpc-status: %d\r\ngrpc-message: %b\r\nProxy-Status: sillyproxy; error=%b\r\n%b%b\r\n"
        % (
            date,
            code,
            problem.detail.replace("%", "%25").encode(),
            problem.kind.encode(),
            b"X-Request-ID: %b\r\n" % request_id[:_LONGEST_ID].translate(_VISIBLE),
            b"Connection: close\r\n" if close else b"",
        )
    )


def build_redirect(
    status: int, location: bytes, *, date: bytes, close: bool, minor: int, head_only: bool
) -> bytes:
    """Return the answer that sends a client to `location` (RFC 9110, 15.4)."""
    phrase = HTTPStatus(status).phrase.encode()
    body = b"%d %b: %b\n" % (status, phrase, location)
    connection = b"Connection: close\r\n" if close else b"" if minor else b"Connection: keep-alive\r\n"
    return (
        b"HTTP/1.1 %d %b\r\nDate: %b\r\nLocation: %b\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: %d\r\n%b\r\n%b"
        % (status, phrase, date, location, len(body), connection, b"" if head_only else body)
    )


def build_options_reply(*, date: bytes, close: bool) -> bytes:
    """Return the answer to OPTIONS that may go no further (Max-Forwards 0; RFC 9110, 7.6.2)."""
    connection = b"Connection: close\r\n" if close else b""
    return b"HTTP/1.1 200 OK\r\nDate: %b\r\n%bContent-Length: 0\r\n%b\r\n" % (date, _ALLOW, connection)


def build_trace_reply(request_head: bytes, *, date: bytes, close: bool) -> bytes:
    """
    Return the answer to TRACE that may go no further: the request as we got it.

    RFC 9110, 9.3.8: without what is sensitive, which here is every credential.
    """
    lines = request_head.split(b"\r\n")
    kept = [lines[0]] + [
        line
        for line in lines[1:]
        if line.partition(b":")[0].lower() not in (b"authorization", b"cookie", b"proxy-authorization")
    ]
    body = b"\r\n".join(kept) + b"\r\n\r\n"
    connection = b"Connection: close\r\n" if close else b""
    return b"HTTP/1.1 200 OK\r\nDate: %b\r\nContent-Type: message/http\r\nContent-Length: %d\r\n%b\r\n%b" % (
        date,
        len(body),
        connection,
        body,
    )
