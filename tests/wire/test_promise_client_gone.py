"""Promise: when a client goes away its endpoint is not kept busy for nobody."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.wire.harness import Client, reset
from tests.wire.stress_tools import (
    GET,
    KIB,
    QuickOrigin,
    origin,
    read_counters,
    request,
    serving,
    show,
    wait_at_rest,
    wait_until,
)

# What a client may have sent of an exchange, and how much of an answer it waits for, when it goes.
PHASES: dict[str, tuple[str, bytes, int]] = {
    "waiting for the head": ("/hang", GET % b"/hang", 0),
    "amid the answer": ("/half", GET % b"/half", 60),
    "amid a large download": ("/bytes/2000000000", GET % b"/bytes/2000000000", 1000 * KIB),
    "after a small upload": ("/hang", request("/hang", "POST", b"x" * 100), 0),
    "after a large upload": ("/hang", request("/hang", "POST", bytes(1_500_000)), 0),
    "in a tunnel": ("/switch", request("/switch", Connection="upgrade", Upgrade="echo"), 30),
}


def _close(client: Client) -> None:
    client.close()


def _reset(client: Client) -> None:
    reset(client.sock)


@pytest.mark.parametrize("how", [_close, _reset])
@pytest.mark.parametrize("phase", PHASES)
def test_client_that_goes_away_ends_its_request(phase: str, how: Callable[[Client], None]) -> None:
    """A client closes, or resets, in the middle: within seconds its endpoint sees the connection closed."""
    path, data, wait = PHASES[phase]
    with origin() as backend, serving({"BLUE": backend.url}) as proxy:
        client = Client(proxy.port)
        client.send(data)
        if wait:
            client.read_exactly(wait)
        wait_until(lambda: backend.served == 1, "the request")
        begun = time.monotonic()
        how(client)
        wait_until(lambda: backend.ended[path] == 1, "the endpoint's connection to end")
        show("client gone", phase=phase, how=how.__name__, seconds=time.monotonic() - begun)
        counters = wait_at_rest(proxy)["counters"]
        assert counters["abandoned"] + counters["answered"] == 1


@pytest.mark.parametrize("how", [_close, _reset])
def test_client_that_goes_away_amid_its_upload(how: Callable[[Client], None]) -> None:
    """A client that goes away amid its body: the endpoint sees the connection end, not a whole request."""
    for head in (
        b"POST /echo HTTP/1.1\r\nHost: e\r\nContent-Length: 1000000\r\n\r\n" + bytes(500_000),
        b"POST /echo HTTP/1.1\r\nHost: e\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n" + bytes(100) + b"\r\n",
    ):
        with origin() as backend, serving({"BLUE": backend.url}) as proxy:
            client = Client(proxy.port)
            client.send(head)
            wait_until(lambda b=backend: b.served == 1, "the request")  # type: ignore[misc]
            how(client)
            wait_until(lambda b=backend: not b.opened, "the endpoint's connection to end")  # type: ignore[misc]
            assert wait_at_rest(proxy)["counters"]["abandoned"] == 1


def test_client_that_goes_away_while_we_connect() -> None:
    """A client that leaves while its endpoint is being connected to: no endpoint works for it for long."""
    from tests.wire.test_promise_connect_failures import black_hole

    with black_hole() as url, origin() as backend:
        # The first endpoint never answers; when it is given up the next one gets the request.
        env = {
            "BLUE": backend.url,
            "GREEN": url,
            "GREEN_WEIGHT": "100000",
            "SILLYPROXY_CONNECT_TIMEOUT": "500ms",
        }
        with serving(env) as proxy:
            client = Client(proxy.port)
            client.send(GET % b"/hang")
            wait_until(lambda: read_counters(proxy)["inflight"] == 1, "the request")
            client.close()
            assert wait_at_rest(proxy)["counters"]["abandoned"] == 1
            assert not _is_hanging(backend)


def _is_hanging(backend: QuickOrigin) -> bool:
    return backend.served > backend.ended["/hang"]


@pytest.mark.parametrize("data", [GET % b"/sleep/0.3", request("/sleep/0.3", "POST", bytes(300_000))])
def test_half_closed_client_gets_its_answer(data: bytes) -> None:
    """A client that closes its sending side, and reads on, gets an answer that comes within a second."""
    with origin() as backend, serving({"BLUE": backend.url}) as proxy:
        client = Client(proxy.port)
        client.send(data)
        client.half_close()
        reply = client.read_reply()
        assert (reply.status, reply.body, reply.list("connection")) == (200, b"blue", [b"close"])
        assert client.wait_end() == "closed"
        client.close()


def test_half_closed_client_gets_a_long_answer_whole() -> None:
    """Once the answer has begun a half-closed client gets all of it, as long as it keeps coming."""
    with origin() as backend, serving({"BLUE": backend.url}) as proxy:
        client = Client(proxy.port)
        client.send(GET % b"/trickle/250")
        client.half_close()
        assert len(client.read_reply().body) == 250
        client.close()
