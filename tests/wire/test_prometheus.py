"""Promise: what Prometheus tells of the proxy is what clients saw and what the log says."""

from __future__ import annotations

import json
import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from sillyproxy.metrics.table import METRICS
from tests.deploy.promql import dashboard_queries, page_queries, rules
from tests.wire.prometheus import Prometheus, prometheus
from tests.wire.running import ask
from tests.wire.stress_tools import loading, origins, request, serving, show, wait_until

REQUESTS = 4000
CLIENTS = 12
TOKEN = "a-token-of-letters"


class Seen(NamedTuple):
    """A Prometheus that has looked on while clients asked; what these saw; what the log says."""

    prometheus: Prometheus
    statuses: Counter[int]
    durations: dict[str, list[float]]  # by color, seconds, sorted


def make_request(number: int) -> tuple[bytes, bytes]:
    """Return a request that takes a few milliseconds, some longer; each 40th fails. Each has a trace."""
    chance = random.Random(number)
    path = (
        "/status/500"
        if number % 40 == 0
        else f"/sleep/{min(0.3, chance.lognormvariate(math.log(0.004), 0.8)):.5f}"
    )
    trace = f"{number:032x}"
    return b"GET", request(path, traceparent=f"00-{trace}-00f067aa0ba902b7-01")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("prometheus")
    log = folder / "access.log"
    with origins(2) as (blue, green):
        env = {
            "BLUE": blue.url,
            "BLUE_WEIGHT": "3",
            "GREEN": green.url,
            "SILLYPROXY_WORKERS": "2",
            "SILLYPROXY_ACCESS_LOG": str(log),
            "SILLYPROXY_LOG_FORMAT": "json",
            "SILLYPROXY_ADMIN_TOKEN": TOKEN,
        }
        with serving(env) as proxy, prometheus(folder, proxy.admin_port, TOKEN) as server:
            wait_until(lambda: server.value("up") == 1, "the first scrape")
            with loading(proxy.port, CLIENTS, make_request) as load:
                load.wait_answers(REQUESTS)
            asked = sum(load.statuses.values())
            counted = 'sum(sillyproxy_requests_total{color!="-"})'
            wait_until(lambda: server.value(counted) == asked, "a scrape after the last request")
            wait_until(lambda: len(log.read_text().splitlines()) == asked, "the last line of the log")
            durations: dict[str, list[float]] = defaultdict(list)
            for line in log.read_text().splitlines():
                entry = json.loads(line)
                durations[entry["color"]].append(entry["duration_ms"] / 1e3)
            assert not load.failures
            yield Seen(server, load.statuses, {name: sorted(taken) for name, taken in durations.items()})


def test_target_is_up(seen: Seen) -> None:
    """Prometheus finds the proxy, reads every scrape of it, and finds nothing odd in one."""
    (target,) = seen.prometheus.get("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    assert seen.prometheus.value('min_over_time(up{job="sillyproxy"}[1m])') == 1
    assert seen.prometheus.value("sillyproxy_ready") == 1


def test_nobody_else_may_ask(seen: Seen) -> None:
    """The proxy that Prometheus scrapes has a token, which the example configuration brings along."""
    (target,) = seen.prometheus.get("targets")["activeTargets"]
    address = target["discoveredLabels"]["__address__"]
    assert ask(address, "/metrics")[0] == 401
    assert ask(address, "/metrics", Authorization=f"Bearer {TOKEN}")[0] == 200


def test_counts_are_what_clients_saw(seen: Seen) -> None:
    """As many requests are counted as clients had answers, by class of status; the split is as asked."""
    by_code = {labels["code"]: value for labels, value in seen.prometheus.ask(
        'sum by (code) (sillyproxy_requests_total{color!="-"}) > 0')}  # fmt: skip
    by_color = {labels["color"]: value for labels, value in seen.prometheus.ask(
        'sum by (color) (sillyproxy_requests_total{color!="-"})')}  # fmt: skip

    assert by_code == {"2xx": seen.statuses[200], "5xx": seen.statuses[500]}
    assert by_color == {name: len(taken) for name, taken in seen.durations.items()}
    assert by_color["blue"] / by_color["green"] == pytest.approx(3, rel=0.02)


@pytest.mark.parametrize("color", ["blue", "green"])
@pytest.mark.parametrize("percent", [50, 90, 95, 99])
def test_percentiles_are_those_of_the_log(seen: Seen, percent: int, color: str) -> None:
    """`histogram_quantile` is within a few percent of what the access log's raw durations say."""
    taken = seen.durations[color]
    true = taken[math.ceil(percent / 100 * len(taken)) - 1]
    value = seen.prometheus.value(
        f"histogram_quantile({percent / 100}, sillyproxy_request_duration_seconds_bucket{{color='{color}'}})"
    )
    assert value is not None
    show("percentile", color=color, percent=percent, true_ms=true * 1e3, off_percent=(value / true - 1) * 100)

    # Only ten requests of green are slower than its p99: where they lie between two edges is chance.
    assert value == pytest.approx(true, rel=0.05 if percent < 99 else 0.15)


def test_exemplars_lead_to_requests(seen: Seen) -> None:
    """Prometheus keeps traces beside the buckets: each is of a request that was made, and took so long."""
    found = seen.prometheus.get(
        "query_exemplars",
        query="sillyproxy_request_duration_seconds_bucket",
        start=str(time.time() - 300),
        end=str(time.time() + 1),
    )
    of_colors = {series["seriesLabels"]["color"] for series in found}
    exemplars = [(series["seriesLabels"], exemplar) for series in found for exemplar in series["exemplars"]]

    assert of_colors == {"blue", "green"}
    assert len({labels["le"] for labels, _ in exemplars}) > 5
    for labels, exemplar in exemplars:
        seconds = float(exemplar["value"])
        assert seconds <= float(labels["le"])
        number = int(exemplar["labels"]["trace_id"], 16)
        assert 1 <= number <= sum(seen.statuses.values())
        assert any(abs(seconds - taken) < 1e-6 for taken in seen.durations[labels["color"]])


def test_sum_of_durations_is_that_of_the_log(seen: Seen) -> None:
    """The mean that Prometheus makes of sum and count is that of the log."""
    for color, taken in seen.durations.items():
        total = seen.prometheus.value(f'sillyproxy_request_duration_seconds_sum{{color="{color}"}}')
        assert total == pytest.approx(sum(taken), rel=0.001)


def test_upstream_times_are_part_of_the_whole(seen: Seen) -> None:
    """First bytes take part of the requests' time, each is counted; so is each connection that was opened."""
    value = seen.prometheus.value
    for color, taken in seen.durations.items():
        waited = value(f'sillyproxy_upstream_first_byte_seconds_sum{{color="{color}"}}') or 0
        assert 0.5 * sum(taken) < waited < sum(taken)
        assert value(f'sillyproxy_upstream_first_byte_seconds_count{{color="{color}"}}') == len(taken)
        opened = value(f'sillyproxy_upstream_connects_total{{color="{color}"}}')
        assert value(f'sillyproxy_upstream_connect_seconds_count{{color="{color}"}}') == opened


def test_processes_are_watched(seen: Seen) -> None:
    """Memory, open files and CPU time of every process are there, and CPU time grows."""
    by_process = {
        labels["process"]: value for labels, value in seen.prometheus.ask("sillyproxy_process_memory_bytes")
    }
    assert by_process.keys() == {"supervisor", "controller", "worker-0", "worker-1"}
    assert min(by_process.values()) > 1 << 20
    spent = seen.prometheus.value('sum(sillyproxy_process_cpu_seconds_total{process=~"worker.*"})')
    assert spent is not None
    assert spent > 0.1
    assert (
        seen.prometheus.value("max(sillyproxy_process_open_files / sillyproxy_process_max_files)") is not None
    )


def test_every_metric_arrives(seen: Seen) -> None:
    """Prometheus has every metric of the table, except where there is nothing to say."""
    names = set(seen.prometheus.get("label/__name__/values"))
    needed = {m.name + "_bucket" if m.kind == "histogram" else m.shown for m in METRICS}
    # No active checks, no certificate, no memory limit (or one, where the tests run under one).
    silent = {
        "sillyproxy_tls_certificate_expiry_timestamp_seconds",
        "sillyproxy_health_checks_total",
        "sillyproxy_memory_used_bytes",
        "sillyproxy_memory_limit_bytes",
    }
    assert needed - names <= silent


def test_every_query_of_the_dashboard_is_understood(seen: Seen) -> None:
    """Grafana shows no error: Prometheus evaluates each query of the dashboard."""
    queries = list(dashboard_queries())
    answers = {query: seen.prometheus.ask(query) for query in queries}
    assert len(queries) > 50
    # And most of them have something to show.
    assert sum(bool(answer) for answer in answers.values()) > len(answers) * 0.8


def test_every_query_of_the_page_is_understood(seen: Seen) -> None:
    """What the page on Prometheus tells to ask has an answer."""
    assert all(seen.prometheus.ask(query) for query in page_queries())


def test_every_rule_is_evaluated(seen: Seen) -> None:
    """Prometheus evaluates each rule, recording or alerting, without an error."""
    groups = seen.prometheus.get("rules")["groups"]
    evaluated = [rule for group in groups for rule in group["rules"]]

    def have_all_run() -> bool:
        evaluated[:] = [rule for group in seen.prometheus.get("rules")["groups"] for rule in group["rules"]]
        return all(rule["health"] != "unknown" for rule in evaluated)

    wait_until(have_all_run, "the first evaluation of each rule")
    assert len(evaluated) == len(list(rules()))
    assert [(rule["name"], rule.get("lastError")) for rule in evaluated if rule["health"] != "ok"] == []


def test_alerts_are_those_of_the_moment(seen: Seen) -> None:
    """A color that fails one request of forty is on its way to an alert; nothing else is wrong."""
    names: set[str] = set()

    def is_known() -> bool:
        names.clear()
        names.update(alert["labels"]["alertname"] for alert in seen.prometheus.get("alerts")["alerts"])
        return "SillyproxyErrors" in names

    wait_until(is_known, "the alert")
    assert names == {"SillyproxyErrors"}
