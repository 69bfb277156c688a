"""Our reading of HTTP/1.1 against h11's, on messages that nobody has seen before."""

from __future__ import annotations

import secrets
import time
from collections import Counter

import pytest
from fuzz.__main__ import describe, run
from fuzz.generate import Case, Generator
from fuzz.judge import ACCEPTED, STRICTER, Disagreement, Judge, is_extension, is_host

SECONDS = 20
_STEP = 250


def test_nothing_is_read_otherwise_than_an_independent_parser_reads_it() -> None:
    """
    Of messages made up anew in every run, none is accepted that h11 finds ambiguous, none is
    read another way, and nothing goes on that h11 would read another way. `make fuzz` runs
    the same a million times; a failure names the seed and the case.
    """
    seed = secrets.randbits(32)
    counts: Counter[tuple[str, str]] = Counter()
    found: list[str] = []
    end = time.monotonic() + SECONDS
    at = 0
    while time.monotonic() < end and not found:
        more, found = run(seed, range(at, at + _STEP))
        counts += more
        at += _STEP

    assert not found, "\n".join((f"seed {seed}", *found[:5], describe(counts)))
    # Each kind has been accepted and refused, or the generator has gone blind.
    for kind in ("request", "chunked", "response"):
        assert counts[kind, "both accept"], describe(counts)
        assert counts[kind, "both refuse"], describe(counts)


def test_a_case_is_repeated_by_its_seed_and_number() -> None:
    """
    The seed and number that a failure names give the same message again.
    """
    first, second = Generator(7), Generator(7)
    second.make(3)

    assert first.make(41) == second.make(41)
    assert first.make_response(41) == second.make_response(41)
    assert Generator(8).make(41) != first.make(41)


GET = b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%b"
OK = b"HTTP/1.1 200 OK\r\n%b\r\n"

# One message for each listed difference: the least that shows it.
SHOWN = {
    "empty lines before a request": b"\r\n" + GET % b"",
    "white space around a chunk extension's ; or =": POST % b"1 ;a\r\nx\r\n0\r\n\r\n",
    "Content-Length or Transfer-Encoding among the trailers": POST % b"0\r\nContent-Length: x\r\n\r\n",
    "a bare LF ends a line of the head": GET % b"X: y\n",
    "a folded line in the head": GET % b"X: y\r\n z\r\n",
    "a control character in the head": GET % b"X: \x01\r\n",
    'one of "#<> in the target': b"GET /# HTTP/1.1\r\nHost: a\r\n\r\n",
    "a major version other than 1": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "CONNECT": b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "* as the target of another method than OPTIONS": b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target that is no path, no http URI and not *": b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "an http URI with no or a bad authority": b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "no Host in HTTP/1.2 and above": b"GET / HTTP/1.2\r\n\r\n",
    "a Host that is none": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "Content-Length more than once": GET % b"Content-Length: 0\r\nContent-Length: 0\r\n",
    "Content-Length is a list, or 10^18 and more": GET % b"Content-Length: 0, 0\r\n",
    "Transfer-Encoding with Content-Length": GET % b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding in HTTP/1.0": b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a status code outside 100 to 599": b"HTTP/1.1 600 x\r\n\r\n",
    "a chunk size of more than 15 digits": POST % b"0000000000000001\r\nx\r\n0\r\n\r\n",
    "white space behind a chunk size": POST % b"1 \r\nx\r\n0\r\n\r\n",
    "a malformed chunk extension": POST % b"1;\r\nx\r\n0\r\n\r\n",
    "a bare LF ends a line of the trailers": POST % b"0\r\nX: y\nZ: z\r\n\r\n",
    "a folded line in the trailers": POST % b"0\r\nX: y\r\n z\r\n\r\n",
    "a control character in the trailers": POST % b"0\r\nX: \x01\r\n\r\n",
}


def test_every_listed_difference_is_shown() -> None:
    """
    The list of differences holds no entry that no message stands for.
    """
    assert set(SHOWN) == {d.name for d in ACCEPTED} | {s.name for s in STRICTER}


@pytest.mark.parametrize("name", SHOWN)
def test_a_listed_difference_is_told_by_its_name(name: str) -> None:
    """
    The least message that shows a difference is counted under it, and under no other.
    """
    data = SHOWN[name]
    case = Case("response" if data.startswith(b"HTTP") else "request", data, (5,))

    assert Judge().judge(case).endswith(": " + name)


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (GET % b"X : y\r\n", "both refuse"),
        (POST % b"2\r\nabc\r\n0\r\n\r\n", "both refuse"),
        (GET % b"Content-Length: 3\r\n" + b"ab", "both wait"),
        (GET % b"Content-Length: 3\r\n" + b"abc", "both accept"),
        (OK % b"Content-Length: 3\r\n" + b"abcX", "both accept"),
        (b"\x16\x03\x01", "both refuse"),
    ],
)
def test_agreement_is_told(data: bytes, rule: str) -> None:
    """
    Where both readers agree, the judge says on what.
    """
    case = Case("response" if data.startswith(b"HTTP") else "request", data, (1, 2))

    assert Judge().judge(case) == rule


def test_the_judge_finds_a_reader_that_believes_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The fuzz can fail: rules that let a Content-Length stand beside Transfer-Encoding, or a bare LF
    end a chunk's size, are found out.
    """
    import re

    from sillyproxy.http1 import forward, framing

    with monkeypatch.context() as patch:
        patch.setattr(forward, "read_request_body", lambda length, coding, minor: int(length or 0))
        with pytest.raises(Disagreement):
            Judge().judge(Case("request", POST % b"0\r\n\r\n", ()))
    with monkeypatch.context() as patch:
        patch.setattr(framing, "CHUNK_LINE", re.compile(rb"([0-9A-Fa-f]{1,15})()\r?\n"))
        with pytest.raises(Disagreement):
            Judge().judge(Case("chunked", POST % b"1\nx\r\n0\r\n\r\n", ()))


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (b"", True),
        (b";a", True),
        (b' ; a = "x\\"y" ;b', True),
        (b";", False),
        (b";a=", False),
        (b';a="', False),
        (b";a\r", False),
        (b" ", False),
        (b';a="\\', False),
    ],
)
def test_extensions_are_judged_by_the_grammar(text: bytes, good: bool) -> None:
    """
    The judge has its own reading of RFC 9112, 7.1.1.
    """
    assert is_extension(text) is good


@pytest.mark.parametrize(
    ("value", "good"),
    [
        (b"", True),
        (b"a:80", True),
        (b"[::1]:80", True),
        (b"[v1.x]", True),
        (b"[:1]", False),
        (b"[::1]80", False),
        (b"a:65536", False),
        (b"u@a", False),
        (b"a%2", False),
    ],
)
def test_hosts_are_judged_by_the_grammar(value: bytes, good: bool) -> None:
    """
    The judge has its own reading of RFC 3986, 3.2.2 and 3.2.3.
    """
    assert is_host(value) is good
