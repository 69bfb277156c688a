"""A frame as lines, for a pipe, a log, a terminal that cannot be drawn on. Nothing is cut."""

from __future__ import annotations

from typing import Any

from sillyproxy.top import text


class Plain:
    """Makes the lines of one frame after the other; an event is told once."""

    def __init__(self) -> None:
        self._told: set[tuple[str, int, str]] = set()

    def block(self, frame: dict[str, Any]) -> list[str]:
        """Return the lines of a frame: the first stands at the margin, what belongs to it does not."""
        lines = [f"{text.clock(frame['time'])} {text.heading(frame)}, {text.window(frame)}"]
        lines += [f"  verdict: {said}" for _, said in text.verdicts(frame)]
        lines += [f"  {_color(color)}" for color in frame["colors"]]
        lines += [
            f"  {one['candidate']}, {measure['measure'].replace('_', ' ')}: {measure['text']}"
            for one in frame["comparisons"]
            for measure in one["measures"]
            if one["verdict"] != "too_few"
        ]
        answering = sum(one["state"] in text.ANSWERING for one in frame["replicas"])
        for color in frame["colors"]:
            for endpoint in color["endpoints"]:
                if not endpoint["up"]:
                    which, why = text.endpoint(color["name"], endpoint, frame["time"], answering)
                    lines.append(f"  not up: {which} {why}")
        if differing := text.differing(frame):
            lines.append(f"  replicas: {differing}")
        lines += [f"  replica {_replica(replica)}" for replica in frame["replicas"]]
        lines += [f"  cannot look up {name}: {why}" for name, why in frame["problems"].items()]
        for event in reversed(frame["events"]):
            key = (event["epoch"], event["id"], event["replica"])
            if key not in self._told:
                self._told.add(key)
                lines.append(f"  event {text.clock(event['time'])} {event['replica']}: {text.event(event)}")
        return lines


def _color(color: dict[str, Any]) -> str:
    asked, seen = text.percent(color["share_asked"]), text.percent(color["share_seen"])
    percentiles = ", ".join(f"{name} {text.ms(color[f'{name}_ms'])} ms" for name in ("p50", "p95", "p99"))
    return (
        f"{color['name']}: asked {asked}, seen {seen}, {text.rate(color['requests_per_s'])} req/s,"
        f" errors {text.failed(color['error_rate'])}, {color['inflight']} under way;"
        f" in the window {color['requests']} requests, {color['errors']} errors, {percentiles}"
        + ("" if color["present"] else "; not configured any more")
    )


def _replica(replica: dict[str, Any]) -> str:
    name, address = replica["name"], replica["address"]
    line = (
        f"{address}: {text.state(replica)}" if name == address else f"{name} {address}: {text.state(replica)}"
    )
    if built := text.build(replica):
        line += f"; {built}; {text.rate(replica['requests_per_s'])} req/s; {text.shares(replica)}"
    return f"{line}; differs" if replica.get("differs") else line
