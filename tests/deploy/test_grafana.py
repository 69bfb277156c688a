"""The dashboard for Grafana."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from scripts.grafana_dashboard import make_dashboard

from sillyproxy.metrics.table import METRICS
from tests.deploy.promql import DASHBOARD, dashboard_queries, find_unknown, page_queries, panels, rules

# What is no line on a dashboard: it is a choice at its top, or another graph has the same.
NOT_SHOWN = {"build_info", "config_generation", "exchanges_accepted_total", "exchanges_inflight"}


def test_file_is_current() -> None:
    """The dashboard is what the tables say; `python -m scripts.grafana_dashboard` writes it anew."""
    assert DASHBOARD.read_text() == make_dashboard()


def test_dashboard_is_one_that_grafana_knows() -> None:
    """Grafana's own model of a dashboard holds all of the file, and nothing of it is unknown to it."""
    text = DASHBOARD.read_text()
    read = Dashboard.from_json(json.loads(text))

    assert json.loads(JSONEncoder().encode(read)) == json.loads(text)
    assert read.schema_version >= 41


def test_panels_have_a_place_of_their_own() -> None:
    """No two panels lie over each other, none is wider than the page, and each has a number of its own."""
    places: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert not cells & places, panel["title"]
        places |= cells
    numbers = [panel["id"] for panel in panels()]
    assert len(numbers) == len(set(numbers))


def test_data_source_and_colors_are_chosen_on_the_page() -> None:
    """It works in every Grafana: it names no data source of its own, and lets one choose the colors."""
    page = json.loads(DASHBOARD.read_text())
    variables = {variable["name"]: variable for variable in page["templating"]["list"]}

    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["color"]["multi"]
    assert variables["color"]["includeAll"]
    for variable in variables.values():
        query = variable["query"]["query"] if isinstance(variable["query"], dict) else ""
        assert find_unknown(query) == []
    used = set(re.findall(r'"uid": "([^"]*)"', DASHBOARD.read_text())) - {page["uid"]}
    assert used == {"${datasource}"}


@pytest.mark.parametrize("percent", [50, 95, 99])
def test_percentiles_have_exemplars(percent: int) -> None:
    """From each percentile of the colors it is one click to a trace."""
    (panel,) = [panel for panel in panels() if panel["title"] == f"p{percent} by color"]
    (target,) = panel["targets"]
    assert target["exemplar"] is True


def test_every_series_of_the_dashboard_exists() -> None:
    """No graph is empty because a metric or a label has another name."""
    assert [unknown for expr in dashboard_queries() for unknown in find_unknown(expr)] == []


def test_every_series_of_the_rules_exists() -> None:
    """No alert is silent because a metric or a label has another name."""
    assert [unknown for rule in rules() for unknown in find_unknown(rule["expr"])] == []


def test_every_series_of_the_page_exists() -> None:
    """Whoever copies a query out of the page on Prometheus gets an answer."""
    assert len(page_queries()) > 5
    assert [unknown for expr in page_queries() for unknown in find_unknown(expr)] == []


def test_every_metric_is_on_the_dashboard() -> None:
    """What is counted can be seen: a new metric gets a graph."""
    shown = " ".join(dashboard_queries())
    missing = {metric.shown.removeprefix("sillyproxy_") for metric in METRICS if metric.name not in shown}
    assert missing == NOT_SHOWN


def test_what_does_not_exist_is_found() -> None:
    """The judge of the tests above sees a wrong name, a wrong label, and a wrong label to sum by."""
    assert find_unknown("sum by (color) (sillyproxy_request_total)")[0] == "sillyproxy_request_total"
    assert find_unknown('sillyproxy_ready{color="blue"}') == ["sillyproxy_ready{color}"]
    assert find_unknown("sum by (colour) (sillyproxy_color_weight)") == ["colour"]
