"""
A Docker engine with Swarm, asked through its command line.

Everything made here has a name that begins with PREFIX, and `clean` removes exactly that: an
engine with other people's services on it is left as it was. Engine and swarm are started if
there is none, and only then stopped. Base images are kept: they are what takes the time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
PREFIX = "sillyproxy-test"
NETWORK = f"{PREFIX}-backend"
BASE = f"{PREFIX}-base"
SUITE = "trixie"  # Debian 13, whose Python is 3.13
PATIENCE_S = 180.0

T = TypeVar("T")
Docker = Callable[..., str]  # runs `docker ARGUMENTS` on one engine or another


class Unavailable(Exception):
    """No Docker engine here; the argument is the reason."""


def run(*command: str, check: bool = True, environment: Mapping[str, str] = {}) -> str:
    """Run a command and return what it printed; the error tells what went wrong."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=900, env={**os.environ, **environment}, cwd=ROOT
    )
    if check and done.returncode:
        raise RuntimeError(
            f"{shlex.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout.strip()


def docker(*arguments: str, check: bool = True, environment: Mapping[str, str] = {}) -> str:
    """Run `docker ARGUMENTS`."""
    return run("docker", *arguments, check=check, environment=environment)


def wait_until(condition: Callable[[], T], what: str) -> T:
    """Ask until the answer is true; return it."""
    deadline = time.monotonic() + PATIENCE_S
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s for {what}"
        time.sleep(0.25)
    return answer


@contextlib.contextmanager
def engine() -> Iterator[None]:
    """Have an engine that answers: the machine's, or one that lives as long as this context."""
    if not shutil.which("docker"):
        raise Unavailable("there is no docker command")
    if docker("version", "--format", "{{.Server.Version}}", check=False):
        yield
        return
    if os.geteuid() != 0:
        raise Unavailable("no Docker engine answers, and only root can start one")
    if not shutil.which("dockerd"):
        raise Unavailable("no Docker engine answers, and there is no dockerd to start")
    with tempfile.TemporaryFile() as log:
        daemon = subprocess.Popen(["dockerd"], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 60
            while not docker("version", "--format", "{{.Server.Version}}", check=False):
                if daemon.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise Unavailable(
                        f"dockerd does not start: {log.read()[-2000:].decode(errors='replace')}"
                    )
                time.sleep(0.5)
            yield
        finally:
            daemon.terminate()
            daemon.wait(timeout=60)


@contextlib.contextmanager
def swarm() -> Iterator[None]:
    """Have this engine manage a swarm, left at the end if it was made for us."""
    state = docker("info", "--format", "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}").split()
    if state[0] == "inactive":
        docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    elif state != ["active", "true"]:
        raise Unavailable("the engine is in a swarm that it does not manage")
    try:
        clean()
        yield
    finally:
        clean()
        if state[0] == "inactive":
            docker("swarm", "leave", "--force")


def clean() -> None:
    """Remove what an earlier or this run has made, but the images."""
    for kind in ("service", "network"):
        for name in docker(kind, "ls", "--filter", f"name={PREFIX}", "--format", "{{.Name}}").split():
            wait_until(lambda: remove(kind, name), f"{kind} {name} to go away")  # noqa: B023 - called at once


def remove(kind: str, name: str) -> bool:
    """Remove one; False while it is busy, as a network is until the last container on it has ended."""
    docker(kind, "rm", name, check=False)
    return docker(kind, "inspect", name, check=False) in ("", "[]")


def make_base() -> str:
    """
    Return an image to build on, made from Debian packages: no registry has to be in reach.

    It carries wheels of what the project depends on, and pip is told to look there alone, so
    that a build needs no network. Set SWARM_TEST_BASE to build on another image instead.
    """
    if given := os.environ.get("SWARM_TEST_BASE"):
        return given
    debian = f"{BASE}:{SUITE}"
    if not has_image(debian):
        if not shutil.which("mmdebstrap"):
            raise Unavailable("there is no mmdebstrap to make a base image with; or set SWARM_TEST_BASE")
        # Debian marks its Python as not to be touched by pip; in an image nobody minds.
        script = f"""
            mmdebstrap --quiet --variant=minbase \
                --include=python3,python3-venv,python3-pip,python-is-python3 \
                --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
                --dpkgopt='path-exclude=/usr/share/locale/*' \
                --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' \
                {SUITE} - | docker import --change 'CMD ["python3"]' - {debian}
        """
        run("bash", "-euo", "pipefail", "-c", script)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["top"],
        *project["build-system"]["requires"],
    ]
    tag = f"{BASE}:{hashlib.sha256(repr([SUITE, *wanted]).encode()).hexdigest()[:12]}"
    if not has_image(tag):
        version = docker(
            "run", "--rm", debian, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"
        )
        with tempfile.TemporaryDirectory() as folder:
            # In the machine's own environment: it knows where its package index is.
            pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
            run(*pip, f"--python-version={version}", "--only-binary=:all:", "-d", f"{folder}/wheels", *wanted)
            Path(folder, "Dockerfile").write_text(
                f"FROM {debian}\nCOPY wheels /wheels\nENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels\n"
            )
            docker("build", "-q", "-t", tag, folder)
    return tag


def has_image(tag: str) -> bool:
    """Is there such an image?"""
    return bool(docker("image", "ls", "-q", tag))


def build(name: str, base: str, folder: str) -> str:
    """Build an image from one of our Dockerfiles, as anyone would; return its tag."""
    tag = f"{PREFIX}-{name}"
    docker("build", "-q", "--build-arg", f"BASE={base}", "-t", tag, folder)
    return tag


def create_service(
    name: str,
    image: str,
    *options: str,
    network: str = NETWORK,
    after: tuple[str, ...] = (),
    through: Docker = docker,
) -> None:
    """
    Run `docker service create OPTIONS IMAGE AFTER`, on a network where it goes by its bare name.

    A kernel without IPVS carries nothing to a virtual IP, nor through the ingress mesh. Hence
    dnsrr, and ports that are published by the host.
    """
    through(
        *("service", "create", "--quiet", "--name", f"{PREFIX}-{name}", "--no-resolve-image"),
        *("--network", f"name={network},alias={name}", "--endpoint-mode", "dnsrr"),
        *options,
        image,
        *after,
    )


def containers(service: str, *options: str, through: Docker = docker) -> list[str]:
    """Return the ids of the containers that run for a service, starting and stopping ones among them."""
    return through("ps", "-q", "--filter", f"label=com.docker.swarm.service.name={service}", *options).split()


def published(container: str) -> str:
    """Return the port of this machine that leads to a container's 8080."""
    return docker("port", container, "8080/tcp").splitlines()[0].rpartition(":")[2]


def curl(port: str) -> tuple[str, str]:
    """Ask on a port of this machine: content type, answer."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as response:
        return response.headers.get_content_type(), response.read().decode()


def read_load(through: Docker = docker) -> dict[str, Any]:
    """Return what the load client counted since this was last asked."""
    load = containers(f"{PREFIX}-load", through=through)[0]
    report = through("exec", load, "python", "/client.py", "report")
    values: dict[str, Any] = json.loads(report)
    return values
