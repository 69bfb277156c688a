"""
Promise: a name's addresses change under load, and no request notices.

The whole of sillyproxy, with a private /etc/hosts (a mount namespace of its own), whose
lines the test rewrites as a name service would.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.wire.harness import Proxy
from tests.wire.stress_tools import QuickOrigin, loading, origin, read_status, serving, show, wait_until

NAME = "app.test"


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    """A file in the place of /etc/hosts."""
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 localhost\n")
    probe = subprocess.run(
        ["unshare", "--mount", "mount", "--bind", path, "/etc/hosts"], capture_output=True, check=False
    )
    if probe.returncode:
        pytest.skip(f"needs a mount namespace (root): {probe.stderr.decode().strip()}")
    return path


def confined_to(hosts: Path) -> Callable[..., Proxy]:
    """A proxy that sees this file as /etc/hosts."""

    class Confined(Proxy):
        def _make_command(self) -> list[str]:
            mount = f"mount --bind '{hosts}' /etc/hosts && exec '{sys.executable}' -m sillyproxy serve"
            return ["unshare", "--mount", "sh", "-c", mount]

    return Confined


def publish(hosts: Path, *servers: QuickOrigin) -> None:
    """Let the name have these servers' addresses."""
    # In place: a bind mount holds on to the file, not to its path.
    hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{server.host} {NAME}\n" for server in servers))


@contextlib.contextmanager
def replicas(count: int) -> Iterator[list[QuickOrigin]]:
    """Servers on addresses of their own, and one port."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(origin(host="127.0.1.1"))
        others = [
            stack.enter_context(origin(host=f"127.0.1.{n}", port=first.port)) for n in range(2, count + 1)
        ]
        yield [first, *others]


def _endpoints(proxy: Proxy) -> set[str]:
    (color,) = read_status(proxy)["colors"]
    return {endpoint["address"] for endpoint in color["endpoints"]}


def test_name_that_changes_under_load_fails_no_request(hosts: Path) -> None:
    """
    A service is scaled up, rolled over replica by replica, and scaled down, while clients keep
    asking: no request fails, every replica took part, and who has left holds no connection of ours.
    """
    with replicas(4) as servers:
        publish(hosts, servers[0])
        env = {
            "BLUE": f"http://{NAME}:{servers[0].port}",
            "SILLYPROXY_WORKERS": "2",
            "SILLYPROXY_DISCOVERY_INTERVAL": "200ms",
        }
        with serving(env, kind=confined_to(hosts)) as proxy, loading(proxy.port, 6) as load:
            for listed in (servers[:1], servers[:2], servers[1:3], servers[2:], servers[3:]):
                publish(hosts, *listed)
                expected = {server.address for server in listed}
                wait_until(lambda e=expected: _endpoints(proxy) == e, "the endpoints")  # type: ignore[misc]
                load.wait_answers(100)
            gone = servers[:3]
            wait_until(lambda: not any(server.opened for server in gone), "connections to end")
            before = [server.served for server in gone]
            load.wait_answers(200)
            assert [server.served for server in gone] == before
        show("replicas", **{server.host: server.served for server in servers})
        assert not load.failures
        assert set(load.statuses) == {200}
        assert min(server.served for server in servers) > 0


def test_name_that_cannot_be_found_any_more_keeps_its_endpoints(hosts: Path) -> None:
    """When a name is gone from one look-up to the next its last endpoints are used on, not thrown away."""
    with replicas(1) as (server,):
        publish(hosts, server)
        env = {"BLUE": f"http://{NAME}:{server.port}", "SILLYPROXY_DISCOVERY_INTERVAL": "100ms"}
        with serving(env, kind=confined_to(hosts)) as proxy, loading(proxy.port, 2) as load:
            load.wait_answers(50)
            publish(hosts)
            wait_until(lambda: read_status(proxy)["dns"]["problems"], "the problem to be seen")
            load.wait_answers(200)
        assert set(load.statuses) == {200}
        assert not load.failures
