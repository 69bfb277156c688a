"""
Every failure that the proxy can name.

The kinds are the registered proxy error types of RFC 9209, section 2.3, so that the
`Proxy-Status` field, the access log and the metrics speak one language. A `Problem` is
made once, here, and only compared afterwards: the hot path raises no exception for
what an upstream does.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Final, Literal

Side = Literal["downstream", "upstream", "ours"]


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """
    One way to fail.

    `kind` is the RFC 9209 error type, `status` the code that the client gets, `side` who
    broke the rules, `detail` what an operator reads. Compared by identity.
    """

    kind: str
    status: int
    side: Side
    detail: str


def _client(status: int, detail: str, kind: str = "http_request_error") -> Problem:
    return Problem(kind, status, "downstream", detail)


def _upstream(kind: str, status: int, detail: str) -> Problem:
    return Problem(kind, status, "upstream", detail)


def reason_of(number: int | None) -> str:
    """
    Return in one word why a connection could not be opened, or broke, by the system's error number.

    >>> reason_of(errno.ECONNREFUSED), reason_of(errno.ENETUNREACH)
    ('refused', 'unreachable')
    """
    return _REASONS.get(number or 0) or errno.errorcode.get(number or 0, "failed").lower()


_REASONS: Final = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
}


class BadRequest(Exception):
    """The client's bytes are not a request that we accept. `problem` says why and what it is answered."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class BadResponse(Exception):
    """The upstream's bytes are not a response that we pass on. `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


# What a client does wrong (RFC 9110, 9112).
MALFORMED: Final = _client(400, "malformed request head")
BAD_LINE: Final = _client(400, "malformed request line")
BAD_FIELD: Final = _client(400, "malformed header field")
BAD_HOST: Final = _client(400, "missing, repeated or invalid Host")
BAD_TARGET: Final = _client(400, "invalid request target")
BAD_LENGTH: Final = _client(400, "invalid, repeated or conflicting Content-Length")
BAD_CODING: Final = _client(400, "ambiguous Transfer-Encoding")
BAD_CHUNK: Final = _client(400, "malformed chunked body")
UNKNOWN_CODING: Final = _client(501, "unknown transfer coding")
BAD_VERSION: Final = _client(505, "HTTP version not supported")
PLAIN_TEXT: Final = _client(400, "clear text where TLS is spoken; use https://")
NO_REDIRECT: Final = _client(400, "clear text, and no Host to send it to")
NO_CONNECT: Final = _client(405, "CONNECT is not supported")
HEAD_TIMEOUT: Final = _client(408, "request head took too long")
BODY_TIMEOUT: Final = _client(408, "request body went silent")
BODY_TOO_LARGE: Final = _client(413, "request body too large")
TARGET_TOO_LONG: Final = _client(414, "request target too long")
HEAD_TOO_LARGE: Final = _client(431, "request head too large")

# What an upstream does wrong.
REFUSED: Final = _upstream("connection_refused", 502, "connection refused")
CONNECT_TIMEOUT: Final = _upstream("connection_timeout", 504, "connect timed out")
BAD_CERTIFICATE: Final = _upstream("tls_certificate_error", 502, "certificate not accepted")
BAD_TLS: Final = _upstream("tls_protocol_error", 502, "TLS handshake failed")
TERMINATED: Final = _upstream("connection_terminated", 502, "connection closed before the response")
CUT_SHORT: Final = _upstream("http_response_incomplete", 502, "response cut short")
RESPONSE_TIMEOUT: Final = _upstream("http_response_timeout", 504, "no response in time")
CALL_TIMEOUT: Final = Problem("http_response_timeout", 504, "ours", "the call's own deadline is over")
BODY_SILENT: Final = _upstream("http_response_timeout", 504, "response body went silent")
BAD_RESPONSE: Final = _upstream("http_protocol_error", 502, "malformed response")
RESPONSE_TOO_LARGE: Final = _upstream("http_response_header_section_size", 502, "response head too large")
UNASKED_UPGRADE: Final = _upstream("http_upgrade_failed", 502, "101 without a request to upgrade")

# What is ours.
NO_BACKEND: Final = Problem("destination_unavailable", 503, "ours", "no backends available")
QUEUE_FULL: Final = Problem("connection_limit_reached", 503, "ours", "too many requests waiting")
QUEUE_TIMEOUT: Final = Problem("connection_limit_reached", 503, "ours", "waited too long for a backend")
OVERLOADED: Final = Problem("proxy_internal_response", 503, "ours", "too many connections")
NO_DESCRIPTOR: Final = Problem("proxy_internal_response", 503, "ours", "out of file descriptors")
DRAINED: Final = Problem("proxy_internal_response", 503, "ours", "stopping, and out of time")
INTERNAL: Final = Problem("proxy_internal_error", 500, "ours", "internal error")

# The client went away: nobody is left to answer (logged as 499, the field's custom).
ABANDONED: Final = Problem("connection_terminated", 499, "downstream", "client went away")
