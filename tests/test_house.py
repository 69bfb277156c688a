"""The floors of the house: imports only go down, and the pure floors do not touch the world."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "sillyproxy"

# What is on which floor: a package, or a module of the top. A module imports from floors below
# its own and from its own package.
FLOORS = (
    ("", "errors"),
    ("http1", "config", "metrics"),
    ("http2",),
    ("traffic", "rollout"),
    ("tools",),
    ("setup",),  # what the processes hand to each other
    ("proxy", "health", "discovery", "admin", "sources", "tracing"),
    ("worker", "controller", "supervisor"),
    ("serve", "cli", "demo", "top", "__main__"),
)
PURE = ("errors", "http1", "http2", "config", "metrics", "traffic", "rollout")
# Besides those: what is in the memory of every worker.
LEAN = ("setup", "proxy", "sources", "worker", "supervisor")

# Rooms that stand beside each other although one needs the other, and why.
NEIGHBORS = {
    ("serve", "worker"),  # a process that starts the others knows them all
    ("cli", "serve"),
    ("cli", "demo"),
    ("cli", "top"),
    ("__main__", "serve"),
    ("__main__", "cli"),
}

# Modules through which a program sees or changes the world: sockets, clocks, chance, files, logs.
WORLD = frozenset(
    {
        *("socket", "select", "selectors", "ssl", "asyncio", "threading", "multiprocessing", "subprocess"),
        *("time", "datetime", "random", "secrets", "uuid", "os", "pathlib", "io", "tempfile", "shutil"),
        *("logging", "sys", "signal", "mmap", "fcntl"),
    }
)

FLOOR_OF = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(SOURCE.rglob("*.py"))


def room_of(module: str) -> str:
    """Return the package or top module that a module of ours is in; empty for `sillyproxy` itself."""
    return ".".join(module.split(".")[1:2])


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: import by the full name"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = (SOURCE.parent / inner.replace(".", "/")).with_suffix(".py").exists() or (
                    SOURCE.parent / inner.replace(".", "/") / "__init__.py"
                ).exists()
                yield inner if is_module else str(node.module)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_has_a_floor(path: Path) -> None:
    """Every module is in a room that the house has."""
    assert room_of(name_of(path)) in FLOOR_OF


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down(path: Path) -> None:
    """A module imports from the floors below its own and from its own room, not from beside or above."""
    room = room_of(name_of(path))
    wrong = [
        module
        for module in imports_of(path)
        if module.split(".")[0] == "sillyproxy"
        and room_of(module) != room
        and FLOOR_OF[room_of(module)] >= FLOOR_OF[room]
        and (room, room_of(module)) not in NEIGHBORS
    ]
    assert not wrong


@pytest.mark.parametrize("path", [path for path in MODULES if room_of(name_of(path)) in PURE], ids=name_of)
def test_pure_floors_touch_nothing_of_the_world(path: Path) -> None:
    """Rules and decisions have no socket, clock, chance, log, file or environment."""
    assert not {module.split(".")[0] for module in imports_of(path)} & WORLD


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if room_of(name_of(path)) in (*PURE, *LEAN)],
    ids=name_of,
)
def test_data_plane_is_standard_library_only(path: Path) -> None:
    """What is in the memory of a worker imports the standard library and us."""
    # One thing a standard library has not: HPACK, which is imported when somebody speaks HTTP/2.
    known = {"sillyproxy", *(("jh2",) if name_of(path) == "sillyproxy.http2.hpack" else ())}
    outside = {module.split(".")[0] for module in imports_of(path)} - known
    assert outside <= set(sys.stdlib_module_names)
