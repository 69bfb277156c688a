"""What stands in a span."""

from __future__ import annotations

import pytest

from sillyproxy.tracing.semconv import attributes_of, is_error, name_of
from tests.tracing.spans import SPAN


def test_attributes_are_the_conventions() -> None:
    """Dashboards made for OpenTelemetry's HTTP servers find their attributes."""
    assert attributes_of(SPAN, "blue") == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/cart",
        "url.query": "item=7",
        "server.address": "shop.example",
        "server.port": 8443,
        "client.address": "192.0.2.1",
        "network.protocol.version": "1.1",
        "sillyproxy.color": "blue",
        "sillyproxy.endpoint": "10.0.0.1:8080",
        "sillyproxy.tries": 1,
        "sillyproxy.request_id": "id-1",
        "sillyproxy.first_byte_s": 0.003,
    }


def test_what_is_not_known_is_left_out() -> None:
    """An exchange that ended early has no color, endpoint, first byte or query."""
    span = SPAN._replace(endpoint=b"", first_byte_ns=0, host=b"", client=b"", target=b"/")
    assert attributes_of(span, "").keys() == {
        "http.request.method", "http.response.status_code", "url.scheme", "url.path",
        "network.protocol.version", "sillyproxy.tries", "sillyproxy.request_id",
    }  # fmt: skip


def test_made_up_method_is_no_name() -> None:
    """A client cannot fill the list of operations with names of its own."""
    span = SPAN._replace(method=b"PROPFIND")
    attributes = attributes_of(span, "")
    assert name_of(span) == "HTTP"
    assert attributes["http.request.method"] == "_OTHER"
    assert attributes["http.request.method_original"] == "PROPFIND"


@pytest.mark.parametrize(
    ("status", "error", "is_wrong", "kind"),
    [
        (200, b"", False, None),
        (404, b"", False, None),
        (500, b"", True, "500"),
        (503, b"destination_unavailable", True, "destination_unavailable"),
        (413, b"http_request_error", False, "http_request_error"),  # the client's mistake, not the server's
        (200, b"http_response_incomplete", True, "http_response_incomplete"),
        (499, b"connection_terminated", True, "connection_terminated"),
    ],
)
def test_error_is_what_the_server_is_to_blame_for(
    status: int, error: bytes, is_wrong: bool, kind: str | None
) -> None:
    """A 5xx, a broken response and a client that gave up waiting are errors; a client's mistake is none."""
    span = SPAN._replace(status=status, error=error)
    assert is_error(span) == is_wrong
    assert attributes_of(span, "").get("error.type") == kind


def test_status_that_was_never_sent_is_left_out() -> None:
    """499 is ours for a client that went away; one that a backend answers is a status like any other."""
    assert "http.response.status_code" not in attributes_of(
        SPAN._replace(status=499, error=b"connection_terminated"), ""
    )
    assert attributes_of(SPAN._replace(status=499), "")["http.response.status_code"] == 499


@pytest.mark.parametrize(
    ("host", "address", "port"),
    [
        (b"shop", "shop", None),
        (b"[2001:db8::1]:80", "2001:db8::1", 80),
        (b"[2001:db8::1]", "2001:db8::1", None),
    ],
)
def test_host_is_address_and_port(host: bytes, address: str, port: int | None) -> None:
    """The Host field is taken apart; a port that is not named is left out."""
    attributes = attributes_of(SPAN._replace(host=host), "")
    assert (attributes["server.address"], attributes.get("server.port")) == (address, port)


def test_signatures_are_covered() -> None:
    """What opens a signed link does not go to the collector."""
    span = SPAN._replace(target=b"/f?sig=abc&a=1&X-Goog-Signature=def")
    assert attributes_of(span, "")["url.query"] == "sig=REDACTED&a=1&X-Goog-Signature=REDACTED"


def test_any_bytes_become_text() -> None:
    """Whatever a client sends, and wherever it was cut off, can be exported."""
    assert attributes_of(SPAN._replace(request_id=b"\xc3\xa4\xc3"), "")["sillyproxy.request_id"] == "ä\ufffd"
