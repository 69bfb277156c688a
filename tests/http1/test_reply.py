"""Replies of our own: each is a whole response that says which failure it stands for."""

from __future__ import annotations

import h11
import pytest

from sillyproxy import errors
from sillyproxy.errors import Problem
from sillyproxy.http1.reply import build_options_reply, build_reply, build_trace_reply

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
PROBLEMS = sorted(
    {p for p in vars(errors).values() if isinstance(p, Problem) and p is not errors.ABANDONED},
    key=lambda problem: (problem.status, problem.detail),
)


def read(data: bytes, method: str = "GET") -> tuple[int, dict[bytes, bytes], bytes]:
    """Return status, fields and body as a client on h11 reads them; nothing may be left over."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    head = client.next_event()
    assert isinstance(head, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert client.trailing_data[0] == b""
    return head.status_code, dict(head.headers), body


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.detail)
def test_every_failure_has_a_reply_that_names_it(problem: Problem) -> None:
    """
    Whoever reads a reply of ours finds the status, the kind of failure in Proxy-Status, and why in words.
    """
    status, fields, body = read(build_reply(problem, date=DATE, close=False))

    assert status == problem.status
    assert fields[b"proxy-status"] == b"sillyproxy; error=" + problem.kind.encode()
    assert fields[b"content-type"].startswith(b"text/plain")
    assert fields[b"date"] == DATE
    assert problem.detail.encode() in body


def test_a_reply_to_head_has_the_same_head_and_no_body() -> None:
    """
    HEAD gets the length that GET would get, and nothing behind the head.
    """
    whole = build_reply(errors.NO_BACKEND, date=DATE, close=False)
    head = build_reply(errors.NO_BACKEND, date=DATE, close=False, head_only=True)

    assert whole.startswith(head)
    assert head.endswith(b"\r\n\r\n")
    assert read(head, "HEAD")[2] == b""


@pytest.mark.parametrize(
    ("close", "minor", "connection"),
    [(True, 1, b"close"), (True, 0, b"close"), (False, 1, None), (False, 0, b"keep-alive")],
)
def test_a_reply_says_what_becomes_of_the_connection(
    close: bool, minor: int, connection: bytes | None
) -> None:
    """
    A client knows from the reply whether it may send another request.
    """
    _, fields, _ = read(build_reply(errors.NO_BACKEND, date=DATE, close=close, minor=minor))

    assert fields.get(b"connection") == connection


def test_what_is_not_allowed_says_what_is() -> None:
    """
    405 comes with Allow.
    """
    allow = read(build_reply(errors.NO_CONNECT, date=DATE, close=True))[1][b"allow"]

    assert b"GET" in allow
    assert b"CONNECT" not in allow


def test_more_fields_may_go_along() -> None:
    """
    A reply takes the color that failed along, if there is one to name.
    """
    assert read(build_reply(errors.REFUSED, date=DATE, close=False, extra=b"X: y\r\n"))[1][b"x"] == b"y"


def test_options_that_may_go_no_further_is_answered_here() -> None:
    """
    Max-Forwards 0 on OPTIONS: the answer says what may be sent.
    """
    status, fields, body = read(build_options_reply(date=DATE, close=True), "OPTIONS")

    assert (status, body, fields[b"connection"]) == (200, b"", b"close")
    assert b"OPTIONS" in fields[b"allow"]


def test_trace_shows_the_request_without_its_secrets() -> None:
    """
    Max-Forwards 0 on TRACE: the request comes back as it was, but no credential does.
    """
    head = b"TRACE / HTTP/1.1\r\nHost: a\r\nCookie: s=1\r\naUTHORIZATION: x\r\nProxy-Authorization: y\r\nX: z"
    status, fields, body = read(build_trace_reply(head, date=DATE, close=False), "TRACE")

    assert (status, fields[b"content-type"]) == (200, b"message/http")
    assert body == b"TRACE / HTTP/1.1\r\nHost: a\r\nX: z\r\n\r\n"
