"""
Memory at full size: `python -m bench.memory`.

Runs the memory promises (tests/wire/test_promise_memory.py) with bodies of 1 GiB, and prints
what they measure: an idle worker, 5,000 idle connections, downloads and uploads whose other
side is slow.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SIZES = {"WIRE_BODY_MIB": "1024", "WIRE_IDLE": "5000"}


def main() -> int:
    """Run them; return 0 if all promises are kept."""
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-s",
            "-q",
            "-p",
            "no:randomly",
            "tests/wire/test_promise_memory.py",
        ],
        cwd=ROOT,
        env=SIZES | os.environ,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    figures = [line for line in run.stdout.splitlines() if line.startswith("[")]
    print("\n".join(figures) if run.returncode == 0 else run.stdout)
    return run.returncode


if __name__ == "__main__":
    sys.exit(main())
