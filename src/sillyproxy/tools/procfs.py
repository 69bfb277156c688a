"""What the kernel knows of a process: its memory, its open files, its CPU time."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Final, NamedTuple

_PAGE_BYTES: Final = resource.getpagesize()
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Figures(NamedTuple):
    """
    One process, as it is now.

    `memory_bytes` is what it holds in memory, what it shares with others included; `max_files` is
    None if there is no limit.
    """

    memory_bytes: int
    cpu_s: float
    open_files: int
    max_files: int | None


def read_figures(pid: int, proc: Path = Path("/proc")) -> Figures | None:
    """Return the figures of a process; None if it is gone, or is not ours to look at."""
    folder = proc / str(pid)
    try:
        resident = int((folder / "statm").read_text().split()[1])
        # The name of the program, in parentheses, may hold anything; what counts is behind it.
        times = (folder / "stat").read_text().rpartition(")")[2].split()
        cpu_s = (int(times[11]) + int(times[12])) / _TICKS
        limits = (folder / "limits").read_text()
        files = _count_files(folder / "fd")
    except (OSError, ValueError, IndexError):
        return None
    return Figures(resident * _PAGE_BYTES, cpu_s, files, _soft_limit(limits))


def _count_files(folder: Path) -> int:
    # Since Linux 6.2 the size of the folder is the number; before, it is 0, and a worker with ten
    # thousand clients is a long list.
    return folder.stat().st_size or len(os.listdir(folder))


def _soft_limit(limits: str) -> int | None:
    for line in limits.splitlines():
        if line.startswith("Max open files"):
            soft = line.split()[3]
            return int(soft) if soft.isdecimal() else None
    return None
