"""
One picture of all replicas, as plain data: what `--json` prints, and what screen and lines show.

It is a frame as `/api/live` answers it, summed, with what only several replicas can have: who they are,
who does not answer and why, which of them serve another configuration than the others.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict
from typing import Final

from sillyproxy.rollout.compare import compare_all, comparison_data
from sillyproxy.rollout.figures import NOW_S, Data, color_data, line_data, rates_data
from sillyproxy.rollout.sample import ColorSample, Sample, Window
from sillyproxy.top.merge import Fleet, Proxy, Replica
from sillyproxy.top.told import GAUGES, Color, Endpoint, Status

# How much of the past is drawn as a line, and how much of it each character is: few seconds of a canary
# with few requests have no percentile to speak of.
LINES_S: Final = 300
STEP_S: Final = 10
MAX_EVENTS: Final = 100
# From good to bad: of an endpoint that replicas see differently the worst is shown.
STATES: Final = ("up", "avoided", "ejected", "unhealthy")


def build_frame(fleet: Fleet, now: float, wall: float, window_s: int, interval_s: float) -> Data:
    """Return the frame of this moment: `now` on the fleet's clock, `wall` in seconds since 1970."""
    end = fleet.end(now, interval_s)
    samples = fleet.merged(end, max(window_s, LINES_S), wall - now)
    recent = Window(sample for sample in samples if sample.seq > end - NOW_S)
    window = Window(sample for sample in samples if sample.seq > end - window_s)
    up, names = _proxies_up(fleet), _names(fleet)
    configured = list(dict.fromkeys(name for proxy in up for name in _configured(proxy)))
    parts = {name: window.colors.get(name, _unseen(name, up)) for name in configured}
    gone = {name: part for name, part in window.colors.items() if name not in parts}
    asked = _asked(up, end)
    colors = [
        {
            "name": name,
            "present": name in configured,
            "weight": part.weight if name in configured else None,
            "share_asked": asked[name],
            **color_data(name, part, recent),
            "inflight": recent.colors.get(name, ColorSample()).inflight,
            "queue_waiting": recent.colors.get(name, ColorSample()).queued,
            "upstreams": _upstreams(name, up),
            "endpoints": _endpoints(name, up, names),
        }
        for name, part in {**parts, **gone}.items()
    ]
    return {
        "time": wall,
        "window_s": window_s,
        "history_s": sum(1 for sample in samples if sample.seq > end - window_s),
        "ready": any(_told(proxy).ready for proxy in up),
        "totals": rates_data(recent)
        | {name: sum(_told(proxy).gauges[name] for proxy in up) for name in GAUGES},
        "colors": colors,
        "comparisons": [comparison_data(comparison) for comparison in compare_all(parts)],
        "events": _events(fleet, names),
        "replicas": _replicas(fleet, names, end, now),
        "problems": dict(fleet.problems),
        "step_s": STEP_S,
        "lines": _lines(samples, end),
    }


def _lines(samples: Sequence[Sample], end: int) -> dict[str, dict[str, list[float | None]]]:
    """
    Return the lines of each color: a value for each step, the newest last; None where nothing was told.

    Steps begin at full ones of our clock: those that are over do not change any more.
    """
    newest = end // STEP_S
    steps: dict[int, list[Sample]] = {newest - back: [] for back in range(LINES_S // STEP_S)}
    for sample in samples:
        if sample.seq // STEP_S in steps:
            steps[sample.seq // STEP_S].append(sample)
    windows = [Window(steps[step]) for step in sorted(steps)]
    names = dict.fromkeys(name for window in windows for name in window.colors)
    return {name: line_data(name, windows) for name in names}


def _asked(up: Sequence[Proxy], end: int) -> Mapping[str, float]:
    """
    Return which share of all requests is asked for each color.

    Where replicas ask for different shares, each counts as much as it is asked now: that is what the
    share that is seen should be.
    """
    requests = [_requests_per_s(proxy, end) for proxy in up]
    if not any(requests):
        requests = [1.0] * len(up)
    shares: defaultdict[str, float] = defaultdict(float)
    for proxy, weight in zip(up, requests, strict=True):
        for color in _told(proxy).colors:
            shares[color.name] += color.share_asked * weight / sum(requests)
    return defaultdict(float, {name: round(share, 6) for name, share in shares.items()})


def _unseen(color: str, up: Sequence[Proxy]) -> ColorSample:
    """Return the sample of a color of which nothing was told yet."""
    views = [_configured(proxy)[color] for proxy in up if color in _configured(proxy)]
    return ColorSample(
        weight=sum(view.weight for view in views) / len(views),
        share_asked=sum(view.share_asked for view in views) / len(up),
    )


def _proxies_up(fleet: Fleet) -> list[Proxy]:
    """Return the proxies that answer, each once."""
    found = {id(one.proxy): one.proxy for one in fleet.replicas.values() if one.is_up and one.proxy}
    return list(found.values())


def _names(fleet: Fleet) -> dict[int, str]:
    """Return what to call each proxy (by `id`): its host name, its address if others have that name too."""
    hostnames = {id(proxy): _told(proxy).hostname for proxy in fleet.proxies.values()}
    current = Counter(hostnames[id(proxy)] for proxy in _proxies_up(fleet))
    addresses = {id(one.proxy): one.address for one in reversed(fleet.replicas.values()) if one.proxy}
    return {
        proxy: hostname if hostname and current[hostname] < 2 else addresses.get(proxy, hostname)
        for proxy, hostname in hostnames.items()
    }


# What they say of themselves.


def _told(proxy: Proxy) -> Status:
    assert proxy.status is not None, "a proxy is known by what it told"
    return proxy.status


def _configured(proxy: Proxy) -> dict[str, Color]:
    """Return the colors of a proxy's configuration, by name."""
    return {color.name: color for color in _told(proxy).colors}


def _upstreams(color: str, up: Sequence[Proxy]) -> list[str]:
    views = [_configured(proxy)[color] for proxy in up if color in _configured(proxy)]
    return list(dict.fromkeys(upstream for view in views for upstream in view.upstreams))


def _endpoints(color: str, up: Sequence[Proxy], names: Mapping[int, str]) -> list[Data]:
    """
    Return the endpoints of a color, each as that replica sees it for which it is worst.

    `known_to` is how many replicas know it, `down_on` the names of those that do not use it.
    """
    found: dict[str, list[tuple[Proxy, Endpoint]]] = {}
    for proxy in up:
        if color in _configured(proxy):
            for endpoint in _configured(proxy)[color].endpoints:
                found.setdefault(endpoint.address, []).append((proxy, endpoint))
    rows = []
    for address, views in found.items():
        proxy, worst = max(views, key=lambda view: _badness(view[1]))
        rows.append(
            {
                "address": address,
                "up": worst.state == "up",
                "state": worst.state,
                "reason": worst.reason,
                "until": worst.until + proxy.skew_s if worst.until is not None else None,
                "known_to": len(views),
                "down_on": [names[id(owner)] for owner, view in views if view.state != "up"],
            }
        )
    return rows


def _badness(endpoint: Endpoint) -> tuple[int, float]:
    """Return how bad the state of an endpoint is; one that we have no word for yet is the worst."""
    rank = STATES.index(endpoint.state) if endpoint.state in STATES else len(STATES)
    return rank, endpoint.until or 0.0


def _events(fleet: Fleet, names: Mapping[int, str]) -> list[Data]:
    """Return what all proxies reported, by our clock, newest first; of those that are gone too."""
    events = [
        asdict(event) | {"time": event.time + proxy.skew_s, "replica": names[id(proxy)], "epoch": proxy.epoch}
        for proxy in fleet.proxies.values()
        for event in _told(proxy).events
    ]
    return sorted(events, key=lambda event: event["time"], reverse=True)[:MAX_EVENTS]


# Who they are.


def _replicas(fleet: Fleet, names: Mapping[int, str], end: int, now: float) -> list[Data]:
    """Return each address that is asked, with what it says or why it says nothing."""
    usual = _usual(_proxies_up(fleet))
    first: dict[int, str] = {}  # of a proxy that is found at several addresses
    rows = []
    for one in fleet.replicas.values():
        row: Data = {"address": one.address, "name": one.address, "state": _state(one), "reason": one.problem}
        if (proxy := one.proxy) is not None:
            status = _told(proxy)
            same_as = first.setdefault(id(proxy), one.address) if one.is_up else one.address
            row |= {
                "name": names[id(proxy)],
                "reason": one.problem or ("" if one.gone_since is not None else status.reason),
                "heard_s": round(now - proxy.heard_at, 1),
                "same_as": same_as if same_as != one.address else None,
                "generation": status.generation,
                "version": status.version,
                "uptime_s": status.uptime_s,
                "shares": {color.name: color.share_asked for color in status.colors},
                "differs": one.is_up and _configuration(proxy) != usual,
                "workers": len(status.workers),
                "workers_behind": sum(worker != status.generation for worker in status.workers),
                "requests_per_s": _requests_per_s(proxy, end),
            }
        rows.append(row)
    return rows


def _state(replica: Replica) -> str:
    """Return a replica in a word: asked, gone, silent, draining, ready, unready."""
    if replica.gone_since is not None:
        return "gone"
    if not replica.is_asked:
        return "asked"
    if replica.problem or replica.proxy is None:
        return "silent"
    status = _told(replica.proxy)
    if status.draining:
        return "draining"
    return "ready" if status.ready else "unready"


def _configuration(proxy: Proxy) -> Hashable:
    """
    Return what makes a difference to traffic: replicas that have the same serve the same.

    Not the generation, which counts the reloads of one process: a replica that was restarted begins at 1
    with the newest configuration.
    """
    status = _told(proxy)
    return status.version, tuple((color.name, color.weight, color.upstreams) for color in status.colors)


def _usual(up: Sequence[Proxy]) -> Hashable:
    """Return the configuration that most replicas have; of as many, that of who has been there longest."""
    found = Counter(_configuration(proxy) for proxy in sorted(up, key=lambda proxy: -_told(proxy).uptime_s))
    return found.most_common(1)[0][0] if found else None


def _requests_per_s(proxy: Proxy, end: int) -> float:
    seconds = range(end - NOW_S + 1, end + 1)
    recent = Window(proxy.samples[second] for second in seconds if second in proxy.samples)
    return float(rates_data(recent)["requests_per_s"])
