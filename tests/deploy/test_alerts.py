"""The files for Prometheus: rules and scrape configuration, as promtool judges them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.cases import CASES, Case
from tests.deploy.promtool import DEPLOY, ROOT, RULES, promtool
from tests.test_docs import anchors_of

GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule
}
OPERATIONS = ROOT / "docs" / "operations.md"

alerts = pytest.mark.parametrize("name", ALERTS)
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)


def test_rules_are_rules() -> None:
    """Prometheus takes the rules."""
    assert f"{sum(len(group['rules']) for group in GROUPS)} rules found" in promtool("check", "rules", RULES)


def test_configuration_is_one(tmp_path: Path) -> None:
    """Prometheus takes the example configuration, with the rules that it names, once the token is there."""
    token = tmp_path / "token"
    token.touch()
    text = (DEPLOY / "prometheus.yml").read_text()
    changed = text.replace("/run/secrets/proxy_admin_token", str(token))
    assert changed != text
    (tmp_path / "prometheus.yml").write_text(changed)
    (tmp_path / RULES.name).write_text(RULES.read_text())

    assert "1 rule files found" in promtool("check", "config", tmp_path / "prometheus.yml")


def test_configuration_finds_every_proxy_of_the_stack() -> None:
    """The example asks the service of stack.yaml at its admin port, under the name that the alerts know."""
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    (scrape,) = config["scrape_configs"]
    (found,) = scrape["dns_sd_configs"]

    assert scrape["job_name"] == "sillyproxy"
    assert 'up{job="sillyproxy"}' in ALERTS["SillyproxyDown"]["expr"]
    assert found["names"] == ["tasks.proxy"]
    assert "proxy" in yaml.safe_load((ROOT / "stack.yaml").read_text())["services"]
    assert found["port"] == 9080


def make_tests(case: Case) -> list[dict[str, Any]]:
    """Return what promtool is to see of an alert: it fires, and not before; and not when it should not."""

    def at(minutes: int, *fires: dict[str, Any]) -> dict[str, Any]:
        return {"eval_time": f"{minutes}m", "alertname": case.alert, "exp_alerts": list(fires)}

    severity = ALERTS[case.alert]["labels"]["severity"]
    fires = {"exp_labels": case.labels | {"severity": severity}, "exp_annotations": {"summary": case.summary}}
    quiet = [at(minutes) for minutes in range(31)]
    return [
        {"interval": "1m", "input_series": as_input(case.bad), "alert_rule_test": tests}
        for tests in ([at(case.before)], [at(case.at, fires)])
    ] + [{"interval": "1m", "input_series": as_input(case.good), "alert_rule_test": quiet}]


def as_input(series: dict[str, str]) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in series.items()]


@cases
def test_alert_fires_when_it_should_and_not_else(case: Case, tmp_path: Path) -> None:
    """An alert fires in its situation, says it in these words, and waits as long as it should before."""
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:  # promtool compares all annotations; the others are the same each time
                rule["annotations"] = {"summary": rule["annotations"]["summary"]}
    (tmp_path / "rules.yml").write_text(json.dumps(rules))
    tests = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": make_tests(case)}
    (tmp_path / "tests.yml").write_text(json.dumps(tests))

    promtool("test", "rules", tmp_path / "tests.yml")


def test_every_alert_has_a_case() -> None:
    """No alert is there that was never seen to fire."""
    assert sorted(ALERTS) == sorted(case.alert for case in CASES)


@alerts
def test_alert_says_what_to_do(name: str) -> None:
    """Each alert has a severity, what it means, and a link to what the page on operations says to do."""
    rule = ALERTS[name]
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")

    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert (ROOT / page) == OPERATIONS
    assert anchor in anchors_of(OPERATIONS)
    # Only the summary is seen in the test above.
    assert "{{" not in rule["annotations"]["description"]


def test_operations_page_lists_the_alerts() -> None:
    """The page on operations has a row for each alert: its severity, how long it waits, where to read on."""
    rows = re.findall(
        r"^\| \[(Sillyproxy\w+)\]\(#([\w-]+)\) \| (\w+) \| (\w*) \| ",
        OPERATIONS.read_text(),
        re.MULTILINE,
    )
    assert rows == [
        (
            name,
            rule["annotations"]["runbook_url"].partition("#")[2],
            rule["labels"]["severity"],
            rule.get("for", ""),
        )
        for name, rule in ALERTS.items()
    ]
