"""
Is the candidate as good as the baseline? With its uncertainty, and in words.

Two questions are asked of a difference. Can it be chance? It cannot while the interval that
encloses the true difference 999 times in 1000 is on one side of zero. (Not 19 times in 20: whoever
looks every second, at four measures, would be told of a difference that is none every minute.)
And does it matter? A tenth of a millisecond can be as certain as one likes.

"The same" is a finding too, and not the absence of one: it is said when the 95 % interval leaves no
room for a difference that anybody would stop a rollout for. Until then it is said how large a
difference is still possible.

Intervals of a difference of error rates are Newcombe's ("Interval estimation for the difference
between independent proportions", 1998, method 10), which hold at no error in a few requests, where
the textbook's have no width. Those of a difference of percentiles are made in the same way (MOVER:
Zou and Donner, 2008) of the intervals of the two. Both take requests to be independent; a burst of
failures is less evidence than it seems.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any, Final, Literal

from sillyproxy.rollout import words
from sillyproxy.rollout.quantiles import Z95, Z999, Distribution, Interval
from sillyproxy.rollout.sample import ColorSample

Verdict = Literal["worse", "better", "same", "unsure", "too_few"]
Name = Literal["error_rate", "p50", "p95", "p99"]

# Of fewer requests nothing is said.
TOO_FEW: Final = 30

# A difference matters from here on …
MATTERS_MS: Final = 1.0
MATTERS_PART: Final = 0.05  # … of the baseline, and at least the above
MATTERS_ERRORS: Final = 0.001
# … and who is within these is as good: closer takes more requests than a canary gets.
SAME_MS: Final = 2.0
SAME_PART: Final = 0.1  # of the baseline, or the above if that is more
SAME_ERRORS: Final = 0.01

QUANTILES: Final[Mapping[Name, float]] = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Measure:
    """
    One measure of two colors.

    `difference` is candidate less baseline, in the measure's unit, and with 95 % confidence between
    `low` and `high`; what cannot be told is None.
    """

    measure: Name
    unit: Literal["share", "ms"]
    baseline: float | None
    candidate: float | None
    difference: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    text: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """A candidate beside the baseline: the verdict of all measures together, in a sentence, and each."""

    baseline: str
    candidate: str
    text: str
    verdict: Verdict
    measures: tuple[Measure, ...]


def compare_all(colors: Mapping[str, ColorSample]) -> tuple[Comparison, ...]:
    """
    Compare every color that is configured with the one of the largest weight, of equals the first.

    >>> old, new = ColorSample((0, 0, 990, 0, 0, 10), weight=4.0), ColorSample((0, 0, 9, 0, 0, 1), weight=1.0)
    >>> compare_all({"green": new, "blue": old})[0].text
    'too few requests of green to tell: 10'
    """
    baseline = pick_baseline(colors)
    return tuple(
        compare(baseline, colors[baseline], name, part)
        for name, part in colors.items()
        if name != baseline and part.weight is not None and baseline
    )


def pick_baseline(colors: Mapping[str, ColorSample]) -> str:
    """Return whose weight is the largest; empty if none is configured."""
    present = [(name, part.weight) for name, part in colors.items() if part.weight is not None]
    return max(present, key=lambda pair: pair[1], default=("", 0.0))[0]


def compare(baseline: str, before: ColorSample, candidate: str, after: ColorSample) -> Comparison:
    """Compare what happened to two colors in the same time."""
    few = [
        (name, part.requests)
        for name, part in ((candidate, after), (baseline, before))
        if part.requests < TOO_FEW
    ]
    before_ms, after_ms = Distribution(before.durations), Distribution(after.durations)
    findings = [
        _errors(baseline, before, candidate, after, few),
        *(
            _quantile(name, part, (baseline, before_ms), (candidate, after_ms), few)
            for name, part in QUANTILES.items()
        ),
    ]
    verdict = _total(findings)
    text = _sentence(verdict, baseline, candidate, findings)
    return Comparison(baseline, candidate, text, verdict, tuple(found.measure for found in findings))


def comparison_data(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain data, for JSON, without digits that mean nothing."""
    data = asdict(comparison)
    for measure in data["measures"]:
        measure |= {key: round(value, 6) for key, value in measure.items() if isinstance(value, float)}
    return data


# The measures.


@dataclass(frozen=True, slots=True)
class _Finding:
    """A measure, also in a few words; `suspect` is how sure it is, if it may be worse and is not surely."""

    measure: Measure
    short: str = ""
    suspect: words.Sureness | None = None


def _errors(
    baseline: str, before: ColorSample, candidate: str, after: ColorSample, few: list[tuple[str, int]]
) -> _Finding:
    b, c = before.error_rate, after.error_rate
    if few or b is None or c is None:
        difference = c - b if b is not None and c is not None else None
        return _Finding(
            Measure("error_rate", "share", b, c, difference, None, None, "too_few", words.too_few(few))
        )
    difference = c - b
    interval = newcombe(before.errors, before.requests, after.errors, after.requests, Z95)
    surely = newcombe(before.errors, before.requests, after.errors, after.requests, Z999)
    verdict = _judge(difference, interval, surely, MATTERS_ERRORS, SAME_ERRORS)
    sure = words.sureness(interval, surely)
    rates = ((candidate, c), (baseline, b))
    notable = abs(difference) >= MATTERS_ERRORS and verdict != "same"
    if notable:
        text = words.errors(rates, interval, sure)
    else:
        text = words.errors_alike(rates, interval, certain=verdict == "same")
    return _Finding(
        Measure("error_rate", "share", b, c, difference, *interval, verdict, text),
        words.short_errors(difference),
        sure if notable and verdict == "unsure" and difference > 0 else None,
    )


def _quantile(
    name: Name,
    part: float,
    baseline: tuple[str, Distribution],
    candidate: tuple[str, Distribution],
    few: list[tuple[str, int]],
) -> _Finding:
    (base_name, before), (new_name, after) = baseline, candidate
    b, c = before.interval(part, Z95), after.interval(part, Z95)
    b_sure, c_sure = before.interval(part, Z999), after.interval(part, Z999)
    if few or b is None or c is None or b_sure is None or c_sure is None:
        b_ms, c_ms = before.quantile(part), after.quantile(part)
        known = c_ms - b_ms if b_ms is not None and c_ms is not None else None
        return _Finding(Measure(name, "ms", b_ms, c_ms, known, None, None, "too_few", words.too_few(few)))
    difference = c.value - b.value
    interval, surely = mover(b, c), mover(b_sure, c_sure)
    matters = max(MATTERS_MS, MATTERS_PART * b.value)
    verdict = _judge(difference, interval, surely, matters, max(SAME_MS, SAME_PART * b.value))
    sure = words.sureness(interval, surely)
    notable = abs(difference) >= matters and verdict != "same"
    if verdict == "unsure" and None in interval and sure == "could be chance":
        # How long the tail is cannot be known yet. That passes, and says nothing about the color.
        short = [(new_name, after.total)] if c.high is None else [(base_name, before.total)]
        verdict, notable, text = "too_few", False, words.too_few(short, name)
    elif notable:
        text = words.quantile(new_name, name, difference, interval, sure)
    else:
        text = words.quantile_alike(
            (new_name, base_name),
            name,
            difference,
            interval,
            certain=verdict == "same",
            differs=sure == "not chance",
        )
    return _Finding(
        Measure(name, "ms", b.value, c.value, difference, *interval, verdict, text),
        words.short_quantile(name, difference),
        sure if notable and verdict == "unsure" and difference > 0 else None,
    )


def wilson(errors: int, requests: int, z: float) -> tuple[float, float]:
    """
    Return between what the true rate is (Wilson's score interval).

    >>> [round(limit, 4) for limit in wilson(0, 100, Z95)]
    [0.0, 0.037]
    """
    rate = errors / requests
    middle = rate + z * z / (2 * requests)
    half = z * sqrt(rate * (1 - rate) / requests + z * z / (4 * requests * requests))
    scale = 1 + z * z / requests
    # At the ends the exact limits are 0 and 1; rounding must not put them beside the rate.
    low = (middle - half) / scale if errors else 0.0
    high = (middle + half) / scale if errors < requests else 1.0
    return low, high


def newcombe(errors_b: int, n_b: int, errors_c: int, n_c: int, z: float) -> tuple[float, float]:
    """
    Return between what the difference of two rates is, the second less the first.

    The example is Newcombe's own (1998, table II, column b).

    >>> [round(limit, 4) for limit in newcombe(5, 56, 0, 29, Z95)]
    [-0.1926, 0.0381]
    """
    b, c = errors_b / n_b, errors_c / n_c
    b_low, b_high = wilson(errors_b, n_b, z)
    c_low, c_high = wilson(errors_c, n_c, z)
    return (
        c - b - sqrt((c - c_low) ** 2 + (b_high - b) ** 2),
        c - b + sqrt((c_high - c) ** 2 + (b - b_low) ** 2),
    )


def mover(b: Interval, c: Interval) -> tuple[float | None, float | None]:
    """
    Return between what the difference of two values is, `c` less `b`; None where there is no limit.

    >>> mover(Interval(10.0, 7.0, 14.0), Interval(20.0, 17.0, None))
    (5.0, None)
    """
    difference = c.value - b.value
    low = difference - sqrt((c.value - c.low) ** 2 + (b.high - b.value) ** 2) if b.high is not None else None
    high = difference + sqrt((c.high - c.value) ** 2 + (b.value - b.low) ** 2) if c.high is not None else None
    return low, high


def _judge(
    difference: float,
    interval: tuple[float | None, float | None],
    surely: tuple[float | None, float | None],
    matters: float,
    same: float,
) -> Verdict:
    certain = not words.may_be_zero(surely)
    if certain and abs(difference) >= matters:
        return "worse" if difference > 0 else "better"
    low, high = interval
    if low is not None and high is not None and low >= -same and high <= same:
        return "same"
    return "unsure"


# All of them together.


def _total(findings: Iterable[_Finding]) -> Verdict:
    """One that is worse decides. A tail that cannot be told yet does not spoil what can be told."""
    verdicts: set[Verdict] = {found.measure.verdict for found in findings}
    order: tuple[Verdict, ...] = ("worse", "unsure", "better", "same")
    return next((verdict for verdict in order if verdict in verdicts), "too_few")


def _sentence(verdict: Verdict, baseline: str, candidate: str, findings: Sequence[_Finding]) -> str:
    worse, better = (
        [found.short for found in findings if found.measure.verdict == wanted]
        for wanted in ("worse", "better")
    )
    match verdict:
        case "worse":
            return words.worse_or_better(candidate, baseline, verdict, worse, better)
        case "better":
            return words.worse_or_better(candidate, baseline, verdict, better, [])
        case "same":
            return words.same(candidate, baseline)
        case "too_few":
            return findings[0].measure.text
    for sure in ("hardly chance", "could be chance"):
        for found in findings:
            if found.suspect == sure:
                return words.maybe(candidate, baseline, found.short, sure)
    return words.open_still(candidate, baseline, better)
