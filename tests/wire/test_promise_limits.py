"""Promise: at its limits the proxy says no politely, and recovers."""

from __future__ import annotations

import sys
from collections import Counter

from tests.wire.harness import Client, Proxy
from tests.wire.stress_tools import (
    GET,
    ask_many,
    ask_once,
    count_descriptors,
    find_workers,
    origin,
    read_counters,
    serving,
    show,
    wait_until,
)


class Confined(Proxy):
    """A proxy that may open 200 descriptors a process."""

    def _make_command(self) -> list[str]:
        return ["sh", "-c", f"ulimit -n 200; exec {sys.executable} -m sillyproxy serve"]


def test_connections_past_the_limit_are_told_so() -> None:
    """
    With SILLYPROXY_MAX_CONNECTIONS=10 the 11th connection is answered 503 and closed, also when
    it has asked already; the ten go on, and when one leaves there is room again.
    """
    with origin() as backend, serving({"BLUE": backend.url, "SILLYPROXY_MAX_CONNECTIONS": "10"}) as proxy:
        wait_until(lambda: not read_counters(proxy)["connections_open"], "the start")
        clients = [Client(proxy.port) for _ in range(10)]
        for client in clients:
            client.send(GET % b"/")
            assert client.read_reply().status == 200
        for data in (
            b"",
            GET % b"/",
            b"POST / HTTP/1.1\r\nHost: e\r\nContent-Length: 9999999\r\n\r\n" + bytes(50_000),
        ):
            extra = Client(proxy.port)
            extra.send(data)
            reply = extra.read_reply()
            assert (reply.status, reply.list("connection")) == (503, [b"close"])
            assert reply.values("Proxy-Status") == [b"sillyproxy; error=proxy_internal_response"]
            assert extra.wait_end() in ("closed", "reset")
        for client in clients:
            client.send(GET % b"/")
            assert client.read_reply().status == 200
        wait_until(lambda: read_counters(proxy)["connections_refused"] == 3, "3 refusals")
        clients.pop().close()
        wait_until(lambda: ask_once(proxy.port, GET % b"/").status == 200, "room")
        for client in clients:
            client.close()


def test_few_descriptors_mean_few_connections_not_a_crash() -> None:
    """
    With 200 descriptors and 150 clients at once that all wait for their answers, some are
    answered, the others are refused with 503; afterwards all is as before.
    """
    with origin() as backend, serving({"BLUE": backend.url}, kind=Confined) as proxy:
        (worker,) = find_workers(proxy)
        for _ in range(2):
            clients = [Client(proxy.port) for _ in range(150)]
            for client in clients:
                client.send(GET % b"/sleep/0.5")
            statuses = Counter(client.read_reply().status for client in clients)
            show(
                "few descriptors",
                descriptors=count_descriptors(worker),
                **{str(s): n for s, n in statuses.items()},
            )
            assert set(statuses) == {200, 503}
            assert statuses[200] >= 50
            for client in clients:
                client.close()
            wait_until(lambda: not read_counters(proxy)["connections_open"], "the connections to end")
        assert find_workers(proxy) == [worker]
        assert ask_many(proxy.port, 100) == {b"blue": 100}


def test_limit_counts_the_clients_of_all_workers() -> None:
    """
    However the kernel deals them out to two workers, 20 clients of 20 are served and the next is not.
    """
    limits = {"SILLYPROXY_MAX_CONNECTIONS": "20", "SILLYPROXY_WORKERS": "2"}
    with origin() as backend, serving({"BLUE": backend.url, **limits}) as proxy:
        wait_until(lambda: not read_counters(proxy)["connections_open"], "the start")
        clients = []
        for count in range(1, 21):
            client = Client(proxy.port)
            clients.append(client)
            client.send(GET % b"/")
            assert client.read_reply().status == 200
            wait_until(lambda count=count: read_counters(proxy)["connections_open"] == count, "the count")  # type: ignore[misc]
        extra = Client(proxy.port)
        assert extra.read_reply().status == 503
        for client in (*clients, extra):
            client.close()
