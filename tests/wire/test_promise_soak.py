"""Promise: with churn in everything nothing is lost and nothing grows (a minute of bench/soak.py)."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from bench.soak import find_faults
from bench.soak_churn import ACTIONS

from tests.wire.running import HERE, make_environment
from tests.wire.stress_tools import show

# What came and went may leave caches that are fuller than before, but no more than this. MiB.
GROWTH_MIB = 12
# Kept connections to backends, and what a process needs for itself.
AT_REST_FDS = 150


@pytest.mark.slow
def test_a_minute_of_churn_loses_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """
    Configurations, backends, workers and clients come, go and die while bodies are checked to the byte:
    no request fails that could have been served, the books balance, and memory and descriptors are as before.
    """
    seed = random.randrange(1 << 30)
    out = tmp_path / "soak.json"
    run = subprocess.run(
        [sys.executable, "-m", "bench.soak", "--minutes", "1", "--seed", str(seed), "--out", str(out)],
        cwd=HERE.parents[1],
        env=make_environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert out.exists(), run.stdout[-5000:]
    results = json.loads(out.read_text())
    report, rest = results["report"], results["rest"]
    show("soak", seed=seed, requests=sum(report["requests"].values()), explained=str(report["explained"]))
    assert find_faults(results) == [], f"seed {seed}\n{run.stdout[-20000:]}"
    # The order is the seed's, and a slow machine does not come to all of them.
    assert len(report["actions"]) >= len(ACTIONS) // 2, report["actions"]
    assert report["requests"]["get"] > 1000
    resident = {one["what"]: one for one in report["growth"] if one["what"].startswith("MiB resident")}
    assert resident["MiB resident of worker 0"]["late"] > 1
    for what, one in resident.items():
        assert one["late"] - one["early"] < GROWTH_MIB, what
    for role, count in rest["fds"].items():
        assert count < AT_REST_FDS, role
