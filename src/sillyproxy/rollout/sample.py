"""
What happened in one second, and sums of it: over seconds, and over replicas of the proxy.

For the dashboard, which sums the seconds of one proxy, and for `sillyproxy top`, which also sums
proxies. Counts are added, never averaged, so a sum of sums is the same whatever its order. Gauges
(under way, waiting, the weight) have a present only: the newest one is it.

Durations are kept as counts by bucket of `metrics.layout`, and only of buckets that have any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sillyproxy.metrics.layout import BUCKETS

# The order of `codes`, as they are written in words.
CLASSES: Final = ("other", "1xx", "2xx", "3xx", "4xx", "5xx")
NO_CODES: Final = (0,) * len(CLASSES)


@dataclass(frozen=True, slots=True)
class ColorSample:
    """
    What happened to one color.

    `codes` are the exchanges that ended, by class of status code, in the order of CLASSES.
    `durations` are theirs, counted by bucket; `sum_ns` is the sum of them. `retries` were sent again
    to another endpoint, `fallbacks` are requests that another color had to take. `inflight` and
    `queued` are what is under way, and what waits for an endpoint with room. `weight` is None while
    the color is not configured; `share_asked` is its part of all weights.

    >>> ColorSample(codes=(0, 0, 98, 0, 0, 2)).errors
    2
    """

    codes: tuple[int, ...] = NO_CODES
    durations: Mapping[int, int] = field(default_factory=dict)
    sum_ns: int = 0
    retries: int = 0
    fallbacks: int = 0
    inflight: int = 0
    queued: int = 0
    weight: float | None = None
    share_asked: float = 0.0

    @property
    def requests(self) -> int:
        """The exchanges that ended."""
        return sum(self.codes)

    @property
    def errors(self) -> int:
        """Those that ended with a 5xx, the endpoint's or one of the proxy's own."""
        return self.codes[-1]

    @property
    def error_rate(self) -> float | None:
        """Errors by requests; None without requests."""
        return self.errors / self.requests if self.requests else None


@dataclass(frozen=True, slots=True)
class Sample:
    """
    What happened in about one second.

    `time` is its end, in seconds since 1970; `seconds` how long it really was. `uncolored` are the
    exchanges that ended before a color was chosen, by class of status code.
    """

    seq: int
    time: float
    colors: Mapping[str, ColorSample]
    seconds: float = 1.0
    uncolored: tuple[int, ...] = NO_CODES


class Window:
    """
    The sum of the samples that were added to it and not taken away again.

    A dashboard looks at the last 15 minutes each second; adding the newest sample and taking the
    oldest away costs two samples, summing all of them 900.

    >>> window = Window()
    >>> for seq in (1, 2, 3):
    ...     window.add(Sample(seq, float(seq), {"blue": ColorSample((0, 0, seq, 0, 0, 0), inflight=seq)}))
    >>> window.take_away(Sample(1, 1.0, {"blue": ColorSample((0, 0, 1, 0, 0, 0), inflight=1)}))
    >>> window.colors["blue"].requests, window.colors["blue"].inflight, window.seconds
    (5, 3, 2.0)
    """

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self.seconds = 0.0
        self._sums: dict[str, _Sum] = {}
        self._uncolored = [0] * len(CLASSES)
        for sample in samples:
            self.add(sample)

    @property
    def colors(self) -> dict[str, ColorSample]:
        """What happened to each color that is in one of the samples."""
        return {name: summed.shown() for name, summed in self._sums.items()}

    @property
    def uncolored(self) -> tuple[int, ...]:
        """The exchanges without a color, as in Sample."""
        return tuple(self._uncolored)

    def add(self, sample: Sample) -> None:
        """Add a sample that is newer than all in it."""
        self.seconds += sample.seconds
        self._uncolored = [a + b for a, b in zip(self._uncolored, sample.uncolored, strict=True)]
        for name, part in sample.colors.items():
            summed = self._sums.get(name)
            if summed is None:
                summed = self._sums[name] = _Sum()
            summed.add(part, 1)
            summed.newest = part

    def take_away(self, sample: Sample) -> None:
        """Take away a sample that was added. A color that is in no sample any more is gone."""
        self.seconds -= sample.seconds
        self._uncolored = [a - b for a, b in zip(self._uncolored, sample.uncolored, strict=True)]
        for name, part in sample.colors.items():
            summed = self._sums[name]
            summed.add(part, -1)
            if not summed.samples:
                del self._sums[name]


class _Sum:
    """The sum of a color's samples; its gauges are those of the newest."""

    __slots__ = ("codes", "durations", "fallbacks", "newest", "retries", "samples", "sum_ns")

    def __init__(self) -> None:
        self.samples = 0
        self.codes = [0] * len(CLASSES)
        self.durations: dict[int, int] = {}
        self.sum_ns = self.retries = self.fallbacks = 0
        self.newest = ColorSample()

    def add(self, part: ColorSample, sign: int) -> None:
        self.samples += sign
        self.codes = [a + sign * b for a, b in zip(self.codes, part.codes, strict=True)]
        self.sum_ns += sign * part.sum_ns
        self.retries += sign * part.retries
        self.fallbacks += sign * part.fallbacks
        durations = self.durations
        for bucket, count in part.durations.items():
            left = durations.get(bucket, 0) + sign * count
            if left:
                durations[bucket] = left
            else:
                durations.pop(bucket, None)

    def shown(self) -> ColorSample:
        newest = self.newest
        return ColorSample(
            codes=tuple(self.codes),
            durations=dict(self.durations),
            sum_ns=self.sum_ns,
            retries=self.retries,
            fallbacks=self.fallbacks,
            inflight=newest.inflight,
            queued=newest.queued,
            weight=newest.weight,
            share_asked=newest.share_asked,
        )


def beside(parts: Sequence[ColorSample]) -> ColorSample:
    """
    Return what happened to a color on several proxies together, in the same time.

    Counts and gauges are added. Weights are the mean of those that are configured: while a roll-out
    is under way not all proxies ask for the same.

    >>> both = beside([ColorSample(inflight=1, weight=4.0), ColorSample(inflight=2, weight=1.0)])
    >>> both.inflight, both.weight
    (3, 2.5)
    """
    summed = _Sum()
    for part in parts:
        summed.add(part, 1)
    weights = [part.weight for part in parts if part.weight is not None]
    summed.newest = ColorSample(
        inflight=sum(part.inflight for part in parts),
        queued=sum(part.queued for part in parts),
        weight=sum(weights) / len(weights) if weights else None,
        share_asked=sum(part.share_asked for part in parts) / len(parts) if parts else 0.0,
    )
    return summed.shown()


def sample_data(sample: Sample) -> dict[str, Any]:
    """Return a sample as plain data, for JSON."""
    return {
        "seq": sample.seq,
        "time": sample.time,
        "seconds": sample.seconds,
        "uncolored": list(sample.uncolored),
        "colors": {
            name: {
                "codes": list(part.codes),
                "durations": {str(bucket): count for bucket, count in part.durations.items()},
                "sum_ns": part.sum_ns,
                "retries": part.retries,
                "fallbacks": part.fallbacks,
                "inflight": part.inflight,
                "queued": part.queued,
                "weight": part.weight,
                "share_asked": part.share_asked,
            }
            for name, part in sample.colors.items()
        },
    }


def read_sample(data: Any) -> Sample:
    """
    Return the sample that plain data tell of: what `sample_data` made, maybe by a later version.

    Raises ValueError if they do not: they came over the network.

    >>> sample = Sample(7, 1.5, {"blue": ColorSample(durations={3: 1}, weight=4.0)})
    >>> read_sample(sample_data(sample)) == sample
    True
    >>> read_sample({"seq": 7})
    Traceback (most recent call last):
    ValueError: not a sample: 'time'
    """
    try:
        return Sample(
            seq=int(data["seq"]),
            time=float(data["time"]),
            seconds=float(data.get("seconds", 1.0)),
            uncolored=_read_codes(data.get("uncolored", NO_CODES)),
            colors={str(name): _read_color(part) for name, part in data["colors"].items()},
        )
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ValueError(f"not a sample: {error}") from None


def _read_color(data: Any) -> ColorSample:
    weight = data.get("weight")
    durations = {int(bucket): int(count) for bucket, count in data["durations"].items()}
    if not all(0 <= bucket < BUCKETS and count > 0 for bucket, count in durations.items()):
        raise ValueError("a bucket that there is not")
    return ColorSample(
        codes=_read_codes(data["codes"]),
        durations=durations,
        sum_ns=int(data["sum_ns"]),
        retries=int(data.get("retries", 0)),
        fallbacks=int(data.get("fallbacks", 0)),
        inflight=int(data.get("inflight", 0)),
        queued=int(data.get("queued", 0)),
        weight=None if weight is None else float(weight),
        share_asked=float(data.get("share_asked", 0.0)),
    )


def _read_codes(data: Any) -> tuple[int, ...]:
    codes = tuple(int(count) for count in data)
    if len(codes) != len(CLASSES):
        raise ValueError(f"{len(codes)} classes of status codes")
    return codes
