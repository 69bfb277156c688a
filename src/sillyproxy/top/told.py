"""
What a replica tells of itself, read from plain data into what the rest of the room works with.

It came over the network, maybe from an older or a later version, maybe from something else altogether:
what must be there and is not is a ValueError, what may be missing has a default, and no character goes
to the operator's terminal that is not one to be seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sillyproxy.config.values import printable
from sillyproxy.rollout.sample import Sample, read_sample

MAX_NUMBER: Final = 1e11  # seconds: the year 5138
GAUGES: Final = ("inflight", "connections", "tunnels")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint of a color: `state` and `reason` in the words of `/api/status`; `until` is by its clock."""

    address: str
    state: str
    reason: str
    until: float | None


@dataclass(frozen=True, slots=True)
class Color:
    """A color of its configuration."""

    name: str
    weight: float
    share_asked: float
    upstreams: tuple[str, ...]
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened there, with its number; `time` in seconds since 1970, by its clock."""

    id: int
    time: float
    level: str
    kind: str
    text: str
    color: str | None


@dataclass(frozen=True, slots=True)
class Status:
    """
    What a proxy is and how it is, at the moment of an answer.

    `workers` are the generations of its workers, `gauges` what is open now, by the words of GAUGES.
    """

    hostname: str
    started_at: float
    uptime_s: float
    version: str
    generation: int
    ready: bool
    reason: str
    draining: bool
    colors: tuple[Color, ...]
    workers: tuple[int, ...]
    events: tuple[Event, ...]
    gauges: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of `/api/samples`: `seq` is the newest second there is, `time` its clock (since 1970)."""

    epoch: str
    seq: int
    time: float
    samples: tuple[Sample, ...]
    status: Status


def read_answer(data: Any) -> Answer:
    """
    Return what an answer of `/api/samples` says.

    Raises ValueError if it is none.

    >>> read_answer({"seq": "many"})
    Traceback (most recent call last):
    ValueError: no answer of /api/samples: 'samples'
    """
    try:
        samples = tuple(read_sample(sample) for sample in data["samples"])
        for sample in samples:
            _number(sample.seq)
            for name in sample.colors:
                if not name.isprintable():
                    raise ValueError(f"{name!r:.40} is no name of a color")
        return Answer(
            epoch=_text(data["epoch"]),
            seq=int(_number(data["seq"])),
            time=_number(data["time"]),
            samples=samples,
            status=_read_status(data["status"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ValueError(f"no answer of /api/samples: {error}") from None


def _read_status(data: Any) -> Status:
    totals = data.get("totals", {})
    return Status(
        hostname=_text(data["hostname"]),
        started_at=_number(data["started_at"]),
        uptime_s=_number(data.get("uptime_s", 0.0)),
        version=_text(data["version"]),
        generation=int(data["generation"]),
        ready=bool(data["ready"]),
        reason=_text(data.get("reason", "")),
        draining=bool(data.get("draining", False)),
        # A color that is gone and was seen lately is told of without a weight.
        colors=tuple(_read_color(color) for color in data["colors"] if color.get("weight") is not None),
        workers=tuple(int(worker["generation"]) for worker in data.get("workers", ())),
        events=tuple(_read_event(event) for event in data.get("events", ())),
        gauges={name: int(totals.get(name, 0)) for name in GAUGES},
    )


def _read_color(data: Any) -> Color:
    return Color(
        name=_text(data["name"]),
        weight=_number(data["weight"]),
        share_asked=_number(data.get("share_asked", 0.0)),
        upstreams=tuple(_text(upstream) for upstream in data.get("upstreams", ())),
        endpoints=tuple(_read_endpoint(endpoint) for endpoint in data.get("endpoints", ())),
    )


def _read_endpoint(data: Any) -> Endpoint:
    until = data.get("until")
    return Endpoint(
        address=_text(data["address"]),
        state=_text(data["state"]),
        reason=_text(data.get("reason", "")),
        until=None if until is None else _number(until),
    )


def _read_event(data: Any) -> Event:
    color = data.get("color")
    return Event(
        id=int(data.get("id", 0)),
        time=_number(data["time"]),
        level=_text(data.get("level", "info")),
        kind=_text(data.get("kind", "")),
        text=_text(data["text"]),
        color=None if color is None else _text(color),
    )


def _text(data: Any) -> str:
    if not isinstance(data, str):
        raise TypeError(f"{data!r:.40} is no text")
    return printable(data)


def _number(data: Any) -> float:
    """Return a number that can be counted and told the time with."""
    number = float(data)
    if not 0 <= number < MAX_NUMBER:
        raise ValueError(f"{number:g} is out of range")
    return number
