"""The reference of the admin API names all that is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sillyproxy.admin.events import Chronicle
from sillyproxy.admin.live import Live
from sillyproxy.rollout.figures import WINDOWS
from sillyproxy.tools.channel import Address
from tests.admin.boards import Proxy

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "admin-api.md").read_text()
NAMED = set(re.findall(r"[`\"]([0-9a-z_]+)[`\"]", PAGE))

# What has keys of its own that are no fields: names of colors, classes of status codes, buckets.
OPEN = ("colors", "codes", "durations", "avoided_by")


def make_proxy() -> tuple[Proxy, Live]:
    proxy = Proxy()
    proxy.meet_workers()
    proxy.board.endpoints = {"blue": (Address(0, "10.0.0.1", 80),)}
    Chronicle(proxy.board)
    for name in ("blue", "green"):
        proxy.serve(name, 50)
    proxy.tick()
    return proxy, Live(proxy.board, proxy.history)


def keys_of(data: Any) -> Iterator[str]:
    if isinstance(data, list):
        for item in data:
            yield from keys_of(item)
    elif isinstance(data, dict):
        for key, value in data.items():
            yield key
            if key in OPEN and isinstance(value, dict):
                yield from (inner for part in value.values() for inner in keys_of(part))
            elif key not in ("dns", "reload"):
                yield from keys_of(value)


def test_every_field_of_a_frame_is_explained() -> None:
    """Whoever reads a frame finds each of its fields in the reference."""
    _, live = make_proxy()
    for window in WINDOWS:
        assert set(keys_of(json.loads(live.frame(window)))) - NAMED == set()


def test_every_field_of_streams_and_samples_is_explained() -> None:
    """Whoever reads the event stream or the samples finds each field in the reference."""
    proxy, live = make_proxy()
    texts = [live.samples(0), proxy.history.points(0)]
    texts += [
        line.removeprefix("data: ")
        for line in (live.first_events(60, 0) + live.next_events(60, 0)).decode().splitlines()
        if line.startswith("data: ")
    ]
    assert len(texts) == 5
    for text in texts:
        assert set(keys_of(json.loads(text))) - NAMED == set()
