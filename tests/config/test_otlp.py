"""How it is written where spans go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillyproxy.config import ConfigError, load
from sillyproxy.config.otlp import read_endpoint, read_fields, show_fields
from sillyproxy.config.values import Refused

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("HTTPS://tempo/", "https://tempo/v1/traces"),
        ("https://api.example/otlp/v1/traces", "https://api.example/otlp/v1/traces"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
    ],
)
def test_endpoint_without_a_path_gets_the_usual_one(text: str, url: str) -> None:
    """A collector's address is enough; a path is taken as it is."""
    assert read_endpoint(text) == url


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("collector:4318", "neither http:// nor https://"),
        ("grpc://collector:4317", "neither http:// nor https://"),
        ("http://", "no host"),
        ("http://a:0", "port"),
        ("http://a/x?key=1", "query"),
        ("http://a/x y", "characters"),
    ],
)
def test_what_is_no_endpoint_is_refused(text: str, reason: str) -> None:
    """What cannot be sent to is found before anything starts."""
    with pytest.raises(Refused) as caught:
        read_endpoint(text)
    assert reason in caught.value.reason


def test_password_in_the_endpoint_is_not_shown() -> None:
    """Whoever writes a password into the URL is told where it belongs, without it in the message."""
    with pytest.raises(ConfigError) as caught:
        load({"SILLYPROXY_OTLP_ENDPOINT": f"http://me:{SECRET}@collector"}, cpus=1)
    (problem,) = caught.value.problems
    assert "SILLYPROXY_OTLP_HEADERS" in problem.reason
    assert SECRET not in f"{problem}"


@given(
    st.dictionaries(
        st.from_regex(r"x-[a-z]{1,8}", fullmatch=True),
        st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
        min_size=1,
        max_size=5,
    )
)
def test_fields_are_read_as_they_are_shown(fields: dict[str, str]) -> None:
    """Any value can be written, whatever signs are in it."""
    assert read_fields(show_fields(list(fields.items()))) == tuple(fields.items())


def test_base64_needs_no_escapes() -> None:
    """A value may have = and a blank in it, as credentials have."""
    assert read_fields("Authorization=Basic dXNlcjprZXk==") == (("Authorization", "Basic dXNlcjprZXk=="),)


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        (f"{SECRET}", ["field 1 has no ="]),
        (f"a={SECRET},,A=1", ["field 2 has no =", "field 3 has the name of one before it"]),
        (f"a b={SECRET}", ["field 1 has a name that is none"]),
        ("a=", ["field 1 has no value"]),
        (f"a={SECRET}%0d%0aHost: b", ["field 1 has a value that is not printable ASCII"]),
        (f"Host={SECRET}", ["field 1 has a name that HTTP needs itself"]),
        (f"content-type={SECRET}", ["field 1 has a name that HTTP needs itself"]),
    ],
)
def test_wrong_fields_are_told_by_their_place(text: str, reasons: list[str]) -> None:
    """All that is wrong with a secret is told at once, and nothing of the secret."""
    with pytest.raises(ConfigError) as caught:
        load({"SILLYPROXY_OTLP_HEADERS": text}, cpus=1)
    assert [problem.reason.partition(";")[0] for problem in caught.value.problems] == reasons
    assert SECRET not in "\n".join(map(str, caught.value.problems))


def test_secret_is_not_in_a_traceback() -> None:
    """Wherever a whole configuration is printed, the fields are left out."""
    config, _ = load({"SILLYPROXY_OTLP_HEADERS": f"a={SECRET}"}, cpus=1)
    assert SECRET not in repr(config.export)


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"SILLYPROXY_OTLP_HEADERS": "a=b"}, "SILLYPROXY_OTLP_HEADERS"),
        ({"SILLYPROXY_SERVICE_NAME": "edge"}, "SILLYPROXY_SERVICE_NAME"),
        ({"SILLYPROXY_OTLP_ENDPOINT": "http://c", "SILLYPROXY_TRACING": "off"}, "SILLYPROXY_OTLP_ENDPOINT"),
    ],
)
def test_settings_without_effect_are_warned_of(environ: dict[str, str], name: str) -> None:
    """Whoever expects spans and forgot half of it is told at the start."""
    (warning,) = load({"BLUE": "http://a", **environ}, cpus=1)[1]
    assert warning.name == name
    assert "no effect" in warning.reason


def test_a_collector_with_all_it_needs_is_no_warning() -> None:
    """A whole set of settings is fine."""
    environ = {
        "BLUE": "http://a",
        "SILLYPROXY_OTLP_ENDPOINT": "http://c",
        "SILLYPROXY_OTLP_HEADERS": "a=b",
        "SILLYPROXY_SERVICE_NAME": "edge",
    }
    assert load(environ, cpus=1)[1] == ()
