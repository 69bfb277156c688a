"""A board whose counts and clock a test moves."""

from __future__ import annotations

from sillyproxy.admin.board import Board, WorkerView
from sillyproxy.admin.history import History
from sillyproxy.config import load
from sillyproxy.metrics.layout import DURATIONS_AT, MAX_WORKERS, Row, Worker, bucket_of
from sillyproxy.metrics.slab import BLOCK_BYTES, Counts, block_of

ENVIRON = {"BLUE": "http://a", "BLUE_WEIGHT": "4", "GREEN": "http://b", "SILLYPROXY_WORKERS": "2"}


class Proxy:
    """A board, two workers that count, and a history by a clock of its own."""

    def __init__(self, **settings: str) -> None:
        self.settings = ENVIRON | settings
        self.now = 1000.0
        config, _ = load(self.settings, cpus=2)
        memory = memoryview(bytearray(MAX_WORKERS * BLOCK_BYTES))
        self.board = Board(config, memory, 900.0)
        self.counts = [Counts(block_of(memory, index), 8) for index in range(2)]
        self.history = self.make_history("first")

    def make_history(self, epoch: str) -> History:
        return History(self.board, epoch=epoch, clock=lambda: self.now, monotonic=lambda: self.now)

    def reload(self, **settings: str) -> None:
        """Put another generation in force."""
        self.settings |= settings
        before = self.board.config
        self.board.config, _ = load(
            self.settings, cpus=2, generation=before.generation + 1, slots=before.slots
        )

    def meet_workers(self) -> None:
        """Have both workers say hello."""
        for index, counts in enumerate(self.counts):
            counts.worker[Worker.PID] = 100 + index
            counts.publish()
            self.board.workers[index] = WorkerView(100 + index, 1)

    def serve(self, color: str, count: int, ms: float = 3.0, *, failed: int = 0, worker: int = 0) -> None:
        """Count exchanges of a color, of which some failed."""
        counts, slot = self.counts[worker], dict(self.board.slots())[color]
        row = counts.rows[slot]
        row[Row.C2XX] += count - failed
        row[Row.C5XX] += failed
        row[DURATIONS_AT + bucket_of(int(ms * 1e6))] += count
        row[Row.DURATION_NS] += int(count * ms * 1e6)
        counts.worker[Worker.ACCEPTED] += count
        counts.publish()

    def tick(self, seconds: float = 1.0) -> None:
        """Let a second pass."""
        self.now += seconds
        self.history.tick()
