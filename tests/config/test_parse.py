"""A draft becomes one Config, or all that is wrong with it."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillyproxy.config import ConfigError, Problem, load
from sillyproxy.config.parse import MAX_PROBLEMS, MAX_TEXTS
from sillyproxy.config.schema import (
    AccessLog,
    Color,
    Config,
    Limits,
    Listener,
    Origin,
    Outlier,
    Probe,
    Retry,
    Timeouts,
    Upstream,
)
from sillyproxy.config.settings import COLOR_SETTINGS, PROXY_SETTINGS

BLUE = {"BLUE": "http://a"}


def config_of(environ: dict[str, str], **more: Any) -> Config:
    """Return the configuration of an environment."""
    return load(environ, cpus=3, **more)[0]


def warnings_of(environ: dict[str, str], **more: Any) -> list[Problem]:
    """Return the warnings of an environment."""
    return list(load(environ, cpus=3, **more)[1])


def problems_of(environ: dict[str, str], **more: Any) -> list[Problem]:
    """Return what is wrong with an environment."""
    with pytest.raises(ConfigError) as caught:
        load(environ, cpus=3, **more)
    return list(caught.value.problems)


def test_defaults_of_the_table_are_those_of_the_schema() -> None:
    """
    An empty environment gives the documented defaults, and tests that make a Config by hand get the same.
    """
    assert config_of({}) == Config(workers=3)


def test_every_setting_arrives_at_its_place() -> None:
    """
    Each variable changes what it is for.
    """
    config = config_of(
        {
            "BLUE": "http://a:8080/x/, http://b",
            "BLUE_WEIGHT": "4",
            "BLUE_HEALTH": "/up?deep=1",
            "BLUE_HEALTH_INTERVAL": "500ms",
            "BLUE_HEALTH_TIMEOUT": "250ms",
            "BLUE_HEALTH_RISE": "4",
            "BLUE_HEALTH_FALL": "5",
            "BLUE_HEALTH_STATUS": "2xx,301",
            "BLUE_MAX_CONNECTIONS": "6",
            "BLUE_MAX_QUEUE": "0",
            "BLUE_QUEUE_TIMEOUT": "7ms",
            "GREEN": "http://c",
            "SILLYPROXY_LISTEN": "127.0.0.1:80,unix:/s",
            "SILLYPROXY_ENV_FILE": "/a, b",
            "SILLYPROXY_EJECT_AFTER": "0",
            "SILLYPROXY_EJECT_TIME": "8s",
            "SILLYPROXY_SLOW_START": "9s",
            "SILLYPROXY_RETRY": "Idempotent",
            "SILLYPROXY_RETRY_BUDGET": "20%",
            "SILLYPROXY_GATE": "any",
            "SILLYPROXY_ADMIN": "off",
            "SILLYPROXY_WORKERS": "2",
            "SILLYPROXY_COLOR_HEADER": "X-Color",
            "SILLYPROXY_ACCESS_LOG": "/log/a",
            "SILLYPROXY_ACCESS_LOG_FORMAT": "{status}",
            "SILLYPROXY_ACCESS_LOG_SAMPLE": "10%",
            "SILLYPROXY_LOG_FORMAT": "JSON",
            "SILLYPROXY_LOG_LEVEL": "Debug",
            "SILLYPROXY_DISCOVERY": "dns",
            "SILLYPROXY_DISCOVERY_INTERVAL": "2s",
            "SILLYPROXY_CONNECT_TIMEOUT": "1ms",
            "SILLYPROXY_RESPONSE_TIMEOUT": "2ms",
            "SILLYPROXY_HEADER_TIMEOUT": "3ms",
            "SILLYPROXY_IDLE_TIMEOUT": "4ms",
            "SILLYPROXY_DRAIN_DELAY": "0",
            "SILLYPROXY_DRAIN_TIMEOUT": "5ms",
            "SILLYPROXY_MAX_HEADER_BYTES": "8k",
            "SILLYPROXY_MAX_BODY_BYTES": "1m",
            "SILLYPROXY_MAX_CONNECTIONS": "7",
            "SILLYPROXY_TRUSTED_PROXIES": "10.0.0.0/8",
        },
        colors=["red"],
        generation=5,
    )

    assert config == Config(
        color_names=("blue", "green", "red"),
        slots=("blue", "green", "red"),
        colors=(
            Color(
                "blue",
                (Upstream("http", "a", 8080, "/x"), Upstream("http", "b", 80)),
                4.0,
                Probe("/up?deep=1", 0.5, 0.25, 4, 5, ((200, 299), (301, 301))),
                6,
                0,
                0.007,
            ),
            Color("green", (Upstream("http", "c", 80),), 1.0),
        ),
        color_header="X-Color",
        listeners=(Listener("127.0.0.1", 80), Listener(path="/s")),
        admin=None,
        workers=2,
        access_log=AccessLog("/log/a", "{status}", 0.1),
        log_format="json",
        log_level="debug",
        discovery="dns",
        discovery_interval_s=2.0,
        timeouts=Timeouts(0.001, 0.002, 0.003, 0.004, 0.0, 0.005),
        limits=Limits(8192, 1 << 20, 7),
        trusted_proxies=config.trusted_proxies,
        outlier=Outlier(0, 8.0, 9.0),
        retry=Retry("idempotent", 0.2),
        gate="any",
        env_files=("/a", "b"),
        generation=5,
        origins=config.origins,
    )
    assert [str(network) for network in config.trusted_proxies] == ["10.0.0.0/8"]


def test_origins_hold_what_was_set_and_nothing_else_of_the_environment() -> None:
    """
    Where each value came from is kept; what the environment holds for others is not.
    """
    config = config_of({**BLUE, "GREEN": " ", "AWS_KEY": "x"}, listen=":1")

    assert config.origins == {
        "BLUE": Origin("http://a", "environment"),
        "SILLYPROXY_LISTEN": Origin(":1", "command line"),
    }


def test_config_travels() -> None:
    """
    A Config that a worker receives is equal to the one that was sent.
    """
    config = config_of({**BLUE, "SILLYPROXY_TRUSTED_PROXIES": "::1"})

    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize(("cpus", "workers"), [(0, 1), (1, 1), (64, 64), (200, 64)])
def test_automatic_workers_stay_within_bounds(cpus: int, workers: int) -> None:
    """
    `auto` is one worker a CPU, at least one and at most 64.
    """
    assert load({}, cpus=cpus)[0].workers == workers


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
@pytest.mark.parametrize("setting", PROXY_SETTINGS, ids=lambda s: s.name)
def test_empty_value_is_no_value(setting: Any, text: str) -> None:
    """
    A variable that is set to nothing is as good as not set.
    """
    assert config_of({setting.name: text}) == config_of({})


def test_white_space_around_values_is_ignored() -> None:
    """
    A line end that a file or a secret brought along does no harm.
    """
    assert config_of({"BLUE": " http://a\n", "BLUE_WEIGHT": "2\r\n"}) == config_of(
        {"BLUE": "http://a", "BLUE_WEIGHT": "2"}
    )


def test_all_problems_are_reported_at_once() -> None:
    """
    Mistakes in colors, names, settings and between settings all show in one start.
    """
    problems = problems_of(
        {
            "SILLYPROXY_COLORS": "blue,b!d",
            "BLUE": "a,ftp://b",
            "BLUE_WEIGHT": "ten",
            "SILLYPROXY_IDLE_TIMEOUT": "0",
            "SILLYPROXY_LISTEN": ":9080",
        }
    )

    assert sorted(p.name for p in problems) == [
        "BLUE",
        "BLUE",
        "BLUE_WEIGHT",
        "SILLYPROXY_ADMIN",
        "SILLYPROXY_COLORS",
        "SILLYPROXY_IDLE_TIMEOUT",
    ]


def test_problem_names_variable_value_origin_and_remedy() -> None:
    """
    An operator reads which variable, what it says, where that stands, and what to write instead.
    """
    assert problems_of({"GREEN_WEIGHT": "ten", "GREEN": "http://a"}) == [
        Problem(
            "GREEN_WEIGHT",
            "ten",
            "environment",
            "not a number; use 0 or more, for instance GREEN_WEIGHT=1",
        )
    ]


def test_wrong_option_is_reported_with_its_origin() -> None:
    """
    A bad `--listen` is looked for on the command line.
    """
    (problem,) = problems_of({"SILLYPROXY_LISTEN": ":1"}, listen="8080")

    assert (problem.name, problem.text, problem.source) == ("SILLYPROXY_LISTEN", "8080", "command line")


@pytest.mark.parametrize("setting", PROXY_SETTINGS, ids=lambda s: s.name)
@pytest.mark.parametrize("char", ["\0", "\x1b", "\n", "\x7f", "\x85", "\u202e", "\udcff"])
def test_characters_that_do_not_print_are_refused(setting: Any, char: str) -> None:
    """
    No value carries a control character, an escape sequence or a broken encoding, and none is echoed.
    """
    (problem,) = problems_of({setting.name: f"a{char}b"})

    assert problem.name == setting.name
    assert "does not print" in problem.reason
    assert str(problem).isprintable()


def test_value_without_end_is_refused_and_not_echoed_whole() -> None:
    """
    A value of megabytes (a wrong file, a certificate) is refused in one short line.
    """
    (problem,) = problems_of({"BLUE": "http://a/" + "x" * 1_000_000})

    assert len(str(problem)) < 500


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"BLUE": ",".join(f"http://a{n}" for n in range(257))}, "BLUE"),
        ({"SILLYPROXY_TRUSTED_PROXIES": ",".join(f"10.0.{n}.0/24" for n in range(200))
          + "," + ",".join(f"10.1.{n}.0/24" for n in range(200))}, "SILLYPROXY_TRUSTED_PROXIES"),
        ({"SILLYPROXY_LISTEN": ",".join(f":{n}" for n in range(1, 18))}, "SILLYPROXY_LISTEN"),
    ],
)  # fmt: skip
def test_list_without_end_is_refused(environ: dict[str, str], name: str) -> None:
    """
    A list so long that a Config would no longer fit on the way to a worker is refused at the start.
    """
    (problem,) = problems_of(environ)

    assert problem.name == name
    assert "more than" in problem.reason


def test_defaults_of_a_color_are_those_of_the_schema() -> None:
    """
    A color with a URL alone has the documented limits; with a health check, the documented times and counts.
    """
    config = config_of({**BLUE, "GREEN": "http://b", "GREEN_HEALTH": "/up"})

    assert config.colors == (
        Color("blue", (Upstream("http", "a", 80),)),
        Color("green", (Upstream("http", "b", 80),), probe=Probe("/up")),
    )


@pytest.mark.parametrize(
    ("settings", "name", "part"),
    [
        ({"_TIMEOUT": "3s"}, "BLUE_HEALTH_TIMEOUT", "longer than BLUE_HEALTH_INTERVAL (2s)"),
        (
            {"_TIMEOUT": "3s", "_INTERVAL": "1s"},
            "BLUE_HEALTH_TIMEOUT",
            "longer than BLUE_HEALTH_INTERVAL (1s)",
        ),
        ({"_INTERVAL": "500ms"}, "BLUE_HEALTH_INTERVAL", "shorter than BLUE_HEALTH_TIMEOUT (1s unless set)"),
    ],
)
def test_health_check_that_outlives_its_interval_is_refused(
    settings: dict[str, str], name: str, part: str
) -> None:
    """
    A check has ended before the next one begins; whichever of the two was set is told.
    """
    environ = {**BLUE, "BLUE_HEALTH": "/x", **{f"BLUE_HEALTH{key}": text for key, text in settings.items()}}
    (problem,) = problems_of(environ)

    assert problem.name == name
    assert problem.reason.startswith(part)


def test_health_check_may_take_all_of_its_interval() -> None:
    """
    Timeout and interval may be the same.
    """
    environ = {"BLUE_HEALTH": "/x", "BLUE_HEALTH_TIMEOUT": "2s", "BLUE_HEALTH_INTERVAL": "2000ms"}

    assert config_of({**BLUE, **environ}).colors[0].probe == Probe("/x", 2.0, 2.0)


@pytest.mark.parametrize(
    "setting",
    [s for s in COLOR_SETTINGS if s.kind.name not in ("URLs", "path", "paths")],
    ids=lambda s: s.name,
)
def test_wrong_setting_of_a_color_is_told_even_while_the_color_is_absent(setting: Any) -> None:
    """
    What is prepared for a color that comes later is checked now.
    """
    assert [p.name for p in problems_of({setting.name_for("green"): "!"})] == [setting.name_for("green")]


def test_settings_of_a_color_are_not_another_colors() -> None:
    """
    A color named `blue-health` would share BLUE_HEALTH with blue, and so on for each setting.
    """
    for setting in COLOR_SETTINGS[1:]:
        other = setting.name_for("blue").lower()
        (problem,) = problems_of({"SILLYPROXY_COLORS": f"blue,{other}"})
        assert f"shares the variable {setting.name_for('blue')} with the color blue" in problem.reason


def test_more_problems_than_anybody_reads_are_counted() -> None:
    """
    Hundreds of mistakes in one list fill neither the screen nor the way between the processes.
    """
    problems = problems_of({"BLUE": ",".join(f"a{n}" for n in range(500))})

    assert len(problems) == MAX_PROBLEMS
    assert problems[-1].reason == "and 401 more, from here on"


def test_texts_that_are_too_long_together_are_refused() -> None:
    """
    Values that are each right and would not fit on the way to a worker together are refused at the start.
    """
    names = [f"c{n}" for n in range(8)]
    environ = {name.upper(): "http://a/" + "x" * 1900 + ",http://b/" + "y" * 1900 for name in names}
    assert len(config_of({**environ, "SILLYPROXY_COLORS": ",".join(names)}).colors) == 8

    environ |= {f"{name.upper()}_HEALTH": "/" + "x" * 990 for name in names}
    environ |= {f"{name.upper()}X": environ[name.upper()] for name in names}
    names += [f"{name}x" for name in names]
    (problem,) = problems_of({**environ, "SILLYPROXY_COLORS": ",".join(names)})

    assert "all settings together are longer than 49152 bytes" in problem.reason


def test_config_of_the_longest_texts_fits_on_the_wire() -> None:
    """
    What is accepted can be sent to the workers in one message (160 KiB), with all settings at their fullest.
    """
    environ = {"SILLYPROXY_COLORS": ",".join(f"c{n}" for n in range(31))}
    environ["SILLYPROXY_TRUSTED_PROXIES"] = ",".join(f"fd00:{n:x}::/32" for n in range(256))
    for n in range(31):
        urls = [f"http://host{n}x{m}:8080/{'x' * 83}" for m in range(8)]
        environ |= {
            f"C{n}": ",".join(urls),
            f"C{n}_HEALTH": f"/{'x' * 80}",
            f"C{n}_HEALTH_STATUS": ",".join(str(code) for code in range(200, 232)),
            f"C{n}_HEALTH_INTERVAL": f"{n + 1}s",
            f"C{n}_MAX_CONNECTIONS": str(1000 + n),
            f"C{n}_MAX_QUEUE": str(2000 + n),
        }

    config = config_of(environ)
    texts = sum(len(k) + len(o.text) + len(o.source) for k, o in config.origins.items())
    assert 0.8 * MAX_TEXTS < texts <= MAX_TEXTS
    assert len(pickle.dumps(config)) < 160 * 1024


def test_largest_config_fits_on_the_wire() -> None:
    """
    What is accepted can be sent to the workers in one message (160 KiB).
    """
    urls = iter(range(1000))
    environ = {
        f"C{n}": ",".join(f"http://some.long.host.name.example.org{next(urls)}:8080/base" for _ in range(8))
        for n in range(31)
    }
    environ["SILLYPROXY_COLORS"] = ",".join(environ)
    environ["SILLYPROXY_TRUSTED_PROXIES"] = ",".join(f"fd00:{n:x}::/32" for n in range(256))

    assert len(pickle.dumps(config_of(environ))) < 160 * 1024


@pytest.mark.parametrize(
    ("listen", "admin"),
    [(":9080", ""), ("127.0.0.1:9080", "127.0.0.1:9080"), ("unix:/a", "unix:/a"), ("[::]:80", "[::1]:80")],
)
def test_admin_listener_on_a_served_address_is_refused(listen: str, admin: str) -> None:
    """
    Clients must not reach the admin listener, nor the other way round.
    """
    (problem,) = problems_of({"SILLYPROXY_LISTEN": listen, "SILLYPROXY_ADMIN": admin})

    assert problem.name == "SILLYPROXY_ADMIN"


def test_weight_of_an_absent_color_is_checked_all_the_same() -> None:
    """
    A wrong weight is a mistake even while its color has no URL.
    """
    assert [p.name for p in problems_of({"GREEN_WEIGHT": "x"})] == ["GREEN_WEIGHT"]


def test_colors_behind_a_bad_list_of_names_are_still_checked() -> None:
    """
    A bad name in the list does not hide the mistakes of the good names.
    """
    names = {p.name for p in problems_of({"SILLYPROXY_COLORS": "re!d,violet", "VIOLET": "x"})}

    assert names == {"SILLYPROXY_COLORS", "VIOLET"}


def test_good_configuration_has_no_warning() -> None:
    """
    Nothing is said where nothing is to be said.
    """
    environ = {**BLUE, "GREEN": "http://b", "GREEN_WEIGHT": "0", "PATH": "/bin", "SILLYPROXY_WORKERS": "1"}

    assert warnings_of(environ) == []


@pytest.mark.parametrize(
    ("environ", "name", "part"),
    [
        ({}, "BLUE", "no color has a URL, every request gets 503"),
        ({**BLUE, "BLUE_WEIGHT": "0"}, "BLUE_WEIGHT", "all colors are at weight 0"),
        ({**BLUE, "GREEN_WEIGHT": "1"}, "GREEN_WEIGHT", "GREEN is not set"),
        ({**BLUE, "BLUE_WIEGHT": "1"}, "BLUE_WIEGHT", "did you mean BLUE_WEIGHT ?"),
        ({**BLUE, "BLUE_FOO": "1"}, "BLUE_FOO", "the nearest known name is BLUE_"),
        ({**BLUE, "blue_weight": "1"}, "blue_weight", "did you mean BLUE_WEIGHT ?"),
        ({**BLUE, "SILLYPROXY_LISTN": "1"}, "SILLYPROXY_LISTN", "did you mean SILLYPROXY_LISTEN ?"),
        ({**BLUE, "SILLYPROXY_XYZZY": "1"}, "SILLYPROXY_XYZZY", "the nearest known name is SILLYPROXY_"),
        ({**BLUE, "SILLYPROXY_": "1"}, "SILLYPROXY_", "the nearest known name is SILLYPROXY_"),
        ({**BLUE, "sillyproxy_workers": "1"}, "sillyproxy_workers", "did you mean SILLYPROXY_WORKERS ?"),
        ({**BLUE, "BLUE_HEALTH_FALL": "5"}, "BLUE_HEALTH_FALL", "BLUE_HEALTH is not set"),
        ({**BLUE, "BLUE_MAX_QUEUE": "5"}, "BLUE_MAX_QUEUE", "BLUE_MAX_CONNECTIONS is not set"),
        ({**BLUE, "BLUE_QUEUE_TIMEOUT": "5"}, "BLUE_QUEUE_TIMEOUT", "BLUE_MAX_CONNECTIONS is not set"),
        ({**BLUE, "GREEN_HEALTH": "/x"}, "GREEN_HEALTH", "GREEN is not set"),
        ({**BLUE, "GREEN_HEALTH_RISE": "1"}, "GREEN_HEALTH_RISE", "GREEN is not set"),
        ({**BLUE, "BLUE_HEALTH_FAL": "1"}, "BLUE_HEALTH_FAL", "did you mean BLUE_HEALTH_FALL ?"),
    ],
)
def test_what_has_no_effect_is_warned_of(environ: dict[str, str], name: str, part: str) -> None:
    """
    A variable that does nothing, or a proxy that serves nothing, starts with one warning that says so.
    """
    (warning,) = warnings_of(environ)

    assert warning.name == name
    assert part in warning.reason


def test_variable_of_an_absent_color_is_not_ours() -> None:
    """
    `GREEN_TEA` is nobody's mistake while there is no green.
    """
    assert warnings_of({**BLUE, "GREEN_TEA": "1"}) == []


def test_color_whose_name_begins_like_another_is_known() -> None:
    """
    `BLUE_CANARY` is a color's URL, not an unknown setting of blue.
    """
    environ = {**BLUE, "BLUE_CANARY": "http://b", "BLUE_CANARY_WEIGHT": "1"}

    assert warnings_of(environ, colors=["blue-canary"]) == []


def test_value_of_an_unknown_variable_is_not_shown() -> None:
    """
    What we do not know may be a secret, so the warning shows its name alone.
    """
    (warning,) = warnings_of({**BLUE, "SILLYPROXY_API_TOKEN": "hunter2"})

    assert "hunter2" not in str(warning)


def test_password_in_a_url_is_not_shown() -> None:
    """
    A refused URL is shown without its password.
    """
    (problem,) = problems_of({"BLUE": "http://user:hunter2@a"})

    assert "hunter2" not in str(problem)


NAMES = [
    *(s.name for s in PROXY_SETTINGS),
    *(s.name_for(c) for s in COLOR_SETTINGS for c in ("blue", "green", "red")),
    "SILLYPROXY_X",
    "BLUE_X",
    "PATH",
]
TEXTS = st.one_of(
    st.sampled_from(["http://a", "1", "auto", "off", ":8080", "blue,red", "http://a,b", "10.0.0.0/8", ""]),
    st.text(max_size=20),
    st.text(alphabet="abz019.,:/[]@%-_ \n", max_size=20),
)


@given(st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=8)), TEXTS, max_size=8))
def test_any_environment_is_a_config_or_problems_that_name_their_variables(environ: dict[str, str]) -> None:
    """
    Whatever the environment holds, the proxy starts or says which variables are wrong; it never breaks down.
    """
    try:
        config, notes = load(environ, cpus=2)
    except ConfigError as error:
        config, notes = None, error.problems

    assert config or notes
    missing = {"SILLYPROXY_ADMIN", "BLUE", "SILLYPROXY_TLS_CERT"}
    assert {note.name for note in notes} <= {*environ, *missing, *colors_of(environ)}
    assert all(note.reason and str(note).isprintable() for note in notes)


def colors_of(environ: dict[str, str]) -> set[str]:
    """Return the variables of the colors that an environment names."""
    return {
        name.strip().upper() for name in environ.get("SILLYPROXY_COLORS", "").replace("-", "_").split(",")
    }


@pytest.mark.parametrize("admin", [":9080", "0.0.0.0:9080", "[::]:9080", "10.0.0.1:9080"])
def test_open_admin_listener_is_warned_of(admin: str) -> None:
    """
    An admin listener that strangers can reach, without a token, is a warning at the start and in `check`.
    """
    environ = {"BLUE": "http://a", "SILLYPROXY_ADMIN": admin}
    [warning] = load(environ, cpus=1)[1]
    assert warning.name == "SILLYPROXY_ADMIN"
    assert "SILLYPROXY_ADMIN_TOKEN" in warning.reason
    assert load(environ | {"SILLYPROXY_ADMIN_TOKEN": "correct-horse"}, cpus=1)[1] == ()


@pytest.mark.parametrize(
    "admin", ["", "off", "127.0.0.1:9080", "127.7.0.1:80", "[::1]:9080", "localhost:1", "unix:/a"]
)
def test_local_admin_listener_needs_no_token(admin: str) -> None:
    """
    On the loopback and on a unix socket the machine decides who connects; there is nothing to warn of.
    """
    assert load({"BLUE": "http://a", "SILLYPROXY_ADMIN": admin}, cpus=1)[1] == ()


@pytest.mark.parametrize("token", ["short", "x" * 257, "with a blank", "with-ümlaut"])
def test_token_that_cannot_be_sent_or_can_be_guessed_is_refused(token: str) -> None:
    """
    A token is long enough not to be guessed, and can stand in a header field.
    """
    with pytest.raises(ConfigError) as caught:
        load({"BLUE": "http://a", "SILLYPROXY_ADMIN_TOKEN": token}, cpus=1)
    [problem] = caught.value.problems
    assert problem.name == "SILLYPROXY_ADMIN_TOKEN"
    assert token not in str(problem)
