"""How near the memory of a container is to its limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from sillyproxy.tools.memory import Usage, is_pressing, read_usage


def read(root: Path, group: str, files: dict[str, str]) -> Usage | None:
    """Read the memory of a made-up machine."""
    for name, text in {"proc/self/cgroup": group, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_usage(root / "proc", root / "cgroup")


def test_container_of_cgroup_v2(tmp_path: Path) -> None:
    """In a container the use is the working set: file pages that nobody used lately do not count."""
    files = {
        "cgroup/memory.max": "1000\n",
        "cgroup/memory.current": "800\n",
        "cgroup/memory.stat": "anon 500\nfile 300\ninactive_file 200\nactive_file 100\n",
    }
    assert read(tmp_path, "0::/\n", files) == Usage(600, 1000)


def test_container_of_cgroup_v1(tmp_path: Path) -> None:
    """The older cgroups say the same in other files."""
    files = {
        "cgroup/memory/memory.limit_in_bytes": "1000\n",
        "cgroup/memory/memory.usage_in_bytes": "800\n",
        "cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 200\n",
    }
    assert read(tmp_path, "4:memory:/docker/abc\n", files) == Usage(600, 1000)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"cgroup/memory.max": "max\n", "cgroup/memory.current": "800\n"},
        {"cgroup/memory.max": "1000\n"},
        {"cgroup/memory.max": "0\n", "cgroup/memory.current": "800\n"},
        {"cgroup/memory.max": "nonsense\n", "cgroup/memory.current": "\n"},
        {
            "cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "cgroup/memory/memory.usage_in_bytes": "800\n",
        },
    ],
)
def test_no_limit_is_no_pressure(tmp_path: Path, files: dict[str, str]) -> None:
    """Without a limit, or where it cannot be read, there is nothing to be near to."""
    assert read(tmp_path, "0::/\n", files) is None


def test_tightest_limit_on_the_way_counts(tmp_path: Path) -> None:
    """A limit above our own cgroup kills as well: the one that is nearest counts."""
    files = {
        "cgroup/a/b/memory.max": "1000\n",
        "cgroup/a/b/memory.current": "100\n",
        "cgroup/a/memory.max": "2000\n",
        "cgroup/a/memory.current": "1900\n",
    }
    assert read(tmp_path, "0::/a/b\n", files) == Usage(1900, 2000)


def test_unreadable_statistics_count_as_used(tmp_path: Path) -> None:
    """Where nobody can say what could be taken back, all of it counts."""
    files = {"cgroup/memory.max": "1000\n", "cgroup/memory.current": "800\n"}
    assert read(tmp_path, "0::/\n", files) == Usage(800, 1000)


def test_pressure_has_two_edges() -> None:
    """New connections are refused above 90 % and let in again below 85 %, not in and out in between."""
    shares = [80, 90, 91, 90, 86, 85, 84, 89, 95]
    seen, was = [], False
    for share in shares:
        was = is_pressing(Usage(share, 100), was)
        seen.append(was)
    assert seen == [False, False, True, True, True, False, False, False, True]
