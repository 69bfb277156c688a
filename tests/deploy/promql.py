"""The queries in the files for Prometheus and Grafana, and whether what they name exists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from sillyproxy.metrics.table import METRICS

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy" / "grafana" / "sillyproxy.json"
RULES = ROOT / "deploy" / "prometheus" / "sillyproxy-alerts.yml"
PAGE = ROOT / "docs" / "howto" / "prometheus.md"

# What Prometheus adds to every series that it scrapes.
TARGET = {"job", "instance"}

_NAME = re.compile(r"\b((?:\w+:)?sillyproxy_\w+(?::\w+)?)(?:\{([^}]*)\})?")
_LABELS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right) \(([^)]*)\)")


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard."""
    made: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return made


def dashboard_queries() -> Iterator[str]:
    """Yield every query of the dashboard, with Grafana's variables as Grafana would fill them in."""
    for panel in panels():
        for target in panel.get("targets", ()):
            yield fill_in(target["expr"])


def page_queries() -> list[str]:
    """Return the queries that the page on Prometheus shows."""
    return re.findall(r"^```promql\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def fill_in(expr: str) -> str:
    """Return a query of the dashboard for all proxies and colors, as Grafana sends it."""
    for name, value in {"$job": ".*", "$instance": ".*", "$color": ".*", "$__rate_interval": "1m"}.items():
        expr = expr.replace(name, value)
    assert "$" not in expr
    return expr


def rules() -> Iterator[dict[str, Any]]:
    """Yield every rule, those that record and those that alert."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from group["rules"]


def known_series() -> dict[str, set[str]]:
    """Return the labels of every series that there is: of the table of metrics, and recorded by a rule."""
    known = {"up": set(TARGET)}
    for metric in METRICS:
        labels = {*metric.labels, *TARGET}
        if metric.kind == "histogram":
            known[f"{metric.name}_bucket"] = labels | {"le"}
            known[f"{metric.name}_sum"] = known[f"{metric.name}_count"] = labels
        else:
            known[metric.shown] = labels
    for rule in rules():
        if "record" in rule:
            # The first part of the name says which labels are left (Prometheus' own convention).
            known[rule["record"]] = set(rule["record"].partition(":")[0].split("_"))
    return known


def find_unknown(expr: str) -> list[str]:
    """Return what a query names that does not exist: series, labels of a series, labels to sum by."""
    known = known_series()
    unknown, at_hand = [], set[str]()
    for name, inside in _NAME.findall(expr):
        labels = set(re.findall(r"(\w+)\s*(?:=|!)", inside))
        if name not in known:
            unknown.append(name)
        else:
            at_hand |= known[name]
            unknown += [f"{name}{{{label}}}" for label in labels - known[name]]
    for inside in _LABELS.findall(expr):
        unknown += [label for label in re.findall(r"\w+", inside) if label not in at_hand]
    return unknown
