"""
Promise: before memory runs out nobody new is let in, who is there is served, and the operator is told.

The whole of sillyproxy, with files of ours in the place of the container's cgroup (a mount
namespace of its own, which needs root).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.wire.harness import Client, Proxy
from tests.wire.stress_tools import (
    ask_once,
    origin,
    read_counters,
    read_metrics,
    read_status,
    request,
    serving,
    wait_until,
    wait_workers,
)

LIMIT = 1_000_000
CROWD = 100


@pytest.fixture
def cgroup(tmp_path: Path) -> Path:
    """A folder in the place of /sys/fs/cgroup."""
    probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    if probe.returncode or os.geteuid():
        reason = "needs a mount namespace (root)"
        pytest.fail(f"in CI: {reason}") if os.environ.get("CI") else pytest.skip(reason)
    path = tmp_path / "cgroup"
    path.mkdir()
    (path / "memory.max").write_text(f"{LIMIT}\n")
    (path / "memory.stat").write_text("inactive_file 100000\n")
    use(path, 500_000)
    return path


def use(cgroup: Path, used: int) -> None:
    """Let so many bytes be in use, besides 100,000 that can be taken back."""
    (cgroup / "memory.current").write_text(f"{used + 100_000}\n")


def limited_by(cgroup: Path) -> Callable[..., Proxy]:
    """A proxy that sees this folder as its cgroup."""

    class Confined(Proxy):
        def _make_command(self) -> list[str]:
            mount = f"mount --bind '{cgroup}' /sys/fs/cgroup && exec '{sys.executable}' -m sillyproxy serve"
            return ["unshare", "--mount", "sh", "-c", mount]

    return Confined


def test_memory_that_runs_out_lets_nobody_new_in(cgroup: Path) -> None:
    """
    Above 90 % of the container's memory, with a hundred clients, new ones get a quick 503 while those that
    are there are served; below 85 % everybody is let in again. Log, status and metrics tell.
    """
    with origin() as blue, ExitStack() as stack:
        env = {"BLUE": blue.url, "SILLYPROXY_WORKERS": "2"}
        with serving(env, kind=limited_by(cgroup)) as proxy:
            wait_workers(proxy, 2)
            wait_until(
                lambda: (
                    read_status(proxy)["memory"]
                    == {"used_bytes": 500_000, "limit_bytes": LIMIT, "shedding": False}
                ),
                "the memory to be shown",
            )
            crowd = [stack.enter_context(closing(Client(proxy.port))) for _ in range(CROWD)]
            inside = crowd[0]
            inside.send(request())
            assert inside.read_reply().status == 200
            use(cgroup, 910_000)
            wait_until(lambda: read_status(proxy)["memory"]["shedding"], "the pressure to be seen")
            wait_until(lambda: ask_once(proxy.port, request()).status == 503, "a new client to be refused")
            assert {ask_once(proxy.port, request()).status for _ in range(20)} == {503}
            inside.send(request())
            assert inside.read_reply().status == 200
            metrics = read_metrics(proxy)
            assert metrics["sillyproxy_shedding"] == 1
            assert metrics["sillyproxy_memory_used_bytes"] == 910_000
            assert metrics["sillyproxy_memory_limit_bytes"] == LIMIT
            wait_until(lambda: read_counters(proxy)["shed"] >= 21, "the count")
            use(cgroup, 870_000)
            wait_until(lambda: read_status(proxy)["memory"]["used_bytes"] == 870_000, "the next look")
            assert ask_once(proxy.port, request()).status == 503
            use(cgroup, 840_000)
            wait_until(lambda: ask_once(proxy.port, request()).status == 200, "new clients to be let in")
            log = proxy.read_log()
            assert log.count("memory runs out") == 1
            assert log.count("memory is free again") == 1


def test_tight_limit_shuts_nobody_out(cgroup: Path) -> None:
    """A proxy whose memory is nearly full for good, with few clients, serves."""
    use(cgroup, 950_000)
    with origin() as blue, serving({"BLUE": blue.url}, kind=limited_by(cgroup)) as proxy:
        wait_until(lambda: "memory runs out" in proxy.read_log(), "the warning")
        assert {ask_once(proxy.port, request()).status for _ in range(50)} == {200}
        assert not read_status(proxy)["memory"]["shedding"]
