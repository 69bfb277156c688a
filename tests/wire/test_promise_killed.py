"""Promise: a process that is killed takes down what it had in its hands, and nothing else."""

from __future__ import annotations

import os
import signal

from tests.wire.harness import Client, Proxy
from tests.wire.running import stop
from tests.wire.stress_tools import (
    GET,
    find_controller,
    find_workers,
    loading,
    origin,
    read_counters,
    read_status,
    serving,
    show,
    wait_until,
    wait_workers,
)


def test_killed_worker_loses_only_its_own_requests_under_way() -> None:
    """
    SIGKILL for one of two workers under load: each client sees at most one failure, and only
    those whose request the dead worker had under way; the books call exactly those lost.
    """
    with origin() as backend, serving({"BLUE": backend.url, "SILLYPROXY_WORKERS": "2"}) as proxy:
        first, _ = wait_workers(proxy, 2)
        with loading(proxy.port, 8) as load:
            load.wait_answers(200)
            os.kill(first, signal.SIGKILL)
            wait_until(lambda: read_counters(proxy)["restarts"] == 1, "the successor")
            load.wait_answers(200)
        # A request that arrives with the signal dies unread in its socket: seen by its client, not by us.
        counters = read_counters(proxy)
        show("killed worker", failures=len(load.failures), lost=counters["lost"])
        assert len(load.failures) < 8, load.failures
        assert counters["lost"] <= len(load.failures)


def test_clients_of_the_other_worker_notice_nothing() -> None:
    """Kept-alive connections of the worker that lives go on, request after request."""
    with origin() as backend, serving({"BLUE": backend.url, "SILLYPROXY_WORKERS": "2"}) as proxy:
        first, _ = wait_workers(proxy, 2)
        clients = [Client(proxy.port) for _ in range(30)]
        for client in clients:
            client.send(GET % b"/")
            assert client.read_reply().status == 200
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: read_counters(proxy)["restarts"] == 1, "the successor")
        alive = [client for client in clients if client.is_silent(0.01)]
        assert 0 < len(alive) < 30
        for client in alive:
            client.send(GET % b"/")
            assert client.read_reply().status == 200
        for client in clients:
            client.close()


def test_connections_in_the_accept_queue_are_served_by_the_successor() -> None:
    """Connections that a killed worker had not accepted are answered by the next one, all of them."""
    with origin() as backend, serving({"BLUE": backend.url}) as proxy:
        (worker,) = wait_workers(proxy, 1)
        stop(worker)
        clients = [Client(proxy.port) for _ in range(50)]
        for client in clients:
            client.send(GET % b"/")
        os.kill(worker, signal.SIGKILL)
        assert [client.read_reply().status for client in clients] == [200] * 50
        for client in clients:
            client.close()


def test_killed_controller_changes_nothing_for_traffic() -> None:
    """The controller killed twice under load: no request fails, and its successor knows the workers again."""
    with origin() as backend, serving({"BLUE": backend.url, "SILLYPROXY_WORKERS": "2"}) as proxy:
        wait_workers(proxy, 2)
        with loading(proxy.port, 4) as load:
            for _ in range(2):
                controller = find_controller(proxy)
                os.kill(controller, signal.SIGKILL)
                load.wait_answers(100)
                wait_until(lambda: _is_known_again(proxy), "the next controller")
            load.wait_answers(100)
        assert not load.failures
        assert set(load.statuses) == {200}


def _is_known_again(proxy: Proxy) -> bool:
    try:
        return len(find_workers(proxy)) == 2 and bool(read_status(proxy)["ready"])
    except OSError:
        return False


def test_killed_supervisor_ends_in_a_clean_drain() -> None:
    """When the supervisor itself is killed its workers finish what they have and end; nobody is left."""
    with origin() as backend, serving({"BLUE": backend.url, "SILLYPROXY_WORKERS": "2"}) as proxy:
        processes = [*wait_workers(proxy, 2), find_controller(proxy)]
        client = Client(proxy.port)
        client.send(GET % b"/sleep/0.4")
        wait_until(lambda: backend.served == 1, "the request")
        os.kill(proxy.process.pid, signal.SIGKILL)
        proxy.process.wait(10)
        assert client.read_reply().status == 200
        wait_until(lambda: not any(_is_alive(pid) for pid in processes), "everybody's end")
        client.close()


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False
