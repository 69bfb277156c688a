"""
Promise: a name service in trouble costs no request, is not stormed, and is believed again when it is well.

The whole of sillyproxy with a name server of ours: /etc/resolv.conf is replaced in a mount
namespace of its own, which needs root.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.wire.harness import Proxy
from tests.wire.name_server import Mood, NameServer, name_server
from tests.wire.stress_tools import (
    QuickOrigin,
    ask_once,
    find_controller,
    loading,
    origin,
    read_metrics,
    read_status,
    request,
    serving,
    show,
    wait_until,
    wait_workers,
)
from tests.wire.test_promise_health import Checked

UDP = "udp"


@pytest.fixture
def names(tmp_path: Path) -> Iterator[NameServer]:
    """A name server that only a proxy `using` it asks."""
    probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    if probe.returncode or os.geteuid():
        reason = "needs a mount namespace and port 53 (root)"
        pytest.fail(f"in CI: {reason}") if os.environ.get("CI") else pytest.skip(reason)
    with name_server() as server:
        yield server


def using(names: NameServer, tmp_path: Path) -> Callable[..., Proxy]:
    """A proxy that asks this name server, with a search domain as companies have."""
    conf = tmp_path / "resolv.conf"
    conf.write_text(f"nameserver {names.host}\nsearch corp.test\noptions ndots:1\n")

    class Confined(Proxy):
        def _make_command(self) -> list[str]:
            mount = f"mount --bind '{conf}' /etc/resolv.conf && exec '{sys.executable}' -m sillyproxy serve"
            return ["unshare", "--mount", "sh", "-c", mount]

    return Confined


@contextlib.contextmanager
def replicas(count: int) -> Iterator[list[QuickOrigin]]:
    """Servers on addresses of their own, and one port."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(origin(host="127.0.3.1"))
        others = [
            stack.enter_context(origin(host=f"127.0.3.{n}", port=first.port)) for n in range(2, count + 1)
        ]
        yield [first, *others]


def read_endpoints(proxy: Proxy) -> set[str]:
    (color,) = read_status(proxy)["colors"]
    return {endpoint["address"] for endpoint in color["endpoints"]}


def expect_no_storm(names: NameServer, since: float) -> None:
    """Each question came once a second at most; one more for the moment at either end."""
    seconds = time.monotonic() - since
    counts = names.count(since)
    show("questions a second", **{f"{q[0]}/{q[1]}/{q[2]}": n / seconds for q, n in counts.items()})
    assert max(counts.values()) <= seconds + 2


def test_forty_replicas_are_all_found(names: NameServer, tmp_path: Path) -> None:
    """A service of 40 replicas, whose answer fits into no packet, is found whole, over TCP."""
    addresses = [f"127.0.4.{n}" for n in range(1, 41)]
    name = "tasks.a-service-with-a-long-name"
    names.zone.names[name] = addresses
    env = {"BLUE": "http://a-service-with-a-long-name:8080", "SILLYPROXY_WORKERS": "2"}
    with serving(env, kind=using(names, tmp_path)) as proxy:
        assert read_endpoints(proxy) == {f"{address}:8080" for address in addresses}
        assert {q.transport for q in names.questions if q.name == name} == {"udp", "tcp"}


@pytest.mark.parametrize("mood", ["silent", "servfail", "refused", "nxdomain", "empty"])
def test_trouble_costs_no_request_and_is_no_storm(names: NameServer, tmp_path: Path, mood: Mood) -> None:
    """
    The name server falls silent, errs, or forgets the name, under load and with eight workers: the last good
    endpoints serve on, log, status and metrics say so, and no question comes more than once a second.
    """
    with replicas(2) as servers:
        names.zone.names["tasks.app"] = [server.host for server in servers]
        env = {"BLUE": f"http://app:{servers[0].port}", "SILLYPROXY_WORKERS": "8"}
        with serving(env, kind=using(names, tmp_path)) as proxy, loading(proxy.port, 4, pause_s=0.01) as load:
            wait_workers(proxy, 8)
            names.zone.mood = mood
            begun = time.monotonic()
            wait_until(lambda: read_status(proxy)["dns"]["problems"].get("app"), "the problem to be seen")
            assert read_metrics(proxy)['sillyproxy_dns_stale{name="app"}'] == 1
            while time.monotonic() < begun + 6:
                load.wait_answers(20)
            expect_no_storm(names, begun)
            assert names.count(begun)
            assert read_endpoints(proxy) == {server.address for server in servers}
            assert proxy.read_log().count("cannot resolve name=app") == 1
            names.zone.mood = "well"
            names.zone.names["tasks.app"] = [servers[1].host]
            wait_until(lambda: read_endpoints(proxy) == {servers[1].address}, "the news after it")
            assert not read_status(proxy)["dns"]["problems"]
            load.wait_answers(50)
        assert set(load.statuses) == {200}
        assert not load.failures


def test_name_that_appears_later_comes_to_life(names: NameServer, tmp_path: Path) -> None:
    """
    A service that does not exist at the start, and for a while, is served within a few seconds of its
    creation, although it is asked for ever more seldom.
    """
    with origin(host="127.0.3.1") as server:
        env = {"BLUE": f"http://app:{server.port}"}
        with serving(env, ready=False, kind=using(names, tmp_path)) as proxy:
            begun = time.monotonic()
            wait_until(lambda: len(names.count(begun)) >= 2, "the first questions")
            time.sleep(6)
            expect_no_storm(names, begun)
            assert ask_once(proxy.port, request()).status == 503
            names.zone.names["tasks.app"] = [server.host]
            created = time.monotonic()
            wait_until(lambda: ask_once(proxy.port, request()).status == 200, "it to be served")
            show("appeared", after_s=time.monotonic() - created)
            assert time.monotonic() - created < 6  # 2.2 s on a quiet machine


def test_reloads_are_no_storm(names: NameServer, tmp_path: Path) -> None:
    """Reloads that take a color away and bring it back do not ask for its name each time."""
    file = tmp_path / "env"
    with origin(host="127.0.3.1") as server:
        names.zone.names["tasks.app"] = [server.host]
        on, off = f"BLUE=http://app:{server.port}\n", f"BLUE={server.url}\n"
        file.write_text(on)
        with serving({"SILLYPROXY_ENV_FILE": str(file)}, kind=using(names, tmp_path)) as proxy:
            begun = time.monotonic()
            generation = 1
            while time.monotonic() < begun + 6:
                file.write_text(off if generation % 2 else on)
                proxy.process.send_signal(signal.SIGHUP)
                generation += 1
                wait_until(
                    lambda g=generation: read_status(proxy)["generation"] >= g,  # type: ignore[misc]
                    "the reload",
                )
            show("reloads", count=generation - 1)
            assert generation > 20  # each other one asks, so that without care there would be two a second
            expect_no_storm(names, begun)
            assert ask_once(proxy.port, request()).status == 200


def test_address_that_is_not_listed_any_more_gets_no_request(names: NameServer, tmp_path: Path) -> None:
    """A replica that its name no longer lists gets no new request, and its idle connections are closed."""
    with replicas(2) as servers:
        stays, leaves = servers
        names.zone.names["app.test"] = [server.host for server in servers]
        env = {"BLUE": f"http://app.test:{servers[0].port}", "SILLYPROXY_WORKERS": "2"}
        with serving(env, kind=using(names, tmp_path)) as proxy, loading(proxy.port, 4) as load:
            wait_until(lambda: leaves.served > 20, "both to serve")
            names.zone.names["app.test"] = [stays.host]
            wait_until(lambda: not leaves.opened, "its connections to be closed")
            before = leaves.served
            load.wait_answers(200)
            assert leaves.served == before
        assert not load.failures
        assert set(load.statuses) == {200}


def test_replica_that_joins_is_checked_first(names: NameServer, tmp_path: Path) -> None:
    """
    A service is scaled up, and the new replica does not work yet: with a health path it gets its first
    request after its first good check.
    """
    with contextlib.ExitStack() as stack:
        good = stack.enter_context(contextlib.closing(Checked(host="127.0.3.1")))
        starting = stack.enter_context(contextlib.closing(Checked(good.port, host="127.0.3.2")))
        starting.health = 503
        names.zone.names["app.test"] = [good.host]
        env = {
            "BLUE": f"http://app.test:{good.port}",
            "BLUE_HEALTH": "/healthz",
            "BLUE_HEALTH_INTERVAL": "500ms",
            "BLUE_HEALTH_TIMEOUT": "500ms",
        }
        with serving(env, kind=using(names, tmp_path)) as proxy, loading(proxy.port, 4) as load:
            load.wait_answers(50)
            names.zone.names["app.test"] = [good.host, starting.host]
            wait_until(lambda: len(read_endpoints(proxy)) == 2, "the new replica to be seen")
            load.wait_answers(200)
            assert starting.served == 0
            starting.health = 200
            wait_until(lambda: starting.served, "its first request")
        assert not load.failures
        assert set(load.statuses) == {200}


def test_reload_waits_for_a_slow_name(names: NameServer, tmp_path: Path) -> None:
    """
    A reload moves a color to another host, whose name takes a second to be found: the old endpoints serve
    until then, the new ones after it, and no request fails in between.
    """
    file = tmp_path / "env"
    with replicas(2) as (old, new):
        names.zone.names |= {"old.test": [old.host], "new.test": [new.host]}
        file.write_text(f"BLUE=http://old.test:{old.port}\n")
        env = {"SILLYPROXY_ENV_FILE": str(file), "SILLYPROXY_WORKERS": "2"}
        with serving(env, kind=using(names, tmp_path)) as proxy, loading(proxy.port, 4) as load:
            load.wait_answers(50)
            names.zone.delay_s = 0.5  # for each of the two questions of a look-up
            file.write_text(f"BLUE=http://new.test:{new.port}\n")
            wait_until(lambda: new.served, "the new one to serve")
            wait_until(lambda: not old.opened, "the old one to be let go")
            before = old.served
            load.wait_answers(200)
            assert old.served == before
        assert not load.failures
        assert set(load.statuses) == {200}


def test_controller_that_starts_in_the_dark_tells_nothing(names: NameServer, tmp_path: Path) -> None:
    """The name server is silent and the controller is killed: the workers serve on with what they know."""
    with origin(host="127.0.3.1") as server:
        names.zone.names["app.test"] = [server.host]
        env = {"BLUE": f"http://app.test:{server.port}", "SILLYPROXY_WORKERS": "2"}
        with serving(env, kind=using(names, tmp_path)) as proxy, loading(proxy.port, 4, pause_s=0.01) as load:
            wait_workers(proxy, 2)
            names.zone.mood = "silent"
            begun = time.monotonic()
            for _ in range(2):
                os.kill(find_controller(proxy), signal.SIGKILL)
                load.wait_answers(50)
                wait_until(lambda: _knows_nothing(proxy), "the next controller")
            while time.monotonic() < begun + 8:  # longer than a controller waits for names
                load.wait_answers(20)
            expect_no_storm(names, begun)
            names.zone.mood = "well"
            wait_until(lambda: read_endpoints(proxy) == {server.address}, "the end of the silence")
        assert not load.failures
        assert set(load.statuses) == {200}


def test_controller_that_takes_over_does_not_ask_at_once(names: NameServer, tmp_path: Path) -> None:
    """A controller is killed just after it asked: its successor waits for its turn."""
    with origin(host="127.0.3.1") as server:
        names.zone.names["app.test"] = [server.host]
        with serving({"BLUE": f"http://app.test:{server.port}"}, kind=using(names, tmp_path)) as proxy:
            wait_workers(proxy, 1)
            controller = find_controller(proxy)
            before = len(names.questions)
            wait_until(lambda: len(names.questions) >= before + 2, "both questions of a look-up")
            os.kill(controller, signal.SIGKILL)
            wait_until(lambda: len(names.questions) >= before + 4, "the successor's")
            gap = names.questions[before + 2].at - names.questions[before + 1].at
            show("successor", asked_after_s=gap)
            assert gap > 0.75  # half a second if it did not wait


def _knows_nothing(proxy: Proxy) -> bool:
    try:
        return not read_endpoints(proxy)
    except OSError:
        return False
