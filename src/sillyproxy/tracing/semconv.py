"""
What a span is called and what stands in it: OpenTelemetry's stable conventions for HTTP servers.

What the conventions have no name for has ours before it: `sillyproxy.color`.
"""

from __future__ import annotations

import re
from typing import Final

from sillyproxy.metrics.spans import Span

Attributes = dict[str, str | int | float]

# RFC 9110, 9.3, and PATCH (RFC 5789). A method that a client makes up must not become a name.
METHODS: Final = frozenset(
    {b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"}
)
# The client went away before it was told a status: the field's custom, never on the wire.
_GONE: Final = 499

# What the conventions want covered: signatures that open what they sign.
_SIGNATURE: Final = re.compile(r"(^|&)(AWSAccessKeyId|Signature|sig|X-Goog-Signature)=[^&]*")
_HOST: Final = re.compile(r"(\[[^\]]*\]|[^:]*)(?::([0-9]{1,5}))?")


def name_of(span: Span) -> str:
    """Return what a span is called: its method, as a proxy knows no routes."""
    return span.method.decode() if span.method in METHODS else "HTTP"


def is_error(span: Span) -> bool:
    """Tell whether an exchange failed: by a 5xx, or by what its client is not to blame for."""
    return span.status >= 500 or bool(span.error and not 400 <= span.status < _GONE)


def attributes_of(span: Span, color: str) -> Attributes:
    """Return what is known of an exchange; `color` is empty where none was chosen."""
    path, mark, query = _text(span.target).partition("?")
    attributes: Attributes = {
        "http.request.method": span.method.decode() if span.method in METHODS else "_OTHER",
        "url.scheme": "http",
        "url.path": path,
        "network.protocol.version": f"1.{span.minor}",
        "sillyproxy.request_id": _text(span.request_id),
        "sillyproxy.tries": span.tries,
    }
    if span.method not in METHODS:
        attributes["http.request.method_original"] = _text(span.method)
    if mark:
        attributes["url.query"] = _SIGNATURE.sub(r"\1\2=REDACTED", query)
    if not (span.status == _GONE and span.error):
        attributes["http.response.status_code"] = span.status
    if span.host and (host := _HOST.fullmatch(_text(span.host))):
        attributes["server.address"] = host[1].strip("[]")
        if host[2]:
            attributes["server.port"] = int(host[2])
    if span.client:
        attributes["client.address"] = span.client.decode()
    if span.error or span.status >= 500:
        attributes["error.type"] = span.error.decode() or str(span.status)
    if color:
        attributes["sillyproxy.color"] = color
    if span.endpoint:
        attributes["sillyproxy.endpoint"] = span.endpoint.decode()
    if span.first_byte_ns:
        attributes["sillyproxy.first_byte_s"] = span.first_byte_ns / 1e9
    return attributes


def _text(raw: bytes) -> str:
    """Return what a client wrote, which may be any bytes, and may be cut off amid a character."""
    return raw.decode("utf-8", "replace")
