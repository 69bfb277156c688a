"""Promise: every exchange is accounted for, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from tests.wire.harness import Client, Proxy, find_free_port, reset
from tests.wire.stress_tools import (
    GET,
    QuickOrigin,
    ask_many,
    ask_once,
    count_descriptors,
    find_workers,
    is_balanced,
    loading,
    origin,
    read_counters,
    read_metrics,
    read_status,
    request,
    serving,
    show,
    wait_at_rest,
    wait_until,
)

HASTY = {
    "SILLYPROXY_RESPONSE_TIMEOUT": "500ms",
    "SILLYPROXY_HEADER_TIMEOUT": "500ms",
    "SILLYPROXY_IDLE_TIMEOUT": "1s",
    "SILLYPROXY_CONNECT_TIMEOUT": "500ms",
}


def _leave(port: int, data: bytes, how: Callable[[Client], None], *, wait: int = 0) -> None:
    """Send something, perhaps read something, and go away."""
    client = Client(port)
    client.send(data)
    if wait:
        client.read_exactly(wait)
    how(client)


def _close(client: Client) -> None:
    client.close()


def _reset(client: Client) -> None:
    reset(client.sock)


def _half_close(client: Client) -> None:
    client.half_close()
    client.wait_end()
    client.close()


def make_a_mess(port: int) -> int:
    """Do everything that can end an exchange; return how many exchanges that was."""
    whole = [
        GET % b"/",
        GET % b"/status/404",
        GET % b"/status/500",
        GET % b"/bytes/300000",
        GET % b"/chunked/70000",
        GET % b"/break",
        GET % b"/reset",
        GET % b"/cut",
        GET % b"/hang",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: e",
        b"OPTIONS * HTTP/1.1\r\nHost: edge\r\nMax-Forwards: 0\r\n\r\n",
        request("/echo", "POST", bytes(200_000)),
        b"POST /echo HTTP/1.1\r\nHost: edge\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: edge\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel!o...",
        b"POST /echo HTTP/1.1\r\nHost: edge\r\nContent-Length: 100\r\n\r\nnot all of it",
    ]
    for data in whole:
        ask_once(port, data)
    leaving = [
        (GET % b"/hang", 0),
        (GET % b"/half", 30),
        (GET % b"/bytes/30000000", 100_000),
        (b"POST /echo HTTP/1.1\r\nHost: edge\r\nContent-Length: 9\r\n\r\nhalf", 0),
        (request("/switch", Connection="upgrade", Upgrade="echo"), 30),
    ]
    for data, wait in leaving:
        for how in (_close, _reset, _half_close):
            _leave(port, data, how, wait=wait)
    return len(whole) + 3 * len(leaving)


def test_books_balance_after_everything_that_can_happen() -> None:
    """
    After good and bad answers, refused requests, clients and upstreams that break off in every
    phase, timeouts and tunnels: accepted = answered + replied + abandoned + lost, nothing is under
    way, no connection is open, the upstream gauges are 0, and no descriptor is left behind.
    """
    with origin() as backend, serving({"BLUE": backend.url, **HASTY}) as proxy:
        (worker,) = find_workers(proxy)
        ask_many(proxy.port, 10)
        _empty_pool(proxy, backend)
        before = count_descriptors(worker)
        made = make_a_mess(proxy.port)
        counters = wait_at_rest(proxy)["counters"]
        show("books", **counters)
        assert is_balanced(counters)
        assert counters["accepted"] == 10 + made
        assert counters["lost"] == 0
        assert min(counters["answered"], counters["replied"], counters["abandoned"]) > 3
        _empty_pool(proxy, backend)
        wait_until(lambda: count_descriptors(worker) <= before, "descriptors to be given back")


def _count_idle(proxy: Proxy) -> int:
    return sum(color["upstream_connections"]["idle"] for color in read_status(proxy)["colors"])


def _empty_pool(proxy: Proxy, backend: QuickOrigin) -> None:
    """Have the backend close what is idle, and wait until the proxy has noticed."""
    wait_at_rest(proxy)
    backend.close_connections()
    wait_until(lambda: not _count_idle(proxy), "the pool's end")


def test_idle_upstream_connections_end() -> None:
    """Upstream connections idle for the idle timeout are closed, also when no client is there."""
    with origin() as backend, serving({"BLUE": backend.url, "SILLYPROXY_IDLE_TIMEOUT": "1s"}) as proxy:
        ask_many(proxy.port, 10)
        wait_until(lambda: not _count_idle(proxy), "the pool's end")


def test_classes_of_status_codes_add_up_to_the_books() -> None:
    """The requests counted by color and class of status are the exchanges that have ended, each once."""
    with origin() as backend, serving({"BLUE": backend.url, **HASTY}) as proxy:
        make_a_mess(proxy.port)
        counters = wait_at_rest(proxy)["counters"]
        metrics = read_metrics(proxy)
        by_class = sum(v for name, v in metrics.items() if name.startswith("sillyproxy_requests_total{"))
        assert by_class == counters["answered"] + counters["replied"] + counters["abandoned"]


def test_interim_responses_are_no_requests() -> None:
    """A response that is preceded by 103 (early hints) is one request in the metrics, not two."""
    from tests.wire.harness import OK, READ, Origin

    server = Origin()
    server.restart([READ, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", OK])
    with serving({"BLUE": server.url}) as proxy:
        assert ask_once(proxy.port, GET % b"/").status == 200
        wait_at_rest(proxy)
        assert read_status(proxy)["colors"][0]["requests"] == 1
    server.close()


def test_replies_of_503_are_in_the_books() -> None:
    """Requests that no color takes are accepted and replied to."""
    with origin() as backend, serving({"BLUE": backend.url, "BLUE_WEIGHT": "0"}, ready=False) as proxy:
        ask_many(proxy.port, 30)
        counters = wait_at_rest(proxy)["counters"]
        assert (counters["accepted"], counters["replied"]) == (30, 30)


def test_books_balance_after_a_worker_was_killed() -> None:
    """What a killed worker had under way is booked as lost; the books of all workers together balance."""
    with origin() as backend, serving({"BLUE": backend.url, "SILLYPROXY_WORKERS": "2"}) as proxy:
        hanging = [Client(proxy.port) for _ in range(8)]
        for client in hanging:
            client.send(GET % b"/hang")
        wait_until(lambda: read_counters(proxy)["inflight"] == 8, "8 requests under way")
        with loading(proxy.port, 4) as load:
            load.wait_answers(100)
            for worker in find_workers(proxy):
                os.kill(worker, signal.SIGKILL)
            wait_until(lambda: read_counters(proxy)["restarts"] == 2, "both to be replaced")
            load.wait_answers(100)
        for client in hanging:
            client.close()
        counters = wait_at_rest(proxy)["counters"]
        show("books after two deaths", **counters)
        assert is_balanced(counters)
        assert 8 <= counters["lost"] <= 8 + 4


def test_books_balance_at_every_moment_under_load() -> None:
    """Whoever looks at the books under load sees them balanced: they are published as a whole."""
    with origin() as backend, serving({"BLUE": backend.url}) as proxy, loading(proxy.port, 4) as load:
        for _ in range(20):
            assert is_balanced(read_counters(proxy))
            time.sleep(0.02)
        load.wait_answers(50)
        assert not load.failures


def test_failed_connects_are_in_the_books() -> None:
    """Requests that no endpoint could be connected for are replied to, and no upstream gauge is off."""
    with serving({"BLUE": f"http://127.0.0.1:{find_free_port()}"}) as proxy:
        assert set(ask_many(proxy.port, 30)) == {b"502"}
        counters = wait_at_rest(proxy)["counters"]
        assert (counters["accepted"], counters["replied"]) == (30, 30)
