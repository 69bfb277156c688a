"""
How many CPUs this process may use.

`os.cpu_count()` is the machine's; a container on it may be pinned to some of them
(affinity) or be given a quota of their time (cgroup, `docker run --cpus`). More workers
than that take turns being throttled, and a throttled worker is a slow request.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path, PurePosixPath


def available_cpus(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the number of CPUs to use: the affinity, or the quota rounded up if that is less; at least 1."""
    quotas = [*_quotas_v2(proc, cgroups), *_quotas_v1(proc, cgroups)]
    return max(1, min([len(os.sched_getaffinity(0)), *map(ceil, quotas)]))


def _quotas_v2(proc: Path, cgroups: Path) -> Iterator[float]:
    for folder in _folders(cgroups, _group(proc, "")):
        match _words(folder / "cpu.max"):
            case [quota, period]:  # "max 100000" is no limit
                yield from _share(quota, period)


def _quotas_v1(proc: Path, cgroups: Path) -> Iterator[float]:
    for mount in ("cpu", "cpu,cpuacct", "cpuacct,cpu"):
        for folder in _folders(cgroups / mount, _group(proc, "cpu")):
            match _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us"):
                case [quota], [period]:  # -1 is no limit
                    yield from _share(quota, period)


def _share(quota: str, period: str) -> Iterator[float]:
    if quota.isdecimal() and period.isdecimal() and int(quota) > 0 and int(period) > 0:
        yield int(quota) / int(period)


def _group(proc: Path, controller: str) -> PurePosixPath:
    """Return our place in the hierarchy of a controller (cgroup v2: of no controller in particular)."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except (OSError, ValueError):
        lines = []
    for line in lines:
        match line.split(":", 2):
            case [_, controllers, path] if controller in controllers.split(","):
                return PurePosixPath(path.lstrip("/"))
    return PurePosixPath()


def _folders(mount: Path, group: PurePosixPath) -> Iterator[Path]:
    """
    Yield our cgroup and those above it: the tightest limit on the way counts.

    In a container the path may be the host's, which is not mounted here; then only the
    mount itself exists, and it is our own cgroup.
    """
    if ".." not in group.parts:  # outside of our cgroup namespace
        yield from (mount / folder for folder in (group, *group.parents) if folder.parts)
    yield mount


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except (OSError, ValueError):
        return []
