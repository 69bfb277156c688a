"""Debian's `prometheus`, which brings `promtool`: what the files for it are judged by."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy" / "prometheus"
RULES = DEPLOY / "sillyproxy-alerts.yml"


def find_program(name: str) -> str:
    """Return where a program of the package is. Without it a test is skipped; in CI it fails."""
    if program := shutil.which(name):
        return program
    reason = f"needs {name} (Debian: apt install prometheus)"
    if os.environ.get("CI"):
        pytest.fail(f"in CI: {reason}")
    pytest.skip(reason)


def promtool(*arguments: str | Path) -> str:
    """Run promtool; fail with what it says unless it is content. Return what it says."""
    done = subprocess.run(
        [find_program("promtool"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
