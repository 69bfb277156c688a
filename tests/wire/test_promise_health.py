"""
Promise: an endpoint that says it is unwell gets no request, from any worker, and comes back by itself.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.wire.harness import Proxy, Stream
from tests.wire.stress_tools import (
    QuickOrigin,
    ask_once,
    find_controller,
    loading,
    read_metrics,
    read_status,
    request,
    serving,
    wait_until,
    wait_workers,
)


class Checked(QuickOrigin):
    """An origin whose `/healthz` answers `health`; `asked` counts these, `served` the others."""

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self.health = 200
        self.asked = 0
        super().__init__(host=host, port=port)

    def _answer(self, stream: Stream, head: str) -> bool:
        if not head.startswith("GET /healthz "):
            return super()._answer(stream, head)
        self.asked += 1
        stream.sock.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % self.health)
        return False


@contextmanager
def origins(count: int) -> Iterator[list[Checked]]:
    made = [Checked() for _ in range(count)]
    try:
        yield made
    finally:
        for one in made:
            one.close()


def checked_by(**more: str) -> dict[str, str]:
    """Settings for quick checks of blue, in two workers."""
    quick = {"BLUE_HEALTH": "/healthz", "BLUE_HEALTH_INTERVAL": "500ms", "BLUE_HEALTH_TIMEOUT": "500ms"}
    return {**quick, "SILLYPROXY_WORKERS": "2", **more}


def read_states(proxy: Proxy) -> Mapping[str, Any]:
    """Return what the status says of each endpoint, by its address."""
    return {
        endpoint["address"]: endpoint
        for color in read_status(proxy)["colors"]
        for endpoint in color["endpoints"]
    }


def wait_state(proxy: Proxy, origin: QuickOrigin, state: str) -> None:
    """Wait until an endpoint is in a state."""
    wait_until(lambda: read_states(proxy).get(origin.address, {}).get("state") == state, state)


def test_unhealthy_endpoint_gets_no_request_and_comes_back() -> None:
    """
    Of two replicas one says 503 to its check while it still serves: within `fall` checks no worker sends it
    anything, nobody notices, and after `rise` good checks it takes part again.
    """
    with origins(2) as (well, unwell), serving(checked_by(BLUE=f"{well.url},{unwell.url}")) as proxy:
        wait_workers(proxy, 2)
        with loading(proxy.port, 6) as load:
            load.wait_answers(200)
            assert unwell.served > 0
            unwell.health = 503
            wait_state(proxy, unwell, "unhealthy")
            assert read_states(proxy)[unwell.address]["reason"] == "status 503"
            assert (
                read_metrics(proxy)[f'sillyproxy_endpoint_up{{color="blue",endpoint="{unwell.address}"}}']
                == 0
            )
            load.wait_answers(50)  # what was on its way when the workers were told
            before = unwell.served
            load.wait_answers(500)
            assert unwell.served == before
            unwell.health = 200
            wait_until(lambda: unwell.served > before, "requests for the one that is well again")
        assert not load.failures
        assert set(load.statuses) == {200}
        metrics = read_metrics(proxy)
        assert metrics['sillyproxy_health_checks_total{color="blue",result="failed"}'] >= 3
        assert metrics['sillyproxy_health_checks_total{color="blue",result="ok"}'] >= 6


def test_one_process_asks_for_all_workers() -> None:
    """However many workers there are, an endpoint is asked once an interval."""
    with origins(1) as (origin,):
        env = checked_by(BLUE=origin.url, SILLYPROXY_WORKERS="6")
        with serving(env) as proxy:
            wait_workers(proxy, 6)
            before, begun = origin.asked, time.monotonic()
            wait_until(lambda: origin.asked >= before + 6, "six checks")
            assert time.monotonic() - begun > 1.5  # six workers would need half a second


def test_endpoint_that_fails_from_the_start_gets_no_request() -> None:
    """A replica that fails its first check never gets a request: workers are told of endpoints after it."""
    with origins(2) as (well, unwell):
        unwell.health = 500
        with serving(checked_by(BLUE=f"{well.url},{unwell.url}")) as proxy, loading(proxy.port, 4) as load:
            load.wait_answers(200)
        assert set(load.statuses) == {200}
        assert unwell.asked > 0
        assert unwell.served == 0


def test_color_whose_endpoints_are_all_unhealthy_is_replaced_by_another() -> None:
    """When all of a color fail their checks the other color serves; when nobody is left, there is a 503."""
    with origins(2) as (blue, green):
        env = checked_by(
            BLUE=blue.url,
            GREEN=green.url,
            GREEN_HEALTH="/healthz",
            GREEN_HEALTH_INTERVAL="500ms",
            GREEN_HEALTH_TIMEOUT="500ms",
        )
        with serving(env) as proxy:
            wait_workers(proxy, 2)
            blue.health = 500
            wait_state(proxy, blue, "unhealthy")
            time.sleep(0.2)
            before = blue.served
            assert {ask_once(proxy.port, request()).body for _ in range(20)} == {b"green"}
            assert blue.served == before
            green.health = 500
            wait_state(proxy, green, "unhealthy")
            wait_until(lambda: ask_once(proxy.port, request()).status == 503, "503")
            wait_until(lambda: "every endpoint is unhealthy" in read_status(proxy)["reason"], "the reason")
            blue.health = 200
            wait_until(lambda: ask_once(proxy.port, request()).status == 200, "blue again")


def test_new_controller_asks_before_it_tells() -> None:
    """
    The process that checks is killed, again and again: its successors never tell the workers that an
    unhealthy endpoint is healthy, and no request fails.
    """
    with origins(2) as (well, unwell):
        unwell.health = 503
        with serving(checked_by(BLUE=f"{well.url},{unwell.url}")) as proxy, loading(proxy.port, 4) as load:
            wait_workers(proxy, 2)
            for _ in range(3):
                old = find_controller(proxy)
                os.kill(old, signal.SIGKILL)
                load.wait_answers(50)
                wait_until(lambda old=old: _find_other(proxy, old), "another controller")  # type: ignore[misc]
                wait_state(proxy, unwell, "unhealthy")
                load.wait_answers(50)
        assert set(load.statuses) == {200}
        assert not load.failures
        assert unwell.served == 0


def _find_other(proxy: Proxy, old: int) -> bool:
    try:
        return find_controller(proxy) != old
    except (OSError, ValueError):
        return False


def test_reload_keeps_health(tmp_path: Path) -> None:
    """A reload that changes weights asks nobody anew: who was unhealthy stays out, who was healthy in."""
    file = tmp_path / "env"
    with origins(2) as (well, unwell):
        unwell.health = 503
        file.write_text("BLUE_WEIGHT=1\n")
        env = checked_by(
            BLUE=f"{well.url},{unwell.url}", BLUE_HEALTH_INTERVAL="600s", SILLYPROXY_ENV_FILE=str(file)
        )
        with serving(env) as proxy, loading(proxy.port, 4) as load:
            wait_state(proxy, unwell, "unhealthy")
            wait_until(lambda: well.asked >= 1, "the checks")
            asked = well.asked + unwell.asked
            for weight in range(2, 6):
                file.write_text(f"BLUE_WEIGHT={weight}\n")
                wait_until(
                    lambda weight=weight: read_status(proxy)["colors"][0]["weight"] == weight,  # type: ignore[misc]
                    "the reload",
                )
                assert read_states(proxy)[unwell.address]["state"] == "unhealthy"
                load.wait_answers(50)
            assert well.asked + unwell.asked == asked
        assert set(load.statuses) == {200}
        assert unwell.served == 0


def test_endpoint_that_is_new_is_checked_first(tmp_path: Path) -> None:
    """An endpoint that a reload adds gets its first request after its first check."""
    file = tmp_path / "env"
    with origins(2) as (well, unwell):
        unwell.health = 503
        file.write_text(f"BLUE={well.url}\n")
        with serving(checked_by(SILLYPROXY_ENV_FILE=str(file))) as proxy, loading(proxy.port, 4) as load:
            load.wait_answers(50)
            file.write_text(f"BLUE={well.url},{unwell.url}\n")
            wait_state(proxy, unwell, "unhealthy")
            load.wait_answers(200)
        assert set(load.statuses) == {200}
        assert unwell.served == 0


def test_ejection_is_known_to_all_and_survives_the_controller() -> None:
    """
    What real requests eject is shown with its reason and its end, no worker uses it, and a controller that
    takes over learns of it from the workers.
    """
    with origins(2) as (well, broken):
        env = {
            "BLUE": f"{well.url},{broken.url}",
            "SILLYPROXY_WORKERS": "2",
            "SILLYPROXY_EJECT_AFTER": "3",
            "SILLYPROXY_EJECT_TIME": "300s",
        }
        with serving(env) as proxy:
            wait_workers(proxy, 2)
            broken.close()
            replacement = _Refusing(broken.port)
            try:
                for _ in range(100):
                    ask_once(proxy.port, request())
                    if read_states(proxy)[broken.address]["state"] == "ejected":
                        break
                _expect_ejected(proxy, broken)
                time.sleep(0.2)
                before = replacement.connections
                assert {ask_once(proxy.port, request()).status for _ in range(60)} == {200}
                assert replacement.connections == before
                old = find_controller(proxy)
                os.kill(old, signal.SIGKILL)
                wait_until(lambda: _find_other(proxy, old), "another controller")
                wait_until(
                    lambda: read_states(proxy).get(broken.address, {}).get("state") == "ejected",
                    "the workers to tell of it",
                )
            finally:
                replacement.close()


def _expect_ejected(proxy: Proxy, origin: QuickOrigin) -> None:
    state = read_states(proxy)[origin.address]
    assert state["state"] == "ejected"
    assert "in a row" in state["reason"]
    assert not state["up"]
    assert 0 < state["until"] - time.time() <= 301
    wait_until(
        lambda: (
            sum(n for name, n in read_metrics(proxy).items() if "sillyproxy_ejections_total{" in name) >= 1
        ),
        "the count",
    )


class _Refusing(QuickOrigin):
    """Takes connections on a port and closes each without an answer."""

    def __init__(self, port: int) -> None:
        super().__init__(port=port)

    def _answer(self, stream: Stream, head: str) -> bool:
        return False
