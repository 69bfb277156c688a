"""
A slow network to one replica: it lives in a network namespace of its own, behind a wire that delays.

The wire is a veth pair with `tc … netem delay` on the replica's end. Not every kernel has netem (those of
small virtual machines often have not); there the wire is two TUN devices and a process that carries IP
packets between them, the replica's ones late. Either way it is packets that are late, so that
opening a connection takes as long as an answer does. Needs root.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.process import BrokenError, Process

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


class MissingWireError(Exception):
    """No such wire can be made here; the message says why."""


@dataclass(frozen=True)
class Wire:
    """
    A wire that stands: `namespace` is where the replica is to be started, `far` its address there.

    `tool` tells what delays, `device` is our end.
    """

    tool: str
    namespace: str
    device: str
    near: str
    far: str
    delay_file: Path

    def set_delay(self, seconds: float) -> None:
        """Have each packet of the replica arrive this much later; 0 is a good wire again."""
        if self.tool == "TUN":
            self.delay_file.write_text(f"{seconds}\n")
        elif seconds:
            _far(
                self,
                f"tc qdisc replace dev {self.device}f root netem delay {seconds * 1000:.0f}ms limit 10000",
            )
        else:
            _far(self, f"tc qdisc del dev {self.device}f root")


def _run(command: str) -> None:
    done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingWireError(f"{command}: {done.stderr.strip() or done.stdout.strip()}")


def _far(wire: Wire, command: str) -> None:
    _run(f"ip netns exec {wire.namespace} {command}")


def _has_netem(device: str) -> bool:
    try:
        _run(f"tc qdisc add dev {device} root netem delay 1ms")
    except MissingWireError:
        return False
    _run(f"tc qdisc del dev {device} root")
    return True


@contextmanager
def lay_wire(directory: Path, cpus: set[int]) -> Iterator[Wire]:
    """Make namespace and wire; MissingWireError if this machine cannot."""
    for tool in ("ip", "tc"):
        if shutil.which(tool) is None:
            raise MissingWireError(f"{tool} is not installed; on Debian: apt-get install iproute2")
    if os.geteuid() != 0:
        raise MissingWireError("a slow network needs root: network namespaces and netem")
    # Two runs at a time do not take each other's names and addresses.
    number = os.getpid()
    device = namespace = f"slow{number}"
    near, far = (f"10.{200 + number % 50}.{number // 50 % 256}.{end}" for end in (1, 2))
    delay_file = directory / "delay"
    delay_file.write_text("0\n")
    _run(f"ip netns add {namespace}")
    try:
        _run(f"ip link add {device} type veth peer name {device}f")
        if _has_netem(device):
            wire = Wire("tc netem", namespace, device, near, far, delay_file)
            _run(f"ip link set {device}f netns {namespace}")
            _address(wire)
            yield wire
            return
        _run(f"ip link del {device}")
        wire = Wire("TUN", namespace, device, near, far, delay_file)
        command = [sys.executable, "-m", "bench.faults_wire", device, namespace, str(delay_file)]
        with Process(command, cpus, directory / "wire.out") as process:
            _wait_device(process)
            _address(wire)
            yield wire
    finally:
        with contextlib.suppress(MissingWireError):
            _run(f"ip link del {device}")
        with contextlib.suppress(MissingWireError):
            _run(f"ip netns del {namespace}")


def _address(wire: Wire) -> None:
    _run(f"ip address add {wire.near} peer {wire.far} dev {wire.device}")
    _run(f"ip link set {wire.device} up")
    _far(wire, f"ip address add {wire.far} peer {wire.near} dev {wire.device}f")
    _far(wire, f"ip link set {wire.device}f up")
    _far(wire, "ip link set lo up")


def _wait_device(process: Process) -> None:
    deadline = time.monotonic() + 5
    while "ready" not in process.log.read_text():
        if time.monotonic() > deadline:
            raise BrokenError(f"no wire: {process.last_words()}")
        time.sleep(0.02)


# The process between two TUN devices.


def _open_tun(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return fd


def carry(device: str, namespace: str, delay_file: Path) -> None:
    """Carry packets for ever; those from the far end later, as the file says (read every 50 ms)."""
    here, there = _open_tun(device), _open_tun(f"{device}f")
    _run(f"ip link set {device}f netns {namespace}")
    print("ready", flush=True)
    late: deque[tuple[float, bytes]] = deque()
    delay_s, looked_at = 0.0, 0.0
    while True:
        now = time.monotonic()
        if now - looked_at > 0.05:
            looked_at = now
            with contextlib.suppress(ValueError):  # it is being written
                delay_s = float(delay_file.read_text())
        wait_s = min(0.05, max(0.0, late[0][0] - now)) if late else 0.05
        for fd in select.select([here, there], [], [], wait_s)[0]:
            packet = os.read(fd, 65536)
            if fd == there:
                # in order, also when the delay has just become shorter
                due = time.monotonic() + delay_s
                late.append((max(due, late[-1][0]) if late else due, packet))
            else:
                with contextlib.suppress(OSError):
                    os.write(there, packet)
        while late and late[0][0] <= time.monotonic():
            with contextlib.suppress(OSError):  # a full queue loses a packet, as networks do
                os.write(here, late.popleft()[1])


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        carry(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    except KeyboardInterrupt:
        sys.exit(0)
