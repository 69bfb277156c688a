"""
Promise: an operator may change anything while traffic runs, and no request that could be served fails.

`WIRE_RELOADS=100` makes the longest test as long as the promise: a hundred reloads in a minute.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.wire.harness import Client, Proxy, find_free_port
from tests.wire.running import ask, stop
from tests.wire.stress_tools import (
    GET,
    QuickOrigin,
    ask_many,
    ask_once,
    count_descriptors,
    find_workers,
    loading,
    origin,
    read_memory,
    read_status,
    request,
    serving,
    show,
    wait_until,
    wait_workers,
)

MIB = 1024 * 1024

RELOADS = int(os.environ.get("WIRE_RELOADS", "40"))
INTERVAL_S = 0.6  # a hundred a minute
COLORS = ("blue", "green", "red", "gold")


class Edge:
    """A proxy that is configured by a file, and the origin behind it, which answers with the color."""

    def __init__(self, proxy: Proxy, backend: QuickOrigin, path: Path) -> None:
        self.proxy = proxy
        self.backend = backend
        self.path = path

    @property
    def port(self) -> int:
        return self.proxy.port

    def write(self, **settings: str | int) -> None:
        """Change the file at once, as a careful editor does."""
        write(self.path, settings)

    def adopt(self, **settings: str | int) -> None:
        """Change the file, and wait until that is adopted."""
        with self.waiting("configuration adopted"):
            self.write(**settings)

    def refuse(self, **settings: str | int) -> None:
        """Change the file, and wait until that is refused."""
        with self.waiting("configuration refused"):
            self.write(**settings)

    def hang_up(self) -> None:
        """Send SIGHUP."""
        self.proxy.process.send_signal(signal.SIGHUP)

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Do the block, then wait until the log says something once more."""
        before = self.proxy.read_log().count(what)
        yield
        wait_until(lambda: self.proxy.read_log().count(what) > before, what)

    def answers(self, count: int = 200) -> Counter[bytes]:
        """Return who answers on a connection of its own."""
        return ask_many(self.port, count)

    def wait_answers_of(self, color: bytes) -> None:
        """Wait until all workers send everybody to one color."""
        wait_until(lambda: all(set(self.answers(20)) == {color} for _ in range(8)), f"{color!r} alone")


def write(path: Path, settings: Mapping[str, str | int]) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    new.rename(path)


@pytest.fixture
def backend() -> Iterator[QuickOrigin]:
    with origin() as server:
        yield server


@contextlib.contextmanager
def edge_of(
    backend: QuickOrigin, directory: Path, settings: Mapping[str, str | int], **env: str
) -> Iterator[Edge]:
    path = directory / "edge.env"
    write(path, settings)
    env = {"SILLYPROXY_ENV_FILE": str(path), "SILLYPROXY_WORKERS": "2", **env}
    with serving(env) as proxy:
        yield Edge(proxy, backend, path)


@pytest.fixture
def edge(backend: QuickOrigin, tmp_path: Path) -> Iterator[Edge]:
    """Two workers, blue takes all."""
    with edge_of(backend, tmp_path, both(backend)) as one:
        yield one


def both(backend: QuickOrigin, blue: float = 1, green: float = 0) -> dict[str, str | int]:
    """Blue and green, and their weights."""
    return {"BLUE": backend.url, "GREEN": backend.url, "BLUE_WEIGHT": str(blue), "GREEN_WEIGHT": str(green)}


# Under load.


@pytest.mark.slow
def test_a_hundred_reloads_a_minute_fail_no_request(backend: QuickOrigin, tmp_path: Path) -> None:
    """
    A reload every 0.6 s under some 2,000 requests a second, each with other weights: no request
    fails, every worker follows within a second, and memory and descriptors stay what they were.
    """

    def settings(turn: int) -> dict[str, str | int]:
        urls = {color.upper(): backend.url for color in COLORS}
        weights = {f"{color.upper()}_WEIGHT": 0 for color in COLORS}
        weights[f"{COLORS[turn % len(COLORS)].upper()}_WEIGHT"] = 1 + turn
        return {**urls, **weights}

    env = {"SILLYPROXY_COLORS": ",".join(COLORS)}
    with edge_of(backend, tmp_path, settings(0), **env) as edge:
        wait_workers(edge.proxy, 2)
        readers = [Follower(edge.port) for _ in range(12)]
        changed = [time.monotonic()]
        before: list[tuple[int, int]] = []
        begun = time.monotonic()
        for turn in range(1, RELOADS + 1):
            time.sleep(max(0.0, begun + turn * INTERVAL_S - time.monotonic()))
            changed.append(time.monotonic())  # before anybody can follow
            edge.write(**settings(turn))
            edge.hang_up()
            if turn == RELOADS // 4:
                before = [(read_memory(pid), count_descriptors(pid)) for pid in find_workers(edge.proxy)]
        time.sleep(INTERVAL_S)
        lasted = time.monotonic() - begun
        for reader in readers:
            reader.stop()
        edge.wait_answers_of(COLORS[RELOADS % len(COLORS)].encode())
        workers = find_workers(edge.proxy)
        after = [(read_memory(pid), count_descriptors(pid)) for pid in workers]
        generation = {worker["generation"] for worker in read_status(edge.proxy)["workers"]}
        log = edge.proxy.read_log()
    count = sum(len(reader.answers) for reader in readers)
    lag = max(reader.lag(changed) for reader in readers)
    grown = [now[0] - then[0] for then, now in zip(before, after, strict=True)]
    show(
        f"{RELOADS} reloads",
        requests=count,
        per_second=count / lasted,
        failed=sum(len(reader.failures) for reader in readers),
        slowest_to_follow_s=lag,
        grown_kib=max(grown) / 1024,
    )
    assert [reader.failures for reader in readers] == [[]] * 12
    assert len(re.findall("configuration adopted", log)) == RELOADS
    assert generation == {RELOADS + 1}
    assert lag < 1.0
    assert max(grown) < 3 * MIB
    assert max(now[1] - then[1] for then, now in zip(before, after, strict=True)) <= 12


class Follower:
    """A client that keeps asking over one connection, and notes when it asked and which color answered."""

    def __init__(self, port: int) -> None:
        self.answers: list[tuple[float, bytes]] = []
        self.failures: list[str] = []
        self._stop = False
        self._client = Client(port)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop:
            begun = time.monotonic()
            self._client.send(GET % b"/")
            reply = self._client.read_reply()
            self._client.stream.raw.clear()
            if reply.status != 200 or not reply.is_whole:
                self.failures.append(f"{reply.status} {reply.end} {reply.body!r}")
                return
            self.answers.append((begun, reply.body))
            time.sleep(0.003)

    def stop(self) -> None:
        self._stop = True
        self._thread.join(20)
        self._client.close()

    def lag(self, changed: list[float]) -> float:
        """Return for how long after a change an answer of the color before it was still given; seconds."""
        worst = 0.0
        for begun, body in self.answers:
            turn = max((i for i, when in enumerate(changed) if when <= begun), default=0)
            # Which of the last turns this answer belongs to; a color comes back after four.
            late = (turn - COLORS.index(body.decode())) % len(COLORS)
            if late and turn >= late:
                worst = max(worst, begun - changed[turn - late + 1])
        return worst


def test_split_is_exact_in_every_worker_after_a_reload(edge: Edge) -> None:
    """Other weights are followed by each worker to within a few requests: 1:0, 3:1, 1:3."""
    for blue, green in ((3, 1), (1, 3)):
        edge.adopt(**both(edge.backend, blue, green))
        share = blue / (blue + green)

        def is_exact(share: float = share) -> bool:
            return abs(edge.answers(200)[b"blue"] - 200 * share) <= 2

        wait_until(is_exact, "the new weights")  # a worker may be a little later than the other
        assert all(is_exact() for _ in range(12))


def test_workers_may_become_more_and_fewer_under_load(edge: Edge) -> None:
    """
    Two workers, four, one, three: no request fails, and the processes are as many as were asked for.

    Clients of those that leave are told in the drain delay to go elsewhere.
    """
    with loading(edge.port, 8, pause_s=0.002) as load:
        for count in (4, 1, 3):
            edge.adopt(**both(edge.backend), SILLYPROXY_WORKERS=count, SILLYPROXY_DRAIN_DELAY="700ms")
            wait_until(lambda count=count: count_workers(edge.proxy) == count, f"{count} workers")  # type: ignore[misc]
            load.wait_answers(300)
            assert {ask_once(edge.port, GET % b"/").status for _ in range(40)} == {200}
    show("2, 4, 1, 3 workers", answers=sum(load.statuses.values()), failed=len(load.failures))
    assert not load.failures
    assert set(load.statuses) == {200}


def count_workers(proxy: Proxy) -> int:
    """Return how many workers there are: the children but one, the controller."""
    children = Path(f"/proc/{proxy.process.pid}/task/{proxy.process.pid}/children").read_text().split()
    return len(children) - 1


def test_connections_that_wait_on_a_worker_that_leaves_are_served(edge: Edge) -> None:
    """When workers become fewer, who waits in the queue of one that leaves is answered all the same."""
    first, second = wait_workers(edge.proxy, 2)
    stop(second)
    clients = [Client(edge.port) for _ in range(40)]
    for client in clients:
        client.send(GET % b"/")
    edge.adopt(**both(edge.backend), SILLYPROXY_WORKERS=1)
    assert [client.read_reply().status for client in clients] == [200] * 40
    os.kill(second, signal.SIGCONT)
    wait_until(lambda: count_workers(edge.proxy) == 1, "one worker")
    assert find_workers(edge.proxy)[0] == first
    for client in clients:
        client.close()


def test_address_added_and_removed_under_load(edge: Edge) -> None:
    """A second address is served from the reload on, and closed by the next; on the first nothing fails."""
    second = find_free_port()
    addresses = f"127.0.0.1:{edge.port},127.0.0.1:{second}"
    env = {**both(edge.backend), "SILLYPROXY_LISTEN": f"127.0.0.1:{edge.port}"}
    edge.adopt(**env, SILLYPROXY_MAX_BODY_BYTES="1g")
    with loading(edge.port, 6, pause_s=0.002) as load:
        for _ in range(3):
            edge.adopt(**{**env, "SILLYPROXY_LISTEN": addresses})
            kept = Client(second)
            kept.send(GET % b"/")
            assert kept.read_reply().status == 200
            edge.adopt(**env)
            wait_until(lambda: is_refused(second), "the address to be closed")
            kept.send(GET % b"/")  # who is connected stays: only new ones find nobody
            assert kept.read_reply().status == 200
            kept.close()
            load.wait_answers(100)
    assert not load.failures
    assert set(load.statuses) == {200}


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_who_waits_on_a_removed_address_is_served(edge: Edge) -> None:
    """Connections in the queue of an address that a reload removes are answered before it is closed."""
    second = find_free_port()
    env = {**both(edge.backend), "SILLYPROXY_LISTEN": f"127.0.0.1:{edge.port}"}
    edge.adopt(**{**env, "SILLYPROXY_LISTEN": f"127.0.0.1:{edge.port},127.0.0.1:{second}"})
    wait_until(lambda: not is_refused(second), "the second address")
    workers = wait_workers(edge.proxy, 2)
    for worker in workers:
        stop(worker)
    clients = [Client(second) for _ in range(40)]
    for client in clients:
        client.send(GET % b"/")
    edge.adopt(**env)
    for worker in workers:
        os.kill(worker, signal.SIGCONT)
    assert [client.read_reply().status for client in clients] == [200] * 40
    for client in clients:
        client.close()


def test_color_removed_under_load(edge: Edge) -> None:
    """
    A color is taken out while it has requests under way, and put back: no request fails, the slow
    ones are answered whole by the color that is gone.
    """
    everything = both(edge.backend, 1, 1)
    edge.adopt(**everything)
    with loading(edge.port, 8, pause_s=0.002) as load:
        for gone, stays in (("BLUE", b"green"), ("GREEN", b"blue")):
            slow = [Client(edge.port) for _ in range(8)]
            for client in slow:
                client.send(GET % b"/sleep/1.5")
            time.sleep(0.3)
            edge.adopt(**{name: value for name, value in everything.items() if not name.startswith(gone)})
            edge.wait_answers_of(stays)
            replies = [client.read_reply() for client in slow]
            assert {reply.status for reply in replies} == {200}
            assert {reply.body for reply in replies} == {b"blue", b"green"}
            edge.adopt(**everything)
            load.wait_answers(100)
            for client in slow:
                client.close()
    assert not load.failures
    assert set(load.statuses) == {200}


def test_one_color_replaced_by_another_under_load(edge: Edge, backend: QuickOrigin) -> None:
    """Blue goes and green comes in the same reload: nobody is told that there is no backend."""
    with origin() as other, loading(edge.port, 8, pause_s=0.002) as load:
        for _ in range(3):
            edge.adopt(GREEN=other.url)
            edge.wait_answers_of(b"green")
            edge.adopt(BLUE=backend.url)
            edge.wait_answers_of(b"blue")
    assert not load.failures
    assert set(load.statuses) == {200}


def test_tunnels_do_not_notice_a_reload(edge: Edge) -> None:
    """An upgraded connection of a color that stays goes on through reloads, whatever its weight becomes."""
    client = Client(edge.port)
    client.send(request("/switch", Connection="upgrade", Upgrade="echo"))
    assert client.read_reply().status == 101
    for blue, green in ((0, 1), (1, 1), (3, 1)):
        edge.adopt(**both(edge.backend, blue, green))
        client.send(b"still here")
        assert client.read_exactly(10) == b"still here"
    client.close()


# How a configuration comes.


def test_sighup_reads_the_files_at_once(edge: Edge) -> None:
    """SIGHUP does not wait for the next look at the files."""
    with edge.waiting("configuration adopted by=SIGHUP"):
        edge.write(**both(edge.backend, 0, 1))
        edge.hang_up()
    edge.wait_answers_of(b"green")


def test_sighup_without_a_change_changes_nothing(edge: Edge) -> None:
    """SIGHUP with the same configuration is a line in the log; the generation stays."""
    with edge.waiting("configuration unchanged"):
        edge.hang_up()
    assert read_status(edge.proxy)["generation"] == 1


def test_comment_is_no_change(edge: Edge) -> None:
    """A file that says the same in another way is read, and nothing happens."""
    with edge.waiting("configuration unchanged"):
        edge.path.write_text("# the same\n\n" + edge.path.read_text())


def test_rewritten_file_is_followed(edge: Edge) -> None:
    """An editor that writes into the file itself."""
    with edge.waiting("configuration adopted by=files"):
        edge.path.write_text(edge.path.read_text().replace("GREEN_WEIGHT=0", "GREEN_WEIGHT=1"))


def test_swapped_symlink_is_followed(backend: QuickOrigin, tmp_path: Path) -> None:
    """
    A Kubernetes config map: a directory whose files are links through `..data`, which is swapped.
    """
    for version, (blue, green) in enumerate(((1, 0), (0, 1))):
        data = tmp_path / f"..version-{version}"
        data.mkdir()
        write(data / "colors.env", both(backend, blue, green))
    mount = tmp_path / "mount"
    mount.mkdir()
    (mount / "..data").symlink_to(tmp_path / "..version-0")
    (mount / "colors.env").symlink_to("..data/colors.env")
    with serving({"SILLYPROXY_ENV_FILE": str(mount), "SILLYPROXY_WORKERS": "2"}) as proxy:
        edge = Edge(proxy, backend, mount)
        with loading(proxy.port, 4, pause_s=0.002) as load:
            edge.wait_answers_of(b"blue")
            with edge.waiting("configuration adopted by=files"):
                (mount / "..next").symlink_to(tmp_path / "..version-1")
                (mount / "..next").rename(mount / "..data")
            edge.wait_answers_of(b"green")
        assert not load.failures


# What is wrong is refused whole.


def test_wrong_file_changes_nothing(edge: Edge) -> None:
    """
    One wrong line refuses the whole file: neither its weights nor its addresses are taken, every
    problem is in the log, traffic goes on; the next good file is adopted.
    """
    port = find_free_port()
    with loading(edge.port, 4, pause_s=0.002) as load:
        edge.refuse(
            **{**both(edge.backend, 0, 1), "BLUE_WEIGHT": "ten", "GREEN_WEIGHT": "-1"},
            SILLYPROXY_LISTEN=f"127.0.0.1:{edge.port},127.0.0.1:{port}",
        )
        load.wait_answers(100)
        assert set(edge.answers()) == {b"blue"}
        assert is_refused(port)
        log = edge.proxy.read_log()
        assert all(re.search(f"refused.*{wrong}", log) for wrong in ("BLUE_WEIGHT=ten", "GREEN_WEIGHT=-1"))
        assert read_status(edge.proxy)["generation"] == 1
        edge.adopt(**both(edge.backend, 0, 1))
        edge.wait_answers_of(b"green")
    assert not load.failures


def test_address_in_use_refuses_the_whole_configuration(edge: Edge) -> None:
    """An address that somebody else serves: the other addresses and the weights are not taken either."""
    free = find_free_port()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        addresses = f"127.0.0.1:{edge.port},127.0.0.1:{free},127.0.0.1:{taken}"
        edge.refuse(**both(edge.backend, 0, 1), SILLYPROXY_LISTEN=addresses)
    assert f"cannot listen on 127.0.0.1:{taken}: address already in use" in edge.proxy.read_log()
    assert set(edge.answers()) == {b"blue"}
    assert is_refused(free)


def test_access_log_that_cannot_be_written_refuses_the_whole_configuration(
    edge: Edge, tmp_path: Path
) -> None:
    """The access log is tried before anything is changed."""
    edge.refuse(**both(edge.backend, 0, 1), SILLYPROXY_ACCESS_LOG=str(tmp_path / "no" / "log"))
    assert set(edge.answers()) == {b"blue"}


# What else may change.


def test_access_log_moves_without_losing_a_line(edge: Edge, tmp_path: Path) -> None:
    """Every request is in the old file or in the new one, and no descriptor of the old one stays."""
    logs = [tmp_path / name for name in ("first", "second", "third")]
    edge.adopt(**both(edge.backend), SILLYPROXY_ACCESS_LOG=str(logs[0]))
    wait_until(lambda: ask_all_workers(edge.port) and logs[0].read_text().count("\n") >= 20, "the first file")
    with loading(edge.port, 4, pause_s=0.002, make=lambda n: (b"GET", GET % b"/?n%d" % n)) as load:
        for path in logs[1:]:
            load.wait_answers(200)
            edge.adopt(**both(edge.backend), SILLYPROXY_ACCESS_LOG=str(path))
        load.wait_answers(200)
    answers = sum(load.statuses.values())

    def logged() -> int:
        return len(set(re.findall(r"/\?(n\d+)\"", "".join(path.read_text() for path in logs))))

    wait_until(lambda: logged() == answers, "all lines")
    assert logs[2].read_text()
    links = [os.readlink(fd) for pid in find_workers(edge.proxy) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    assert not {str(path) for path in logs[:2]} & set(links)
    assert not load.failures


def ask_all_workers(port: int) -> bool:
    """Ask over so many connections that every worker has one."""
    return all(ask_once(port, GET % b"/").status == 200 for _ in range(20))


def test_admin_listener_moves(edge: Edge) -> None:
    """Health, metrics and status move to another address, and no request fails for it."""
    port = find_free_port()
    with loading(edge.port, 4, pause_s=0.002) as load:
        edge.adopt(**both(edge.backend), SILLYPROXY_ADMIN=f"127.0.0.1:{port}")
        wait_until(lambda: is_ready(port), "the new admin listener")
        assert is_refused(edge.proxy.admin_port)
        load.wait_answers(100)
    assert not load.failures
    assert "died" not in edge.proxy.read_log()


def is_ready(port: int) -> bool:
    try:
        return ask(f"127.0.0.1:{port}", "/readyz")[0] == 200
    except OSError:
        return False


def test_limits_and_timeouts_follow(edge: Edge) -> None:
    """Sizes and the connection limit of a reload hold for connections that are open already."""
    client = Client(edge.port)
    client.send(request("/echo", "POST", b"x" * 100))
    assert client.read_reply().status == 200
    edge.adopt(**both(edge.backend), SILLYPROXY_MAX_BODY_BYTES=50, SILLYPROXY_MAX_CONNECTIONS=1)
    client.send(request("/echo", "POST", b"x" * 100))
    assert client.read_reply().status == 413
    client.close()
    only: list[Client] = []

    def is_in() -> bool:
        only[:] = [Client(edge.port)]
        only[0].send(GET % b"/")
        return only[0].read_reply().status == 200

    # Who has left is counted for a moment longer: workers learn of each other's clients every 20 ms.
    wait_until(is_in, "a place")
    wait_until(lambda: ask_once(edge.port, GET % b"/").status == 503, "the limit")
    only[0].close()
