"""The configuration as an operator reads it."""

from __future__ import annotations

import pytest

from sillyproxy.config import ConfigError, Problem, load
from sillyproxy.config.report import (
    config_text,
    help_text,
    name_changes,
    problems_text,
    settings_in_force,
    warnings_text,
)
from sillyproxy.config.settings import PROXY_SETTINGS, SETTINGS
from sillyproxy.config.values import mask


def config_report(environ: dict[str, str]) -> list[str]:
    """Return the lines of the report with single spaces."""
    return [" ".join(line.split()) for line in config_text(load(environ, cpus=2)[0]).splitlines()]


def test_problems_are_shown_as_a_table() -> None:
    """
    Every problem has a line: variable and value, origin, what is wrong and what to do.
    """
    with pytest.raises(ConfigError) as caught:
        load({"GREEN_WEIGHT": "ten", "GREEN": "myapp-v2:8080"}, cpus=1)

    assert problems_text(caught.value.problems).splitlines() == [
        "sillyproxy: 2 problems in the configuration, nothing was started",
        "  GREEN=myapp-v2:8080  (environment)  no scheme; did you mean http://myapp-v2:8080 ?",
        "  GREEN_WEIGHT=ten     (environment)  "
        "not a number; use 0 or more, for instance GREEN_WEIGHT=1",
    ]  # fmt: skip


def test_report_says_what_became_of_the_configuration() -> None:
    """
    After a reload the same report says that the old configuration goes on.
    """
    text = problems_text([Problem("BLUE", "x", "environment", "no")], "the old one goes on")

    assert text.splitlines()[0] == "sillyproxy: 1 problem in the configuration, the old one goes on"


def test_long_value_moves_its_own_line_only() -> None:
    """
    One long value does not push the other lines off the screen.
    """
    problems = [Problem("A", "x" * 150, "environment", "no"), Problem("B", "1", "environment", "no")]

    assert problems_text(problems).splitlines()[2] == "  B=1  (environment)  no"


def test_no_warnings_are_no_text() -> None:
    """
    Where nothing is to be warned of, nothing is printed.
    """
    assert warnings_text([]) == ""


def test_warning_of_a_variable_that_is_not_set_shows_its_name() -> None:
    """
    A warning that something is missing names the variable to set.
    """
    text = warnings_text(load({}, cpus=1)[1])

    assert text.splitlines()[1].startswith("  BLUE  (not set)  no color has a URL")


def test_effective_configuration_shows_each_color_with_share_and_origin() -> None:
    """
    A color's line says what percentage of the requests it gets, why, and where it runs.
    """
    lines = config_report({"BLUE": "http://a", "BLUE_WEIGHT": "2", "SILLYPROXY_COLORS": "blue,green,red", "RED": "http://[::1]:1/x"})  # fmt: skip  # noqa: E501

    assert lines[:3] == [
        "blue 66.67 % of requests, weight 2 (environment) http://a:80 (environment)",
        "green absent GREEN is not set",
        "red 33.33 % of requests, weight 1 (default) http://[::1]:1/x (environment)",
    ]


def test_shares_are_zero_when_all_weights_are() -> None:
    """
    With all colors drained the report still prints, and says 0 %.
    """
    assert config_report({"BLUE": "http://a", "BLUE_WEIGHT": "0"})[0].startswith("blue 0 % of requests")


def test_effective_configuration_shows_what_has_effect_on_a_color() -> None:
    """
    The checks and limits of each present color have a line each; those that do nothing there have none.
    """
    environ = {"BLUE": "http://a", "BLUE_HEALTH": "/up", "BLUE_HEALTH_STATUS": "2xx", "GREEN_HEALTH": "/up"}
    lines = [line for line in config_report(environ) if line.startswith(("BLUE", "GREEN"))]

    assert lines == [
        "BLUE_HEALTH /up environment",
        "BLUE_HEALTH_INTERVAL 2s default",
        "BLUE_HEALTH_TIMEOUT 1s default",
        "BLUE_HEALTH_RISE 2 default",
        "BLUE_HEALTH_FALL 3 default",
        "BLUE_HEALTH_STATUS 200-299 environment",
        "BLUE_MAX_CONNECTIONS no limit default",
        "BLUE_PROXY_PROTOCOL off default",
    ]


def test_effective_configuration_shows_limits_with_their_queue() -> None:
    """
    Where an endpoint's requests are limited, the queue before it is shown as well.
    """
    lines = config_report({"BLUE": "http://a", "BLUE_MAX_CONNECTIONS": "100"})

    assert "BLUE_HEALTH none; traffic alone tells who is well default" in lines
    assert "BLUE_MAX_QUEUE 1024 default" in lines
    assert "BLUE_QUEUE_TIMEOUT 1s default" in lines
    assert not any(line.startswith("BLUE_HEALTH_") for line in lines)


def test_effective_configuration_shows_each_setting_with_value_and_origin() -> None:
    """
    Every setting in force has a line, with the value as it was understood.
    """
    lines = config_report({"SILLYPROXY_MAX_BODY_BYTES": "1024k", "SILLYPROXY_ADMIN": "OFF"})

    assert {line.split()[0] for line in lines[3:]} == {s.name for s in PROXY_SETTINGS}
    assert "SILLYPROXY_MAX_BODY_BYTES 1m environment" in lines
    assert "SILLYPROXY_ADMIN off environment" in lines
    assert "SILLYPROXY_WORKERS 2 (auto) default" in lines
    assert "SILLYPROXY_DISCOVERY auto default" in lines
    assert "SILLYPROXY_MAX_CONNECTIONS as many as the open-file limit allows default" in lines


@pytest.mark.parametrize(
    "name",
    ["SILLYPROXY_ADMIN_TOKEN", "x_secret_y", "PASSWORD", "SILLYPROXY_TLS_KEY", "SILLYPROXY_OTLP_HEADERS"],
)
def test_secret_is_masked(name: str) -> None:
    """
    A setting whose name says that it is a secret is not shown.
    """
    assert mask(name, "hunter2") == "***"


SECRET = {"BLUE": "http://a", "SILLYPROXY_ADMIN_TOKEN": "hunter2hunter2"}


def test_token_is_shown_nowhere() -> None:
    """
    The admin token is not in what `check` prints, in the settings of the dashboard, in what a reload
    changed, in what is wrong with it, or where a configuration is printed by mistake.
    """
    config, _ = load(SECRET, cpus=1)
    other, _ = load(SECRET | {"SILLYPROXY_ADMIN_TOKEN": "hunter2hunter3"}, cpus=1)
    with pytest.raises(ConfigError) as caught:
        load(SECRET | {"SILLYPROXY_ADMIN_TOKEN": "hunter2 hunter2"}, cpus=1)

    shown = [
        config_text(config),
        *(row.value for row in settings_in_force(config)),
        name_changes(config, other),
        problems_text(caught.value.problems),
        repr(config.admin_token is None),
    ]
    assert "SILLYPROXY_ADMIN_TOKEN=***" in problems_text(caught.value.problems)
    assert not [text for text in shown if "hunter2" in text]


def test_settings_in_force_are_those_that_have_effect() -> None:
    """
    Every setting of the proxy and of each color that is there is listed once, with its value and where it
    comes from; of a color that is not there, that it is absent.
    """
    rows = {
        row.name: row for row in settings_in_force(load({"BLUE": "http://a", "BLUE_WEIGHT": "4"}, cpus=1)[0])
    }
    assert {s.name for s in PROXY_SETTINGS} <= rows.keys()
    assert (rows["BLUE_WEIGHT"].value, rows["BLUE_WEIGHT"].origin) == ("4", "environment")
    assert (rows["GREEN"].value, rows["GREEN"].origin) == ("the color is absent", "default")
    assert "GREEN_WEIGHT" not in rows
    assert "BLUE_HEALTH_RISE" not in rows


def test_changes_of_a_reload_are_told_with_both_values() -> None:
    """
    What a reload changed is said as from what to what; a color that is new, with all that it is; a secret by
    its name; and of many changes, how many there are.
    """
    before, _ = load({"BLUE": "http://a", "BLUE_WEIGHT": "4"}, cpus=1)
    shifted, _ = load({"BLUE": "http://a", "BLUE_WEIGHT": "3"}, cpus=1)
    more, _ = load({"BLUE": "http://a", "BLUE_WEIGHT": "4", "GREEN": "http://b"}, cpus=1)
    secret, _ = load(SECRET, cpus=1)
    changed, _ = load(SECRET | {"SILLYPROXY_ADMIN_TOKEN": "hunter2hunter3"}, cpus=1)

    assert name_changes(before, shifted) == "BLUE_WEIGHT 4 → 3"
    assert name_changes(before, before) == ""
    assert name_changes(before, more).startswith(
        "GREEN the color is absent → http://b:80, GREEN_WEIGHT (not set) → 1"
    )
    assert name_changes(secret, changed) == "SILLYPROXY_ADMIN_TOKEN changed"
    assert name_changes(before, more, at_most=1).startswith("and ")


def test_help_names_every_setting() -> None:
    """
    `serve --help` lists every variable with its default.
    """
    text = help_text()

    assert all(f"  {setting.name}\n" in text for setting in SETTINGS)
    assert "Default: 127.0.0.1:9080." in text
    assert max(map(len, text.splitlines())) <= 100
