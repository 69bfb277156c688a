"""
How near the memory of this container is to its limit.

What counts is the working set, as `docker stats` and Kubernetes show it: all that the
cgroup is charged for, without file pages that nobody used lately, which the kernel takes
back before it kills anybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from sillyproxy.tools.cgroups import folders, group, words

# Nobody new is let in above the first share of the limit, until the use is below the second again.
HIGH: Final = 0.90
LOW: Final = 0.85

# cgroup v1 writes "no limit" as the largest number of pages.
_NO_LIMIT: Final = 1 << 60


class Usage(NamedTuple):
    """A working set and its limit; bytes."""

    used: int
    limit: int

    @property
    def share(self) -> float:
        """The part of the limit that is used."""
        return self.used / self.limit


def is_pressing(usage: Usage | None, was: bool) -> bool:
    """
    Tell whether memory runs out; `was`: it did when somebody looked last.

    >>> is_pressing(Usage(88, 100), was=False), is_pressing(Usage(88, 100), was=True), is_pressing(None, True)
    (False, True, False)
    """
    return usage is not None and usage.share > (LOW if was else HIGH)


def read_usage(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Usage | None:
    """Return the use of the tightest limit that we are under; None if there is none."""
    usages = [*_usages_v2(proc, cgroups), *_usages_v1(proc, cgroups)]
    return max(usages, key=lambda usage: usage.share, default=None)


def _usages_v2(proc: Path, cgroups: Path) -> Iterator[Usage]:
    for folder in folders(cgroups, group(proc, "")):
        yield from _usage(folder, "memory.max", "memory.current", "inactive_file")


def _usages_v1(proc: Path, cgroups: Path) -> Iterator[Usage]:
    for folder in folders(cgroups / "memory", group(proc, "memory")):
        yield from _usage(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _usage(folder: Path, limit_file: str, used_file: str, inactive: str) -> Iterator[Usage]:
    match words(folder / limit_file), words(folder / used_file):
        case [limit], [used] if limit.isdecimal() and used.isdecimal() and 0 < int(limit) < _NO_LIMIT:
            yield Usage(max(0, int(used) - _count(folder / "memory.stat", inactive)), int(limit))


def _count(path: Path, name: str) -> int:
    """Return a number of a file of names and numbers; 0 if it is not there."""
    found = words(path)
    numbers = dict(zip(found[::2], found[1::2], strict=False))
    return int(number) if (number := numbers.get(name, "0")).isdecimal() else 0
