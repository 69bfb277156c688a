"""
Differences as a person would say them.

Two digits are enough to decide by, and more would look surer than they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

Limits = tuple[float | None, float | None]
Sureness = Literal["not chance", "hardly chance", "could be chance"]

_MINUTES: Final = 100_000.0  # ms, from which seconds are said without a fraction


def sureness(interval: Limits, surely: Limits) -> Sureness:
    """
    Return whether a difference can be chance, by its 95 % and its 99.9 % interval.

    >>> sureness((1.0, 9.0), (-2.0, 12.0))
    'hardly chance'
    """
    if not may_be_zero(surely):
        return "not chance"
    return "could be chance" if may_be_zero(interval) else "hardly chance"


def may_be_zero(interval: Limits) -> bool:
    """Tell whether there may be no difference. A limit that is not known excludes nothing."""
    low, high = interval
    return (low is None or low <= 0) and (high is None or high >= 0)


def duration(ms: float) -> str:
    """
    Return a duration, whatever its sign.

    >>> [duration(ms) for ms in (0.0, 0.034, 0.5, 1.96, 9.99, 12.3, 480.4, 1234.0, -65000.0)]
    ['0 ms', '0.03 ms', '0.5 ms', '2 ms', '10 ms', '12 ms', '480 ms', '1.2 s', '65 s']
    """
    ms = abs(ms)
    if ms >= 999.5:
        return f"{ms / 1000:.0f} s" if ms >= 9950 else f"{_short(ms / 1000, 1)} s"
    if ms >= 9.95:
        return f"{ms:.0f} ms"
    return f"{_short(ms, 1 if ms >= 0.95 else 2)} ms"


def share(part: float) -> str:
    """
    Return a share in percent.

    >>> [share(part) for part in (0.0, 0.0004, 0.02, 0.0999, 0.123, 1.0)]
    ['0.0 %', '0.04 %', '2.0 %', '10 %', '12 %', '100 %']
    """
    return f"{_points(part)} %"


def too_few(few: Sequence[tuple[str, int]], measure: str = "") -> str:
    """
    Return of whom there are too few requests to tell.

    >>> too_few([("green", 12)]), too_few([("green", 120)], "p99")
    ('too few requests of green to tell: 12', 'too few requests of green to tell p99: 120')
    >>> too_few([("green", 12), ("blue", 7)])
    'too few requests to tell: 12 of green, 7 of blue'
    """
    tell = f"to tell {measure}" if measure else "to tell"
    if len(few) == 1:
        [(name, requests)] = few
        return f"too few requests of {name} {tell}: {requests}"
    return f"too few requests {tell}: " + ", ".join(f"{requests} of {name}" for name, requests in few)


def short_errors(difference: float) -> str:
    """
    Return a difference of error rates in a few words.

    >>> short_errors(0.02)
    'fails 2.0 points more'
    """
    return f"fails {_points(abs(difference))} points {'more' if difference > 0 else 'less'}"


def short_quantile(measure: str, difference: float) -> str:
    """
    Return a difference of percentiles in a few words.

    >>> short_quantile("p95", -12.0)
    '12 ms faster at p95'
    """
    return f"{duration(difference)} {'slower' if difference > 0 else 'faster'} at {measure}"


def errors(
    rates: tuple[tuple[str, float], tuple[str, float]], interval: tuple[float, float], sure: Sureness
) -> str:
    """
    Return a difference of error rates that matters: candidate, then baseline.

    >>> errors((("green", 0.02), ("blue", 0.0)), (0.012, 0.031), "not chance")
    'green fails 2.0 % of requests, blue 0.0 %: 1.2 to 3.1 points more; not chance'
    >>> errors((("green", 0.02), ("blue", 0.0)), (-0.001, 0.05), "could be chance")
    'green fails 2.0 % of requests, blue 0.0 %; could be chance'
    """
    said = _both(rates)
    if sure == "could be chance":
        return f"{said}; {sure}"
    low, high = sorted(abs(limit) for limit in interval)
    way = "more" if interval[0] > 0 else "less"
    return f"{said}: {_points(low)} to {_points(high)} points {way}; {sure}"


def errors_alike(
    rates: tuple[tuple[str, float], tuple[str, float]], interval: tuple[float, float], *, certain: bool
) -> str:
    """
    Return that error rates do not differ by anything that matters; if not `certain`, what is still possible.

    >>> errors_alike((("green", 0.001), ("blue", 0.001)), (-0.002, 0.002), certain=True)
    'green fails as often as blue: 0.1 % of requests'
    >>> errors_alike((("green", 0.0), ("blue", 0.0)), (-0.006, 0.031), certain=False)
    'green fails 0.0 % of requests, blue 0.0 %; up to 3.1 points more is possible'
    """
    (candidate, c), (baseline, b) = rates
    if not certain:
        return f"{_both(rates)}; up to {_points(max(interval[1], 0.0))} points more is possible"
    if share(c) == share(b):
        return f"{candidate} fails as often as {baseline}: {share(c)} of requests"
    return f"{_both(rates)}; no difference that matters"


def quantile(candidate: str, measure: str, difference: float, interval: Limits, sure: Sureness) -> str:
    """
    Return a difference of percentiles that matters.

    >>> quantile("green", "p95", 12.0, (8.1, 16.0), "not chance")
    'green is 12 ms slower at p95 (8.1 to 16 ms); not chance'
    >>> quantile("green", "p99", 900.0, (80.0, None), "not chance")
    'green is 900 ms slower at p99 (at least 80 ms); not chance'
    """
    said = f"{candidate} is {short_quantile(measure, difference)}"
    if sure == "could be chance":
        return f"{said}; {sure}"
    near, far = interval if difference > 0 else interval[::-1]
    return f"{said} ({_from_to(near or 0.0, far)}); {sure}"


def quantile_alike(
    names: tuple[str, str],
    measure: str,
    difference: float,
    interval: Limits,
    *,
    certain: bool,
    differs: bool,
) -> str:
    """
    Return that percentiles do not differ by anything that matters: candidate, then baseline.

    `certain`: there is no room for more; `differs`: that there is some difference is no chance.

    >>> quantile_alike(("green", "blue"), "p50", 0.1, (-0.2, 0.4), certain=True, differs=False)
    'green is as fast as blue at p50'
    >>> quantile_alike(("green", "blue"), "p50", 0.4, (0.3, 0.5), certain=True, differs=True)
    'green is 0.4 ms slower at p50; too little to matter'
    >>> quantile_alike(("green", "blue"), "p95", 0.4, (-3.0, 12.0), certain=False, differs=False)
    'green seems as fast as blue at p95; 3 ms faster to 12 ms slower is possible'
    """
    candidate, baseline = names
    if certain and differs:
        return f"{candidate} is {short_quantile(measure, difference)}; too little to matter"
    if certain:
        return f"{candidate} is as fast as {baseline} at {measure}"
    low, high = (_way(limit) for limit in interval)
    return f"{candidate} seems as fast as {baseline} at {measure}; {low} to {high} is possible"


def worse_or_better(
    candidate: str,
    baseline: str,
    verdict: Literal["worse", "better"],
    found: Sequence[str],
    but: Sequence[str],
) -> str:
    """
    Return that a color is worse, or better, by what was found, and what speaks for the contrary.

    >>> worse_or_better("green", "blue", "worse", ["12 ms slower at p95"], ["fails 1.0 points less"])
    'green is worse than blue: 12 ms slower at p95; but fails 1.0 points less'
    """
    said = f"{candidate} is {verdict} than {baseline}: {', '.join(found)}"
    return f"{said}; but {', '.join(but)}" if but else said


def maybe(candidate: str, baseline: str, suspect: str, sure: Sureness) -> str:
    """
    Return what may be a difference for the worse.

    >>> maybe("green", "blue", "12 ms slower at p95", "could be chance")
    'green may be worse than blue: 12 ms slower at p95; could be chance'
    """
    return f"{candidate} may be worse than {baseline}: {suspect}; {sure}"


def open_still(candidate: str, baseline: str, better: Sequence[str]) -> str:
    """
    Return that nothing speaks against a color, but that it is too early to say that it is as good.

    >>> open_still("green", "blue", [])
    'green seems no worse than blue; more requests will tell'
    """
    said = f"{candidate} seems no worse than {baseline}"
    return f"{said}: {', '.join(better)}" if better else f"{said}; more requests will tell"


def same(candidate: str, baseline: str) -> str:
    """Return that a color is as good as another."""
    return f"{candidate} is as good as {baseline}"


def _both(rates: tuple[tuple[str, float], tuple[str, float]]) -> str:
    (candidate, c), (baseline, b) = rates
    return f"{candidate} fails {share(c)} of requests, {baseline} {share(b)}"


def _points(part: float) -> str:
    points = 100 * part
    if points >= 9.95:
        return f"{points:.0f}"
    return f"{points:.2f}" if 0 < points < 0.095 else f"{points:.1f}"


def _from_to(near: float, far: float | None) -> str:
    if far is None:
        return f"at least {duration(near)}"
    first, last = duration(near), duration(far)
    if first == last:
        return f"about {last}"
    if first[-2:] == last[-2:]:
        first = first.rsplit(" ", 1)[0]
    return f"{first} to {last}"


def _way(limit: float | None) -> str:
    if limit is None:
        return "any difference"
    return f"{duration(limit)} {'slower' if limit > 0 else 'faster'}"


def _short(number: float, digits: int) -> str:
    """Return a number without zeros at its end."""
    text = f"{number:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
