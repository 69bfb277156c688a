"""A span to change."""

from __future__ import annotations

from sillyproxy.metrics.spans import Span

SPAN = Span(
    began_ns=1_764_000_000_000_000_000,
    duration_ns=12_000_000,
    first_byte_ns=3_000_000,
    trace_id=b"0af7651916cd43dd8448eb211c80319c",
    span_id=b"00f067aa0ba902b7",
    parent_id=b"b7ad6b7169203331",
    method=b"GET",
    client=b"192.0.2.1",
    endpoint=b"10.0.0.1:8080",
    error=b"",
    host=b"shop.example:8443",
    target=b"/cart?item=7",
    request_id=b"id-1",
    status=200,
    slot=1,
    tries=1,
    minor=1,
)
