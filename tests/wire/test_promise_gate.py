"""
Promise: a proxy is called started when every color that takes traffic has answered, and for good.

An orchestrator asks `sillyproxy healthcheck`, which asks `/startupz`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.wire.harness import Proxy
from tests.wire.running import ask, run_command
from tests.wire.stress_tools import (
    ask_once,
    find_controller,
    origin,
    read_metrics,
    read_status,
    request,
    serving,
    wait_until,
    wait_workers,
)
from tests.wire.test_promise_health import Checked, origins


def ask_admin(proxy: Proxy, path: str) -> tuple[int, str]:
    """Ask the admin listener."""
    return ask(f"127.0.0.1:{proxy.admin_port}", path)


def is_started(proxy: Proxy) -> bool:
    """Whether a container would be healthy."""
    return run_command("healthcheck", SILLYPROXY_ADMIN=f"127.0.0.1:{proxy.admin_port}").returncode == 0


def find_dead_port() -> int:
    """Return a port on which nobody listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as sock:
        port: int = sock.getsockname()[1]
        return port


def test_started_when_every_color_has_answered() -> None:
    """
    One color answers, the other does not yet: not started, and the reason names the color, the endpoint and
    what happened. When it comes up, the proxy has started, and the log says so once.
    """
    port = find_dead_port()
    with origin() as blue, serving({"BLUE": blue.url, "GREEN": f"http://127.0.0.1:{port}"}) as proxy:
        wait_until(
            lambda: ask_admin(proxy, "/startupz") == (503, f"not started: green: 127.0.0.1:{port} refused\n"),
            "the reason",
        )
        assert ask_admin(proxy, "/readyz")[0] == 200  # blue serves, so traffic is welcome all the same
        assert not is_started(proxy)
        assert read_metrics(proxy)["sillyproxy_started"] == 0
        with origin(port=port):
            wait_until(lambda: ask_admin(proxy, "/startupz") == (200, "started\n"), "the start")
            assert is_started(proxy)
            assert read_metrics(proxy)["sillyproxy_started"] == 1
            assert proxy.read_log().count("controller: started") == 1


def test_probe_decides_where_there_is_one() -> None:
    """A color with a health path has answered when the path has: to take connections is not enough."""
    with origins(1) as (blue,):
        blue.health = 503
        env = {"BLUE": blue.url, "BLUE_HEALTH": "/healthz", "BLUE_HEALTH_INTERVAL": "1s"}
        with serving(env, ready=False) as proxy:
            expected = f"not started: blue: {blue.address} status 503\n"
            wait_until(lambda: ask_admin(proxy, "/startupz") == (503, expected), "the reason")
            blue.health = 200
            wait_until(lambda: is_started(proxy), "the start")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"BLUE": ""}, "no color is configured"),
        ({"BLUE_WEIGHT": "0"}, "every color is at weight 0"),
        ({"BLUE": "http://no-such-host.invalid"}, "blue: cannot resolve no-such-host.invalid: "),
    ],
)
def test_mistake_is_no_start(settings: dict[str, str], reason: str) -> None:
    """A configuration that would serve nobody is not called started, and says what is wrong with it."""
    with origin() as blue, serving({"BLUE": blue.url, **settings}, ready=False) as proxy:
        wait_until(lambda: ask_admin(proxy, "/startupz")[1].startswith(f"not started: {reason}"), reason)
        assert ask_admin(proxy, "/startupz")[0] == 503


def test_backends_that_die_later_do_not_kill_the_proxy() -> None:
    """
    All backends die, and the controller too: the proxy is not ready any more, but it stays started, so that
    no orchestrator kills it; it serves again when they are back.
    """
    blue = Checked()
    env = {"BLUE": blue.url, "BLUE_HEALTH": "/healthz", "BLUE_HEALTH_INTERVAL": "500ms"}
    with serving({**env, "BLUE_HEALTH_TIMEOUT": "500ms"}) as proxy:
        wait_workers(proxy, 1)
        wait_until(lambda: is_started(proxy), "the start")
        blue.close()
        wait_until(lambda: ask_admin(proxy, "/readyz")[0] == 503, "not ready")
        assert "every endpoint is unhealthy: blue: refused" in ask_admin(proxy, "/readyz")[1]
        assert is_started(proxy)
        os.kill(find_controller(proxy), signal.SIGKILL)
        wait_until(lambda: _answers(proxy) and is_started(proxy), "the next controller")
        assert ask_admin(proxy, "/startupz") == (200, "started\n")
        with reviving(blue.port):
            wait_until(lambda: ask_admin(proxy, "/readyz")[0] == 200, "ready again")
            assert ask_once(proxy.port, request()).status == 200


@contextmanager
def reviving(port: int) -> Iterator[None]:
    """An origin that is back where it was."""
    made = Checked(port)
    try:
        yield
    finally:
        made.close()


def _answers(proxy: Proxy) -> bool:
    try:
        return ask_admin(proxy, "/healthz")[0] == 200
    except OSError:
        return False


def test_reload_never_closes_the_gate(tmp_path: Path) -> None:
    """A reload that brings a color that does not answer leaves the proxy started: others serve."""
    file = tmp_path / "env"
    port = find_dead_port()
    with origin() as blue:
        file.write_text(f"BLUE={blue.url}\n")
        with serving({"SILLYPROXY_ENV_FILE": str(file)}) as proxy:
            wait_until(lambda: is_started(proxy), "the start")
            file.write_text(f"BLUE={blue.url}\nGREEN=http://127.0.0.1:{port}\n")
            wait_until(lambda: len(read_status(proxy)["colors"]) == 2, "the reload")
            assert ask_admin(proxy, "/startupz") == (200, "started\n")


def test_reload_is_shown_and_a_refused_one_with_its_problems(tmp_path: Path) -> None:
    """
    The status and the metrics tell of the newest configuration that was read: applied, or refused with
    every problem, until a good one comes; also after the controller was replaced.
    """
    file = tmp_path / "env"
    with origin() as blue:
        file.write_text("BLUE_WEIGHT=1\n")
        with serving({"BLUE": blue.url, "SILLYPROXY_ENV_FILE": str(file)}) as proxy:
            wait_workers(proxy, 1)
            assert read_status(proxy)["reload"] is None
            file.write_text("BLUE_WEIGHT=ten\nSILLYPROXY_WORKERS=none\n")
            reload = _wait_reload(proxy, "refused")
            assert sorted(problem.partition("=")[0] for problem in reload["problems"]) == [
                "BLUE_WEIGHT",
                "SILLYPROXY_WORKERS",
            ]
            assert reload["generation"] == 1
            assert _counts(proxy) == (0, 1, 1)
            os.kill(find_controller(proxy), signal.SIGKILL)
            wait_until(
                lambda: _answers(proxy) and read_status(proxy)["reload"], "the refusal after the death"
            )
            assert _counts(proxy) == (0, 1, 1)
            file.write_text("BLUE_WEIGHT=3\n")
            assert _wait_reload(proxy, "applied")["generation"] == 2
            assert _counts(proxy) == (1, 1, 0)
            wait_until(lambda: read_status(proxy)["workers"][0]["generation"] == 2, "the worker's word")


def _wait_reload(proxy: Proxy, result: str) -> Any:
    wait_until(lambda: (read_status(proxy)["reload"] or {}).get("result") == result, result)
    return json.loads(ask_admin(proxy, "/api/status")[1])["reload"]


def _counts(proxy: Proxy) -> tuple[float, ...]:
    metrics = read_metrics(proxy)
    reloads = [
        metrics[f'sillyproxy_config_reloads_total{{result="{what}"}}'] for what in ("applied", "refused")
    ]
    return (*reloads, metrics["sillyproxy_config_refused"])


def test_any_color_may_be_enough() -> None:
    """With SILLYPROXY_GATE=any a color that does not answer does not hold up the others."""
    with origin() as blue:
        env = {"BLUE": blue.url, "GREEN": f"http://127.0.0.1:{find_dead_port()}", "SILLYPROXY_GATE": "any"}
        with serving(env) as proxy:
            wait_until(lambda: is_started(proxy), "the start")


def test_endpoint_without_a_probe_is_hardly_bothered() -> None:
    """Without a health path a backend sees a connection or two at the start and then none until a request."""
    with origin() as blue, serving({"BLUE": blue.url}) as proxy:
        wait_until(lambda: is_started(proxy), "the start")
        assert blue.connections <= 2
        assert blue.served == 0
