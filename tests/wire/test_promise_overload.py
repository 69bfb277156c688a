"""Promise: past its limits the proxy says no early and cheaply, and who is served is served well."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.wire.harness import Client, Ended, Stream
from tests.wire.stress_tools import (
    GET,
    MIB,
    Load,
    LoneWorker,
    ask_many,
    ask_once,
    count_descriptors,
    is_balanced,
    loading,
    lone_worker,
    origins,
    read_memory,
    show,
    wait_until,
)

GROWTH_BYTES = 4 * MIB


def find_median(load: Load) -> float:
    return sorted(load.latencies)[len(load.latencies) // 2]


def test_past_the_limit_of_connections_who_is_in_is_served_as_before() -> None:
    """
    Eight clients of eight that may are served; while others knock all the time, and are told 503 at once,
    the eight get every answer, and not much later than without them.
    """
    with origins(1) as (server,), lone_worker(server, SILLYPROXY_MAX_CONNECTIONS=8) as worker:
        wait_until(lambda: not worker.read_counts()["worker"]["connections_open"], "the start")
        with loading(worker.port, 8, pause_s=0.005) as load:
            load.wait_answers(200)
            quiet_s = find_median(load)
            load.latencies.clear()
            refused: Counter[int] = Counter()
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                refused[ask_once(worker.port, GET % b"/").status] += 1
            crowded_s = find_median(load)
        show("crowd", quiet_ms=quiet_s * 1e3, crowded_ms=crowded_s * 1e3, refused=refused[503])
        assert not load.failures
        assert set(load.statuses) == {200}
        assert set(refused) == {503}
        assert refused[503] > 20
        # Generous: the crowd and its judge share the machine with the proxy.
        assert crowded_s < 10 * quiet_s + 0.1
        wait_until(lambda: worker.read_counts()["worker"]["connections_refused"] == refused[503], "the count")
        assert worker.read_counts()["worker"]["shed"] == 0


def test_while_memory_runs_out_nobody_new_is_let_in() -> None:
    """
    The controller says that memory runs out: new connections are told 503 and when to come again, and
    counted; those that are open go on; when it is over all is as before.
    """
    with origins(1) as (server,), lone_worker(server) as worker:
        inside = Client(worker.port)
        inside.send(GET % b"/")
        assert inside.read_reply().status == 200
        worker.use(server, shedding=True)
        wait_until(lambda: ask_once(worker.port, GET % b"/").status == 503, "the news")
        before = worker.read_counts()["worker"]["shed"]
        for _ in range(5):
            reply = ask_once(worker.port, GET % b"/")
            assert (reply.status, reply.list("connection")) == (503, [b"close"])
            assert reply.values("Retry-After") == [b"1"]
            inside.send(GET % b"/")
            assert inside.read_reply().status == 200
        wait_until(lambda: worker.read_counts()["worker"]["shed"] >= before + 5, "the count")
        counts = worker.read_counts()["worker"]
        assert counts["shed"] == counts["connections_refused"]
        worker.use(server)
        wait_until(lambda: ask_once(worker.port, GET % b"/").status == 200, "the end of it")
        inside.close()


def test_a_full_disk_under_the_log_stops_nobody() -> None:
    """The access log is on a disk that is full: requests are served on, and its lines are counted as lost."""
    with origins(1) as (server,), lone_worker(server, SILLYPROXY_ACCESS_LOG="/dev/full") as worker:
        before = worker.read_counts()["worker"]["accepted"]
        with loading(worker.port, 4) as load:
            load.wait_answers(300)
        assert not load.failures
        assert set(load.statuses) == {200}

        def is_counted() -> bool:
            ask_once(worker.port, GET % b"/")  # what was lost is told with the next request
            counts = worker.read_counts()["worker"]
            return bool(before + 300 <= counts["log_dropped"] <= counts["accepted"])

        wait_until(is_counted, "the count of lost lines")


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

# What comes once, and what comes for ever after it.
ENDLESS = {
    "nothing that is HTTP": (b"", b"\0" * 4096),
    "empty lines": (b"", b"\r\n" * 2048),
    "a status line": (b"HTTP/1.1 200 ", b"x" * 4096),
    "one field": (HEAD + b"X: ", b"x" * 4096),
    "fields": (HEAD, b"X: y\r\n" * 700),
    "interim responses": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    "a chunk's size": (CHUNKED, b"0" * 4096),
    "a chunk's extension": (CHUNKED + b"5;", b"x" * 4096),
    "extensions": (CHUNKED, b"1;name=value\r\nx\r\n" * 200),
    "a trailer": (CHUNKED + b"0\r\nX: ", b"x" * 4096),
    "trailers": (CHUNKED + b"0\r\n", b"X: y\r\n" * 700),
    "more than was announced": (HEAD + b"Content-Length: 5\r\n\r\nhello", b"x" * 4096),
}
BEGUN = [name for name, (once, _) in ENDLESS.items() if once.startswith(CHUNKED)]


class Babbler:
    """A server that never comes to an end, and notes when nobody listens any more."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.kind = ""
        self.begun = self.ended = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._babble, args=(sock,), daemon=True).start()

    def _babble(self, sock: socket.socket) -> None:
        stream = Stream(sock)
        once, for_ever = ENDLESS[self.kind]
        with sock, contextlib.suppress(Ended, OSError):
            while b"\r\n\r\n" not in stream.buffer:
                stream.fill()
            self.begun += 1
            try:
                sock.sendall(once)
                while True:
                    sock.sendall(for_ever)
            finally:
                self.ended += 1


@pytest.fixture
def babbler() -> Iterator[Babbler]:
    server = Babbler()
    yield server
    server.listener.close()


def start_peak(worker: LoneWorker) -> int:
    """Let the peak of a worker's memory count from here on; return its memory."""
    with open(f"/proc/{worker.process.pid}/clear_refs", "w") as file:
        file.write("5")
    return read_memory(worker.process.pid)


def test_endpoints_that_babble_for_ever_are_cut_off(babbler: Babbler) -> None:
    """
    A backend sends without end what is no response, a head, interim responses, chunk sizes, extensions
    or trailers: its client gets 502, or an answer that breaks off; the backend's connection is closed,
    memory does not grow, and clients of the other color do not notice.
    """
    settings = {"GREEN_WEIGHT": 1, "SILLYPROXY_EJECT_AFTER": 0}
    with origins(1) as (well,), lone_worker(well, **settings) as worker:
        worker.use(well, green=[well])
        ask_many(worker.port, 200)
        before = start_peak(worker)
        worker.serve(GREEN_WEIGHT=0)
        worker.use(babbler, green=[well], generation=2)
        neighbours = Client(worker.port)
        for kind in ENDLESS:
            babbler.kind = kind
            begun = babbler.begun
            client = Client(worker.port)
            client.send(GET % b"/")
            reply = client.read_reply()
            client.close()
            if kind == "more than was announced":
                assert (kind, reply.status, reply.body) == (kind, 200, b"hello")
            elif kind in BEGUN:
                assert (kind, reply.status, reply.is_whole) in ((kind, 200, False), (kind, 502, True))
            else:
                assert (kind, reply.status, reply.is_whole) == (kind, 502, True)
            wait_until(lambda: babbler.ended == babbler.begun > begun, f"the end of {kind}")  # noqa: B023
        worker.serve(BLUE_WEIGHT=0, GREEN_WEIGHT=1)
        neighbours.send(GET % b"/")
        assert neighbours.read_reply().body == b"green"
        neighbours.close()
        growth = read_memory(worker.process.pid, "VmHWM") - before
        show("babble", growth_kib=growth / 1024)
        assert growth < GROWTH_BYTES
        wait_until(lambda: not worker.read_counts()["worker"]["connections_open"], "the end of all")
        assert is_balanced(worker.read_counts()["worker"])


def test_others_are_served_while_one_babbles(babbler: Babbler) -> None:
    """
    One of two endpoints babbles without end at 1xx and heads: the requests of the other are answered all
    the same, and every client gets a whole answer.
    """
    babbler.kind = "interim responses"
    with origins(1) as (well,), lone_worker(well, SILLYPROXY_EJECT_AFTER=0) as worker:
        worker.use(well, babbler)
        with loading(worker.port, 8) as load:
            load.wait_answers(400)
        show("beside babble", slowest_ms=max(load.latencies) * 1e3)
        assert not load.failures
        assert set(load.statuses) == {200, 502}
        assert load.statuses[200] > 100
        assert max(load.latencies) < 5
        assert babbler.ended == babbler.begun


def test_kept_connections_make_room_when_descriptors_run_out() -> None:
    """
    With 200 descriptors, and sixty connections kept to each of two colors, sixty requests for the third are
    answered: what is only kept gives way.
    """
    everybody: dict[str, str | int | float] = {
        "SILLYPROXY_COLORS": "blue,green,red",
        "RED": "http://app",
        "RED_WEIGHT": 0,
    }
    with origins(3) as servers, lone_worker(**everybody) as worker:
        resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE, (200, 200))
        worker.use(servers[0], green=[servers[1]], red=[servers[2]])
        wait_until(lambda: _generation(worker), "the start")
        weights = {"BLUE_WEIGHT": 0, "GREEN_WEIGHT": 0, "RED_WEIGHT": 0}
        statuses: Counter[int] = Counter()
        for name in weights:
            before = _generation(worker)
            worker.serve(**{**weights, name: 1})
            wait_until(lambda before=before: _generation(worker) > before, "the weights")  # type: ignore[misc]
            clients = [Client(worker.port) for _ in range(60)]
            for client in clients:
                client.send(GET % b"/sleep/0.5")
            statuses.update(client.read_reply().status for client in clients)
            show("descriptors", count=count_descriptors(worker.process.pid))
            for client in clients:
                client.close()
            wait_until(lambda: not worker.read_counts()["worker"]["connections_open"], "their end")
        assert statuses == {200: 180}


def _generation(worker: LoneWorker) -> int:
    return int(worker.read_counts()["worker"]["generation"])
