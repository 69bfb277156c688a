"""What replicas answer to `sillyproxy top`, made up: seconds with counts, and a proxy that tells them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sillyproxy.metrics.layout import bucket_of
from sillyproxy.rollout.sample import ColorSample, Sample, sample_data


def make_part(
    requests: int = 0,
    errors: int = 0,
    took_ms: Sequence[float] = (),
    *,
    share: float = 1.0,
    inflight: int = 0,
) -> ColorSample:
    """Return what a color did in a second: `took_ms` is dealt out to its requests in turn."""
    durations: dict[int, int] = {}
    for number in range(requests if took_ms else 0):
        bucket = bucket_of(int(took_ms[number % len(took_ms)] * 1e6))
        durations[bucket] = durations.get(bucket, 0) + 1
    return ColorSample(
        codes=(0, 0, requests - errors, 0, 0, errors),
        durations=durations,
        inflight=inflight,
        weight=100 * share,
        share_asked=share,
    )


def make_seconds(first: int, count: int, **colors: ColorSample) -> list[Sample]:
    """Return that many seconds that are all alike, from number `first` on; by a clock of their own."""
    return [Sample(seq, 5e8 + seq, colors) for seq in range(first, first + count)]


def make_color(name: str, weight: float = 1.0, share: float = 0.5, **endpoints: str) -> dict[str, Any]:
    """Return a color of a status: `endpoints` are the states of `10.0.0.N`, by aN."""
    return {
        "name": name,
        "weight": weight,
        "share_asked": share,
        "upstreams": [f"http://{name}:8080"],
        "endpoints": [
            {
                "address": f"10.0.0.{number[1:]}:8080",
                "up": state == "up",
                "state": state,
                "reason": "" if state == "up" else "5 failures in a row",
                "until": None,
            }
            for number, state in endpoints.items()
        ],
    }


def make_answer(
    samples: Sequence[Sample],
    *,
    hostname: str = "proxy-1",
    epoch: str = "e1",
    time: float = 5e8,
    **status: Any,
) -> dict[str, Any]:
    """Return an answer of `/api/samples`."""
    return {
        "epoch": epoch,
        "seq": samples[-1].seq if samples else 0,
        "time": time,
        "samples": [sample_data(sample) for sample in samples],
        "status": {
            "hostname": hostname,
            "started_at": 4e8,
            "uptime_s": 100.0,
            "version": "1.0",
            "generation": 1,
            "ready": True,
            "reason": "",
            "draining": False,
            "colors": [make_color("blue", 4.0, 0.8, a1="up"), make_color("green", 1.0, 0.2, a2="up")],
            "workers": [{"index": 0, "pid": 1, "generation": 1}],
            "events": [],
            "totals": {"inflight": 0, "connections": 0, "tunnels": 0},
            **status,
        },
    }


def make_event(number: int, at: float, said: str, **more: Any) -> Mapping[str, Any]:
    """Return an event of a status."""
    return {"id": number, "time": at, "level": "info", "kind": "reload", "text": said, "color": None, **more}
