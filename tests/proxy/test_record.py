"""The lines of the access log: what they say, that nobody else writes them, and which exchanges have one."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillyproxy import errors
from sillyproxy.config.logformat import FIELDS, NAMES
from sillyproxy.config.schema import AccessLog, Color, Config, Upstream
from sillyproxy.errors import Problem
from sillyproxy.http1.grammar import TARGET, TCHAR
from sillyproxy.http1.trace import Trace
from sillyproxy.metrics.slab import BLOCK_BYTES, Counts, block_of
from sillyproxy.proxy import record
from sillyproxy.proxy.edge import Edge
from sillyproxy.proxy.escape import PLAIN, WORD
from sillyproxy.proxy.exchange import Exchange
from sillyproxy.proxy.fields import GETTERS
from sillyproxy.proxy.formats import make_recorder
from sillyproxy.proxy.record import LONGEST_ID, LONGEST_TARGET, MAX_LINE_BYTES, Names, Recorder
from sillyproxy.tools.channel import Address, Endpoints
from sillyproxy.traffic.split import Split

HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "access-log.md"
MS = 1_000_000
WHEN_NS = 1_795_530_313_857 * MS  # 2026-11-24T14:25:13.857Z
TIME = "2026-11-24T14:25:13.857Z"
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
PAGE = b"\r\nHost: shop.example\r\nUser-Agent: %b\r\nReferer: https://shop.example/" % AGENT.encode()
TRACE: Trace = (b"0af7651916cd43dd8448eb211c80319c", b"00f067aa0ba902b7", b"b7ad6b7169203331", 1)

KINDS = [
    "text",
    "json",
    "common",
    "combined",
    '{time} "{method} {target}" {status} "{http:User-Agent}" {request_id}',
    " ".join(f"{{{name}}}" for name in NAMES) + " {http:User-Agent} {http:Referer}" * 20,
]
kinds = pytest.mark.parametrize(
    "kind", KINDS, ids=["text", "json", "common", "combined", "a template", "all"]
)


class Outcome(NamedTuple):
    """How an exchange ended."""

    status: int = 200
    duration_ns: int = 12_345_678
    problem: Problem | None = None


class Nowhere:
    """Takes no lines: they stay with the recorder."""

    dropped = 0


@pytest.fixture(autouse=True)
def _stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "time_ns", lambda: WHEN_NS)


def make_exchange(fields: bytes = PAGE, **facts: Any) -> Exchange:
    """Return an exchange that is over: the GET of a page, answered by blue, but for these facts of it."""
    nobody = lambda *_, **__: None  # noqa: E731
    config = Config(colors=(Color("blue", (Upstream("http", "blue", 80),)),))
    counts = Counts(block_of(memoryview(bytearray(BLOCK_BYTES)), 0), 3)
    edge = Edge(config, counts, Recorder(), nobody, nobody, nobody)
    edge.set_endpoints(Endpoints({"blue": (Address(0, "10.0.0.7", 8080), Address(0, "10.0.0.8", 8080))}))
    edge.id_prefix = b"6a3f9d20c1e4"
    exchange = Exchange(edge, cast(Any, SimpleNamespace(ip="203.0.113.9")))
    exchange.method, exchange.target = b"GET", b"/basket?item=42"
    exchange.plan = edge.plans[1][fields]
    exchange.fields = exchange.plan.forward
    exchange.color = edge.table.colors[0]
    exchange.endpoint = exchange.color.endpoints[0]
    exchange.number = 0x1F
    exchange.bytes_out = 2326
    exchange.started_ns = 5_000 * MS
    exchange.first_byte_ns = exchange.started_ns + 11 * MS
    for name, value in facts.items():
        setattr(exchange, name, value)
    return exchange


def make(kind: str, sample: float = 1.0, start: float = 0.0) -> Recorder:
    """Return a recorder whose lines stay with it."""
    return make_recorder(AccessLog("stdout", kind, sample), cast(Any, Nowhere()), start)


def line_of(kind: str, exchange: Exchange, outcome: Outcome = Outcome()) -> str:  # noqa: B008  (frozen)
    """Return the one line of an exchange, without its end."""
    recorder = make(kind)
    recorder.add(exchange, *outcome)
    assert recorder.lines.endswith(b"\n")
    line = recorder.lines[:-1].decode("ascii")
    assert "\n" not in line
    return line


# What a line says.


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (
            "text",
            f'{TIME} 203.0.113.9 "GET /basket?item=42" 200 color=blue endpoint=10.0.0.7:8080 bytes=2326 '
            "duration=12.346ms id=6a3f9d20c1e40000001f first_byte=11.000ms",
        ),
        (
            "json",
            f'{{"time":"{TIME}","client":"203.0.113.9","method":"GET","target":"/basket?item=42","status":200,'
            '"color":"blue","endpoint":"10.0.0.7:8080","bytes_in":0,"bytes_out":2326,"duration_ms":12.346,'
            '"request_id":"6a3f9d20c1e40000001f","first_byte_ms":11.000}',
        ),
        (
            "common",
            '203.0.113.9 - - [24/Nov/2026:14:25:13 +0000] "GET /basket?item=42 HTTP/1.1" 200 2326',
        ),
        (
            "combined",
            '203.0.113.9 - - [24/Nov/2026:14:25:13 +0000] "GET /basket?item=42 HTTP/1.1" 200 2326 '
            f'"https://shop.example/" "{AGENT}"',
        ),
        (
            '{time} {client} "{method} {target}" {status} {duration_ms} {http:Host} {{100%}}',
            f'{TIME} 203.0.113.9 "GET /basket?item=42" 200 12.346 shop.example {{100%}}',
        ),
    ],
)
def test_line_is_what_the_format_promises(kind: str, line: str) -> None:
    """A format's line is this one to the byte: whoever reads it has a program that expects it."""
    assert line_of(kind, make_exchange()) == line


@pytest.mark.parametrize("kind", ["text", "json", "common", "combined", "template"])
def test_manual_shows_the_line_of_every_format(kind: str) -> None:
    """The line that the manual has under a format is the line that it gets."""
    page = HOWTO.read_text(encoding="utf-8")
    if kind == "template":
        match = re.search(r"^A template, here `(.*)`:\n\n```text\n(.*)\n```$", page, re.MULTILINE)
        assert match is not None
        kind, line = match.groups()
    else:
        match = re.search(rf"^`{kind}`.*(?:\n.+)*\n\n```\w+\n(.*)\n```$", page, re.MULTILINE)
        assert match is not None
        line = match[1]
    assert line == line_of(kind, make_exchange())


def test_manual_has_the_table_of_fields() -> None:
    """Every field of a template is in the manual, with what it says and where that comes from."""
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", HOWTO.read_text(encoding="utf-8"), re.MULTILINE)
    assert [row for row in rows if row[0] not in ("text", "json", "common", "combined")] == list(FIELDS)


def test_every_field_says_what_its_table_says() -> None:
    """In a template each field of the table has its value."""
    exchange = make_exchange(trace=TRACE, bytes_in=7, untidy=True)
    assert exchange.color is not None
    exchange.tried, exchange.endpoint = [exchange.color.endpoints[0]], exchange.color.endpoints[1]
    template = "|".join(f"{name}={{{name}}}" for name in NAMES)

    assert line_of(template, exchange, Outcome(502, 1_500_000, errors.TERMINATED)).split("|") == [
        f"time={TIME}",
        "clf_time=[24/Nov/2026:14:25:13 +0000]",
        "epoch=1795530313.857",
        "client=203.0.113.9",
        "request=GET /basket?item=42 HTTP/1.1",
        "method=GET",
        "target=/basket?item=42",
        "protocol=HTTP/1.1",
        "status=502",
        "color=blue",
        "endpoint=10.0.0.8:8080",
        "bytes_in=7",
        "bytes_out=2326",
        "clf_bytes=2326",
        "duration_ms=1.500",
        "first_byte_ms=11.000",
        "retries=1",
        "request_id=6a3f9d20c1e40000001f",
        "trace_id=0af7651916cd43dd8448eb211c80319c",
        "span_id=00f067aa0ba902b7",
        "error=connection_terminated",
        "reason=connection closed before the response",
        "sample=1",
    ]


def test_what_is_not_there_is_a_dash() -> None:
    """A request that was refused before it was one has a dash for all that is not known of it."""
    nothing = make_exchange(
        plan=None, color=None, endpoint=None, method=b"-", target=b"-", bytes_out=0, first_byte_ns=0
    )
    refused = Outcome(400, MS, errors.BAD_LINE)

    template = "{protocol}{color}{endpoint}{clf_bytes}{first_byte_ms}{trace_id}{span_id}{http:User-Agent}"
    assert line_of(template, nothing, refused) == "-" * 8
    assert line_of("common", nothing, refused).endswith('] "-" 400 -')
    entry = json.loads(line_of("json", nothing, refused))
    assert (entry["color"], entry["endpoint"], "first_byte_ms" in entry) == (None, None, False)
    assert "color=- endpoint=- bytes=0 duration=1.000ms id=6a3f9d20c1e40000001f error=" in line_of(
        "text", nothing, refused
    )


def test_fields_of_the_table_are_those_that_are_known() -> None:
    """No field is only in the table, or only in the program."""
    assert sorted(GETTERS) == sorted(field.name for field in FIELDS)


def test_request_fields_are_found_however_they_are_written() -> None:
    """`{http:NAME}` takes any case; a field that comes twice is one list, one that does not is a dash."""
    fields = b"\r\nHost: a\r\nuser-AGENT:  one \r\nX-Y: 1\r\nX-Y: 2\r\nX-YZ: 3"
    template = "{http:User-Agent}|{http:x-y}|{http:Referer}|{http:X-YZ}|{http:Host}"
    assert line_of(template, make_exchange(fields)) == "one|1, 2|-|3|a"


def test_request_fields_are_those_of_this_request() -> None:
    """What is remembered of one request is not said of another."""
    recorder = make("{http:X-N}")
    for number in range(600):
        recorder.add(make_exchange(b"\r\nHost: a\r\nX-N: %d" % (number // 2)), *Outcome())
    assert recorder.lines.split() == [b"%d" % (number // 2) for number in range(600)]


def test_time_is_that_of_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time goes on with every millisecond, over seconds and midnights."""
    recorder = make("{time} {clf_time} {epoch}")
    exchange = make_exchange()
    start_ns = 1_798_761_599_998 * MS + 600_000  # 2026-12-31T23:59:59.9986Z
    began_ns = exchange.started_ns
    for step in range(4):
        monkeypatch.setattr(record, "time_ns", lambda now=start_ns + step * 500_000: now)
        exchange.started_ns = began_ns + step * 500_000
        recorder.add(exchange, *Outcome())

    assert recorder.lines.decode().splitlines() == [
        "2026-12-31T23:59:59.998Z [31/Dec/2026:23:59:59 +0000] 1798761599.998",
        "2026-12-31T23:59:59.999Z [31/Dec/2026:23:59:59 +0000] 1798761599.999",
        "2026-12-31T23:59:59.999Z [31/Dec/2026:23:59:59 +0000] 1798761599.999",
        "2027-01-01T00:00:00.000Z [01/Jan/2027:00:00:00 +0000] 1798761600.000",
    ]


# That nobody else writes it.

anything = st.binary(max_size=300) | st.binary(max_size=100).map(lambda some: some * 100)
targets = st.lists(
    st.sampled_from([bytes([c]) for c in range(256) if re.fullmatch(TARGET, bytes([c]))]), max_size=300
).map(lambda parts: b"/" + b"".join(parts))
values = st.lists(
    st.sampled_from([b"\t", *(bytes([c]) for c in range(0x20, 0x100) if c != 0x7F)]), max_size=200
).map(b"".join)
methods = st.sampled_from([b"GET", b"POST", b"!#$%&'*+-.^_`|~"]) | st.just(b"X" * 5000)


def make_any(method: bytes, target: bytes, agent: bytes, request_id: bytes, *, refused: bool) -> Exchange:
    """Return an exchange of which a client has chosen all that it can."""
    fields = b"\r\nHost: a\r\nUser-Agent: %b\r\nX-Request-ID: %b" % (agent, request_id)
    return make_exchange(fields, method=method, target=target, **({"plan": None} if refused else {}))


def shortened(value: bytes, limit: int) -> str:
    """Return what JSON says of a value: byte by byte, and no more than the limit."""
    text = value.decode("latin-1")
    return text if len(text) <= limit else text[:limit] + "..."


@given(methods, targets, values, values, st.none() | st.just(TRACE), st.booleans())
def test_json_gives_every_value_back(
    method: bytes, target: bytes, agent: bytes, request_id: bytes, trace: Trace | None, failed: bool
) -> None:
    """Whatever a client sends, the line is JSON, and every value in it is the one that was sent."""
    exchange = make_any(method, target, agent, request_id, refused=False)
    exchange.trace = trace
    problem = errors.CUT_SHORT if failed else None
    entry = json.loads(line_of("json", exchange, Outcome(200, 1_234_567, problem)))

    given_id = request_id.strip(b" \t")[:LONGEST_ID]
    if all(byte in PLAIN for byte in given_id):  # escapes may take its room up
        assert entry.pop("request_id") in (
            shortened(request_id.strip(b" \t"), LONGEST_ID),
            "6a3f9d20c1e40000001f",
        )
    else:
        assert given_id.decode("latin-1").startswith(entry.pop("request_id").removesuffix("..."))
    assert entry == {
        "time": TIME,
        "client": "203.0.113.9",
        "method": method.decode() if len(method) < 64 else "X" * 64 + "...",
        "target": target.decode(),
        "status": 200,
        "color": "blue",
        "endpoint": "10.0.0.7:8080",
        "bytes_in": 0,
        "bytes_out": 2326,
        "duration_ms": 1.235,
        "first_byte_ms": 11.0,
        **({"trace_id": TRACE[0].decode(), "span_id": TRACE[1].decode()} if trace else {}),
        **({"error": problem.kind, "reason": problem.detail} if problem else {}),
    }


@given(anything, anything)
def test_json_of_what_was_refused_is_json(method: bytes, target: bytes) -> None:
    """Not even what is no request at all makes a line that cannot be read."""
    entry = json.loads(line_of("json", make_exchange(plan=None, method=method, target=target)))
    assert target.decode("latin-1").startswith(entry["target"].removesuffix("..."))
    if len(target) <= LONGEST_TARGET // 6:
        assert entry["target"] == target.decode("latin-1")


@kinds
@given(method=methods | anything, target=anything, agent=values, request_id=values)
def test_no_client_writes_a_line_of_its_own(
    kind: str, method: bytes, target: bytes, agent: bytes, request_id: bytes
) -> None:
    """Whatever comes is one line of visible ASCII, no longer than the system writes whole."""
    line = line_of(kind, make_any(method, target, agent, request_id, refused=True))
    assert line.isprintable()
    assert len(line) < MAX_LINE_BYTES


@kinds
@given(method=methods, target=targets.map(lambda target: target * 40), agent=values.map(lambda v: v * 20),
       request_id=values.map(lambda v: v * 20))  # fmt: skip
def test_long_values_are_cut(
    kind: str, method: bytes, target: bytes, agent: bytes, request_id: bytes
) -> None:
    """However long a request's parts are, its line is one, of visible ASCII, and fits."""
    line = line_of(kind, make_any(method, target, agent, request_id, refused=False))
    assert line.isprintable()
    assert len(line) < MAX_LINE_BYTES


COMBINED = re.compile(
    r'203\.0\.113\.9 - - \[24/Nov/2026:14:25:13 \+0000\] "((?:[^"\\]|\\.)*)" 200 2326 '
    r'"((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"'
)


def unescape(text: str) -> bytes:
    """Read Apache's escapes back."""
    found = re.sub(r"\\(x[0-9a-f]{2}|.)", lambda m: _meant(m[1]), text)
    return b"" if found == "-" else found.encode("latin-1")


def _meant(escape: str) -> str:
    return chr(int(escape[1:], 16)) if escape[0] == "x" else {"t": "\t"}.get(escape, escape)


@given(targets, values)
def test_combined_can_be_read_back(target: bytes, agent: bytes) -> None:
    """No browser's name and no target closes a quote: each is where Apache has it, and says what came."""
    match = COMBINED.fullmatch(line_of("combined", make_any(b"GET", target, agent, b"i", refused=False)))
    assert match is not None
    assert unescape(match[1]) == b"GET %b HTTP/1.1" % target
    assert match[2] == "-"
    assert unescape(match[3]) == agent.strip(b" \t").removeprefix(
        b"-" if agent.strip(b" \t") == b"-" else b""
    )


def test_grammar_lets_nothing_through_that_would_have_to_be_escaped() -> None:
    """
    What is not looked for on the way of every request cannot be there.

    Whoever widens the grammar of requests finds here that the log relies on it.
    """
    every = [bytes([byte]) for byte in range(256)]
    targets = b"".join(byte for byte in every if re.fullmatch(TARGET, byte))
    methods = b"".join(byte for byte in every if re.fullmatch(TCHAR, byte))
    assert targets.translate(None, PLAIN) == b"\\"
    assert methods.translate(None, PLAIN) == targets.translate(None, WORD) == b""
    assert methods.translate(None, WORD) == b""


def test_names_that_are_remembered_are_bounded() -> None:
    """A million clients do not fill the memory."""
    names = Names(str.encode)
    assert all(names[str(number)] == b"%d" % number for number in range(3000))
    assert len(names) <= 1024


# Who has one.


@given(st.floats(0, 1), st.floats(0, 1, exclude_max=True), st.integers(1, 2000))
def test_share_is_exact(share: float, start: float, count: int) -> None:
    """Of any number of requests in a row the share that was asked for has a line, to within a few."""
    recorder = make("{status}", share, start)
    exchange = make_exchange()
    for _ in range(count):
        recorder.add(exchange, *Outcome())
    assert abs(recorder.lines.count(b"\n") - share * count) <= 5


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.5])
def test_share_is_that_of_every_color(share: float) -> None:
    """A canary's share of the lines is its share of the requests: sampling and split do not go in step."""
    split, recorder, taken = Split([9, 1], start=0.0), make("{status}", share), Counter[int]()
    exchange = make_exchange()
    for _ in range(20_000):
        color, before = split.pick(), len(recorder.lines)
        recorder.add(exchange, *Outcome())
        taken[color] += len(recorder.lines) > before
    assert taken[0] == pytest.approx(18_000 * share, abs=10)
    assert taken[1] == pytest.approx(2_000 * share, abs=10)


@pytest.mark.parametrize("kind", ["text", "json", "{sample}"])
def test_whoever_counts_lines_can_scale_them(kind: str) -> None:
    """Each line tells for what share it stands; errors are all there and stand for themselves."""
    recorder = make(kind, 0.2)
    exchange = make_exchange()
    outcomes = [Outcome(), Outcome(302), Outcome(101), Outcome(404), Outcome(200, MS, errors.CUT_SHORT)]
    for outcome in outcomes * 100:
        recorder.add(exchange, *outcome)
    weights = Counter(re.findall(r'(?:sample"?[:=]|^)([\d.]+)}?$', recorder.lines.decode(), re.MULTILINE))
    assert weights["1"] == 200
    assert weights["0.2"] == pytest.approx(60, abs=3)


@pytest.mark.parametrize("kind", ["text", "json"])
def test_without_sampling_no_line_speaks_of_it(kind: str) -> None:
    """Where all is logged nothing need be scaled."""
    assert "sample" not in line_of(kind, make_exchange())


def test_another_configuration_goes_on_with_the_turn() -> None:
    """Reloads, one after each request, change nothing of the share."""
    recorder, lines = make("{status}", 0.1), 0
    exchange = make_exchange()
    for _ in range(1000):
        recorder.add(exchange, *Outcome())
        lines += recorder.lines.count(b"\n")
        recorder, before = make("{status}", 0.1), recorder
        recorder.go_on_from(before)
    assert lines == pytest.approx(100, abs=3)


def test_recorder_that_is_off_has_no_lines() -> None:
    """With `off` nothing is made."""
    recorder = make_recorder(AccessLog("off", "json"), None)
    recorder.add(make_exchange(), *Outcome())
    recorder.flush()
    assert not recorder.lines
