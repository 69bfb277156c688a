"""How many CPUs this process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sillyproxy.tools import cpus


@pytest.fixture(autouse=True)
def _eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def count(root: Path, group: str, files: dict[str, str]) -> int:
    """Count the CPUs of a made-up machine."""
    for name, text in {"proc/self/cgroup": group, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return cpus.available_cpus(root / "proc", root / "cgroup")


def test_affinity_counts_where_there_is_no_quota(tmp_path: Path) -> None:
    """
    Without cgroups the CPUs are those that the process is pinned to.
    """
    assert cpus.available_cpus(tmp_path / "proc", tmp_path / "cgroup") == 8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("50000 100000\n", 1),
        ("1600000 100000\n", 8),
        ("nonsense\n", 8),
        ("0 0\n", 8),
        ("", 8),
    ],
)
def test_quota_of_a_container_is_rounded_up(tmp_path: Path, text: str, expected: int) -> None:
    """
    `docker run --cpus 1.5` is two workers, never more than the affinity and never none (cgroup v2).
    """
    assert count(tmp_path, "0::/\n", {"cgroup/cpu.max": text}) == expected


def test_tightest_quota_on_the_way_counts(tmp_path: Path) -> None:
    """
    A limit on a slice above ours binds us as well.
    """
    files = {
        "cgroup/a.slice/cpu.max": "100000 50000",
        "cgroup/a.slice/b.scope/cpu.max": "max 100000",
        "cgroup/cpu.max": "300000 100000",
    }

    assert count(tmp_path, "0::/a.slice/b.scope\n", files) == 2


def test_group_that_is_not_mounted_falls_back_to_the_mount(tmp_path: Path) -> None:
    """
    In a container the path may be the host's; then the mount itself is our cgroup.
    """
    assert count(tmp_path, "0::/docker/abc\n", {"cgroup/cpu.max": "300000 100000"}) == 3


def test_group_outside_of_the_namespace_is_not_climbed_to(tmp_path: Path) -> None:
    """
    A path that leaves our namespace is not followed out of the mount.
    """
    assert count(tmp_path, "0::/../x\n", {"x/cpu.max": "100000 100000"}) == 8


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("300000", 3)])
def test_quota_of_cgroup_v1(tmp_path: Path, mount: str, quota: str, expected: int) -> None:
    """
    An older host's quota counts as well; -1 is none.
    """
    files = {
        f"cgroup/{mount}/me/cpu.cfs_quota_us": quota,
        f"cgroup/{mount}/me/cpu.cfs_period_us": "100000",
    }

    assert count(tmp_path, "12:memory:/no\n4:cpu,cpuacct:/me\n1:name=systemd:/x\n0::/y\n", files) == expected
