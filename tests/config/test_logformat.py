"""How an access log's format is written, and what is said of one that is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillyproxy.config import ConfigError, load
from sillyproxy.config.logformat import (
    COMBINED,
    MAX_FIELDS,
    MAX_LITERAL_BYTES,
    NAMES,
    WORDS,
    Template,
    read_log_format,
    read_template,
)

FORMAT = "SILLYPROXY_ACCESS_LOG_FORMAT"


def reasons_of(text: str) -> list[str]:
    """Return what an operator reads of a format that is wrong."""
    with pytest.raises(ConfigError) as caught:
        load({FORMAT: text, "SILLYPROXY_WORKERS": "2"}, cpus=1)
    assert {problem.name for problem in caught.value.problems} == {FORMAT}
    return [problem.reason for problem in caught.value.problems]


@pytest.mark.parametrize("word", WORDS)
def test_words_are_taken_in_any_case(word: str) -> None:
    """`JSON` is `json`."""
    assert read_log_format(word.upper()) == word


def test_template_is_taken_as_it_is() -> None:
    """What stands between the fields stays, braces and percent signs too."""
    assert read_log_format(COMBINED) == COMBINED
    assert read_template("100% {{{status}}} {http:X-A}").literals == ("100% {", "} ", "")


@given(
    st.lists(st.tuples(st.text('ab{}%" é', max_size=5), st.sampled_from(NAMES)), max_size=20), st.text("{x}")
)
def test_template_is_read_back(parts: list[tuple[str, str]], end: str) -> None:
    """Any text can stand between the fields, with its braces doubled."""
    double = str.maketrans({"{": "{{", "}": "}}"})
    text = "".join(f"{literal.translate(double)}{{{name}}}" for literal, name in parts) + end.translate(
        double
    )
    assert read_template(text) == Template(
        (*(literal for literal, _ in parts), end), tuple(name for _, name in parts)
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("jsn", "neither a known word nor a template with a {field}; did you mean json ?"),
        ("nothing", "neither a known word nor a template with a {field}; use text, json"),
        ("{statu}", "unknown field {statu}; did you mean {status} ?"),
        ("{Status}", "unknown field {Status}; did you mean {status} ?"),
        ("{duration}", "unknown field {duration}; did you mean {duration_ms} ?"),
        ("{User-Agent}", "unknown field {User-Agent}; did you mean {http:User-Agent} ?"),
        ("{qqqq}", "unknown field {qqqq}; the nearest known one is {"),
        ("{}", "unknown field {}; the nearest known one is {"),
        ("{http:}", "{http:} names no request field; write for instance {http:User-Agent}"),
        ("{http:a b}", "{http:a b} names no request field; write for instance {http:User-Agent}"),
        ("{status} {", "a { without its other half; write {{ for a brace"),
        ("{status} }", "a } without its other half; write }} for a brace"),
        ("{status}" * (MAX_FIELDS + 1), f"more than {MAX_FIELDS} fields; use fewer"),
        (
            "{status}" + "x" * (MAX_LITERAL_BYTES + 1),
            f"more than {MAX_LITERAL_BYTES} bytes beside its fields",
        ),
    ],
)
def test_wrong_format_is_told_with_its_remedy(text: str, reason: str) -> None:
    """Whoever mistypes a field is told which one was meant."""
    (said,) = reasons_of(text)
    assert said.startswith(reason)


def test_all_that_is_wrong_is_told_at_once() -> None:
    """Three slips in one template are three problems at one start."""
    assert [reason.partition(";")[0] for reason in reasons_of("{tme} {status} {clent} }")] == [
        "unknown field {tme}",
        "unknown field {clent}",
        "a } without its other half",
    ]


@pytest.mark.parametrize(
    ("environ", "format_"),
    [
        ({}, "text"),
        ({"SILLYPROXY_LOG_FORMAT": "json"}, "json"),
        ({"SILLYPROXY_LOG_FORMAT": "json", FORMAT: "text"}, "text"),
        ({FORMAT: "combined"}, "combined"),
    ],
)
def test_format_is_that_of_the_proxys_own_log_unless_it_is_set(environ: dict[str, str], format_: str) -> None:
    """`SILLYPROXY_LOG_FORMAT` is for both logs, as it always was."""
    assert load(environ, cpus=1)[0].access_log.format == format_
