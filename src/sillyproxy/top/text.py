"""How figures are written, on the screen and in lines. What cannot be told is a dash."""

from __future__ import annotations

import time
from typing import Any, Final

NOTHING: Final = "–"  # noqa: RUF001  a dash is meant
ANSWERING: Final = ("ready", "unready", "draining")  # the states of a replica that tells something

# Replicas that read the same new files do so within this time, and see the same endpoint fail.
SAME_MOMENT_S: Final = 5.0


def percent(share: float | None, digits: int = 1) -> str:
    """
    Return a share in percent.

    >>> percent(0.8012), percent(0.8, 0), percent(None)
    ('80.1 %', '80 %', '–')
    """
    return NOTHING if share is None else f"{100 * share:.{digits}f} %"


def failed(share: float | None) -> str:
    """
    Return a rate of errors. However few they are, it is not 0.

    >>> failed(0.0), failed(0.00001), failed(0.0214), failed(0.5)
    ('0 %', '<0.01 %', '2.14 %', '50.0 %')
    """
    if not share:
        return NOTHING if share is None else "0 %"
    if share < 0.0001:
        return "<0.01 %"
    return percent(share, 1 if share >= 0.0995 else 2)


def rate(per_second: float) -> str:
    """
    Return how many in a second.

    >>> rate(0.25), rate(12.34), rate(1234.5)
    ('0.2', '12.3', '1,234')
    """
    return f"{per_second:,.0f}" if per_second >= 99.95 else f"{per_second:.1f}"


def ms(duration_ms: float | None) -> str:
    """
    Return milliseconds, with three digits or those before the point.

    >>> ms(0.0342), ms(1.234), ms(12.34), ms(123.4), ms(12345.0)
    ('0.03', '1.23', '12.3', '123', '12,345')
    """
    if duration_ms is None:
        return NOTHING
    return f"{duration_ms:,.{2 if duration_ms < 9.995 else 1 if duration_ms < 99.95 else 0}f}"


def span(seconds: float) -> str:
    """
    Return how long something takes or took, roughly.

    >>> span(0.2), span(59), span(300), span(7300), span(200000)
    ('0 s', '59 s', '5 min', '2 h', '2 d')
    """
    seconds = max(0, round(seconds))
    for limit, unit, name in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{seconds // unit} {name}"
    return f"{seconds // 86400} d"


def clock(at: float) -> str:
    """Return the time of day here, of seconds since 1970."""
    return time.strftime("%H:%M:%S", time.localtime(at))


# What both say in the same words.


def verdicts(frame: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a verdict and its sentence for each color that is compared; if none is, none and why."""
    found = [(one["verdict"], one["text"]) for one in frame["comparisons"]]
    if found:
        return found
    present = [color["name"] for color in frame["colors"] if color["present"]]
    if present:
        return [("", f"only {present[0]} is configured: there is nothing to compare it with")]
    if any(replica["state"] in ANSWERING for replica in frame["replicas"]):
        return [("", "no color is configured")]
    return [("", "no replica answers")]


def heading(frame: dict[str, Any]) -> str:
    """Return how many replicas are there, and how many are ready; how it is, if there is only one."""
    known = [one for one in frame["replicas"] if one["state"] != "gone" and not one.get("same_as")]
    if len(known) == 1:
        return state(known[0])
    ready = sum(one["state"] == "ready" for one in known)
    return f"{ready} of {len(known)} replicas ready"


def window(frame: dict[str, Any]) -> str:
    """Return the window, and how much of it there is."""
    text = f"window {span(frame['window_s'])}"
    # The newest seconds may still be on their way.
    is_whole = frame["history_s"] >= frame["window_s"] - 2
    return text if is_whole or not frame["colors"] else f"{text}, {frame['history_s']} s so far"


def state(replica: dict[str, Any]) -> str:
    """Return the state of a replica with its reason."""
    if replica.get("same_as"):
        return f"the same as {replica['same_as']}"
    heard = replica.get("heard_s")
    match replica["state"]:
        case "silent":
            return str(replica["reason"]) + (f", last heard {span(heard)} ago" if heard is not None else "")
        case "gone":
            return "gone: its name has this address no more"
        case "asked":
            return "not asked yet"
        case "unready":
            return f"not ready: {replica['reason']}"
    return str(replica["state"])


def build(replica: dict[str, Any]) -> str:
    """Return the generation and the version of a replica, and what is wrong with them."""
    if "generation" not in replica:
        return ""
    text = f"generation {replica['generation']}"
    if behind := replica["workers_behind"]:
        text += f" ({behind} of {replica['workers']} workers not yet)"
    return f"{text}, version {replica['version']}"


def shares(replica: dict[str, Any]) -> str:
    """Return what a replica asks for."""
    return " ".join(f"{name} {percent(share, 0)}" for name, share in replica.get("shares", {}).items())


def grouped(events: list[dict[str, Any]]) -> list[tuple[dict[str, Any], str]]:
    """Return each event with who reported it; what several did in the same moment is one."""
    found: list[tuple[dict[str, Any], list[str]]] = []
    for row in events:
        for other, names in found:
            is_same = event(other) == event(row) and other["time"] - row["time"] <= SAME_MOMENT_S
            if is_same and row["replica"] not in names:
                names.append(row["replica"])
                break
        else:
            found.append((row, [row["replica"]]))
    return [(row, names[0] if len(names) == 1 else f"{len(names)} replicas") for row, names in found]


def event(row: dict[str, Any]) -> str:
    """Return what happened, and to which color."""
    return f"{row['color']} {row['text']}" if row["color"] else str(row["text"])


def endpoint(color: str, row: dict[str, Any], at: float, replicas: int) -> tuple[str, str]:
    """Return which endpoint is not up; and for whom, until when and why."""
    text = str(row["state"])
    if replicas > 1:
        down, known = len(row["down_on"]), row["known_to"]
        text += f" on {'all' if down == known else f'{down} of {known}'} replicas"
    if row["until"] is not None:
        text += f", back in {span(row['until'] - at)}"
    if row["reason"]:
        text += f": {row['reason']}"
    return f"{color} {row['address']}", text


def differing(frame: dict[str, Any]) -> str:
    """Return that replicas serve different configurations, if they do."""
    count = sum(bool(one.get("differs")) for one in frame["replicas"])
    if not count:
        return ""
    return f"{count} {'serves' if count == 1 else 'serve'} another configuration: an update is under way"
