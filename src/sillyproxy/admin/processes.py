"""What each of the proxy's processes uses, and how long events wait in each worker."""

from __future__ import annotations

import os
import time
from typing import Final

from sillyproxy.admin.board import Board
from sillyproxy.metrics.layout import Worker
from sillyproxy.tools.procfs import Figures, read_figures

# A worker's figure is of its last 5 to 10 s; what it published before has nothing to do with now.
_LAG_S: Final = 10.0


def read_processes(board: Board) -> dict[str, Figures]:
    """Return what `supervisor`, `controller` and each `worker-N` use; nothing of those that are gone."""
    pids = {"supervisor": os.getppid(), "controller": os.getpid()}
    pids |= {f"worker-{index}": worker.pid for index, worker in sorted(board.workers.items())}
    usages = ((name, read_figures(pid)) for name, pid in pids.items())
    return {name: usage for name, usage in usages if usage is not None}


def read_loop_lags(board: Board) -> dict[int, float]:
    """
    Return for each worker the longest that an event had to wait in the last 5 to 10 s; seconds.

    A worker that has had nothing to do since keeps nobody waiting. Neither, by this figure, does
    one that hangs: after 10 s the supervisor replaces it.
    """
    now_ns = time.monotonic_ns()
    lags = {}
    for index in sorted(board.workers):
        block = board.block(index)
        is_fresh = now_ns - block[Worker.PUBLISHED_NS] < _LAG_S * 1e9
        lags[index] = block[Worker.LOOP_LAG_NS] / 1e9 if is_fresh else 0.0
    return lags
