"""
The last quarter of an hour, second by second.

A second is kept as the JSON text in which `/api/samples` shows it: a few hundred bytes for each
color that was busy, where numbers in dictionaries would take ten times that. What is asked of many
seconds together is summed as they come and go, and only while somebody asks.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from sillyproxy.admin.board import Board
from sillyproxy.admin.meter import Meter, Reading
from sillyproxy.rollout.figures import WINDOWS, point_data
from sillyproxy.rollout.sample import ColorSample, Sample, Window, read_sample, sample_data

KEPT: Final = max(WINDOWS)  # seconds
# Who comes new to the dashboard is shown this many seconds as lines.
POINTS: Final = 300
# A sum that nobody has asked for in so many seconds is given up.
UNUSED_AFTER: Final = 60


@dataclass(slots=True)
class _Second:
    seq: int
    text: str
    point: str = ""

    def sample(self) -> Sample:
        return read_sample(json.loads(self.text))


@dataclass(slots=True)
class _Sum:
    window: Window
    asked: int  # the seq at which somebody asked last


class History:
    """
    What happened, by the counts of this board.

    `seq` is the number of the newest sample, 0 before the first, and `time` its time; `epoch` tells
    this history from that of another controller. `readings` are of the newest sample, by slot.
    """

    def __init__(
        self,
        board: Board,
        *,
        epoch: str,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._board = board
        self._clock = clock
        self._monotonic = monotonic
        self.epoch = epoch
        self.seq = 0
        self.time = round(clock(), 3)
        self._kept: deque[_Second] = deque(maxlen=KEPT)
        self._sums: dict[int, _Sum] = {}
        self._meter = Meter()
        # What was counted before us is nothing of the next second.
        self.readings = self._read()
        self._at = monotonic()

    @property
    def length(self) -> int:
        """How many samples there are."""
        return len(self._kept)

    def tick(self) -> None:
        """Take the sample of the second that is over."""
        now = self._monotonic()
        self.readings = self._read()
        self.seq += 1
        self.time = round(self._clock(), 3)
        sample = Sample(
            seq=self.seq,
            time=self.time,
            colors=dict(self._colors()),
            seconds=round(now - self._at, 3),
            uncolored=tuple(self.readings[0].codes),
        )
        self._at = now
        for seconds, summed in list(self._sums.items()):
            if self.seq - summed.asked > UNUSED_AFTER:
                del self._sums[seconds]
                continue
            if len(self._kept) >= seconds:
                summed.window.take_away(self._kept[-seconds].sample())
            summed.window.add(sample)
        self._kept.append(_Second(self.seq, dump(sample_data(sample))))

    def window(self, seconds: int) -> Window:
        """Return the sum of the last `seconds` samples, KEPT at most."""
        summed = self._sums.get(seconds)
        if summed is None:
            kept = list(self._kept)[-seconds:]
            summed = self._sums[seconds] = _Sum(Window(second.sample() for second in kept), self.seq)
        summed.asked = self.seq
        return summed.window

    def samples(self, since: int) -> str:
        """Return the samples that are newer than `since`, as a JSON list."""
        return f"[{','.join(second.text for second in self._after(since))}]"

    def points(self, since: int) -> str:
        """Return the points newer than `since`, at most the last POINTS, as a JSON list."""
        seconds = list(self._after(max(since, self.seq - POINTS)))
        return f"[{','.join(map(self._point, seconds))}]"

    def point(self) -> str:
        """Return the newest point as JSON; `null` if there is none."""
        return self._point(self._kept[-1]) if self._kept else "null"

    def _after(self, since: int) -> Iterator[_Second]:
        count = min(max(0, self.seq - since), len(self._kept))
        return (self._kept[place] for place in range(len(self._kept) - count, len(self._kept)))

    def _point(self, second: _Second) -> str:
        second.point = second.point or dump(point_data(second.sample()))
        return second.point

    def _read(self) -> list[Reading]:
        return self._meter.read(self._board.blocks(), 1 + len(self._board.config.slots))

    def _colors(self) -> Iterator[tuple[str, ColorSample]]:
        """Yield what happened to each color that is configured, or that is not any more and still busy."""
        present = {color.name: color.weight for color in self._board.config.colors}
        weights = sum(present.values())
        for name, slot in self._board.slots():
            reading, weight = self.readings[slot], present.get(name)
            if weight is None and not (any(reading.codes) or reading.inflight):
                continue
            yield name, _sample_of(reading, weight, (weight or 0.0) / weights if weights else 0.0)


def _sample_of(reading: Reading, weight: float | None, share: float) -> ColorSample:
    return ColorSample(
        codes=tuple(reading.codes),
        durations=reading.durations,
        sum_ns=reading.sum_ns,
        retries=reading.retries,
        fallbacks=reading.fallbacks,
        inflight=reading.inflight,
        queued=reading.queued,
        weight=weight,
        share_asked=share,
    )


def dump(data: Any) -> str:
    """Return plain data as JSON, as short as it goes."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
