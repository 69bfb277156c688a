"""What `/api/status` answers: all that the board knows, as plain data."""

from __future__ import annotations

import time
from typing import Any

from sillyproxy import __version__
from sillyproxy.admin.board import Board
from sillyproxy.config.schema import Color
from sillyproxy.config.values import mask
from sillyproxy.metrics.layout import RETRY_REASONS, Row, Worker
from sillyproxy.metrics.slab import Totals
from sillyproxy.metrics.table import CHECK_RESULTS
from sillyproxy.traffic.endpoint import name_of

_ENDED = (Row.OTHER, Row.C1XX, Row.C2XX, Row.C3XX, Row.C4XX, Row.C5XX)


def build_status(board: Board) -> dict[str, Any]:
    """Return the status of this moment, ready for JSON."""
    config, totals = board.config, board.totals()
    return {
        "version": __version__,
        "generation": config.generation,
        "started_at": board.started_at,
        "uptime_s": round(time.time() - board.started_at, 3),
        **readiness(board),
        "colors": _colors(board, totals),
        "workers": [
            {"index": index, "pid": worker.pid, "generation": worker.generation}
            for index, worker in sorted(board.workers.items())
        ],
        "counters": {name.lower(): totals.worker[place] for name, place in _COUNTERS.items()},
        "balance": _balance(totals),
        **surroundings(board),
        "config": {
            "listen": [str(listener) for listener in config.listeners],
            "tls_listen": [str(listener) for listener in config.tls.listeners],
            "admin": str(config.admin) if config.admin else "off",
            "settings": {
                name: {"value": mask(name, origin.text), "origin": origin.source}
                for name, origin in sorted(config.origins.items())
            },
        },
    }


def readiness(board: Board) -> dict[str, Any]:
    """Return whether traffic should be sent here, whether it has started, and why not."""
    unready, awaited = board.unready(), board.awaited()
    return {
        "ready": not unready,
        "reason": unready,
        "started": not awaited,
        "awaited": awaited,
        "draining": board.draining,
    }


def surroundings(board: Board) -> dict[str, Any]:
    """Return what is neither of a color nor of a worker: names, the newest reload, memory."""
    return {
        "dns": {"lookups": dict(board.lookups), "problems": dict(board.name_problems())},
        "reload": board.reload._asdict() if board.reload else None,
        "memory": {
            "used_bytes": board.usage.used if board.usage else None,
            "limit_bytes": board.usage.limit if board.usage else None,
            "shedding": board.shedding,
        },
    }


# What says nothing summed over workers.
_OF_ONE = (Worker.GENERATION, Worker.PID, Worker.LOOP_LAG_NS, Worker.PUBLISHED_NS)
_COUNTERS = {place.name: place for place in Worker if place not in _OF_ONE}


def _balance(totals: Totals) -> dict[str, Any]:
    """Return the books: what was accepted is what was answered, replied, abandoned, lost, or is under way."""
    parts = ("ANSWERED", "REPLIED", "ABANDONED", "LOST", "INFLIGHT")
    accounted = sum(totals.worker[Worker[part]] for part in parts)
    return {
        "accepted": totals.worker[Worker.ACCEPTED],
        "accounted": accounted,
        "balanced": accounted == totals.worker[Worker.ACCEPTED],
    }


def _colors(board: Board, totals: Totals) -> list[dict[str, Any]]:
    present = {color.name: color for color in board.config.colors}
    weights = sum(color.weight for color in present.values())
    counts = {name: sum(totals.rows[slot][place] for place in _ENDED) for name, slot in board.slots()}
    seen = sum(counts.values())
    return [
        {
            "name": name,
            **asked(present.get(name), weights),
            "share_seen": counts[name] / seen if seen else None,
            "requests": counts[name],
            "inflight": totals.rows[slot][Row.INFLIGHT],
            "upstream_connections": {
                "active": totals.rows[slot][Row.UPSTREAM_ACTIVE],
                "idle": totals.rows[slot][Row.UPSTREAM_IDLE],
            },
            "retries": {why: totals.rows[slot][place] for why, place in RETRY_REASONS.items()},
            "retries_denied": totals.rows[slot][Row.RETRY_DENIED],
            "queue_waiting": totals.rows[slot][Row.QUEUED],
            "checks": {result: board.checks.get((name, result), 0) for result in CHECK_RESULTS},
            "endpoints": endpoint_views(board, name),
        }
        for name, slot in board.slots()
        if name in present or counts[name]
    ]


def asked(color: Color | None, weights: float) -> dict[str, Any]:
    """Return what the configuration asks of a color; None: it is not in it. `weights` is the sum of all."""
    if color is None:
        return {"upstreams": [], "weight": None, "share_asked": 0.0}
    return {
        "upstreams": [str(upstream) for upstream in color.upstreams],
        "weight": color.weight,
        "share_asked": color.weight / weights if weights else 0.0,
    }


def endpoint_views(board: Board, color: str) -> list[dict[str, Any]]:
    """Return the endpoints of a color, each with its state and why."""
    states, unhealthy, ejected = board.states(), board.unhealthy(), board.ejected()
    shown = []
    for address in board.endpoints.get(color, ()):
        key = (color, address)
        avoided = {str(worker): reason for worker, reason in sorted(board.avoided.get(key, {}).items())}
        state = states[key]
        reasons = {
            "up": "",
            "avoided": ", ".join(sorted(set(avoided.values()))),
            "ejected": ejected[key].reason if key in ejected else "",
            "unhealthy": unhealthy.get(key, ""),
        }
        shown.append(
            {
                "address": name_of(address.ip, address.port),
                "upstream": address.upstream,
                "up": state == "up",
                "state": state,
                "reason": reasons[state],
                "until": ejected[key].until if state == "ejected" else None,
                "ejections": ejected[key].times if key in ejected else 0,
                "avoided_by": avoided,
            }
        )
    return shown
