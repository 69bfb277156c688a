"""
What a proxy could say: frames and points of the admin API, made up and always the same.

A scene is a frame's builder: given a second, it returns what the proxy would say then. They
are for the states that a real proxy is rarely in, and for pictures of them; whether the
page and the real proxy understand each other is tested with the real one (test_live.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

START = 1_764_000_000.0
Data = dict[str, Any]
Scene = Callable[[int], Data]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a color does: its weight, its times, the share of its requests that fails."""

    weight: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    fails: float = 0.0
    present: bool = True


BLUE = Behaviour(4, 11.2, 24.0, 41.0)
GREEN = Behaviour(1, 14.8, 58.0, 210.0, fails=0.032)
RATE = 240.0


def wave(seq: int, seed: float) -> float:
    """Return a number between -1 and 1 that looks like chance and is none."""
    return (
        math.sin(seq * 0.83 + seed * 7.1) + math.sin(seq * 0.29 + seed * 3.3) + math.sin(seq * 2.17 + seed)
    ) / 3


def make_point(seq: int, colors: dict[str, Behaviour]) -> Data:
    """Return a second of these colors."""
    total = sum(color.weight for color in colors.values())
    shown = {}
    for number, (name, color) in enumerate(colors.items()):
        asked = color.weight / total if total else 0.0
        requests = round(RATE * asked * (1 + 0.12 * wave(seq, number)))
        slower = 1 + 0.15 * wave(seq, number + 5)
        shown[name] = {
            "share_asked": asked,
            "requests": requests,
            "errors": round(requests * color.fails * (1 + wave(seq, number + 3))),
            "inflight": max(0, round(requests * color.p50_ms / 1000 * (1.5 + wave(seq, number)))),
            "p50_ms": color.p50_ms * slower if requests else None,
            "p95_ms": color.p95_ms * slower if requests else None,
            "p99_ms": color.p99_ms * (1 + 0.5 * wave(seq, number + 9)) if requests else None,
        }
    return {"seq": seq, "time": START + seq, "colors": shown}


def make_endpoint(address: str, **other: Any) -> Data:
    """Return an endpoint that is up, or what `other` says."""
    up: Data = {"state": "up", "reason": "", "until": None, "ejections": 0, "avoided_by": {}}
    endpoint = {"address": address, "upstream": 0, **up, **other}
    return {**endpoint, "up": endpoint["state"] == "up"}


def make_color(name: str, color: Behaviour, seq: int, colors: dict[str, Behaviour], number: int) -> Data:
    """Return a color of a frame."""
    total = sum(other.weight for other in colors.values())
    asked = color.weight / total if total else 0.0
    rate = RATE * asked * (1 + 0.02 * wave(seq, number))
    requests, errors = round(60 * RATE * asked), round(60 * RATE * asked * color.fails)
    upstream = f"http://myapp-v{number + 1}:8080"
    return {
        "name": name,
        "present": color.present,
        "weight": color.weight if color.present else None,
        "share_asked": asked,
        "share_seen": asked * (1 + 0.004 * wave(seq, number)) if total else None,
        "requests_per_s": rate,
        "error_rate": color.fails * (1 + 0.1 * wave(seq, number)) if rate else None,
        "requests": requests,
        "errors": errors,
        "window_error_rate": color.fails if requests else None,
        "codes": {"1xx": 0, "2xx": requests - errors, "3xx": 0, "4xx": 0, "5xx": errors, "other": 0},
        "p50_ms": color.p50_ms if requests else None,
        "p95_ms": color.p95_ms if requests else None,
        "p99_ms": color.p99_ms if requests else None,
        "mean_ms": color.p50_ms * 1.2 if requests else None,
        "inflight": round(rate * color.p50_ms / 1000),
        "queue_waiting": 0,
        "retries": errors // 4,
        "fallbacks": 0,
        "upstreams": [upstream],
        "upstream_connections": {"active": round(rate * color.p50_ms / 1000), "idle": 6},
        "endpoints": [make_endpoint(f"10.0.{number + 1}.{host}:8080") for host in (3, 4)],
    }


def make_measure(
    measure: str, baseline: float | None, candidate: float | None, spread: float, verdict: str, text: str
) -> Data:
    """Return one measure of a comparison; its interval reaches `spread` to both sides of the difference."""
    known = baseline is not None and candidate is not None
    difference = candidate - baseline if baseline is not None and candidate is not None else None
    return {
        "measure": measure,
        "unit": "share" if measure == "error_rate" else "ms",
        "baseline": baseline,
        "candidate": candidate,
        "difference": difference,
        "low": difference - spread if difference is not None and known else None,
        "high": difference + spread if difference is not None and known else None,
        "verdict": verdict,
        "text": text,
    }


WORSE = {
    "baseline": "blue",
    "candidate": "green",
    "text": "green is worse than blue: 3.2 points more errors, 34 ms slower at p95, 169 ms slower at p99",
    "verdict": "worse",
    "measures": [
        make_measure(
            "error_rate", 0.0, 0.032, 0.0062, "worse",
            "green fails 3.2 % of requests, blue 0.0 %: 2.6 to 3.8 points more; not chance",
        ),
        make_measure("p50", 11.2, 14.8, 4.4, "unsure", "green is 3.6 ms slower at p50; could be chance"),
        make_measure("p95", 24.0, 58.0, 6.5, "worse", "green is 34 ms slower at p95; not chance"),
        make_measure("p99", 41.0, 210.0, 88.0, "worse", "green is 169 ms slower at p99; not chance"),
    ],
}  # fmt: skip

_URL = "Where this color's requests go: one upstream URL or several."
_WEIGHT = "Share of the traffic, relative to the other colors."
SETTINGS = [
    ("BLUE", "http://myapp-v1:8080", "environment", _URL),
    ("BLUE_WEIGHT", "4", "/etc/sillyproxy/edge.env, line 2", _WEIGHT),
    ("GREEN", "http://myapp-v2:8080", "environment", _URL),
    ("GREEN_WEIGHT", "1", "/etc/sillyproxy/edge.env, line 3", _WEIGHT),
    ("SILLYPROXY_ADMIN_TOKEN", "***", "environment", "Secret that the admin listener asks for."),
    ("SILLYPROXY_LISTEN", ":8080", "default", "Where clients are served."),
    ("SILLYPROXY_RETRY_BUDGET", "50%", "default", "How much may be sent a second time."),
]  # fmt: skip


def make_frame(
    seq: int,
    colors: dict[str, Behaviour],
    *,
    comparisons: Sequence[Data] = (),
    events: Sequence[Data] = (),
    **other: Any,
) -> Data:
    """Return a frame of these colors; `other` are fields that are not as usual."""
    shown = [make_color(name, color, seq, colors, n) for n, (name, color) in enumerate(colors.items())]
    frame: Data = {
        "epoch": "scene",
        "seq": seq,
        "time": START + seq,
        "version": "0.1.0",
        "hostname": "edge-1",
        "uptime_s": 4000.0 + seq,
        "started_at": START - 4000.0,
        "ready": True,
        "reason": "",
        "started": True,
        "awaited": "",
        "draining": False,
        "generation": 3,
        "window_s": 60,
        "history_s": 60,
        "totals": {
            "requests_per_s": sum(color["requests_per_s"] for color in shown),
            "errors_per_s": sum(color["requests_per_s"] * (color["error_rate"] or 0) for color in shown),
            "inflight": sum(color["inflight"] for color in shown),
            "connections": 64,
            "tunnels": 2,
            "retries_per_s": 0.4,
        },
        "colors": shown,
        "comparisons": list(comparisons),
        "events": list(events),
        "workers": [
            {
                "index": index,
                "pid": 4100 + index,
                "generation": 3,
                "memory_bytes": 24_100_000 + 300_000 * index,
                "open_files": 41 + index,
                "loop_lag_ms": 0.6 + 0.2 * wave(seq, index),
            }
            for index in range(2)
        ],
        "dns": {"lookups": {"ok": 412, "failed": 0}, "problems": {}},
        "reload": None,
        "memory": {"used_bytes": 91_000_000, "limit_bytes": 268_435_456, "shedding": False},
        "config": {
            "generation": 3,
            "settings": [
                dict(zip(("name", "value", "origin", "help"), setting, strict=True)) for setting in SETTINGS
            ],
        },
    }
    return {**frame, **other}


def make_event(
    number: int, seconds_ago: float, level: str, kind: str, text: str, color: str | None = None
) -> Data:
    """Return an event."""
    time = START + 300 - seconds_ago
    return {"id": number, "time": time, "level": level, "kind": kind, "text": text, "color": color}


EVENTS = [
    make_event(4, 21, "warning", "ejection", "10.0.2.4:8080 is ejected: 5 failures in a row", "green"),
    make_event(3, 95, "info", "reload", "generation 3 adopted: GREEN_WEIGHT 1 instead of 0"),
    make_event(2, 260, "error", "refused", "GREEN_WEIGHT=ten is not a number; generation 2 stays in force"),
    make_event(1, 299, "info", "start", "started with 2 workers"),
]  # fmt: skip


def canary(seq: int) -> Data:
    """Green takes a fifth, and is worse."""
    colors = {"blue": BLUE, "green": GREEN}
    frame = make_frame(seq, colors, comparisons=[WORSE], events=EVENTS)
    frame["colors"][1]["endpoints"][1] = make_endpoint(
        "10.0.2.4:8080",
        state="ejected",
        reason="5 failures in a row",
        until=frame["time"] + 23,
        ejections=2,
    )
    return frame


def alone(seq: int) -> Data:
    """Blue takes all, nothing has happened."""
    return make_frame(seq, {"blue": Behaviour(1, 11.2, 24.0, 41.0)})


def nobody(seq: int) -> Data:
    """No color is configured."""
    return make_frame(seq, {}, ready=False, reason="no color is configured")


def draining(seq: int) -> Data:
    """The proxy has been told to stop."""
    return {**canary(seq), "draining": True, "ready": False, "reason": "draining"}


def refused(seq: int) -> Data:
    """A configuration was refused, a name cannot be looked up, green has gone and still ends."""
    colors = {"blue": BLUE, "green": Behaviour(0, 14.8, 58.0, 210.0, present=False)}
    problems = ["GREEN_WEIGHT=ten (environment): not a number; use 0 or more, for instance GREEN_WEIGHT=1"]
    return make_frame(
        seq,
        colors,
        events=EVENTS,
        reload={"result": "refused", "at": START + 280, "problems": problems, "generation": 3},
        dns={"lookups": {"ok": 412, "failed": 3}, "problems": {"myapp-v1": "no answer from the name server"}},
    )


def starting(seq: int) -> Data:
    """Nothing was asked yet: no share is seen, no time is known."""
    colors = {"blue": Behaviour(0, 1, 1, 1), "green": Behaviour(0, 1, 1, 1)}
    return make_frame(
        seq,
        colors,
        started=False,
        awaited="green: no endpoint answers",
        ready=False,
        reason="every color is at weight 0",
    )


def five(seq: int) -> Data:
    """Five colors, two of which have names that are no CSS color, and a share of one percent."""
    colors = {
        "blue": Behaviour(60, 11.2, 24.0, 41.0),
        "green": Behaviour(25, 11.0, 23.0, 40.0),
        "gold": Behaviour(10, 12.0, 26.0, 52.0),
        "canary-2": Behaviour(4, 9.0, 19.0, 33.0),
        "edge_case": Behaviour(1, 30.0, 80.0, 300.0, fails=0.2),
    }
    verdicts = {"green": "same", "gold": "unsure", "canary-2": "better", "edge_case": "too_few"}
    sentences = {
        "same": "is as good as blue",
        "unsure": "is 1 ms slower than blue at p50; could be chance",
        "better": "is better than blue: 5 ms faster at p95",
        "too_few": "has too few requests to tell: 12",
    }
    comparisons = [
        {
            "baseline": "blue",
            "candidate": name,
            "verdict": verdict,
            "text": f"{name} {sentences[verdict]}",
            "measures": [
                make_measure(measure, 11.2, value, 2.0, verdict, f"{name}: {verdict}")
                for measure, value in (("p50", colors[name].p50_ms), ("p95", colors[name].p95_ms))
            ]
            if verdict != "too_few"
            else [make_measure("p50", 11.2, None, 0, "too_few", "too few requests of edge_case to tell: 12")],
        }
        for name, verdict in verdicts.items()
    ]
    return make_frame(seq, colors, comparisons=comparisons)


HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'


def hostile(seq: int) -> Data:
    """Whatever a client, an endpoint or a configuration can put into words is markup."""
    frame = make_frame(
        seq,
        {"blue": BLUE, HOSTILE: GREEN},
        comparisons=[{**WORSE, "candidate": HOSTILE, "text": HOSTILE}],
        events=[make_event(1, 3, "error", HOSTILE, HOSTILE, HOSTILE)],
        hostname=HOSTILE,
        ready=False,
        reason=HOSTILE,
        reload={"result": "refused", "at": START, "problems": [HOSTILE], "generation": 3},
    )
    for color in frame["colors"]:
        color["upstreams"] = [HOSTILE]
        color["endpoints"] = [make_endpoint(HOSTILE, state="unhealthy", reason=HOSTILE)]
    frame["config"]["settings"] = [{"name": HOSTILE, "value": HOSTILE, "origin": HOSTILE, "help": HOSTILE}]
    return frame


def points_of(scene: Scene, seq: int) -> Data:
    """Return the point of a scene's second: its colors by what their frame says of them."""
    colors = {
        color["name"]: Behaviour(
            100 * color["share_asked"],
            color["p50_ms"] or 0,
            color["p95_ms"] or 0,
            color["p99_ms"] or 0,
            color["window_error_rate"] or 0,
        )
        for color in scene(seq)["colors"]
    }
    return make_point(seq, colors)


SCENES: dict[str, Scene] = {
    scene.__name__: scene
    for scene in (canary, alone, nobody, draining, refused, starting, five, hostile)
}  # fmt: skip
