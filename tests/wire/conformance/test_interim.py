"""Expect and interim responses, end to end (RFC 9110, sections 10.1.1 and 15.2)."""

from __future__ import annotations

import threading

import pytest

from tests.wire.conformance.judge import case
from tests.wire.harness import CLOSE, CORK, OK, READ, Edge, Exchange, Script

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
EXPECT = b"POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"


def test_continue_comes_from_the_backend(edge: Edge) -> None:
    """
    The client is told to go on when, and only when, the backend said so.
    """
    may_go_on = threading.Event()

    def script(exchange: Exchange) -> None:
        may_go_on.wait(10)
        exchange.send(CONTINUE)
        exchange.read_body()
        exchange.send(OK)

    edge.origin.restart(script)
    client = edge.connect()
    client.send(EXPECT)
    request = edge.origin.wait(complete=False)
    assert request.list("expect") == [b"100-continue"]
    assert client.is_silent()
    may_go_on.set()
    assert client.read_head().status == 100
    client.send(b"hello")
    assert client.read_reply().status == 200
    assert edge.origin.wait().body == b"hello"


@pytest.mark.parametrize(
    "expect",
    [case("9110-10.1.1 mixed case", b"100-Continue"), case("9110-10.1.1 blanks", b" \t100-continue ")],
)
def test_expectation_is_understood_in_any_spelling(edge: Edge, expect: bytes) -> None:
    """
    RFC 9110, 10.1.1: the value is case-insensitive.
    """
    edge.origin.restart([CONTINUE, READ, OK])
    client = edge.connect()
    client.send(b"POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect:" + expect + b"\r\n\r\n")
    assert client.read_head().status == 100
    client.send(b"hello")
    assert client.read_reply().status == 200


def test_chunked_body_waits_for_continue_too(edge: Edge) -> None:
    """
    An expectation does not depend on how the body is framed.
    """
    edge.origin.restart([CONTINUE, READ, OK])
    client = edge.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
    assert client.read_head().status == 100
    client.send(b"5\r\nhello\r\n0\r\n\r\n")
    assert client.read_reply().status == 200
    assert edge.origin.wait().body == b"hello"


FINAL = [
    case("9110-15.5.18 417", 417, b""),
    case("9110-15.5.2 401", 401, b""),
    case("9110-15.5.14 413, and closes", 413, b"Connection: close\r\n"),
    case("9110-15.4.3 302", 302, b"Location: /x\r\n"),
    case("9110-15.3.1 200", 200, b""),
]


@pytest.mark.parametrize(("status", "fields"), FINAL)
def test_backend_that_refuses_instead_of_continue_does_not_hang_the_client(
    edge: Edge, status: int, fields: bytes
) -> None:
    """
    RFC 9110, 10.1.1: a final status in place of 100 reaches the client, which never sends its body.
    """

    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 %d X\r\n%sContent-Length: 2\r\n\r\nno" % (status, fields))
        if fields.startswith(b"Connection"):
            exchange.close()

    reply = edge.ask(EXPECT, script)
    assert (reply.status, reply.body, reply.interim) == (status, b"no", [])


def test_client_that_does_not_wait_is_served(edge: Edge) -> None:
    """
    RFC 9110, 10.1.1: a client may send its body at once.
    """
    edge.origin.restart([CONTINUE, READ, OK])
    client = edge.connect()
    client.send(EXPECT + b"hello")
    assert client.read_reply().status == 200
    assert edge.origin.wait().body == b"hello"


def test_backend_that_knows_no_expectations_is_served(edge: Edge) -> None:
    """
    RFC 9110, 10.1.1: a client that waited in vain sends its body after a while, and all is well.
    """
    edge.origin.restart([READ, OK])
    client = edge.connect()
    client.send(EXPECT)
    edge.origin.wait(complete=False)
    client.is_silent()
    client.send(b"hello")
    assert client.read_reply().status == 200
    assert edge.origin.wait().body == b"hello"


@pytest.mark.parametrize(
    "field", [case("9110-10.1.1 no body", b""), case("9110-10.1.1 length 0", b"Content-Length: 0\r\n")]
)
def test_expectation_without_a_body_does_not_hang(edge: Edge, field: bytes) -> None:
    """
    RFC 9110, 10.1.1: nothing is to come, so nobody waits.
    """
    reply = edge.ask(b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n" + field + b"\r\n")
    assert reply.status == 200


def test_expectation_that_nobody_knows_is_refused_or_passed_on(edge: Edge) -> None:
    """
    RFC 9110, 10.1.1: 417 is allowed, so is leaving it to the backend.
    """
    assert edge.ask(b"GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n").status in (200, 417)


def test_client_of_http_1_0_gets_no_continue(edge: Edge) -> None:
    """
    RFC 9110, 10.1.1 and 15.2: an expectation in HTTP/1.0 is ignored, and no 1xx goes to such a client.
    """
    edge.origin.restart([CONTINUE, READ, OK])
    client = edge.connect()
    client.send(b"POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello")
    reply = client.read_reply()
    assert (reply.status, reply.interim) == (200, [])


INTERIM = [
    case("9110-15.2 103", HINTS, [103]),
    case("9110-15.2 two 103", HINTS + HINTS, [103, 103]),
    case("9110-15.2 102", b"HTTP/1.1 102 Processing\r\n\r\n", [102]),
    case("9110-15.2 one that nobody knows", b"HTTP/1.1 199 X\r\nX-A: b\r\n\r\n", [199]),
    case("9110-15.2 no reason", b"HTTP/1.1 103 \r\nX-A: b\r\n\r\n", [103]),
    case("9110-15.2 twenty", HINTS * 20, [103] * 20),
]


@pytest.mark.parametrize(("interim", "statuses"), INTERIM)
@pytest.mark.parametrize("pause", [case("together", 0.0), case("apart", 0.05)])
def test_interim_responses_reach_the_client(
    edge: Edge, interim: bytes, statuses: list[int], pause: float
) -> None:
    """
    RFC 9110, 15.2: a proxy forwards 1xx, in order, with their fields, before the final response.
    """
    script: Script = [interim, pause, OK] if pause else interim + OK
    reply = edge.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", script)
    assert (reply.status, reply.body) == (200, b"ok")
    assert [one.status for one in reply.interim] == statuses
    if statuses[0] == 103 and b"Link" in interim:
        assert reply.interim[0].values("link") == [b"</a.css>; rel=preload"]


def test_interim_response_comes_before_the_final_one_is_known(edge: Edge) -> None:
    """
    RFC 8297: hints are worth nothing when they come late.
    """
    go_on = threading.Event()
    edge.origin.restart([HINTS, lambda _: go_on.wait(10), OK])
    client = edge.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.read_head().status == 103
    go_on.set()
    assert client.read_reply().status == 200


@pytest.mark.parametrize(
    "interim",
    [
        case("9110-15.2 103", HINTS),
        case("9110-15.2 102", b"HTTP/1.1 102 Processing\r\n\r\n"),
        case("9110-15.2 100", CONTINUE),
        case("9110-15.2 several", CONTINUE + HINTS + HINTS),
    ],
)
def test_client_of_http_1_0_gets_no_interim_response(edge: Edge, interim: bytes) -> None:
    """
    RFC 9110, 15.2: no 1xx to an HTTP/1.0 client, which would take it for the answer.
    """
    reply = edge.ask(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", interim + OK)
    assert (reply.status, reply.body, reply.interim) == (200, b"ok", [])


def test_continue_that_nobody_asked_for_does_no_harm(edge: Edge) -> None:
    """
    RFC 9110, 15.2.1: a stray 100 is passed on or dropped; the final response is the backend's.
    """
    reply = edge.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", CONTINUE + OK)
    assert (reply.status, reply.body) == (200, b"ok")
    assert [one.status for one in reply.interim] in ([], [100])


def test_interim_response_has_no_body_whatever_it_says(edge: Edge) -> None:
    """
    RFC 9112, 6.3: a 1xx ends with its head; a length in it must not swallow the final response.
    """
    reply = edge.ask(
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 103 X\r\nContent-Length: 500\r\n\r\n" + OK
    )
    assert reply.status in (200, 502)
    assert reply.status == 502 or reply.body == b"ok"


def test_hop_by_hop_field_of_an_interim_response_stays_behind(edge: Edge) -> None:
    """
    RFC 9110, 7.6.1 is about every response.
    """
    interim = b"HTTP/1.1 103 X\r\nConnection: X-A\r\nX-A: 1\r\nKeep-Alive: x\r\nX-B: 2\r\n\r\n"
    reply = edge.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", interim + OK)
    assert reply.status == 200
    (hint,) = reply.interim
    assert (hint.values("x-a"), hint.values("keep-alive"), hint.values("x-b")) == ([], [], [b"2"])


@pytest.mark.parametrize(
    "script",
    [
        case("9110-15.2 FIN in one packet", [CORK, HINTS, CLOSE]),
        case("9110-15.2 FIN on its own", [HINTS, 0.05, CLOSE]),
        case("9110-15.2 half a head behind it", [CORK, HINTS + b"HTTP/1.1 200 O", CLOSE]),
    ],
)
def test_backend_that_leaves_after_an_interim_response_is_502(edge: Edge, script: Script) -> None:
    """
    An interim response is not an answer.
    """
    reply = edge.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", script)
    assert reply.status == 502


def test_interim_responses_without_end_do_not_last_forever(edge: Edge) -> None:
    """
    A backend that sends 1xx by the thousand is passed on or given up, and the client gets an answer.
    """
    reply = edge.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", HINTS * 3000 + OK)
    assert reply.status in (200, 502)
    assert reply.is_whole


def test_switch_that_nobody_asked_for_is_502(edge: Edge) -> None:
    """
    RFC 9110, 7.8: a backend may not switch protocols on a client that did not offer to.
    """
    reply = edge.ask(
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", CLOSE],
    )
    assert reply.status == 502


def test_body_that_was_never_sent_does_not_swallow_the_next_request(edge: Edge) -> None:
    """
    After a refusal in place of 100 the backend still waits for the body: nobody's request may become it.
    """
    refusal = b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"
    assert edge.ask(EXPECT, [refusal]).status == 417
    for i in range(3):
        reply = edge.ask(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i)
        assert (reply.status, [r.target for r in edge.received]) == (200, [b"/%d" % i])


def test_refusal_before_the_body_says_whether_the_connection_goes_on(edge: Edge) -> None:
    """
    RFC 9110, 10.1.1: the proxy closes, or reads the body that was announced; it never takes it for a request.
    """
    edge.origin.restart([b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"])
    client = edge.connect()
    body = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    client.send(EXPECT.replace(b"Length: 5", b"Length: %d" % len(body)))
    reply = client.read_reply()
    assert reply.status == 417
    edge.origin.restart(OK)
    client.send(body)
    if b"close" in reply.list("connection"):
        assert client.wait_end() in ("closed", "reset")
    else:
        client.send(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
        client.read_reply()
    assert b"/smuggled" not in [request.target for request in edge.received]


@pytest.mark.parametrize(
    "fields",
    [
        case("9110-10.1.1 a word before", b"Expect: y 100-continue\r\n"),
        case("9110-10.1.1 a list", b"Expect: 100-continue, x\r\n"),
        case("9110-10.1.1 twice", b"Expect: 100-continue\r\nExpect: 100-continue\r\n"),
        case("9110-10.1.1 a parameter", b"Expect: 100-continue;q=1\r\n"),
        case("9110-10.1.1 empty", b"Expect:\r\n"),
        case("9110-10.1.1 nominated", b"Connection: Expect\r\nExpect: 100-continue\r\n"),
    ],
)
def test_odd_expectation_does_not_move_the_body(edge: Edge, fields: bytes) -> None:
    """
    However an expectation is written, the body is the body and the next request the next.
    """
    edge.origin.restart([CONTINUE, READ, OK])
    client = edge.connect()
    client.send(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n" + fields + b"\r\nhello")
    reply = client.read_reply()
    assert reply.status in (200, 400, 417), reply
    assert [r.body for r in edge.received] == ([b"hello"] if reply.status == 200 else [])
