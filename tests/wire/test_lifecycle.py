"""Stop and what goes with it: signals, drain, exit status."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest

from tests.wire.running import Running, ask, running, wait_until


def is_refused(proxy: Running) -> bool:
    try:
        ask(proxy.address, "/")
    except ConnectionError:
        return True
    return False


@pytest.mark.parametrize("what", [signal.SIGTERM, signal.SIGINT])
def test_stop_is_clean(what: signal.Signals) -> None:
    """SIGTERM and SIGINT stop everybody, and the exit status is 0."""
    with running() as proxy:
        proxy.wait_serving()
        proxy.send(what)
        assert proxy.wait_end() == 0
        assert not [line for line in proxy.lines if " error " in line or "Traceback" in line]
        assert re.search(r"stopped after_s=[0-9.]+ exit=0$", proxy.lines[-1])


def test_sigterm_turns_unready_and_serves_on_for_the_delay() -> None:
    """After SIGTERM /readyz says 503, and new connections are still served for the drain delay."""
    with running(SILLYPROXY_DRAIN_DELAY="5") as proxy:
        proxy.wait_serving()
        proxy.send(signal.SIGTERM)
        wait_until(lambda: ask(proxy.admin, "/readyz") == (503, "not ready: draining\n"), "not ready")
        assert proxy.get()
        assert ask(proxy.admin, "/healthz")[0] == 200


def test_sigint_takes_no_delay() -> None:
    """SIGINT, a developer's Ctrl-C, does not wait for the drain delay."""
    with running(SILLYPROXY_DRAIN_DELAY="60") as proxy:
        proxy.wait_serving()
        proxy.send(signal.SIGINT)
        assert proxy.wait_end() == 0


def test_address_is_closed_when_its_workers_are_gone() -> None:
    """When a worker closes its address nobody else holds it open: clients are refused, not left waiting."""
    with running(STANDIN="stuck", SILLYPROXY_DRAIN_TIMEOUT="60") as proxy:
        proxy.wait_serving()
        proxy.send(signal.SIGTERM)
        proxy.wait_line("stopping")
        for name in ("worker 0", "worker 1"):
            os.kill(proxy.pid_of(name), signal.SIGKILL)
        wait_until(lambda: is_refused(proxy), "the address to be closed")


def test_second_signal_stops_at_once() -> None:
    """A second SIGTERM does not wait for anything; it was a stop all the same, so the exit status is 0."""
    with running(STANDIN="stuck", SILLYPROXY_DRAIN_TIMEOUT="60") as proxy:
        proxy.wait_serving()
        proxy.send(signal.SIGTERM)
        proxy.wait_line("stopping")
        time.sleep(0.2)  # what comes sooner counts as the same wish
        proxy.send(signal.SIGTERM)
        assert proxy.wait_end() == 0


def test_one_wish_that_comes_twice_is_one() -> None:
    """`timeout` signals the process and its group, so SIGTERM comes twice at once: still a clean stop."""
    with running(SILLYPROXY_DRAIN_DELAY="0.5") as proxy:
        proxy.wait_serving()
        proxy.send(signal.SIGTERM)
        proxy.send(signal.SIGTERM)
        assert proxy.wait_end() == 0
        assert not [line for line in proxy.lines if "at once" in line]


def test_stuck_worker_is_killed_when_its_time_is_over() -> None:
    """A worker that does not end with its drain timeout is killed, and the exit status says so."""
    with running(STANDIN="stuck", SILLYPROXY_DRAIN_TIMEOUT="0.2") as proxy:
        proxy.wait_serving()
        proxy.send(signal.SIGTERM)
        assert proxy.wait_end() == 1
        proxy.wait_line("worker 0 did not end in time")


def test_worker_that_dies_in_the_drain_is_not_replaced() -> None:
    """A stop is a stop: nobody is started any more."""
    with running(STANDIN="stuck", SILLYPROXY_DRAIN_TIMEOUT="60", SILLYPROXY_WORKERS="1") as proxy:
        proxy.wait_serving()
        proxy.send(signal.SIGTERM)
        proxy.wait_line("stopping")
        os.kill(proxy.pid_of("worker 0"), signal.SIGKILL)
        assert proxy.wait_end() == 0


def test_ctrl_c_of_a_terminal_is_the_supervisors_alone() -> None:
    """Workers and controller are in process groups of their own: Ctrl-C does not reach them unasked."""
    with running() as proxy:
        proxy.wait_serving()
        groups = {os.getpgid(proxy.pid_of(name)) for name in ("worker 0", "worker 1", "controller")}
        assert os.getpgid(proxy.process.pid) not in groups


def test_sighup_stops_nothing() -> None:
    """SIGHUP reads the configuration again; one that is as before changes nothing."""
    with running() as proxy:
        proxy.wait_serving()
        proxy.send(signal.SIGHUP)
        proxy.wait_line("configuration unchanged by=SIGHUP generation=1")
        assert proxy.get()


def test_json_log_is_json() -> None:
    """With SILLYPROXY_LOG_FORMAT=json every line of every process is one JSON object."""
    import json

    with running(SILLYPROXY_LOG_FORMAT="json") as proxy:
        proxy.wait_line('"message": "ready"')
        assert all(json.loads(line)["level"] for line in proxy.lines)
