"""Where the limits of our container are written: the files of its cgroup, version 1 or 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def group(proc: Path, controller: str) -> PurePosixPath:
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


def folders(mount: Path, group: PurePosixPath) -> Iterator[Path]:
    """
    Yield our cgroup and those above it: the tightest limit on the way counts.

    In a container the path may be the host's, which is not mounted here; then only the
    mount itself exists, and it is our own cgroup.
    """
    if ".." not in group.parts:  # outside of our cgroup namespace
        yield from (mount / folder for folder in (group, *group.parents) if folder.parts)
    yield mount


def words(path: Path) -> list[str]:
    """Return what a file says; nothing if there is none."""
    try:
        return path.read_text().split()
    except (OSError, ValueError):
        return []
