"""stack.yaml and compose.yaml, deployed as they stand; only images and the port are ours."""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Iterator

import pytest

from tests.swarm.conftest import Images, missing
from tests.swarm.engine import (
    PREFIX,
    clean,
    containers,
    create_service,
    curl,
    docker,
    read_load,
    run,
    wait_until,
)

pytestmark = [pytest.mark.swarm, pytest.mark.slow]


@pytest.fixture
def environment(images: Images) -> Iterator[dict[str, str]]:
    """What a user may set for both files; what was deployed is removed afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    yield {"SILLYPROXY_IMAGE": images.proxy, "MYAPP_IMAGE": images.myapp, "PORT": str(port)}
    clean()


def kinds_seen(requests: int) -> dict[str, int]:
    """Let the load client ask; return what answered how often. No request may fail."""
    kinds: dict[str, int] = {}
    failures: list[object] = []

    def enough() -> bool:
        report = read_load()
        failures.extend(report["failures"])
        for kind, number in report["kinds"].items():
            kinds[kind] = kinds.get(kind, 0) + number
        return sum(kinds.values()) >= requests

    wait_until(enough, f"{requests} answers")
    assert failures == []
    return kinds


def proxies_of(color: str) -> list[bool]:
    """Return, for each proxy that answered since the last report, whether it sent anyone to a color."""
    return [color in colors for colors in read_load()["seen"].values()]


def test_the_stack_file_serves_both_colors(images: Images, environment: dict[str, str]) -> None:
    """
    `docker stack deploy -c stack.yaml` brings up two proxies, four blues and a green that share 4 to 1.
    """
    docker("stack", "deploy", "--resolve-image", "never", "-c", "stack.yaml", PREFIX, environment=environment)
    for service, replicas in (("proxy", 2), ("myapp-v1", 4), ("myapp-v2", 1)):
        name = f"{PREFIX}_{service}"
        wait_until(lambda: len(containers(name)) == replicas, f"{replicas} of {name}")  # noqa: B023
    create_service(
        "load",
        images.load,
        "--stop-signal",
        "SIGKILL",
        network=f"{PREFIX}_backend",
        after=("tasks.proxy", "8080"),
    )
    # Healthy tasks are in the DNS a moment later, and known to the proxies a second after that.
    wait_until(lambda: len(green := proxies_of("green")) == 2 and all(green), "green through both proxies")

    kinds = kinds_seen(600)

    assert set(kinds) == {"blue plain", "green html"}
    assert kinds["green html"] / sum(kinds.values()) == pytest.approx(0.2, abs=0.02)


@pytest.fixture
def compose(environment: dict[str, str]) -> Iterator[list[str]]:
    """The command: the engine's plugin, or the older program of its own."""
    plugin = docker("compose", "version", check=False)
    if not plugin and not shutil.which("docker-compose"):
        missing("neither docker compose nor docker-compose is installed")
    command = [*(["docker", "compose"] if plugin else ["docker-compose"]), "-p", PREFIX]
    yield command
    run(*command, "down", environment=environment)


def test_the_compose_file_shifts_weights(compose: list[str], environment: dict[str, str]) -> None:
    """
    `docker compose up` serves blue and green on one machine; BLUE_WEIGHT=0 sends everyone to green.
    """

    def kinds(number: int) -> set[str]:
        with contextlib.suppress(OSError):  # refused, or reset, until it listens
            return {curl(environment["PORT"])[0] for _ in range(number)}
        return set()

    run(*compose, "up", "-d", "--no-build", environment=environment)
    wait_until(lambda: kinds(20) == {"text/plain", "text/html"}, "both colors")

    run(*compose, "up", "-d", "--no-build", environment=environment | {"BLUE_WEIGHT": "0"})
    wait_until(lambda: kinds(20) == {"text/html"}, "green alone")
