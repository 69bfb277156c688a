"""Promise: from one configuration to the next no request fails, and nobody is forgotten on the way."""

from __future__ import annotations

import time

from tests.wire.harness import Client
from tests.wire.stress_tools import (
    GET,
    LoneWorker,
    ask_many,
    is_balanced,
    loading,
    lone_worker,
    origins,
    show,
    wait_until,
)

IMPATIENT = "of the new configuration"


def heard_applied(worker: LoneWorker, generation: int) -> bool:
    """Whether the worker has told its controller since it was heard last."""
    return generation in [message["generation"] for message in worker.hear("Applied")]


def count_inflight(worker: LoneWorker, color: str) -> int:
    number: int = worker.read_counts()[color]["inflight"]
    return number


def test_a_reload_that_replaces_every_color_waits_for_endpoints() -> None:
    """
    Blue goes and green comes, and nobody has told green's endpoints yet: blue serves on, no request
    fails, and green serves as soon as it can.
    """
    with origins(2) as (blue, green), lone_worker(blue) as worker:
        with loading(worker.port, 6) as load:
            load.wait_answers(50)
            worker.serve(BLUE="", GREEN_WEIGHT=1)
            load.wait_answers(100)
            assert not heard_applied(worker, 2)
            worker.tell(colors={"green": [[0, "127.0.0.1", green.port]]}, generation=2)
            wait_until(lambda: heard_applied(worker, 2), "the new colors")
            load.wait_answers(50)
            assert green.served > 0
        assert not load.failures
        assert set(load.statuses) == {200}
        assert IMPATIENT not in worker.read_log()
        assert ask_many(worker.port, 50) == {b"green": 50}


def test_a_color_that_stays_is_not_waited_for() -> None:
    """Where every color with weight keeps an endpoint the new configuration holds at once."""
    with origins(2) as (blue, green), lone_worker(blue) as worker:
        worker.use(blue, green=[green])
        worker.serve(BLUE_WEIGHT=0, GREEN_WEIGHT=1)
        wait_until(lambda: heard_applied(worker, 2), "the new configuration")
        assert ask_many(worker.port, 20) == {b"green": 20}


def test_an_old_list_is_not_news() -> None:
    """Endpoints of a configuration that is not in force any more, late on their way, change nothing."""
    with origins(2) as (server, old), lone_worker(server) as worker:
        worker.serve(BLUE_WEIGHT=3)
        wait_until(lambda: heard_applied(worker, 2), "the new configuration")
        worker.use(old, generation=1)
        assert ask_many(worker.port, 50) == {b"blue": 50}
        assert old.served == 0
        worker.use(old, generation=2)
        wait_until(lambda: not server.opened, "news that is")
        assert ask_many(worker.port, 20) == {b"blue": 20}
        assert old.served == 20


def test_a_list_that_comes_early_is_kept() -> None:
    """When the controller is quicker than the supervisor its list is used as soon as it is wanted."""
    with origins(2) as (blue, green), lone_worker(blue) as worker:
        worker.tell(colors={"green": [[0, "127.0.0.1", green.port]]}, generation=2)
        assert ask_many(worker.port, 20) == {b"blue": 20}
        worker.serve(BLUE="", GREEN_WEIGHT=1)
        wait_until(lambda: heard_applied(worker, 2), "the new colors")
        assert ask_many(worker.port, 20) == {b"green": 20}
        assert IMPATIENT not in worker.read_log()


def test_a_configuration_that_could_serve_nobody_does_not_go_live() -> None:
    """
    Nobody finds an endpoint of the new colors, for longer than it usually takes: the old ones serve on, the
    log says so, and the new ones serve as soon as there is an endpoint.
    """
    with origins(2) as (blue, green), lone_worker(blue) as worker:
        with loading(worker.port, 4, pause_s=0.01) as load:
            worker.serve(BLUE="", GREEN_WEIGHT=1)
            wait_until(lambda: IMPATIENT in worker.read_log(), "a word about it")
            worker.tell(colors={"green": []}, generation=2)
            load.wait_answers(50)
            assert not heard_applied(worker, 2)
            worker.tell(colors={"green": [[0, "127.0.0.1", green.port]]}, generation=2)
            wait_until(lambda: green.served, "the new colors")
        assert not load.failures
        assert set(load.statuses) == {200}


def test_one_color_that_nobody_finds_does_not_hold_up_the_others() -> None:
    """
    A reload adds a color that has no endpoint, and changes another: after some seconds the change is in
    force, and the requests of the one that is missing go to the other.
    """
    with origins(1) as (blue,), lone_worker(blue) as worker:
        with loading(worker.port, 4, pause_s=0.01) as load:
            worker.serve(GREEN_WEIGHT=1)
            wait_until(lambda: heard_applied(worker, 2), "the new weights")
            load.wait_answers(50)
        assert IMPATIENT in worker.read_log()
        assert not load.failures
        assert set(load.statuses) == {200}


def test_the_newest_configuration_wins_while_one_waits() -> None:
    """A second reload while the first waits for its endpoints: the operator's last word holds."""
    with origins(1) as (blue,), lone_worker(blue) as worker:
        worker.serve(BLUE="", GREEN_WEIGHT=1)
        worker.serve(BLUE="http://app", GREEN_WEIGHT=0)
        wait_until(lambda: heard_applied(worker, 3), "the way back")
        worker.use(generation=2)
        assert ask_many(worker.port, 20) == {b"blue": 20}


def test_requests_under_way_on_a_removed_color_end_well() -> None:
    """What a color is busy with when a reload takes it away is answered whole, and counted as its own."""
    with origins(2) as (blue, green), lone_worker(blue) as worker:
        worker.use(blue, green=[green])
        slow, large = Client(worker.port), Client(worker.port)
        before = blue.served
        slow.send(GET % b"/sleep/1")
        large.send(GET % b"/bytes/30000000")
        wait_until(lambda: blue.served == before + 2, "the requests")
        worker.serve(BLUE="", GREEN_WEIGHT=1)
        wait_until(lambda: heard_applied(worker, 2), "the new configuration")
        wait_until(lambda: count_inflight(worker, "blue") == 2, "the count of those under way")
        assert ask_many(worker.port, 20) == {b"green": 20}
        replies = [slow.read_reply(), large.read_reply()]
        assert [(reply.status, len(reply.body)) for reply in replies] == [(200, 4), (200, 30_000_000)]
        wait_until(lambda: count_inflight(worker, "blue") == 0, "the end of the count")
        wait_until(lambda: not blue.opened, "its connections to be closed")
        for client in (slow, large):
            client.close()


def test_streams_of_a_removed_color_end_with_the_drain_timeout() -> None:
    """
    A stream that never ends, and a request that is never answered, are cut when the drain timeout is over,
    so that their clients can tell; on a color that stays they go on.
    """
    with origins(2) as (blue, green), lone_worker(blue, SILLYPROXY_DRAIN_TIMEOUT="1s") as worker:
        worker.use(blue, green=[green])
        leaving = [Client(worker.port) for _ in range(2)]
        for client, path in zip(leaving, (b"/half", b"/hang"), strict=True):
            client.send(GET % path)
        wait_until(lambda: worker.read_counts()["worker"]["inflight"] == 2, "the requests")
        worker.serve(BLUE_WEIGHT=0, GREEN_WEIGHT=1)
        wait_until(lambda: heard_applied(worker, 2), "green to serve")
        staying = Client(worker.port)
        staying.send(GET % b"/half")
        wait_until(lambda: count_inflight(worker, "green") == 1, "the request that may stay")
        begun = time.monotonic()
        worker.serve(BLUE="")
        stream, unanswered = (client.read_reply() for client in leaving)
        took_s = time.monotonic() - begun
        show("cut", took_s=took_s)
        assert 0.9 < took_s < 8
        assert (stream.status, stream.body, stream.is_whole) == (200, b"half", False)
        assert (unanswered.status, unanswered.is_whole) == (503, True)
        assert staying.read_head().status == 200
        assert staying.read_exactly(4) == b"half"
        assert staying.is_silent()
        for client in (*leaving, staying):
            client.close()
        wait_until(lambda: not worker.read_counts()["worker"]["connections_open"], "the end of all")
        assert is_balanced(worker.read_counts()["worker"])
