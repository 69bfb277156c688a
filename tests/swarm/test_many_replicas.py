"""More replicas than fit in one datagram of DNS: all of them are found, and get their share."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.swarm.conftest import Images
from tests.swarm.engine import (
    NETWORK,
    PREFIX,
    clean,
    containers,
    create_service,
    docker,
    read_load,
    wait_until,
)

pytestmark = [pytest.mark.swarm, pytest.mark.slow]

REPLICAS = 40  # a record for each is more than the 512 bytes that plain DNS allows, and than EDNS's 1,232
QUICKLY = ("--stop-signal", "SIGKILL")
STATUS = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9080/api/status').read().decode())"


@pytest.fixture
def network() -> Iterator[str]:
    """The network of the test; what runs on it is removed afterwards."""
    docker("network", "create", "--driver", "overlay", NETWORK)
    yield NETWORK
    clean()


def endpoints_known() -> int:
    """Return how many endpoints the proxy has for blue, as its status tells."""
    proxy = containers(f"{PREFIX}-proxy", "--filter", "health=healthy")
    if not proxy:
        return 0
    colors = json.loads(docker("exec", proxy[0], "python", "-c", STATUS))["colors"]
    return len(colors[0]["endpoints"])


def test_forty_replicas_are_found_and_serve(images: Images, network: str) -> None:
    """
    The proxy knows all of 40 replicas, and each answers.

    Their service's name is long, so that the answer is: Docker's resolver repeats it in each record.
    """
    name = "blue-in-a-stack-of-long-names"
    # No health check: forty probes a second are of no use here.
    create_service(name, images.myapp, "--detach", "--no-healthcheck", "--replicas", str(REPLICAS), *QUICKLY)
    create_service("proxy", images.proxy, "--detach", "--env", f"BLUE=http://{PREFIX}-{name}:8080")
    wait_until(lambda: endpoints_known() == REPLICAS, f"{REPLICAS} endpoints")
    create_service("load", images.load, "--stop-signal", "SIGKILL", after=("tasks.proxy", "8080"))
    replicas: set[str] = set()
    failures: list[object] = []

    def all_seen() -> bool:
        report = read_load()
        failures.extend(report["failures"])
        for colors in report["seen"].values():
            replicas.update(colors["blue"])
        return len(replicas) >= REPLICAS

    wait_until(all_seen, f"answers of {REPLICAS} replicas")

    assert len(replicas) == REPLICAS
    assert failures == []
