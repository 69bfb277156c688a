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
from pathlib import Path

from sillyproxy.tools.cgroups import folders, group, words


def available_cpus(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the number of CPUs to use: the affinity, or the quota rounded up if that is less; at least 1."""
    quotas = [*_quotas_v2(proc, cgroups), *_quotas_v1(proc, cgroups)]
    return max(1, min([len(os.sched_getaffinity(0)), *map(ceil, quotas)]))


def _quotas_v2(proc: Path, cgroups: Path) -> Iterator[float]:
    for folder in folders(cgroups, group(proc, "")):
        match words(folder / "cpu.max"):
            case [quota, period]:  # "max 100000" is no limit
                yield from _share(quota, period)


def _quotas_v1(proc: Path, cgroups: Path) -> Iterator[float]:
    for mount in ("cpu", "cpu,cpuacct", "cpuacct,cpu"):
        for folder in folders(cgroups / mount, group(proc, "cpu")):
            match words(folder / "cpu.cfs_quota_us"), words(folder / "cpu.cfs_period_us"):
                case [quota], [period]:  # -1 is no limit
                    yield from _share(quota, period)


def _share(quota: str, period: str) -> Iterator[float]:
    if quota.isdecimal() and period.isdecimal() and int(quota) > 0 and int(period) > 0:
        yield int(quota) / int(period)
