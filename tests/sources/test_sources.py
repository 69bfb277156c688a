"""The one way to a configuration: environment, files and command line together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sillyproxy import sources
from sillyproxy.cli import sillyproxy
from sillyproxy.config import ConfigError, Problem, Reading
from sillyproxy.config.schema import Config, Origin
from sillyproxy.sources import files

RELOAD_PAGE = Path(__file__).parents[2] / "docs" / "howto" / "reload.md"


def load(environ: dict[str, str], **more: Any) -> tuple[Config, tuple[Problem, ...]]:
    """Load without a command line, unless it is given."""
    return sources.load(environ, **{"colors": (), "listen": None, "cpus": 2, **more})


@pytest.fixture
def edge(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Return what writes a file and returns an environment that names it."""

    def write(text: str) -> dict[str, str]:
        (tmp_path / "edge.env").write_text(text)
        return {"SILLYPROXY_ENV_FILE": str(tmp_path / "edge.env")}

    return write


def test_file_wins_over_the_environment_and_the_command_line_over_all(
    edge: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    """
    What can change while we run wins over what was set at the start, and what was typed over both.
    """
    environ = edge("BLUE=http://file\nSILLYPROXY_LISTEN=:2\nSILLYPROXY_COLORS=blue,red\n")
    config, warnings = load(
        {**environ, "BLUE": "http://env", "GREEN": "http://env", "SILLYPROXY_LISTEN": ":1"},
        listen=":3",
        colors=("violet",),
    )

    assert str(config.colors[0].upstreams[0]) == "http://file:80"
    assert config.origins["BLUE"] == Origin("http://file", f"file {tmp_path}/edge.env, line 1")
    assert str(config.listeners[0]) == ":3"
    assert config.color_names == ("blue", "red", "violet")
    assert config.env_files == (environ["SILLYPROXY_ENV_FILE"],)
    assert warnings == ()


def test_empty_value_in_a_file_unsets_the_environments(edge: Callable[[str], dict[str, str]]) -> None:
    """
    `GREEN=` in a file takes green away, although the service was started with it.
    """
    config, _ = load({**edge("GREEN=\n"), "BLUE": "http://a", "GREEN": "http://b"})

    assert [color.name for color in config.colors] == ["blue"]


def test_problems_of_files_and_values_are_told_together(
    edge: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    """
    A missing file, a bad line, a bad value in a file and one in the environment show in one go.
    """
    environ = edge("BLUE=http://a\nBLUE_WEIGHT=ten\nGREEN http://b\n")
    environ["SILLYPROXY_ENV_FILE"] += f",{tmp_path}/missing.env"
    environ["SILLYPROXY_RETRY"] = "never"
    with pytest.raises(ConfigError) as caught:
        load(environ)

    assert [(p.name, p.source) for p in caught.value.problems] == [
        ("SILLYPROXY_ENV_FILE", f"file {tmp_path}/edge.env, line 3"),
        ("SILLYPROXY_ENV_FILE", "environment"),
        ("SILLYPROXY_RETRY", "environment"),
        ("BLUE_WEIGHT", f"file {tmp_path}/edge.env, line 2"),
    ]


def test_check_shows_the_file_and_line_of_each_value(edge: Callable[[str], dict[str, str]]) -> None:
    """
    `sillyproxy check` says what would be in force after a reload, and where each value stands.
    """
    environ = edge("# edge\nBLUE=http://a\nBLUE_WEIGHT=4\nSILLYPROXY_RETRY=idempotent\n")
    result = CliRunner(env=environ).invoke(sillyproxy, ["check"], standalone_mode=False)
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    file = f"file {environ['SILLYPROXY_ENV_FILE']}"

    assert result.return_value == 0
    assert lines[0] == f"blue 100 % of requests, weight 4 ({file}, line 3) http://a:80 ({file}, line 2)"
    assert f"SILLYPROXY_RETRY idempotent {file}, line 4" in lines
    assert f"SILLYPROXY_ENV_FILE {environ['SILLYPROXY_ENV_FILE']} environment" in lines


def test_check_shows_all_that_is_wrong_with_the_files(edge: Callable[[str], dict[str, str]]) -> None:
    """
    `sillyproxy check` ends with status 2 and names file and line of each mistake.
    """
    environ = edge("BLUE http://a\nBLUE_WEIGHT=ten\n")
    result = CliRunner(env=environ).invoke(sillyproxy, ["check"], standalone_mode=False)
    file = f"file {environ['SILLYPROXY_ENV_FILE']}"

    assert result.return_value == 2
    assert "2 problems in the configuration, it would not start" in result.output
    assert f"({file}, line 1)" in result.output
    assert f"({file}, line 2)" in result.output


def test_mistakes_look_as_the_documentation_shows_them(edge: Callable[[str], dict[str, str]]) -> None:
    """
    The example of a refused file in the how-to is what `sillyproxy check` prints.
    """
    environ = edge("BLUE=http://myapp-v1:8080\nBLUE_WEIGHT=4\nGREEN =http://myapp-v2:8080\nGREEN_WEIGHT=x\n")
    result = CliRunner(env=environ).invoke(sillyproxy, ["check"], standalone_mode=False)
    shown = result.output.replace(environ["SILLYPROXY_ENV_FILE"], "/etc/edge/edge.env")

    assert shown in RELOAD_PAGE.read_text(encoding="utf-8")


def test_next_generation_keeps_the_rows_of_all_names(edge: Callable[[str], dict[str, str]]) -> None:
    """
    A color that goes and comes back finds its own counts again; a new one gets a row of its own.
    """
    first, _ = load(edge("SILLYPROXY_COLORS=blue,green"))
    second, _ = load(edge("SILLYPROXY_COLORS=red,blue"), previous=first)
    third, _ = load(edge("SILLYPROXY_COLORS=green"), previous=second)

    assert [config.generation for config in (first, second, third)] == [1, 2, 3]
    assert second.slots == third.slots == ("blue", "green", "red")


def test_more_names_than_rows_ask_for_a_restart(edge: Callable[[str], dict[str, str]]) -> None:
    """
    The 32nd name since the start is refused, and the remedy is named; a restart takes it.
    """
    first, _ = load(edge("SILLYPROXY_COLORS=" + ",".join(f"c{n}" for n in range(30))))
    second, _ = load(edge("SILLYPROXY_COLORS=c30"), previous=first)
    with pytest.raises(ConfigError) as caught:
        load(edge("SILLYPROXY_COLORS=c30,c31"), previous=second)

    (problem,) = caught.value.problems
    assert problem.name == "SILLYPROXY_COLORS"
    assert "restart" in problem.reason
    assert load(edge("SILLYPROXY_COLORS=c30,c31"))[0].slots == ("c30", "c31")


def test_file_that_names_files_is_warned_of(edge: Callable[[str], dict[str, str]], tmp_path: Path) -> None:
    """
    Which files are read is decided at the start, by the process environment.
    """
    config, (warning,) = load(edge("BLUE=http://a\nSILLYPROXY_ENV_FILE=/other\n"))

    assert config.env_files == (str(tmp_path / "edge.env"),)
    assert (warning.name, warning.source) == ("SILLYPROXY_ENV_FILE", f"file {tmp_path}/edge.env, line 2")


@pytest.mark.parametrize("text", [",", "/a,,/b", "/a,"])
def test_list_of_files_with_a_gap_is_refused(text: str) -> None:
    """
    A comma too many is told as such, once.
    """
    with pytest.raises(ConfigError) as caught:
        load({"SILLYPROXY_ENV_FILE": text})

    (problem,) = caught.value.problems
    assert problem.name == "SILLYPROXY_ENV_FILE"
    assert problem.reason.startswith("nothing between two commas, or at an end")
    assert sources.fingerprint({"SILLYPROXY_ENV_FILE": text}) == b""


@pytest.mark.parametrize("environ", [{}, {"SILLYPROXY_ENV_FILE": ""}, {"SILLYPROXY_ENV_FILE": " \n"}])
def test_without_files_nothing_changes(environ: dict[str, str]) -> None:
    """
    Who names no file pays for no looks.
    """
    assert sources.fingerprint(environ) == b""
    assert load({**environ, "BLUE": "http://a"})[0].env_files == ()


def test_fingerprint_changes_with_the_files(edge: Callable[[str], dict[str, str]]) -> None:
    """
    Each change is seen, and going back is the same as before.
    """
    before = sources.fingerprint(edge("A=1"))
    after = sources.fingerprint(edge("A=2"))

    assert len({b"", before, after}) == 3
    assert sources.fingerprint(edge("A=1")) == before


def test_files_that_are_swapped_while_they_are_read_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Two files that change together are never taken one before and one after the change.
    """
    looks = [
        Reading({"BLUE": Origin("http://old-and-new", "file f, line 1")}, fingerprint=b"half"),
        Reading({"BLUE": Origin("http://new", "file f, line 1")}, fingerprint=b"new"),
    ]

    def read_files(paths: Sequence[str]) -> Reading:
        return looks.pop(0)

    monkeypatch.setattr(files, "read_files", read_files)
    monkeypatch.setattr(files, "fingerprint", lambda paths: b"new")
    config, _ = load({"SILLYPROXY_ENV_FILE": "/f"})

    assert str(config.colors[0].upstreams[0]) == "http://new:80"


def test_files_that_never_settle_are_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A file that somebody writes without end does not keep the proxy from starting.
    """
    count = iter(range(1000))
    monkeypatch.setattr(files, "fingerprint", lambda paths: str(next(count)).encode())
    monkeypatch.setattr(files, "read_files", lambda paths: Reading({"BLUE": Origin("http://a", "file f")}))

    assert load({"SILLYPROXY_ENV_FILE": "/f"})[0].colors
    assert next(count) <= sources.MAX_LOOKS


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    content=st.one_of(
        st.binary(max_size=200), st.text(max_size=100).map(lambda t: t.encode("utf-8", "replace"))
    ),
    name=st.sampled_from(["edge.env", "BLUE", "GREEN_WEIGHT", "SILLYPROXY_COLORS"]),
)
def test_any_file_is_a_config_or_problems(tmp_path: Path, content: bytes, name: str) -> None:
    """
    Whatever somebody puts into the directory, the proxy takes it or says what is wrong; it never breaks down.
    """
    (tmp_path / name).write_bytes(content)
    environ = {"SILLYPROXY_ENV_FILE": str(tmp_path), "BLUE": "http://a"}
    try:
        _, notes = load(environ)
    except ConfigError as error:
        notes = error.problems
        assert notes
    finally:
        (tmp_path / name).unlink()

    assert all(str(note).isprintable() for note in notes)
