"""
The walkthrough's steps with clients that speak TLS and HTTP/2 to the proxies, under constant load.

The certificate is a secret of the Swarm, the backends are those of the walkthrough, and no request fails.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.swarm.conftest import TABLE, Images
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
from tests.swarm.test_walkthrough import LOAD, PROXY, V1, V2, Story, update
from tests.wire.certificates import make_authority, make_certificate

pytestmark = [pytest.mark.swarm, pytest.mark.slow]

STEPS = ["blue", "scale", "canary", "all green", "rollback", "scale in"]


@contextlib.contextmanager
def secrets(directory: Path) -> Iterator[tuple[str, str]]:
    """Put a certificate and its key into the Swarm."""
    make_certificate(make_authority(directory), directory, "edge", "DNS:proxy")
    names = (f"{PREFIX}-edge-pem", f"{PREFIX}-edge-key")
    for name, file in zip(names, ("edge.pem", "edge.key"), strict=True):
        docker("secret", "rm", name, check=False)
        docker("secret", "create", name, str(directory / file))
    yield names
    for name in names:
        docker("secret", "rm", name, check=False)


@pytest.fixture(scope="module")
def story(
    images: Images, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    story = Story()
    with secrets(tmp_path_factory.mktemp("keys")) as (cert, key):
        try:
            play(story, images, cert, key)
        finally:
            request.config.stash.setdefault(TABLE, []).extend(story.table())
            clean()
        yield story


def play(story: Story, images: Images, cert: str, key: str) -> None:
    publish = ("--publish", "mode=host,target=8080")
    safely = (
        "--update-order start-first --rollback-order start-first --update-failure-action rollback "
        f"--stop-grace-period 20s --secret {cert} --secret {key} --env BLUE=http://myapp-v1:8080 "
        f"--env SILLYPROXY_TLS_LISTEN=:8443 --env SILLYPROXY_TLS_CERT=/run/secrets/{cert} "
        f"--env SILLYPROXY_TLS_KEY=/run/secrets/{key}"
    )
    docker("network", "create", "--driver", "overlay", NETWORK)
    create_service("myapp-v1", images.myapp, *publish)
    create_service("proxy", images.proxy, *publish, *safely.split())
    create_service("load", images.load, "--stop-signal", "SIGKILL", after=("tasks.proxy", "8443", "h2"))
    wait_until(lambda: containers(LOAD) and read_load()["requests"], "the first request")
    with story.step("blue", myapp_v1=1, proxy=1):
        pass
    with story.step("scale", reach={"blue": 4}, myapp_v1=4, proxy=2):
        docker("service", "scale", f"{V1}=4", f"{PROXY}=2")
    create_service("myapp-v2", images.myapp, *publish, "--env", "V2=1")
    with story.step("canary", reach={"blue": 4, "green": 1}, proxy=2, myapp_v2=1):
        update("--env-add GREEN=http://myapp-v2:8080/ --env-add GREEN_WEIGHT=1 --env-add BLUE_WEIGHT=4")
    docker("service", "scale", f"{V2}=4")
    with story.step("all green", reach={"green": 4}, proxy=2, myapp_v2=4):
        update("--env-rm GREEN_WEIGHT --env-rm BLUE_WEIGHT --env-rm BLUE")
    with story.step("rollback", reach={"blue": 4}, proxy=2):
        update("--env-rm GREEN --env-add BLUE=http://myapp-v1:8080")
    with story.step("scale in", myapp_v1=2, proxy=1):
        docker("service", "scale", f"{V1}=2", f"{PROXY}=1")


@pytest.mark.parametrize("name", STEPS)
def test_no_request_fails(story: Story, name: str) -> None:
    step = story.steps[name]
    assert step.during.failures + step.settled.failures == []
    assert step.settled.requests >= 600


def test_the_canary_gets_its_fifth(story: Story) -> None:
    colors = story.steps["canary"].settled.by_color()
    assert colors["green"] / colors.total() == pytest.approx(0.2, abs=0.03)
