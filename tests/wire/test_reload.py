"""What the supervisor does with a new configuration: addresses, processes, who is told what."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.running import Running, ask, running, wait_until

BLUE = "http://127.0.0.1:1"


class Edge:
    """A proxy whose workers stand in, configured by a file."""

    def __init__(self, proxy: Running, path: Path) -> None:
        self.proxy = proxy
        self.path = path

    def write(self, **settings: str) -> None:
        lines = {"BLUE": BLUE, **settings}
        self.path.with_suffix(".new").write_text("".join(f"{name}={lines[name]}\n" for name in lines))
        self.path.with_suffix(".new").rename(self.path)

    def count(self, what: str) -> int:
        return len([line for line in self.proxy.lines if what in line])

    def adopt(self, **settings: str) -> None:
        """Change the file; wait until that is adopted."""
        before = self.count("configuration adopted")
        self.write(**settings)
        wait_until(lambda: self.count("configuration adopted") > before, "the adoption")

    def refuse(self, **settings: str) -> None:
        """Change the file; wait until that is refused."""
        before = self.count("configuration refused")
        self.write(**settings)
        wait_until(lambda: self.count("configuration refused") > before, "the refusal")


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    path = tmp_path / "edge.env"
    path.write_text(f"BLUE={BLUE}\nSILLYPROXY_LISTEN=127.0.0.1:0\n")
    with running(SILLYPROXY_ENV_FILE=str(path)) as proxy:
        proxy.wait_serving()
        yield Edge(proxy, path)


def is_refused(address: str) -> bool:
    try:
        ask(address, "/")
    except OSError:
        return True
    return False


def test_port_0_stays_what_it_is(edge: Edge) -> None:
    """A port that the kernel chose is kept through reloads, as long as port 0 is asked for."""
    edge.adopt(SILLYPROXY_LISTEN="127.0.0.1:0", BLUE_WEIGHT="2")
    assert edge.count("listening on") == 1
    assert edge.proxy.get()


def test_port_that_was_chosen_may_be_written_down(edge: Edge) -> None:
    """Naming the port that the kernel chose changes nothing for who is connected to it."""
    edge.adopt(SILLYPROXY_LISTEN=edge.proxy.address)
    assert edge.count("listening on") == 1
    assert edge.proxy.get()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_address_may_become_wider_and_narrower(edge: Edge, host: str) -> None:
    """`127.0.0.1:80` may become `:80` and the other way round, although both are in use for a moment."""
    port = edge.proxy.address.rpartition(":")[2]
    edge.adopt(SILLYPROXY_LISTEN=f":{port}")
    wait_until(lambda: not is_refused(f"{host}:{port}"), "the wide address")
    edge.adopt(SILLYPROXY_LISTEN=f"127.0.0.1:{port}")
    wait_until(lambda: is_refused(f"127.0.0.3:{port}"), "the end of the wide address")
    assert is_refused(f"{host}:{port}") == (host != "127.0.0.1")


def test_unix_socket_comes_and_goes(edge: Edge, tmp_path: Path) -> None:
    """A unix path is served from a reload on; the next one removes it."""
    path = tmp_path / "edge.sock"
    edge.adopt(SILLYPROXY_LISTEN=f"127.0.0.1:0,unix:{path}")
    wait_until(lambda: not is_refused(f"unix:{path}"), "the path")
    edge.adopt(SILLYPROXY_LISTEN="127.0.0.1:0")
    assert not path.exists()
    assert edge.proxy.get()


def test_workers_hold_no_more_sockets_after_reloads(edge: Edge) -> None:
    """What is sent to a worker a second time is closed: its descriptors stay as many as they were."""
    before = len(edge.proxy.get("/descriptors").split())
    for weight in ("2", "3", "4"):
        edge.adopt(SILLYPROXY_LISTEN="127.0.0.1:0", BLUE_WEIGHT=weight)
    wait_until(lambda: len(edge.proxy.get("/descriptors").split()) == before, "as many as before")


def test_sockets_of_workers_that_left_are_served_by_the_others(edge: Edge) -> None:
    """With four workers, then one, then four again, every connection is answered at every moment."""
    for workers in ("4", "1", "4"):
        edge.adopt(SILLYPROXY_LISTEN="127.0.0.1:0", SILLYPROXY_WORKERS=workers)
        assert all(edge.proxy.get() for _ in range(50))
        names = set("0123"[: int(workers)])
        wait_until(lambda names=names: served_by(edge) == names, f"{workers} workers")  # type: ignore[misc]


def served_by(edge: Edge) -> set[str]:
    """Return the workers that answer."""
    return {edge.proxy.get().split()[0] for _ in range(60)}


def test_worker_that_leaves_and_is_wanted_again_is_started_anew(edge: Edge) -> None:
    """While the worker that leaves still drains, others serve its queue; then its place is taken again."""
    edge.adopt(SILLYPROXY_LISTEN="127.0.0.1:0", SILLYPROXY_DRAIN_DELAY="2s")
    before = edge.proxy.pid_of("worker 1")
    edge.adopt(SILLYPROXY_LISTEN="127.0.0.1:0", SILLYPROXY_DRAIN_DELAY="2s", SILLYPROXY_WORKERS="1")
    edge.adopt(SILLYPROXY_LISTEN="127.0.0.1:0", SILLYPROXY_DRAIN_DELAY="2s", SILLYPROXY_WORKERS="2")
    assert all(edge.proxy.get() for _ in range(50))
    wait_until(lambda: edge.proxy.pid_of("worker 1") != before, "the next worker 1")
    wait_until(lambda: len({edge.proxy.get().split()[1] for _ in range(30)}) == 2, "both workers")
    assert not edge.count("died")


def test_reload_during_a_drain_is_none(edge: Edge) -> None:
    """A stop is a stop: a configuration that comes while it drains is not read any more."""
    edge.adopt(SILLYPROXY_LISTEN="127.0.0.1:0", SILLYPROXY_DRAIN_DELAY="1s")
    edge.proxy.send(signal.SIGTERM)
    edge.proxy.wait_line("stopping")
    edge.write(SILLYPROXY_LISTEN="127.0.0.1:0", BLUE_WEIGHT="5")
    edge.proxy.send(signal.SIGHUP)
    assert edge.proxy.wait_end() == 0
    assert edge.count("configuration adopted") == 1


def test_next_controller_knows_of_the_refusal(edge: Edge) -> None:
    """A wrong configuration is shown until a good one comes, also by a controller that starts meanwhile."""
    edge.refuse(BLUE_WEIGHT="ten")
    wait_until(lambda: edge.proxy.status()["reload"]["result"] == "refused", "the refusal in the status")
    os.kill(edge.proxy.pid_of("controller"), signal.SIGKILL)
    edge.proxy.wait_line("controller died")

    def is_shown() -> bool:
        try:
            reload = edge.proxy.status()["reload"]
        except OSError:
            return False
        return bool(reload and "BLUE_WEIGHT=ten" in str(reload["problems"]))

    wait_until(is_shown, "the refusal in the next controller's status")
    edge.adopt(SILLYPROXY_LISTEN="127.0.0.1:0", BLUE_WEIGHT="10")
    wait_until(lambda: edge.proxy.status()["reload"]["result"] == "applied", "the end of the refusal")


def test_wrong_configuration_that_is_taken_back_is_forgotten(edge: Edge) -> None:
    """When the file says again what is in force, nothing is refused any more."""
    edge.refuse(BLUE_WEIGHT="ten")
    edge.write(SILLYPROXY_LISTEN="127.0.0.1:0")
    edge.proxy.wait_line("configuration unchanged")
    wait_until(lambda: (edge.proxy.status()["reload"] or {}).get("result") != "refused", "no refusal")


def test_configuration_without_any_color_is_refused(tmp_path: Path) -> None:
    """A file that is cut short for a moment does not turn every request into a 503."""
    path = tmp_path / "edge.env"
    path.write_text(f"RED={BLUE}\n")
    with running(SILLYPROXY_ENV_FILE=str(path), SILLYPROXY_COLORS="red") as proxy:
        proxy.wait_serving()
        path.write_text("")
        proxy.wait_line("configuration refused.*no color has a URL any more")
        assert proxy.get()


def test_log_says_what_changed(edge: Edge) -> None:
    """The line of a reload names the settings that differ, and no values."""
    edge.adopt(SILLYPROXY_LISTEN="127.0.0.1:0", BLUE_WEIGHT="7", SILLYPROXY_IDLE_TIMEOUT="30s")
    line = next(line for line in edge.proxy.lines if "configuration adopted" in line)
    assert line.endswith("changed=BLUE_WEIGHT,SILLYPROXY_IDLE_TIMEOUT")


def test_log_level_and_format_follow(edge: Edge) -> None:
    """The log changes its level and its form with a reload."""
    edge.write(SILLYPROXY_LISTEN="127.0.0.1:0", SILLYPROXY_LOG_FORMAT="json", SILLYPROXY_LOG_LEVEL="error")
    wait_until(lambda: edge.proxy.status()["generation"] == 2, "the adoption, which is not logged any more")
    edge.refuse(BLUE_WEIGHT="ten")
    assert edge.proxy.lines[-1].startswith("{")
    assert not edge.count("configuration adopted")
