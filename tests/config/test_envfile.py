"""Lines of NAME=value become a draft, or problems that name their line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillyproxy.config import Reading
from sillyproxy.config.envfile import MAX_BAD_LINES, is_variable, read_lines, read_value
from sillyproxy.config.schema import Origin


def values_of(text: str) -> dict[str, str]:
    """Return what a file without mistakes sets."""
    reading = read_lines(text, "file f")
    assert not reading.problems
    return {name: origin.text for name, origin in reading.draft.items()}


def reasons_of(text: str) -> list[str]:
    """Return what is wrong with a file, each with the variable and its place."""
    return [f"{p.name} ({p.source}) {p.reason}" for p in read_lines(text, "file f").problems]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1", "1"),
        ("  A=1\t", "1"),
        ("A=1\r", "1"),
        ("A= 1", "1"),
        ("export A=1", "1"),
        ("export \t A=1", "1"),
        ("A=", ""),
        ("A= ", ""),
        ("A=''", ""),
        ('A=""', ""),
        ("A=b=c", "b=c"),
        ("A=a b", "a b"),
        ("A=http://h/x?y#z", "http://h/x?y#z"),
        ("A=1 # one", "1"),
        ("A=1\t#one", "1"),
        ("A=#1", "#1"),
        ("A= # nothing", ""),
        ("A=$B ${C} `d`", "$B ${C} `d`"),
        ("A=a\\b", "a\\b"),
        ("A=a" + " " * 100_000 + "b", "a" + " " * 100_000 + "b"),
        ("A='a # b'", "a # b"),
        ("A='a \"b\" $c \\n'", 'a "b" $c \\n'),
        ("A='a' # b", "a"),
        ("A= 'a'", "a"),
        ('A="a # b"', "a # b"),
        ('A="it\'s"', "it's"),
        ('A="\\"\\\\\\$\\`"', '"\\$`'),
        ('A="a"  # "b"', "a"),
        ("A=ä€", "ä€"),
        ("A=\udcff", "\udcff"),
    ],
)
def test_line_is_a_name_and_its_value(line: str, value: str) -> None:
    """
    A value is written as in a shell: bare, or in quotes, with a comment after it.
    """
    assert values_of(line) == {"A": value}


@pytest.mark.parametrize("name", ["BLUE", "blue", "_", "A1", "2024_01", "SILLYPROXY_LISTEN", "export"])
def test_name_is_letters_digits_and_underscores(name: str) -> None:
    """
    Every variable that a color or a setting can have may be written.
    """
    assert values_of(f"{name}=1") == {name: "1"}


@pytest.mark.parametrize("text", ["", "\n\n", "# A=1", "   # A=1", "\ufeff", "\r\n", "#", "\t\n #\n"])
def test_comments_and_blank_lines_say_nothing(text: str) -> None:
    """
    A file may explain itself, and may be empty.
    """
    assert values_of(text) == {}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "A",
            "SILLYPROXY_ENV_FILE (file f, line 1) a line without =; write NAME=value, or # before a comment",
        ),
        ("export A", "SILLYPROXY_ENV_FILE (file f, line 1) a line without ="),
        ("A =1", "A (file f, line 1) blanks before the =; write A=value"),
        ("export A\t= 1", "A (file f, line 1) blanks before the =; write A=value"),
        ("A: 1", "SILLYPROXY_ENV_FILE (file f, line 1) a line without ="),
        ("=1", "SILLYPROXY_ENV_FILE (file f, line 1) what is before the = is not a name"),
        ("A-B=1", "SILLYPROXY_ENV_FILE (file f, line 1) what is before the = is not a name"),
        ("A.B=1", "SILLYPROXY_ENV_FILE (file f, line 1) what is before the = is not a name"),
        ("Ä=1", "SILLYPROXY_ENV_FILE (file f, line 1) what is before the = is not a name"),
        ("set A=1", "SILLYPROXY_ENV_FILE (file f, line 1) what is before the = is not a name"),
        ("\0A=1", "SILLYPROXY_ENV_FILE (file f, line 1) what is before the = is not a name"),
        ("A='b", "A (file f, line 1) no ' at the end of the line; a value is on one line"),
        ('A="b', 'A (file f, line 1) no " at the end of the line; a value is on one line'),
        ('A="b\\"', "A (file f, line 1) after a backslash in double quotes only"),
        ('A="b\\n"', "A (file f, line 1) after a backslash in double quotes only"),
        ("A='b'c", "A (file f, line 1) more than a comment after the closing '"),
        ("A='b'#c", "A (file f, line 1) more than a comment after the closing '"),
        ('A="b" c', 'A (file f, line 1) more than a comment after the closing "'),
        ('A=b"c"', "A (file f, line 1) a quote inside a value; put quotes around the whole of it"),
        ("A=it's", "A (file f, line 1) a quote inside a value; put quotes around the whole of it"),
    ],
)
def test_line_in_another_form_is_a_problem_with_its_place(line: str, reason: str) -> None:
    """
    What a shell, Compose and systemd would not read alike is refused: which file, which line, what to write.
    """
    (found,) = reasons_of(line)
    assert found.startswith(reason)


def test_all_bad_lines_of_a_file_are_told_and_the_good_ones_are_read() -> None:
    """
    Three mistakes are mended in one go; a mistake does not hide what the other lines say.
    """
    reading = read_lines("A\nB=1\nC =2\n\nD='\n", "file f")

    assert [p.source for p in reading.problems] == ["file f, line 1", "file f, line 3", "file f, line 5"]
    assert reading.draft == {"B": Origin("1", "file f, line 2")}


def test_file_that_is_something_else_is_told_briefly() -> None:
    """
    A binary or a log named by mistake does not fill the screen with its lines.
    """
    reading = read_lines("x\n" * 5000, "file f")

    assert len(reading.problems) == MAX_BAD_LINES + 1
    assert reading.problems[-1].reason == "4990 more lines that are not NAME=value"


def test_content_of_a_bad_line_is_not_shown() -> None:
    """
    A line that we cannot read may hold a secret.
    """
    reading = read_lines("hunter2\nhun-ter2=hunter2\nA='hunter2", "file f")

    assert len(reading.problems) == 3
    assert "hunter2" not in "".join(map(str, reading.problems))


def test_byte_order_mark_and_windows_line_ends_do_no_harm() -> None:
    """
    A file written on Windows reads like any other.
    """
    assert values_of("\ufeffA=1\r\nB='2'\r\n\r\n# c\r\n") == {"A": "1", "B": "2"}


def test_later_of_two_lines_with_one_name_holds() -> None:
    """
    Appending a line changes a value, and the origin is that line.
    """
    assert read_lines("A=1\nA=2", "file f").draft == {"A": Origin("2", "file f, line 2")}


def test_files_are_named_by_the_process_environment_alone() -> None:
    """
    A file cannot name further files; that it tries is said.
    """
    for reading in (
        read_lines("A=1\nSILLYPROXY_ENV_FILE=/x", "file f"),
        read_value("SILLYPROXY_ENV_FILE", "/x", "file f"),
    ):
        assert "SILLYPROXY_ENV_FILE" not in reading.draft
        (warning,) = reading.warnings
        assert warning.name == "SILLYPROXY_ENV_FILE"
        assert warning.source.startswith("file f")


@pytest.mark.parametrize(
    ("name", "one_value"),
    [("BLUE", True), ("_A1", True), ("blue", False), ("Blue", False), ("1A", False), ("A.env", False)],
)
def test_file_of_one_variable_is_named_in_capitals(name: str, one_value: bool) -> None:
    """
    In a directory, `BLUE_WEIGHT` is a value and `edge.env` has lines.
    """
    assert is_variable(name) is one_value


@pytest.mark.parametrize(
    "text", ["http://a/?b", "http://a\n", "\ufeff http://a/x=1 \r\n", "'quoted'", "# no comment", "1=2"]
)
def test_file_of_one_variable_is_its_value_as_it_stands(text: str) -> None:
    """
    A mounted key or secret is taken literally, but for the blanks around it.
    """
    assert read_value("BLUE", text, "file BLUE") == Reading(
        {"BLUE": Origin(text.strip("\ufeff \r\n"), "file BLUE")}
    )


@pytest.mark.parametrize("text", ["BLUE=http://a", "export A=1", "a\nb", "# comment\nA=1\n"])
def test_lines_in_a_file_of_one_variable_are_warned_of(text: str) -> None:
    """
    Who writes lines into a file `EDGE` is told why they do nothing.
    """
    (warning,) = read_value("EDGE", text, "file EDGE").warnings

    assert "is the value of EDGE" in warning.reason


LINES = st.text(alphabet=st.sampled_from(list("AB_=#'\"\\$ \t\r\n\ufeffexport1é\0\udcff")), max_size=60)


@given(st.one_of(st.text(), LINES, st.binary().map(lambda b: b.decode("utf-8", "surrogateescape"))))
def test_any_text_is_a_draft_or_problems(text: str) -> None:
    """
    Whatever a file holds, it is read or refused line by line; nothing breaks down.
    """
    for reading in (read_lines(text, "file f"), read_value("A", text, "file f")):
        assert all(problem.source.startswith("file f") for problem in reading.problems)
        assert all(str(problem).isprintable() for problem in (*reading.problems, *reading.warnings))
        assert all(origin.source.startswith("file f") for origin in reading.draft.values())
    # Every line that says something is in one of the two.
    said = [line.strip(" \t\r\n") for line in text.removeprefix("\ufeff").split("\n")]
    if any(line and not line.startswith("#") for line in said):
        reading = read_lines(text, "file f")
        assert reading.draft or reading.problems or reading.warnings


VALUES = st.text(st.characters(exclude_characters="\n")).filter(lambda text: not text.endswith("\r"))


@given(VALUES, st.sampled_from(["", " ", " # comment", "\t#'\""]))
def test_value_in_double_quotes_comes_back_as_it_was(value: str, after: str) -> None:
    """
    Anything on one line can be written in double quotes.
    """
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')

    assert values_of(f'export A="{quoted}"{after}') == {"A": value}


@given(VALUES.filter(lambda text: "'" not in text), st.sampled_from(["", " ", " # comment", "\t#'\""]))
def test_value_in_single_quotes_comes_back_as_it_was(value: str, after: str) -> None:
    """
    Anything but a single quote can be written in single quotes, as it is.
    """
    assert values_of(f"A='{value}'{after}") == {"A": value}
