"""
A frame: the whole picture that the dashboard shows, at one moment.

The figures of the colors are `rollout.figures`; what only this proxy knows is added here.
"""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from typing import Any

from sillyproxy import __version__
from sillyproxy.admin.board import Board
from sillyproxy.admin.history import History
from sillyproxy.admin.meter import Reading
from sillyproxy.admin.processes import read_loop_lags
from sillyproxy.admin.status import asked, endpoint_views, readiness, surroundings
from sillyproxy.config.report import settings_in_force
from sillyproxy.config.schema import Color, Config
from sillyproxy.metrics.layout import Worker
from sillyproxy.rollout.compare import compare_all, comparison_data
from sillyproxy.rollout.figures import NOW_S, color_data, milliseconds, rates_data
from sillyproxy.rollout.sample import ColorSample, Window
from sillyproxy.tools.procfs import read_figures


def build_frame(board: Board, history: History, window_s: int) -> dict[str, Any]:
    """Return the frame of this moment over one of `figures.WINDOWS`, as plain data."""
    config, window, now = board.config, history.window(window_s), history.window(NOW_S)
    present = {color.name: color for color in config.colors}
    seen = {name: part for name, part in window.colors.items() if name not in present}
    # What is asked for may be newer than the newest sample.
    parts = {
        name: replace(window.colors.get(name, ColorSample()), weight=color.weight)
        for name, color in present.items()
    }
    return {
        "epoch": history.epoch,
        "seq": history.seq,
        "time": round(time.time(), 3),
        "version": __version__,
        "hostname": socket.gethostname(),
        "uptime_s": round(time.time() - board.started_at, 3),
        "started_at": board.started_at,
        **readiness(board),
        "generation": config.generation,
        "window_s": window_s,
        "history_s": min(window_s, history.length),
        "totals": _totals(board, now),
        "colors": [
            _color(board, history, name, part, present.get(name), now)
            for name, part in {**parts, **seen}.items()
        ],
        "comparisons": [comparison_data(found) for found in compare_all(parts)],
        "events": [event._asdict() for event in reversed(board.events)],
        "workers": _workers(board),
        **surroundings(board),
        "config": {"generation": config.generation, "settings": _settings(config)},
    }


def _totals(board: Board, now: Window) -> dict[str, Any]:
    blocks = board.blocks()
    return {
        **rates_data(now),
        "inflight": sum(block[Worker.INFLIGHT] for block in blocks),
        "connections": sum(block[Worker.CONNECTIONS_OPEN] for block in blocks),
        "tunnels": sum(block[Worker.TUNNELS_OPEN] for block in blocks),
    }


def _color(
    board: Board, history: History, name: str, part: ColorSample, color: Color | None, now: Window
) -> dict[str, Any]:
    slot = dict(board.slots()).get(name, 0)
    # A name that has come with a reload has no reading yet.
    gauges = history.readings[slot] if 0 < slot < len(history.readings) else Reading()
    return {
        "name": name,
        "present": color is not None,
        **asked(color, sum(other.weight for other in board.config.colors)),
        **color_data(name, part, now),
        "inflight": gauges.inflight,
        "queue_waiting": gauges.queued,
        "upstream_connections": {"active": gauges.active, "idle": gauges.idle},
        "endpoints": endpoint_views(board, name),
    }


def _workers(board: Board) -> list[dict[str, Any]]:
    shown, lags = [], read_loop_lags(board)
    for index, worker in sorted(board.workers.items()):
        figures = read_figures(worker.pid)
        shown.append(
            {
                "index": index,
                "pid": worker.pid,
                "generation": worker.generation,
                "memory_bytes": figures.memory_bytes if figures else None,
                "open_files": figures.open_files if figures else None,
                "loop_lag_ms": milliseconds(lags[index] * 1e3),
            }
        )
    return shown


def _settings(config: Config) -> list[dict[str, str]]:
    return [
        {"name": row.name, "value": row.value, "origin": row.origin, "help": row.setting.help}
        for row in settings_in_force(config)
    ]
