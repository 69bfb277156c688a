"""When a request is sent again, and when it must not be (contract; RFC 9110, 9.2.2; RFC 9112, 9.3.1)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.wire.conformance.judge import assert_explained, case
from tests.wire.harness import CLOSE, OK, Edge, Exchange, Origin, Script, find_free_port, run, wait_for

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def break_first(exchange: Exchange, end: Script, edge: Edge) -> None:
    """End the first request of this test as told, answer the others."""
    exchange.read_body()
    if len(edge.received) == 1:
        assert callable(end)
        end(exchange)
    else:
        exchange.send(OK)


ENDS = [case("FIN", Exchange.close), case("RST", Exchange.reset)]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    "method", [case(f"9110-9.2.2 {m.decode()}", m) for m in (b"GET", b"OPTIONS", b"DELETE")]
)
def test_idempotent_request_on_a_stale_connection_is_sent_again(
    edge: Edge, method: bytes, end: Script
) -> None:
    """
    A pooled connection that turns out closed costs nobody an error if the method may be repeated.
    """
    assert edge.ask(GET).status == 200
    time.sleep(0.05)
    reply = edge.ask(method + b" /again HTTP/1.1\r\nHost: a\r\n\r\n", lambda e: break_first(e, end, edge))
    assert (reply.status, reply.body) == (200, b"ok")
    assert [r.method for r in edge.received] == [method, method]
    assert edge.received[0].connection != edge.received[1].connection


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("method", [case(f"9110-9.2.2 {m.decode()}", m) for m in (b"POST", b"PATCH", b"X")])
def test_other_request_on_a_stale_connection_is_not_sent_again(
    edge: Edge, method: bytes, end: Script
) -> None:
    """
    A POST that the backend may have acted on is never sent twice: 502.
    """
    assert edge.ask(GET).status == 200
    time.sleep(0.05)
    request = method + b" /once HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    reply = edge.ask(request, lambda e: break_first(e, end, edge))
    assert reply.status == 502, reply
    assert_explained(reply)
    assert [(r.target, r.body) for r in edge.received] == [(b"/once", b"hello")]


@pytest.mark.parametrize("end", ENDS)
def test_put_on_a_stale_connection_keeps_its_body_or_fails(edge: Edge, end: Script) -> None:
    """
    If a request with a body is sent again, then with all of its body.
    """
    assert edge.ask(GET).status == 200
    time.sleep(0.05)
    request = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    reply = edge.ask(request, lambda e: break_first(e, end, edge))
    assert reply.status in (200, 502)
    assert {r.body for r in edge.received} == {b"hello"}
    assert len(edge.received) == (2 if reply.status == 200 else 1)


def test_request_on_a_new_connection_is_not_sent_again(edge: Edge) -> None:
    """
    A backend that took a new connection and closed it may have acted: 502, and only one attempt.
    """
    edge.origin.close_connections()
    assert wait_for(lambda: not edge.origin.opened)
    time.sleep(0.1)
    reply = edge.ask(GET, [CLOSE])
    assert reply.status == 502
    assert len(edge.received) == 1


def test_request_is_not_sent_again_after_the_response_began(edge: Edge) -> None:
    """
    Bytes of a response prove that the request was acted on.
    """
    assert edge.ask(GET).status == 200
    time.sleep(0.05)
    reply = edge.ask(GET, [b"HTTP/1.1 200 OK\r\nContent-Len", CLOSE])
    assert reply.status == 502
    assert len(edge.received) == 1


@pytest.fixture
def origin() -> Iterator[Origin]:
    origin = Origin()
    yield origin
    origin.close()


def get_dead_url() -> str:
    return f"http://127.0.0.1:{find_free_port()}"


def test_refused_endpoint_is_nobodys_problem(origin: Origin) -> None:
    """
    While one of a color's endpoints refuses connections, the other serves every request, POST bodies and all.
    """
    with run({"BLUE": f"{get_dead_url()},{origin.url}"}, origin) as edge:
        for size in (2, 20_000, 300_000):
            for _ in range(4):
                body = b"x" * size
                reply = edge.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + body)
                assert (reply.status, [r.body for r in edge.received]) == (200, [body])


def test_dead_color_is_nobodys_problem(origin: Origin) -> None:
    """
    When a color refuses altogether, another color with weight takes its requests, as itself.
    """
    with run({"BLUE": get_dead_url(), "GREEN": origin.url}, origin) as edge:
        for _ in range(10):
            assert edge.ask(GET).status == 200
            assert edge.received[0].values("color") == [b"green"]


def test_color_of_weight_zero_takes_nothing_over(origin: Origin) -> None:
    """
    A drained color stays drained, whatever happens to the others.
    """
    with run({"BLUE": get_dead_url(), "GREEN": origin.url, "GREEN_WEIGHT": "0"}, origin, ready=False) as edge:
        reply = edge.ask(GET)
        assert reply.status in (502, 503, 504)
        assert_explained(reply)
        assert edge.received == []


def test_all_colors_dead_is_told(origin: Origin) -> None:
    """
    With nobody left the client gets 502, 503 or 504 at once, with the reason's name.
    """
    with run({"BLUE": get_dead_url(), "GREEN": get_dead_url()}, origin, ready=False) as edge:
        for _ in range(3):
            reply = edge.ask(GET)
            assert reply.status in (502, 503, 504)
            assert reply.is_whole
            assert_explained(reply)


@pytest.mark.parametrize("weights", [case("contract no color", False), case("contract every weight 0", True)])
def test_no_color_is_503(origin: Origin, weights: bool) -> None:
    """
    With no color, or all at weight 0, the proxy runs and says 503.
    """
    env = {"BLUE": origin.url, "BLUE_WEIGHT": "0"} if weights else {}
    with run(env, origin, ready=False) as edge:
        reply = edge.ask(GET)
        assert reply.status == 503
        assert_explained(reply, b"destination_unavailable")
        assert edge.received == []


def test_backend_that_comes_up_later_is_used(origin: Origin) -> None:
    """
    A color that was dead at the start serves as soon as it lives.
    """
    port = find_free_port()
    with run({"BLUE": f"http://127.0.0.1:{port}"}, origin, ready=False) as edge:
        assert edge.ask(GET).status in (502, 503, 504)
        late = Origin(port)
        assert wait_for(lambda: edge.ask(GET).status == 200)
        late.close()
