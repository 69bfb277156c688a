"""
A swarm of several nodes on one machine: for each a dockerd, in a network namespace of its own.

The namespaces hang on a bridge (in one more namespace, else the first dockerd's firewall rules
drop what passes between them), and VXLAN goes over it. Nothing else leads out: a look at a
registry fails at once. Names, folders, control groups and processes are ours alone, and
`sweep` removes them at the end, after a failure too, and before a start what a killed run left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.swarm import engine
from tests.swarm.engine import PREFIX, Unavailable, run, wait_until

# Not on tmpfs or overlay, where dockerd cannot keep layers; short, as a unix socket's path ends at 107.
FOLDER = Path("/var/lib") / PREFIX
BRIDGE = f"{PREFIX}-bridge"
CONTROL_GROUPS = Path("/sys/fs/cgroup")
NETWORK = "172.31.250"
RESOLVER = f"{NETWORK}.254"
# Knows no name, and says so. Docker's resolver asks the world for a service without a task; if nobody
# answers it, it does not answer either, and the look-up takes ten seconds.
RESOLVE = f"""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("{RESOLVER}", 53))
    while True:
        query, client = server.recvfrom(4096)
        server.sendto(query[:2] + bytes([0x81, 0x83]) + query[4:], client)
"""
OURS = ("dockerd", "containerd", "containerd-shim")  # as /proc shows them, at most 15 characters


class Node:
    """One node of the swarm; the first is its only manager."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = f"node{number}"
        self.address = f"{NETWORK}.{number}"
        self.folder = FOLDER / str(number)
        self.namespace = f"{PREFIX}-{number}"
        self._daemon: subprocess.Popen[bytes] | None = None

    def docker(self, *arguments: str, check: bool = True) -> str:
        """Run `docker ARGUMENTS` on this node."""
        return engine.docker("--host", f"unix://{self.folder}/sock", *arguments, check=check)

    def connect(self) -> None:
        """Make the namespace, and the cable to the bridge."""
        run("ip", "netns", "add", self.namespace)
        run(*f"ip -n {BRIDGE} link add {self.name} type veth peer name eth0 netns {self.namespace}".split())
        run(*f"ip -n {BRIDGE} link set {self.name} master br0 up".split())
        run(*f"ip -n {self.namespace} link set lo up".split())
        run(*f"ip -n {self.namespace} address add {self.address}/24 dev eth0".split())
        run(*f"ip -n {self.namespace} link set eth0 up".split())

    def start(self) -> None:
        """Start its dockerd; `wait` waits until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "pid").unlink(missing_ok=True)
        (self.folder / "daemon.json").write_text("{}")  # not the machine's own
        daemon = (
            f"dockerd --data-root {self.folder}/data --exec-root {self.folder}/exec "
            f"--pidfile {self.folder}/pid --config-file {self.folder}/daemon.json "
            f"--host unix://{self.folder}/sock --cgroup-parent /{PREFIX}-{self.number} "
            f"--exec-opt native.cgroupdriver=cgroupfs --dns {RESOLVER}"
        )
        # Not `ip netns exec`: it mounts another /sys, without the control groups.
        command = ["nsenter", f"--net=/run/netns/{self.namespace}", "unshare", "--uts", "sh", "-c"]
        with (self.folder / "log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [*command, f"hostname {self.name}; exec {daemon}"],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until it answers."""
        assert self._daemon

        def answers() -> bool:
            if self._daemon and self._daemon.poll() is not None:
                raise Unavailable(f"dockerd of {self.name} does not start: {self.log()[-2000:]}")
            return bool(self.docker("version", "--format", "{{.Server.Version}}", check=False))

        wait_until(answers, f"dockerd of {self.name}")

    def log(self) -> str:
        """Return what its dockerd said."""
        return (self.folder / "log").read_text(errors="replace")

    def cut_off(self) -> None:
        """Pull the cable: whatever is sent to it vanishes, nobody is told."""
        run(*f"ip -n {BRIDGE} link set {self.name} down".split())

    def kill(self) -> None:
        """End all of its processes at once, as a power cut does."""
        kill(self.folder)
        if self._daemon:
            self._daemon.wait()

    def revive(self) -> None:
        """Start it as it was left, and put the cable back in."""
        run(*f"ip -n {BRIDGE} link set {self.name} up".split())
        self.start()
        self.wait()

    def stop(self) -> None:
        """Stop its dockerd and with it its containers, in good order if it can."""
        if self._daemon and self._daemon.poll() is None:
            self._daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._daemon.wait(timeout=30)


@contextlib.contextmanager
def nodes(count: int, images: list[str]) -> Iterator[list[Node]]:
    """Have a swarm of so many nodes, each with these images of the machine's own engine."""
    if os.geteuid() != 0:
        raise Unavailable("only root can make network namespaces")
    for command in ("ip", "nsenter", "unshare", "dockerd"):
        if not shutil.which(command):
            raise Unavailable(f"there is no {command} to make nodes with")
    sweep()
    ours = [Node(number) for number in range(1, count + 1)]
    helpers: list[subprocess.Popen[bytes]] = []
    try:
        run("ip", "netns", "add", BRIDGE)
        run(*f"ip -n {BRIDGE} link add br0 type bridge".split())
        run(*f"ip -n {BRIDGE} link set br0 up".split())
        run(*f"ip -n {BRIDGE} address add {RESOLVER}/24 dev br0".split())
        resolver = [f"--net=/run/netns/{BRIDGE}", sys.executable, "-c", RESOLVE]
        helpers.append(subprocess.Popen(["nsenter", *resolver], stdin=subprocess.DEVNULL))
        for node in ours:
            node.connect()
            node.start()
        with tempfile.NamedTemporaryFile(dir=FOLDER, suffix=".tar") as file:
            engine.docker("save", "--output", file.name, *images)
            for node in ours:
                node.wait()
                node.docker("load", "--quiet", "--input", file.name)
        manager = ours[0]
        manager.docker("swarm", "init", "--advertise-addr", manager.address)
        token = manager.docker("swarm", "join-token", "--quiet", "worker")
        for node in ours[1:]:
            node.docker(
                *("swarm", "join", "--advertise-addr", node.address, "--token", token),
                f"{manager.address}:2377",
            )
        yield ours
    finally:
        for node in reversed(ours):
            node.stop()
        sweep()
        for helper in helpers:
            helper.wait()


def sweep() -> None:
    """Remove all that a run has made: processes, mounts, namespaces, control groups, files."""
    kill(FOLDER)
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in reversed([mount for mount in mounts if mount.startswith(f"{FOLDER}/")]):
        run("umount", "--lazy", mount, check=False)
    for line in run("ip", "netns", "list").splitlines():
        if line.startswith(f"{PREFIX}-"):
            name = line.split()[0]
            for process in run("ip", "netns", "pids", name, check=False).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
            run("ip", "netns", "delete", name)
    for group in [*CONTROL_GROUPS.glob(f"{PREFIX}-*"), *CONTROL_GROUPS.glob(f"*/{PREFIX}-*")]:
        for folder, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):  # an empty one is ours to remove, nobody else's is in here
                os.rmdir(folder)
    shutil.rmtree(FOLDER, ignore_errors=True)


def kill(folder: Path) -> None:
    """End the daemons that run in `folder` and all that they started, and wait for it."""
    deadline = time.monotonic() + 30
    while found := processes(folder):
        assert time.monotonic() < deadline, f"these do not end: {found}"
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.1)


def processes(folder: Path) -> list[int]:
    """Return the daemons that have `folder` in their command line, and their descendants."""
    children: dict[int, list[int]] = {}
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it has ended
            name, state, parent, *_ = stat(entry)
            if state == "Z":
                continue  # its parent, which may be we, has yet to hear of it
            children.setdefault(int(parent), []).append(int(entry.name))
            if name in OURS and f"{folder}/".encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    for process in found:  # grows as it goes
        found += [child for child in children.get(process, ()) if child not in found]
    return found


def stat(process: Path) -> list[str]:
    """Return a process's name, state, parent and so on."""
    before, _, after = (process / "stat").read_text().rpartition(")")
    return [before.partition("(")[2], *after.split()]
