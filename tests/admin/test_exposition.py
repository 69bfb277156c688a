"""What a scrape is made of: which series, how many, and the traces beside them."""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from sillyproxy.admin.board import Board, WorkerView
from sillyproxy.admin.exposition import expose
from sillyproxy.config.schema import Color, Config, Probe, Upstream
from sillyproxy.metrics.layout import CONNECTS_AT, DURATIONS_AT, SIZES_OUT_AT, Row, Worker, bucket_of
from sillyproxy.metrics.slab import BLOCK_BYTES, Counts, block_of
from sillyproxy.metrics.spans import Exemplar
from sillyproxy.metrics.table import METRICS
from sillyproxy.tools.channel import Address
from sillyproxy.tools.memory import Usage

read_openmetrics: Any = openmetrics.text_string_to_metric_families

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
NAMES = ("blue", "green", "red", "white", "black")


def make_board(colors: int = 2, endpoints: int = 1, workers: int = 1) -> Board:
    """Return a board of that many colors, endpoints of each, and workers (all of them are this process)."""
    names = NAMES[:colors]
    config = Config(
        color_names=names,
        slots=names,
        workers=workers,
        colors=tuple(
            Color(name, (Upstream("http", f"{name}.example", 80),), probe=Probe("/healthz")) for name in names
        ),
    )
    board = Board(config, memoryview(bytearray(BLOCK_BYTES * 64)), started_at=1764000000.0)
    for name in names:
        board.endpoints[name] = tuple(Address(0, f"10.0.0.{n}", 80) for n in range(endpoints))
    for index in range(workers):
        board.workers[index] = WorkerView(os.getpid(), 1)
        block_of(board.memory, index)[Worker.PID] = os.getpid()
    board.lookups = dict.fromkeys(("ok", "no_name", "failed", "timeout"), 0)
    board.usage = Usage(50, 100)
    return board


def read(board: Board, accept: str = "") -> dict[tuple[str, ...], float]:
    """Return the value of every series: by its name and its labels' values, in the order of their names."""
    body, _ = expose(board, accept)
    parse = read_openmetrics if accept else read_text
    samples = [sample for family in parse(body.decode()) for sample in family.samples]
    series = {(s.name, *(s.labels[name] for name in sorted(s.labels))): s.value for s in samples}
    assert len(series) == len(samples), "a series is there twice"
    return series


@pytest.mark.parametrize(
    ("colors", "endpoints", "workers"), [(1, 1, 1), (2, 1, 1), (2, 30, 1), (2, 1, 16), (5, 4, 4)]
)
def test_number_of_series(colors: int, endpoints: int, workers: int) -> None:
    """How many series a proxy has depends on colors, endpoints and workers alone, whatever the traffic."""
    fine, coarse, sizes = 86 + 1 + 2, 19 + 1 + 2, 14 + 1 + 2  # edges, the infinite one, count and sum
    a_color = (
        2 * fine + 2 * coarse + 2 * sizes + 6 + 10 + 4 + 2 + 2 + 2 + 2 + 1
    )  # ... and one name to look up
    no_color = fine + 6
    assert len(read(make_board(colors, endpoints, workers))) == (
        a_color * colors
        + colors  # the name of its host
        + colors * (colors - 1)  # fallbacks
        + colors * endpoints
        + 5 * workers
        + 8  # open files, their limit, memory and CPU of supervisor and controller
        + no_color
        + 37  # of the whole proxy
    )


def test_traffic_makes_no_series() -> None:
    """Whatever clients ask for, and however it ends, the series are the same as before."""
    board = make_board()
    before = read(board).keys()
    counts = Counts(block_of(board.memory, 0), 3)
    for row in counts.rows:
        row[:] = [1] * len(row)
    counts.worker[:] = [1] * len(counts.worker)
    counts.publish()

    assert read(board).keys() == before


def test_both_formats_say_the_same() -> None:
    """A scrape in OpenMetrics and one in the classic format have the same series with the same values."""
    board = make_board()
    counts = Counts(block_of(board.memory, 0), 3)
    counts.rows[1][Row.C2XX] = 12345678
    counts.rows[1][Row.DURATION_NS] = 1234567890123
    counts.publish()
    classic, modern = read(board), read(board, OPENMETRICS)
    processes = ("sillyproxy_process_memory_bytes", "sillyproxy_process_cpu_seconds_total")

    assert classic.keys() == modern.keys()
    assert [(key, classic[key], modern[key]) for key in classic
            if key[0] not in processes and classic[key] != modern[key]] == []  # fmt: skip
    assert classic["sillyproxy_requests_total", "2xx", "blue"] == 12345678
    assert classic["sillyproxy_request_duration_seconds_sum", "blue"] == 1234.567890123
    assert {family.name for family in read_text(expose(board, "")[0].decode())} == {m.name for m in METRICS}


def test_a_histogram_counts_up_to_its_edges() -> None:
    """Durations, connects and sizes are each in their own histogram, and in every bucket from theirs on."""
    board = make_board()
    counts = Counts(block_of(board.memory, 0), 3)
    counts.rows[1][DURATIONS_AT + bucket_of(2_200_000)] += 3
    counts.rows[1][SIZES_OUT_AT + (1000).bit_length()] += 2
    counts.publish()
    counts.note(2, CONNECTS_AT + bucket_of(700_000_000))
    series = read(board)

    def at(metric: str, color: str, *edges: str) -> list[float]:
        return [series[f"sillyproxy_{metric}_bucket", color, edge] for edge in edges]

    assert at("request_duration_seconds", "blue", "0.002", "0.0025", "120.0", "+Inf") == [0, 3, 3, 3]
    assert at("response_body_size_bytes", "blue", "256.0", "1024.0", "+Inf") == [0, 2, 2]
    assert at("upstream_connect_seconds", "green", "0.5", "1.0", "+Inf") == [0, 1, 1]
    assert at("upstream_connect_seconds", "blue", "+Inf") == [0]
    assert series["sillyproxy_request_duration_seconds_count", "blue"] == 3


def test_the_next_scrape_has_the_next_values() -> None:
    """What changed between two scrapes is in the second: values, and series that came or went."""
    board = make_board(endpoints=2)
    counts = Counts(block_of(board.memory, 0), 3)
    for number in range(1, 4):
        counts.rows[1][Row.C2XX] = number
        counts.publish()
        assert read(board)["sillyproxy_requests_total", "2xx", "blue"] == number
    assert read(board)["sillyproxy_endpoint_up", "blue", "10.0.0.1:80"] == 1

    board.endpoints["blue"] = board.endpoints["blue"][:1]
    board.draining = True

    assert ("sillyproxy_endpoint_up", "blue", "10.0.0.1:80") not in read(board)
    assert read(board)["sillyproxy_ready",] == 0


def test_exemplars_are_beside_their_buckets() -> None:
    """In OpenMetrics a bucket names the trace of one exchange that it counts, and when that was."""
    board = make_board()
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    counts = Counts(block_of(board.memory, 0), 3)
    counts.rows[2][DURATIONS_AT + bucket_of(1_100_000)] += 1
    counts.publish()
    board.exemplars = lambda: {("green", 15): Exemplar(trace, 0.0011, 1764000001.25)}
    body = expose(board, OPENMETRICS)[0].decode()
    with_exemplar = [
        sample for family in read_openmetrics(body) for sample in family.samples if sample.exemplar
    ]

    (sample,) = with_exemplar
    assert (sample.name, sample.labels) == (
        "sillyproxy_request_duration_seconds_bucket",
        {"color": "green", "le": "0.00125"},
    )
    assert sample.value == 1
    assert sample.exemplar.labels == {"trace_id": trace}
    assert (sample.exemplar.value, float(sample.exemplar.timestamp)) == (0.0011, 1764000001.25)


def test_the_classic_format_has_no_exemplars() -> None:
    """Whoever does not know exemplars gets none, and the same counts."""
    board = make_board()
    before = read(board)
    board.exemplars = lambda: {
        ("green", 15): Exemplar("4bf92f3577b34da6a3ce929d0e0e4736", 0.0011, 1764000001)
    }

    assert b"trace_id" not in expose(board, "")[0]
    assert read(board).keys() == before.keys()


def test_exemplars_of_a_color_that_is_gone_are_dropped() -> None:
    """A trace of a color that a reload removed does no harm."""
    board = make_board()
    board.exemplars = lambda: {("red", 15): Exemplar("4bf92f3577b34da6a3ce929d0e0e4736", 0.0011, 1764000001)}

    assert read(board, OPENMETRICS).keys() == read(board).keys()


def test_every_process_is_shown_while_it_lives() -> None:
    """Open files, memory and CPU time are there for each process; those of a worker that died are not."""
    board = make_board(workers=2)
    board.workers[1].pid = 2**22 + 1  # no process can have it
    # One whose files are known, once it has answered: the three that every program begins with.
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b"ready\n")
        child.stdin.flush()
        child.stdout.readline()
        board.workers[0].pid = child.pid
        series = read(board)
        child.kill()
    shown = {key[1] for key in series if key[0] == "sillyproxy_process_open_files"}

    assert shown == {"supervisor", "controller", "worker-0"}
    assert series["sillyproxy_process_open_files", "worker-0"] == 3
    assert series["sillyproxy_process_memory_bytes", "worker-0"] > 2**18


def test_loop_lag_is_of_now() -> None:
    """How long events wait in a worker is shown while it works, and 0 once it has had nothing to do."""
    board = make_board(workers=2)
    for index, age_s in enumerate((1, 11)):
        block = block_of(board.memory, index)
        block[Worker.LOOP_LAG_NS] = 25_000_000
        block[Worker.PUBLISHED_NS] = time.monotonic_ns() - age_s * 10**9
    series = read(board)

    assert [series["sillyproxy_worker_loop_lag_seconds", worker] for worker in "01"] == [0.025, 0]
