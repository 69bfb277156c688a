"""
What the benchmark asks of the machine: processes, their CPU time and memory, free ports, versions.

CPU time comes from the kernel's clock of each process, in nanoseconds and with the threads
that have ended. How it divides into user and system is known from `/proc/PID/stat` alone,
which samples at each tick: right over seconds, rough over milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import platform
import random
import socket
import time
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Cpu:
    """CPU time in microseconds, spent by one process or by several."""

    total_us: float = 0.0
    user_us: float = 0.0
    system_us: float = 0.0

    def __add__(self, other: Cpu) -> Cpu:
        return Cpu(
            self.total_us + other.total_us, self.user_us + other.user_us, self.system_us + other.system_us
        )


def divide_cpu(total_us: float, user_ticks: int, system_ticks: int) -> Cpu:
    """
    Divide a time as the ticks divide; all of it counts as user time if no tick was seen.

    >>> divide_cpu(90.0, 1, 2)
    Cpu(total_us=90.0, user_us=30.0, system_us=60.0)
    """
    ticks = user_ticks + system_ticks
    user_us = total_us * user_ticks / ticks if ticks else total_us
    return Cpu(total_us, user_us, total_us - user_us)


@dataclass(frozen=True)
class Clock:
    """What a process has used since it began: exact nanoseconds, and ticks that tell user from system."""

    total_ns: int
    user_ticks: int
    system_ticks: int


def read_stat(text: str) -> tuple[int, int, int]:
    """
    Read the parent, the user ticks and the system ticks out of `/proc/PID/stat`.

    The second field is the program's name in brackets, and may hold spaces and brackets itself.

    >>> read_stat("7 (a) b) S 1 7 7 0 -1 4194560 9 0 0 0 150 250 0 0 20")
    (1, 150, 250)
    """
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[1]), int(fields[11]), int(fields[12])


def read_tree(root: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = read_stat(Path(entry.path, "stat").read_text())[0]
                children.setdefault(parent, []).append(int(entry.name))
    tree = [root]
    for pid in tree:  # grows while it is walked
        tree.extend(children.get(pid, []))
    return tree


def read_clocks(root: int) -> dict[int, Clock]:
    """The clocks of the process and all its descendants."""
    clocks = {}
    for pid in read_tree(root):
        with contextlib.suppress(OSError):
            _, user, system = read_stat(Path(f"/proc/{pid}/stat").read_text())
            # clock_getcpuclockid(3) in one line: the CPU clock of another process, all its threads.
            clocks[pid] = Clock(time.clock_gettime_ns((~pid << 3) | 2), user, system)
    return clocks


def subtract_clocks(before: dict[int, Clock], after: dict[int, Clock]) -> dict[int, Cpu]:
    """
    What each process spent in between. One that is new counts from its birth.

    ProcessLookupError if one has ended: what it spent since is not known, so the sample is worth nothing.
    """
    if gone := before.keys() - after.keys():
        raise ProcessLookupError(f"{len(gone)} process(es) of the subject ended while it was measured")
    spent = {}
    for pid, now in after.items():
        then = before.get(pid, Clock(0, 0, 0))
        spent[pid] = divide_cpu(
            (now.total_ns - then.total_ns) / 1000,
            now.user_ticks - then.user_ticks,
            now.system_ticks - then.system_ticks,
        )
    return spent


def read_rss_bytes(root: int) -> int:
    """Resident memory of the process and all its descendants."""
    total = 0
    for pid in read_tree(root):
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    return total


def read_busy_us(cpus: set[int]) -> float:
    """How long these CPUs have been busy since boot, with whatever; to see who else was at work."""
    total = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name != "cpu" and int(name[3:]) in cpus:
            user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, fields)
            total += user + nice + system + irq + softirq + steal
    return total * 1e6 / TICKS_PER_S


def share_cpus(available: set[int], workers: int) -> tuple[set[int], set[int]]:
    """
    CPUs for the subject and CPUs for load and origin.

    They are apart where there is one left for the load; else both use all of them.

    >>> share_cpus({0, 1}, 1), share_cpus({0, 1}, 2)
    (({1}, {0}), ({0, 1}, {0, 1}))
    """
    ordered = sorted(available, reverse=True)
    if len(ordered) <= workers:
        return set(ordered), set(ordered)
    return set(ordered[:workers]), set(ordered[workers:])


def find_port() -> int:
    """
    A free port below the range of outgoing connections.

    One that bind(0) gives may be taken by a connection of the load before the subject binds it.
    """
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(min(20000, low - 4000), low)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def describe(cpus: int) -> dict[str, str | int]:
    """The machine, as a reader of the results wants to know it."""
    model = "unknown CPU"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = " ".join(line.partition(":")[2].split())
                break
    system = "Linux"
    with contextlib.suppress(OSError):
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return {
        "cpu": model,
        "cpus": cpus,
        "memory_mib": os.sysconf("SC_PHYS_PAGES") * PAGE_BYTES // 2**20,
        "kernel": platform.release().partition("-")[0],
        "system": system,
        "python": platform.python_version(),
    }
