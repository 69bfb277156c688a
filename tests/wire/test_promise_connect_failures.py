"""Promise: an endpoint that cannot be connected to is nobody's problem while another one can."""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from tests.wire.harness import Proxy, find_free_port
from tests.wire.stress_tools import (
    GET,
    QuickOrigin,
    ask_many,
    ask_once,
    is_balanced,
    loading,
    origin,
    read_metrics,
    request,
    serving,
    show,
    wait_at_rest,
)

Dead = Callable[[], contextlib.AbstractContextManager[str]]

FAST_CONNECT = {"SILLYPROXY_CONNECT_TIMEOUT": "300ms"}


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """An address that swallows packets: its accept queue is full, so the kernel answers no SYN."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fill = []
        for _ in range(8):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
            fill.append(sock)
        time.sleep(0.1)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            for sock in fill:
                sock.close()


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """An address where nobody listens."""
    yield f"http://127.0.0.1:{find_free_port()}"


def both(url: str, backend: QuickOrigin) -> contextlib.AbstractContextManager[Proxy]:
    """Serve one color with these two endpoints."""
    return serving({"BLUE": f"{url},{backend.url}", **FAST_CONNECT})


@pytest.mark.parametrize(("dead", "reason"), [(refusing, "refused"), (black_hole, "timeout")])
def test_dead_endpoint_of_two(dead: Dead, reason: str) -> None:
    """One of two endpoints refuses, or swallows packets: no client sees it, the retries are counted."""
    with (
        dead() as url,
        origin() as backend,
        serving({"BLUE": f"{url},{backend.url}", **FAST_CONNECT}) as proxy,
    ):
        with loading(proxy.port, 4) as load:
            load.wait_answers(200)
        assert set(load.statuses) == {200}
        assert not load.failures
        wait_at_rest(proxy)
        retries = read_metrics(proxy)[f'sillyproxy_retries_total{{color="blue",reason="{reason}"}}']
        show("dead endpoint", reason=reason, retries=retries, slowest_ms=max(load.latencies) * 1e3)
        assert retries >= 1


def test_dead_endpoint_is_asked_seldom() -> None:
    """A dead endpoint costs a connection attempt now and then, not one a request."""
    with refusing() as url, origin() as backend, serving({"BLUE": f"{url},{backend.url}"}) as proxy:
        begun = time.monotonic()
        assert ask_many(proxy.port, 1000) == {b"blue": 1000}
        wait_at_rest(proxy)
        failures = read_metrics(proxy)['sillyproxy_upstream_connect_failures_total{color="blue"}']
        assert 1 <= failures <= 3 + 2 * (time.monotonic() - begun)


@pytest.mark.parametrize("dead", [refusing, black_hole])
def test_dead_color_falls_back_to_the_other(dead: Dead) -> None:
    """A canary that cannot be reached is not a user's problem: the other color answers, and it is counted."""
    with dead() as url, origin() as backend:
        env = {"BLUE": backend.url, "BLUE_WEIGHT": "80", "GREEN": url, "GREEN_WEIGHT": "20", **FAST_CONNECT}
        with serving(env) as proxy:
            assert ask_many(proxy.port, 100) == {b"blue": 100}
            wait_at_rest(proxy)
            fallbacks = read_metrics(proxy)['sillyproxy_fallbacks_total{from="green",to="blue"}']
            show("dead color", fallbacks=fallbacks)
            assert abs(fallbacks - 20) <= 5


def test_color_of_weight_0_is_no_refuge() -> None:
    """A color at weight 0 takes nothing over: the request fails rather than reach it."""
    with refusing() as url, origin() as backend:
        with serving({"BLUE": url, "GREEN": backend.url, "GREEN_WEIGHT": "0"}) as proxy:
            assert ask_once(proxy.port, GET % b"/").status == 502
        assert backend.served == 0


@pytest.mark.parametrize(
    ("dead", "status", "kind"),
    [(refusing, 502, b"connection_refused"), (black_hole, 504, b"connection_timeout")],
)
def test_nothing_can_be_reached(dead: Dead, status: int, kind: bytes) -> None:
    """When every endpoint of every color is dead each client is told so, with the reason, in bounded time."""
    with contextlib.ExitStack() as stack:
        one, two, three = (stack.enter_context(dead()) for _ in range(3))
        with serving({"BLUE": f"{one},{two}", "GREEN": three, **FAST_CONNECT}) as proxy:
            begun = time.monotonic()
            replies = [ask_once(proxy.port, GET % b"/") for _ in range(5)]
            took_s = time.monotonic() - begun
            show("all dead", seconds_each=took_s / 5)
            for reply in replies:
                assert reply.status == status
                assert reply.values("Proxy-Status") == [b"sillyproxy; error=" + kind]
            assert took_s / 5 < 5
            assert is_balanced(wait_at_rest(proxy)["counters"])


def test_endpoint_that_comes_back_is_used_again() -> None:
    """An endpoint that was dead is used again soon after it listens again, without a restart."""
    port = find_free_port()
    with serving({"BLUE": f"http://127.0.0.1:{port}"}) as proxy:
        assert ask_once(proxy.port, GET % b"/").status == 502
        with origin(port=port):
            assert ask_once(proxy.port, GET % b"/").status == 200


@pytest.mark.parametrize("dead", [refusing, black_hole])
def test_bodies_arrive_whole_after_a_retry(dead: Dead) -> None:
    """A POST whose first endpoint could not be reached arrives at the next one with all of its body."""
    small, large = bytes(1000), bytes(3_000_000)
    chunked = b"POST /echo HTTP/1.1\r\nHost: e\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += (b"%x\r\n" % 500_000 + bytes(500_000) + b"\r\n") * 4 + b"0\r\n\r\n"
    with dead() as url, origin() as backend:
        env = {"BLUE": backend.url, "GREEN": url, "GREEN_WEIGHT": "100000", **FAST_CONNECT}
        with serving(env) as proxy:
            for data, size in (
                (request("/echo", "POST", small), 1000),
                (request("/echo", "POST", large), 3_000_000),
                (chunked, 2_000_000),
            ):
                reply = ask_once(proxy.port, data, b"POST")
                assert (reply.status, reply.body) == (200, b"%d" % size)


def test_backend_that_closes_idle_connections_fails_no_get() -> None:
    """A backend that closes each connection after three answers, without a word: no GET fails."""
    with origin(closing_after=3) as backend, serving({"BLUE": backend.url}) as proxy:
        with loading(proxy.port, 6) as load:
            load.wait_answers(1500)
        wait_at_rest(proxy)
        retries = read_metrics(proxy)['sillyproxy_retries_total{color="blue",reason="closed"}']
        show("closing backend", answers=sum(load.statuses.values()), retries=retries)
        assert set(load.statuses) == {200}
        assert not load.failures


def test_post_is_never_sent_twice() -> None:
    """The same backend and POST: whatever a client is told, no request reaches the backend twice."""
    numbers = itertools.count()

    def make(_: int) -> tuple[bytes, bytes]:
        return b"POST", request("/echo", "POST", b"x" * 10, X_Id=str(next(numbers)))

    with origin(closing_after=3) as backend, serving({"BLUE": backend.url}) as proxy:
        with loading(proxy.port, 6, make) as load:
            load.wait_answers(1500)
        show("closing backend, POST", **{str(status): count for status, count in load.statuses.items()})
        assert max(backend.ids.values()) == 1
        assert set(load.statuses) <= {200, 502}
        assert load.statuses[200] > 500
        assert not load.failures


def test_broken_request_is_not_repeated() -> None:
    """A backend that takes a GET on a new connection and closes without an answer is asked once: 502."""
    with origin() as backend, serving({"BLUE": backend.url}) as proxy:
        assert ask_once(proxy.port, GET % b"/break").status == 502
        assert backend.served == 1
