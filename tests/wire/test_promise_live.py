"""
The live view of a proxy that runs: what a dashboard sees, and when; what it never sees.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sillyproxy.rollout.quantiles import rank_of
from tests.wire.harness import Proxy, find_free_port
from tests.wire.running import ask, run_command
from tests.wire.stress_tools import (
    GET,
    ask_many,
    find_controller,
    find_workers,
    loading,
    origin,
    serving,
    wait_until,
)

TOKEN = "correct-horse-battery"


class Dashboard:
    """A client of /api/events that keeps what it was told."""

    def __init__(self, proxy: Proxy, last_id: str = "", window: int = 60) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", proxy.admin_port, timeout=20)
        fields = {"Last-Event-ID": last_id} if last_id else {}
        self._connection.request("GET", f"/api/events?window={window}", headers=fields)
        self._response = self._connection.getresponse()
        assert self._response.status == 200
        self.last_id = ""

    def read(self) -> tuple[str, Any]:
        """Return the next event's name and data."""
        event: dict[str, str] = {}
        while line := self._response.readline().decode():
            if line == "\n":
                if "data" in event:
                    self.last_id = event["id"]
                    return event["event"], json.loads(event["data"])
                continue
            name, _, value = line.rstrip("\n").partition(": ")
            event[name] = value
        raise AssertionError("the stream has ended")

    def read_frame(self) -> Any:
        """Return the next frame."""
        while True:
            name, data = self.read()
            if name == "frame":
                return data["frame"]

    def wait_event(self, text: str) -> Any:
        """Return the first frame with an event that has this text in it."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            frame = self.read_frame()
            if any(text in event["text"] for event in frame["events"]):
                return frame
        raise AssertionError(f"waited in vain for {text!r}")

    def close(self) -> None:
        self._connection.close()
        self._response.close()


@contextlib.contextmanager
def dashboard(proxy: Proxy, last_id: str = "", window: int = 60) -> Iterator[Dashboard]:
    client = Dashboard(proxy, last_id, window)
    try:
        yield client
    finally:
        client.close()


def get(proxy: Proxy, path: str, **fields: str) -> tuple[int, str]:
    return ask(f"127.0.0.1:{proxy.admin_port}", path, **fields)


def color_of(frame: Any, name: str) -> Any:
    return next(color for color in frame["colors"] if color["name"] == name)


def test_dashboard_follows_a_reload(tmp_path: Path) -> None:
    """
    Weights that are changed in a file are on every open dashboard without being asked for: the weights, the
    shares, and an event that says what was changed; a refused configuration with what is wrong with it.
    """
    edge = tmp_path / "edge.env"
    edge.write_text("BLUE_WEIGHT=4\nGREEN_WEIGHT=1\n")
    with (
        origin() as blue,
        origin() as green,
        serving({"BLUE": blue.url, "GREEN": green.url, "SILLYPROXY_ENV_FILE": str(edge)}) as proxy,
        dashboard(proxy) as one,
        dashboard(proxy, window=900) as other,
    ):
        assert color_of(one.read_frame(), "green")["share_asked"] == 0.2
        edge.write_text("BLUE_WEIGHT=1\nGREEN_WEIGHT=1\n")
        for client in (one, other):
            frame = client.wait_event("BLUE_WEIGHT 4 → 1")
            assert color_of(frame, "green")["share_asked"] == 0.5
            settings = {row["name"]: (row["value"], row["origin"]) for row in frame["config"]["settings"]}
            assert settings["BLUE_WEIGHT"] == ("1", f"file {edge}, line 1")
        edge.write_text("BLUE_WEIGHT=one\n")
        frame = one.wait_event("configuration refused: BLUE_WEIGHT=one")
        assert frame["reload"]["result"] == "refused"


def test_dashboard_shows_which_color_is_worse() -> None:
    """
    While green fails and blue does not, the dashboard says so in a sentence, with green's error rate, and
    both shares as they are seen.
    """
    with (
        origin() as blue,
        origin() as green,
        serving(
            {
                "BLUE": blue.url,
                "GREEN": green.url,
                "BLUE_WEIGHT": "3",
                "SILLYPROXY_EJECT_AFTER": "0",
            }
        ) as proxy,
        dashboard(proxy) as client,
    ):
        green.mood = lambda number: "/status/500" if number % 10 == 0 else ""
        with loading(proxy.port, 4, lambda number: (b"GET", GET % b"/sleep/0.002")):
            end = time.monotonic() + 30
            while (frame := client.read_frame())["comparisons"][0]["verdict"] != "worse":
                assert time.monotonic() < end, frame["comparisons"]
    assert frame["comparisons"][0]["text"].startswith("green is worse than blue: fails ")
    assert color_of(frame, "green")["window_error_rate"] == pytest.approx(0.1, abs=0.03)
    assert color_of(frame, "blue")["errors"] == 0
    assert color_of(frame, "green")["share_seen"] == pytest.approx(0.25, abs=0.05)


def test_dashboard_that_comes_back_has_no_gap() -> None:
    """
    A dashboard whose connection broke is told exactly the seconds that it missed; after another controller
    has taken over, it is told to begin anew.
    """
    with origin() as blue, serving({"BLUE": blue.url}) as proxy:
        with dashboard(proxy) as client:
            name, first = client.read()
            assert name == "history"
            frame = client.read_frame()
            last_id, seq = client.last_id, frame["seq"]
            assert last_id == f"{first['epoch']}-{seq}"
        wait_until(lambda: json.loads(get(proxy, "/api/live")[1])["seq"] >= seq + 2, "two seconds")
        with dashboard(proxy, last_id) as client:
            name, data = client.read()
            assert (name, data["epoch"]) == ("history", first["epoch"])
            newest = client.read_frame()["seq"]
            assert [point["seq"] for point in data["points"]] == list(range(seq + 1, newest + 1))
        os.kill(find_controller(proxy), signal.SIGKILL)
        wait_until(lambda: _answers(proxy), "the next controller")
        with dashboard(proxy, last_id) as client:
            _, data = client.read()
            assert data["epoch"] != first["epoch"]
            assert any("started again" in event["text"] for event in client.read_frame()["events"])


def _answers(proxy: Proxy) -> bool:
    try:
        return get(proxy, "/healthz")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def test_death_of_a_worker_is_seen() -> None:
    """A worker that is killed is an event on the dashboard, and the process that took its place is shown."""
    with (
        origin() as blue,
        serving({"BLUE": blue.url, "SILLYPROXY_WORKERS": "2"}) as proxy,
        dashboard(proxy) as client,
    ):
        wait_until(lambda: len(json.loads(get(proxy, "/api/live")[1])["workers"]) == 2, "both workers")
        victim = find_workers(proxy)[0]
        client.wait_event("2 workers at work")
        os.kill(victim, signal.SIGKILL)
        frame = client.wait_event(f"(process {victim}) ended")
        wait_until(lambda: victim not in _pids(proxy) and len(_pids(proxy)) == 2, "its successor")
        for worker in json.loads(get(proxy, "/api/live")[1])["workers"]:
            assert worker["memory_bytes"] > 1 << 20
            assert worker["open_files"] > 3
        assert frame["ready"]


def _pids(proxy: Proxy) -> set[int]:
    return {worker["pid"] for worker in json.loads(get(proxy, "/api/live")[1])["workers"]}


def test_percentiles_are_those_of_the_access_log(tmp_path: Path) -> None:
    """
    The percentiles and the mean that are shown are within 3 % of those computed from the access log of the
    same requests, and so are the counts, exactly.
    """
    log = tmp_path / "access.log"
    chance = random.Random(41)
    settings = {"SILLYPROXY_ACCESS_LOG": str(log), "SILLYPROXY_LOG_FORMAT": "json", "SILLYPROXY_WORKERS": "2"}
    with origin() as blue, origin() as green:
        with serving({"BLUE": blue.url, "GREEN": green.url, "BLUE_WEIGHT": "2", **settings}) as proxy:
            make = lambda _: (b"GET", GET % (b"/sleep/%.5f" % chance.lognormvariate(-6, 0.8)))  # noqa: E731
            with loading(proxy.port, 12, make) as load:
                load.wait_answers(3000)
            asked = sum(load.statuses.values())
            wait_until(lambda: _counted(proxy) == asked, "the last second")
            frame = json.loads(get(proxy, "/api/live?window=900")[1])
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == asked
    for name in ("blue", "green"):
        raw = sorted(line["duration_ms"] for line in lines if line["color"] == name)
        shown = color_of(frame, name)
        assert (shown["requests"], shown["codes"]["2xx"]) == (len(raw), len(raw))
        assert shown["mean_ms"] == pytest.approx(sum(raw) / len(raw), rel=0.01)
        for key, part in (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99)):
            assert shown[key] == pytest.approx(raw[rank_of(part, len(raw)) - 1], rel=0.02)


def _counted(proxy: Proxy) -> int:
    frame = json.loads(get(proxy, "/api/live?window=900")[1])
    return sum(color["requests"] for color in frame["colors"])


def test_samples_of_a_proxy_can_be_summed() -> None:
    """
    Whoever sums several proxies gets each second once: those since the one that it names, and after another
    controller has taken over, from the beginning.
    """
    with origin() as blue, serving({"BLUE": blue.url}) as proxy:
        ask_many(proxy.port, 20)
        wait_until(lambda: _counted(proxy) == 20, "the second to be over")
        first = json.loads(get(proxy, "/api/samples")[1])
        assert sum(sum(sample["colors"]["blue"]["codes"]) for sample in first["samples"]) == 20
        path = f"/api/samples?epoch={first['epoch']}&since={first['seq']}"
        wait_until(lambda: json.loads(get(proxy, path)[1])["samples"], "another second")
        more = json.loads(get(proxy, path)[1])
        assert more["samples"][0]["seq"] == first["seq"] + 1
        assert json.loads(get(proxy, path.replace(first["epoch"], "x"))[1])["samples"][0]["seq"] == 1
        assert more["status"]["ready"] is True


def test_token_is_asked_for_and_told_nowhere() -> None:
    """
    With a token the admin side is closed to who does not have it, the container's health check goes on, and
    the token is in no answer and in no line of the log.
    """
    settings = {"SILLYPROXY_ADMIN_TOKEN": TOKEN, "SILLYPROXY_LOG_LEVEL": "debug"}
    with origin() as blue, serving({"BLUE": blue.url, **settings}) as proxy:
        basic = "Basic " + base64.b64encode(f"admin:{TOKEN}".encode()).decode()
        shown = ""
        for path in ("/", "/metrics", "/api/status", "/api/live", "/api/samples"):
            assert get(proxy, path)[0] == 401
            assert get(proxy, path, Authorization="Bearer no")[0] == 401
            assert get(proxy, path, Authorization=basic)[0] == 200
            status, body = get(proxy, path, Authorization=f"Bearer {TOKEN}")
            assert status == 200
            shown += body
        assert '"SILLYPROXY_ADMIN_TOKEN"' in shown
        admin = {"SILLYPROXY_ADMIN": f"127.0.0.1:{proxy.admin_port}"}
        check = run_command("healthcheck", **admin, **settings)
        assert (check.returncode, check.stdout) == (0, "started\n")
        shown += run_command("check", BLUE=blue.url, **settings).stdout + proxy.read_log()
    assert "***" in shown
    assert TOKEN not in shown


def test_open_admin_listener_is_warned_of_at_the_start() -> None:
    """An admin listener that strangers can reach, and no token: the log says so, and what to do."""
    port = find_free_port()
    with (
        origin() as blue,
        serving({"BLUE": blue.url, "SILLYPROXY_ADMIN": f"0.0.0.0:{port}"}, ready=False) as proxy,
    ):
        proxy.admin_port = port
        wait_until(lambda: _answers(proxy), "the admin listener")
        assert "set SILLYPROXY_ADMIN_TOKEN, or listen on 127.0.0.1" in proxy.read_log()
        # Whoever it is that asks, by whatever name: an operator who opened it has seen the warning.
        assert get(proxy, "/api/live", Host="edge.example")[0] == 200


def test_controller_lets_the_workers_go_first() -> None:
    """Who asks the admin side takes no CPU time that a worker wants: the controller has a lower priority."""
    with origin() as blue, serving({"BLUE": blue.url}) as proxy:
        controller, *workers = find_controller(proxy), *find_workers(proxy)
        assert {os.getpriority(os.PRIO_PROCESS, pid) for pid in workers} == {
            os.getpriority(os.PRIO_PROCESS, 0)
        }
        assert os.getpriority(os.PRIO_PROCESS, controller) > os.getpriority(os.PRIO_PROCESS, workers[0])


def test_stop_ends_open_dashboards_without_a_fault() -> None:
    """A proxy with dashboards open stops as one without, and logs nothing of them."""
    with origin() as blue, serving({"BLUE": blue.url}) as proxy, dashboard(proxy) as client:
        client.read_frame()
        proxy.process.send_signal(signal.SIGTERM)
        assert proxy.process.wait(20) == 0
        assert "admin listener" not in proxy.read_log()
