"""
Write deploy/grafana/sillyproxy.json: a Grafana dashboard, made of scripts/grafana_graphs.py.

Grafana's own library knows the schema, so what it writes is valid. A test checks that the file is
current, that every metric in it exists, and that a real Prometheus understands every query.

    python -m scripts.grafana_dashboard
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models import heatmap as h
from grafana_foundation_sdk.models import prometheus as p
from scripts.grafana_graphs import AT_A_GLANCE, CANARY, REQUESTS, ROWS, C, Graph, Query

FILE: Final = Path(__file__).parents[1] / "deploy" / "grafana" / "sillyproxy.json"

SOURCE: Final = d.DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT: Final = 8


def make_query(query: Query, ref: str) -> Builder[p.Dataquery]:
    """Return Grafana's form of a query over time."""
    made = prometheus.Dataquery().datasource(SOURCE).expr(query.expr).legend_format(query.legend)
    return made.ref_id(ref).range().exemplar(query.exemplar)


def make_graph(graph: Graph, number: int) -> timeseries.Panel:
    """Return Grafana's form of a graph."""
    panel = (
        timeseries.Panel()
        .id(number)
        .title(graph.title)
        .description(graph.about)
        .datasource(SOURCE)
        .height(HEIGHT)
        .span(graph.width)
        .unit(graph.unit)
        .line_width(1)
        .fill_opacity(30 if graph.stacked else 8)
        .show_points(c.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(c.LegendDisplayMode.LIST)
            .placement(c.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.DESCENDING))
        .color_scheme(dashboard.FieldColor().mode(d.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    )
    if graph.stacked:
        panel.stacking(common.StackingConfig().mode(c.StackingMode.NORMAL))
    if graph.largest is not None:
        panel.min(0).max(graph.largest)
    for name in ("blue", "green"):
        fixed = {"mode": "fixed", "fixedColor": name}
        panel.override_by_regexp(f"^{name}( seen)?$", [d.DynamicConfigValue(id_val="color", value=fixed)])
    dashes = {"fill": "dash", "dash": [6, 6]}
    panel.override_by_regexp("asked$", [d.DynamicConfigValue(id_val="custom.lineStyle", value=dashes)])
    for place, query in enumerate(graph.queries):
        panel.with_target(make_query(query, chr(ord("A") + place)))
    return panel


def make_table(number: int) -> table.Panel:
    """Return the table of what is so now, a line for each color."""
    panel = (
        table.Panel()
        .id(number)
        .title("At a glance")
        .description("Each color now: compare a line with the one above it.")
        .datasource(SOURCE)
        .height(6)
        .span(24)
        .with_transformation(d.DataTransformerConfig(id_val="merge", options={}))
    )
    names = {"color": "Color"}
    for place, (title, unit, expr) in enumerate(AT_A_GLANCE):
        ref = chr(ord("A") + place)
        query = prometheus.Dataquery().datasource(SOURCE).expr(expr).ref_id(ref).instant()
        panel.with_target(query.format(p.PromQueryFormat.TABLE))
        panel.override_by_name(title, [d.DynamicConfigValue(id_val="unit", value=unit)])
        names[f"Value #{ref}"] = title
    return panel.with_transformation(
        d.DataTransformerConfig(
            id_val="organize", options={"excludeByName": {"Time": True}, "renameByName": names}
        )
    )


def make_heatmap(number: int) -> heatmap.Panel:
    """Return the picture of all durations."""
    buckets = f"sum by (le) (rate(sillyproxy_request_duration_seconds_bucket{C}[$__rate_interval]))"
    query = (
        prometheus.Dataquery().datasource(SOURCE).expr(buckets).legend_format("{{le}}").ref_id("A").range()
    )
    return (
        heatmap.Panel()
        .id(number)
        .title("Durations")
        .description("How many requests took how long. Two bands, with a color alone: two kinds of requests.")
        .datasource(SOURCE)
        .height(10)
        .span(24)
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .color(
            heatmap.HeatmapColorOptions()
            .mode(h.HeatmapColorMode.SCHEME)
            .scheme("Turbo")
            .scale(h.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
        )
        .with_target(query.format(p.PromQueryFormat.HEATMAP).exemplar(True))
    )


def make_choice(name: str, label: str, query: str, *, many: bool) -> dashboard.QueryVariable:
    """Return a choice at the top of the page, from the values of a label."""
    choice = (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": query, "refId": name, "qryType": 1})
        .refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(d.VariableSort.ALPHABETICAL_ASC)
        .multi(many)
        .include_all(many)
    )
    return choice.all_value(".*").current(ALL) if many else choice


ALL: Final = d.VariableOption(selected=True, text="All", value="$__all")


def make_dashboard() -> str:
    """Return the dashboard, as JSON."""
    page = (
        dashboard.Dashboard("sillyproxy")
        .uid("sillyproxy")
        .description("A blue-green and canary edge proxy: is green as good as blue?")
        .tags(["sillyproxy", "canary"])
        .time("now-30m", "now")
        .refresh("5s")
        .tooltip(d.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(make_choice("job", "Job", "label_values(sillyproxy_build_info, job)", many=False))
        .with_variable(
            make_choice(
                "instance", "Proxy", 'label_values(sillyproxy_build_info{job=~"$job"}, instance)', many=True
            )
        )
        .with_variable(
            make_choice(
                "color", "Color", 'label_values(sillyproxy_color_weight{job=~"$job"}, color)', many=True
            )
        )
    )
    number = 0
    for title, graphs in ROWS:
        page.with_row(dashboard.Row(title).id(number := number + 1))
        if graphs is CANARY:
            page.with_panel(make_table(number := number + 1))
        for graph in graphs:
            page.with_panel(make_graph(graph, number := number + 1))
        if graphs is REQUESTS:
            page.with_panel(make_heatmap(number := number + 1))
    return JSONEncoder(indent=2, sort_keys=True).encode(page.build()) + "\n"


if __name__ == "__main__":
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(make_dashboard(), encoding="utf-8")
