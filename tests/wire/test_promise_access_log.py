"""Promise: every exchange leaves one whole line, and whoever does not read the log slows nobody."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sillyproxy.config.logformat import NAMES
from tests.wire.harness import Client
from tests.wire.stress_tools import (
    GET,
    QuickOrigin,
    ask_many,
    ask_once,
    loading,
    origin,
    read_counters,
    read_metrics,
    request,
    serving,
    show,
    wait_at_rest,
    wait_until,
)

TEXT = re.compile(
    r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z 127\.0\.0\.1 "
    r'"(?P<method>\S+) (?P<target>\S+)" (?P<status>\d{3}) color=(?P<color>\S+) endpoint=\S+ '
    r"bytes=(?P<bytes_out>\d+) duration=\d+\.\d+ms id=\S+(?: error=(?P<error>\S+) reason=\"[^\"]+\")?"
    r"(?: first_byte=\d+\.\d+ms)?(?: retries=\d+)?"
)


@pytest.fixture
def backend() -> Iterator[QuickOrigin]:
    with origin() as server:
        yield server


def make_traffic(port: int) -> None:
    """Nine exchanges that end in nine ways."""
    for path in (b"/", b"/status/404", b"/status/500", b"/bytes/5000", b"/break", b"/cut"):
        ask_once(port, GET % path)
    ask_once(port, request("/echo?a=b%20%22", "POST", b"12345"))
    ask_once(port, b"GET /\x01\r\n\r\n")
    client = Client(port)
    client.send(GET % b"/hang")
    client.reset()


EXPECTED = Counter(
    {
        ("GET", "/", 200, "blue", 4, None): 1,
        ("GET", "/status/404", 404, "blue", 2, None): 1,
        ("GET", "/status/500", 500, "blue", 2, None): 1,
        ("GET", "/bytes/5000", 200, "blue", 5000, None): 1,
        ("GET", "/break", 502, "blue", 0, "connection_terminated"): 1,
        ("GET", "/cut", 200, "blue", 4, "http_response_incomplete"): 1,
        ("POST", "/echo?a=b%20%22", 200, "blue", 1, None): 1,
        ("-", "-", 400, None, 0, "http_request_error"): 1,
        ("GET", "/hang", 499, "blue", 0, "connection_terminated"): 1,
    }
)


def read_json(line: str) -> tuple[Any, ...]:
    """Return what a JSON line says, as in EXPECTED."""
    entry = json.loads(line)
    return (*(entry[x] for x in ("method", "target", "status", "color", "bytes_out")), entry.get("error"))


def read_text(line: str) -> tuple[Any, ...]:
    """Return what a text line says, as in EXPECTED."""
    found = TEXT.fullmatch(line)
    assert found, line
    color = found["color"] if found["color"] != "-" else None
    return (
        found["method"],
        found["target"],
        int(found["status"]),
        color,
        int(found["bytes_out"]),
        found["error"],
    )


@pytest.mark.parametrize(("kind", "read"), [("json", read_json), ("text", read_text)])
def test_every_exchange_has_its_line(backend: QuickOrigin, tmp_path: Path, kind: str, read: Any) -> None:
    """Answers, errors, refusals, broken upstreams and clients that left: one line each, every field right."""
    log = tmp_path / "access.log"
    env = {"BLUE": backend.url, "SILLYPROXY_ACCESS_LOG": str(log), "SILLYPROXY_LOG_FORMAT": kind}
    with serving(env) as proxy:
        make_traffic(proxy.port)
        wait_at_rest(proxy)
    assert Counter(map(read, log.read_text().splitlines())) == EXPECTED


NCSA = re.compile(
    r"127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "
    r'"(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) (?P<bytes>\d+|-)'
    r'(?P<rest> "(?:[^"\\]|\\.)*" "(?:[^"\\]|\\.)*")?'
)


@pytest.mark.parametrize("kind", ["common", "combined"])
def test_every_exchange_has_its_line_as_apache_writes_it(
    backend: QuickOrigin, tmp_path: Path, kind: str
) -> None:
    """The same exchanges in NCSA's formats: what a log analyser reads is what happened."""
    log = tmp_path / "access.log"
    env = {"BLUE": backend.url, "SILLYPROXY_ACCESS_LOG": str(log), "SILLYPROXY_ACCESS_LOG_FORMAT": kind}
    with serving(env) as proxy:
        make_traffic(proxy.port)
        ask_once(proxy.port, request("/bytes/5", User_Agent='a "b" \\', Referer="http://there/"))
        wait_at_rest(proxy)
    lines = [NCSA.fullmatch(line) for line in log.read_text().splitlines()]
    found = Counter((line["request"], line["status"], line["bytes"]) for line in lines if line)
    requests = {
        (f"{method} {target} HTTP/1.1" if method != "-" else "-", str(status), str(size or "-")): count
        for (method, target, status, _, size, _), count in EXPECTED.items()
    }
    assert found == Counter(requests) + Counter({("GET /bytes/5 HTTP/1.1", "200", "5"): 1})
    rests = {line["rest"] for line in lines if line}
    if kind == "common":
        assert rests == {None}
    else:
        assert rests == {' "-" "-"', r' "http://there/" "a \"b\" \\"'}


def test_every_exchange_has_its_line_by_a_template(backend: QuickOrigin, tmp_path: Path) -> None:
    """The same exchanges by a template of all fields: each has its value, and errors have theirs."""
    log = tmp_path / "access.log"
    template = " ".join(f"{name}={{{name}}}" for name in NAMES if name not in ("request", "reason"))
    env = {
        "BLUE": backend.url,
        "SILLYPROXY_ACCESS_LOG": str(log),
        "SILLYPROXY_ACCESS_LOG_FORMAT": template + ' "{reason}"',
    }
    with serving(env) as proxy:
        make_traffic(proxy.port)
        wait_at_rest(proxy)
    lines = [dict(re.findall(r"(\w+)=(\[.*?\]|\S+)", line)) for line in log.read_text().splitlines()]
    assert {frozenset(line) for line in lines} == {frozenset(NAMES) - {"request", "reason"}}
    absent = {"-": None}
    found = Counter(
        (
            *(line[name] for name in ("method", "target")),
            int(line["status"]),
            absent.get(line["color"], line["color"]),
            int(line["bytes_out"]),
            absent.get(line["error"], line["error"]),
        )
        for line in lines
    )
    assert found == EXPECTED


def test_goaccess_reads_combined(backend: QuickOrigin, tmp_path: Path) -> None:
    """A log analyser takes every line of `combined`, whatever the client sent, and counts what there was."""
    if not shutil.which("goaccess"):
        pytest.skip("needs goaccess")
    log, report = tmp_path / "access.log", tmp_path / "report.json"
    env = {"SILLYPROXY_ACCESS_LOG": str(log), "SILLYPROXY_ACCESS_LOG_FORMAT": "combined"}
    with serving({"BLUE": backend.url, **env}) as proxy:
        ask_many(
            proxy.port, 50, request("/bytes/100", User_Agent='Mozilla/5.0 "quoted" \\', Referer="http://a/")
        )
        ask_many(proxy.port, 30, GET % b"/status/404?a=%22\\")
        ask_once(proxy.port, GET % b"/break")
        wait_at_rest(proxy)
    subprocess.run(
        ["goaccess", str(log), "--log-format=COMBINED", "--no-global-config", "-o", str(report)],
        check=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    told = json.loads(report.read_text())
    assert (told["general"]["total_requests"], told["general"]["failed_requests"]) == (81, 0)
    assert told["general"]["bandwidth"] == 50 * 100 + 30 * 2


def test_standard_output_is_the_default_and_complete(backend: QuickOrigin) -> None:
    """On standard output each of 2,000 requests has its line, also the last ones before a stop."""
    env = {"SILLYPROXY_ACCESS_LOG": "stdout", "SILLYPROXY_LOG_FORMAT": "json"}
    with serving({"BLUE": backend.url, **env}) as proxy:
        ask_many(proxy.port, 2000)
        proxy.process.terminate()
        proxy.process.wait(20)
        entries = [json.loads(line) for line in proxy.read_log().splitlines()]
    answered = [entry for entry in entries if entry.get("target") == "/"]
    assert len(answered) == 2000
    assert len({entry["request_id"] for entry in answered}) == 2000


def test_off_is_silent(backend: QuickOrigin) -> None:
    """With `off` no request leaves a line anywhere."""
    with serving({"BLUE": backend.url, "SILLYPROXY_ACCESS_LOG": "off"}) as proxy:
        ask_many(proxy.port, 10)
        wait_at_rest(proxy)
        assert "GET" not in proxy.read_log()


@contextlib.contextmanager
def fifo(path: Path) -> Iterator[io.FileIO]:
    """A pipe with a name; its reader's end."""
    os.mkfifo(path)
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as reader:
        yield reader


def test_full_pipe_slows_nobody_and_drops_whole_lines(backend: QuickOrigin, tmp_path: Path) -> None:
    """
    When nobody reads the log any more requests go on as before; lines that find no room are
    dropped whole and counted; read again, every line is whole, and none is missing without a count.
    """
    path = tmp_path / "log"
    target = b"/status/200?" + b"x" * 2000
    count = 1500
    with fifo(path) as reader:
        env = {"BLUE": backend.url, "SILLYPROXY_ACCESS_LOG": str(path), "SILLYPROXY_LOG_FORMAT": "json"}
        with serving(env) as proxy:
            assert ask_many(proxy.port, count, GET % target) == {b"no": count}
            wait_until(lambda: read_counters(proxy)["log_dropped"] > 0, "dropped lines")
            wait_at_rest(proxy)
            data = bytearray()
            os.set_blocking(reader.fileno(), True)
            drain = threading.Thread(target=_drain, args=(reader, data), daemon=True)
            drain.start()
            dropped = read_metrics(proxy)["sillyproxy_access_log_dropped_total"]
            wait_until(lambda: data.count(b"\n") + dropped == count, f"{count} lines with the {dropped}")
            assert ask_many(proxy.port, 1) == {b"blue": 1}
            wait_until(lambda: data.count(b"\n") + dropped == count + 1, "the line of a reader that is back")
        drain.join(20)
    show("full pipe", written=data.count(b"\n"), dropped=dropped)
    assert all(json.loads(line)["status"] == 200 for line in data.splitlines())


def _drain(reader: io.FileIO, data: bytearray) -> None:
    with contextlib.suppress(OSError):
        while more := reader.read(65536):
            data += more


def test_reader_that_left_ends_nothing(backend: QuickOrigin, tmp_path: Path) -> None:
    """When the reader of the log goes away requests are served on, and lines are counted as dropped."""
    path = tmp_path / "log"
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(fifo(path))
        proxy = stack.enter_context(serving({"BLUE": backend.url, "SILLYPROXY_ACCESS_LOG": str(path)}))
        ask_many(proxy.port, 10)
        wait_at_rest(proxy)
        reader.close()
        assert ask_many(proxy.port, 100) == {b"blue": 100}
        wait_until(lambda: read_counters(proxy)["log_dropped"] == 100, "100 dropped lines")


def test_lines_of_several_workers_do_not_mix(backend: QuickOrigin, tmp_path: Path) -> None:
    """Two workers on one pipe, with short and very long targets: every line is one JSON object."""
    path = tmp_path / "log"
    data = bytearray()
    targets = [b"/status/200?" + b"x" * size for size in (1, 500, 5000, 20000)]

    def make(number: int) -> tuple[bytes, bytes]:
        return b"GET", GET % targets[number % len(targets)]

    with fifo(path) as reader:
        os.set_blocking(reader.fileno(), True)
        env = {"BLUE": backend.url, "SILLYPROXY_ACCESS_LOG": str(path), "SILLYPROXY_LOG_FORMAT": "json"}
        with serving({**env, "SILLYPROXY_WORKERS": "2"}) as proxy:
            drain = threading.Thread(target=_drain, args=(reader, data), daemon=True)
            drain.start()
            with loading(proxy.port, 8, make) as load:
                load.wait_answers(2000)
            wait_at_rest(proxy)
            expected = sum(load.statuses.values()) - read_counters(proxy)["log_dropped"]
            wait_until(lambda: data.count(b"\n") >= expected, "all lines")
        drain.join(20)
    assert not load.failures
    broken = [line for line in data.splitlines() if not _is_entry(line)]
    assert not broken, f"{len(broken)} of {expected}: {broken[0][:100]!r}…{broken[0][-100:]!r}"


def _is_entry(line: bytes | bytearray) -> bool:
    try:
        return bool(json.loads(line)["status"] == 200)
    except (ValueError, KeyError):
        return False


# Sampling.


def test_successes_are_sampled_and_errors_are_all_there(backend: QuickOrigin, tmp_path: Path) -> None:
    """Of 1,000 successes a tenth has a line, each error has one; scaled up they are what the proxy counts."""
    log = tmp_path / "access.log"
    env = {
        "BLUE": backend.url,
        "SILLYPROXY_WORKERS": "1",
        "SILLYPROXY_ACCESS_LOG": str(log),
        "SILLYPROXY_ACCESS_LOG_FORMAT": "json",
        "SILLYPROXY_ACCESS_LOG_SAMPLE": "10%",
    }
    with serving(env) as proxy:
        for _ in range(10):
            ask_many(proxy.port, 100)
            ask_many(proxy.port, 5, GET % b"/status/404")
            ask_once(proxy.port, GET % b"/cut")
            ask_once(proxy.port, GET % b"/break")
        wait_at_rest(proxy)
        counted = read_counters(proxy)["accepted"]
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    kinds = Counter((entry["status"], entry["target"], entry["sample"]) for entry in entries)
    assert abs(kinds.pop((200, "/", 0.1)) - 100) <= 4
    assert kinds == {(404, "/status/404", 1): 50, (200, "/cut", 1): 10, (502, "/break", 1): 10}
    assert abs(sum(1 / entry["sample"] for entry in entries) - counted) <= 40
