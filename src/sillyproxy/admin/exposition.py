"""The metrics as Prometheus reads them: the counts of all workers, summed when somebody asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from sillyproxy import __version__
from sillyproxy.admin.board import Board
from sillyproxy.admin.fill import Family, Labels, fill, media_type_of
from sillyproxy.admin.processes import read_loop_lags, read_processes
from sillyproxy.metrics import table
from sillyproxy.metrics.layout import (
    BUCKETS,
    CONNECTS_AT,
    DURATIONS_AT,
    FIRST_BYTES_AT,
    MAX_COLORS,
    QUEUE_WAITS_AT,
    RETRY_REASONS,
    SIZES,
    SIZES_IN_AT,
    SIZES_OUT_AT,
    Row,
    Worker,
)
from sillyproxy.metrics.slab import Totals
from sillyproxy.metrics.spans import Exemplar
from sillyproxy.metrics.table import Metric
from sillyproxy.traffic.endpoint import name_of

NS_A_SECOND: Final = 1e9

_CODES = {
    "1xx": Row.C1XX,
    "2xx": Row.C2XX,
    "3xx": Row.C3XX,
    "4xx": Row.C4XX,
    "5xx": Row.C5XX,
    "other": Row.OTHER,
}

# Metrics that are one count of a color, or of a worker, and nothing else.
_BY_COLOR = (
    (table.BYTES_IN, Row.BYTES_IN),
    (table.BYTES_OUT, Row.BYTES_OUT),
    (table.CUT_SHORT, Row.CUT_SHORT),
    (table.COLOR_INFLIGHT, Row.INFLIGHT),
    (table.CONNECTS, Row.UPSTREAM_CONNECTS),
    (table.CONNECT_FAILURES, Row.UPSTREAM_FAILURES),
    (table.RETRIES_DENIED, Row.RETRY_DENIED),
    (table.RESTS, Row.RESTS),
    (table.COLOR_TUNNELS, Row.TUNNELS),
    (table.QUEUE_WAITING, Row.QUEUED),
)
# Metrics that are several counts of a color, by one more label.
_BY_REASON: tuple[tuple[Metric, Mapping[str, Row]], ...] = (
    (table.RETRIES, RETRY_REASONS),
    (table.EJECTIONS, {"consecutive": Row.EJECT_CONSECUTIVE, "error_rate": Row.EJECT_RATE}),
    (table.QUEUE_REJECTIONS, {"timeout": Row.QUEUE_TIMEOUT, "full": Row.QUEUE_FULL}),
    (table.UPSTREAM, {"active": Row.UPSTREAM_ACTIVE, "idle": Row.UPSTREAM_IDLE}),
)
_BY_WORKER = (
    (table.ACCEPTED, Worker.ACCEPTED),
    (table.ANSWERED, Worker.ANSWERED),
    (table.REPLIED, Worker.REPLIED),
    (table.ABANDONED, Worker.ABANDONED),
    (table.LOST, Worker.LOST),
    (table.INFLIGHT, Worker.INFLIGHT),
    (table.DOWNSTREAM, Worker.CONNECTIONS_OPEN),
    (table.CONNECTIONS, Worker.CONNECTIONS),
    (table.REFUSED, Worker.CONNECTIONS_REFUSED),
    (table.HEAD_TIMEOUTS, Worker.HEAD_TIMEOUTS),
    (table.H2_CONNECTIONS, Worker.H2_CONNECTIONS),
    (table.H2_ERRORS, Worker.H2_ERRORS),
    (table.TUNNELS, Worker.TUNNELS_OPEN),
    (table.LOG_DROPPED, Worker.LOG_DROPPED),
    (table.RESTARTS, Worker.RESTARTS),
)


# Histograms of a color: where their buckets are, how many there are, and what the sum counts.
_HISTOGRAMS = (
    (table.FIRST_BYTE, FIRST_BYTES_AT, BUCKETS, Row.FIRST_BYTE_NS),
    (table.CONNECT, CONNECTS_AT, BUCKETS, Row.CONNECT_NS),
    (table.QUEUE_WAIT, QUEUE_WAITS_AT, BUCKETS, Row.QUEUE_WAIT_NS),
    (table.SIZE_IN, SIZES_IN_AT, SIZES, Row.BYTES_IN),
    (table.SIZE_OUT, SIZES_OUT_AT, SIZES, Row.BYTES_OUT),
)


def expose(board: Board, accept: str) -> tuple[bytes, str]:
    """Return the metrics of this moment in the format that `accept` asks for, and its media type."""
    media_type = media_type_of(accept)
    # The classic format has no place for exemplars.
    exemplars = board.exemplars() if media_type.startswith("application/openmetrics-text") else {}
    return fill(list(_families(board, exemplars)), accept), media_type


def _families(board: Board, exemplars: Mapping[tuple[str, int], Exemplar]) -> Iterator[Family]:
    totals = board.totals()
    yield from _of_colors(board, totals, exemplars)
    yield from _of_endpoints(board)
    yield from (_one(metric, totals.worker[place]) for metric, place in _BY_WORKER)
    full = totals.worker[Worker.TLS_HANDSHAKES] - totals.worker[Worker.TLS_RESUMED]
    resumed, failed = totals.worker[Worker.TLS_RESUMED], totals.worker[Worker.TLS_FAILED]
    yield _by(table.TLS_HANDSHAKES, {"full": full, "resumed": resumed, "failed": failed})
    ends = {certificate.path: certificate.not_after for certificate in board.config.tls.certificates}
    yield _by(table.TLS_EXPIRY, ends)
    yield _one(table.WORKERS, len(board.workers))
    yield _one(table.GENERATION, board.config.generation)
    yield _by(table.RELOADS, board.reloads)
    yield _one(table.CONFIG_REFUSED, board.reload is not None and board.reload.result == "refused")
    yield _by(table.LOOKUPS, board.lookups)
    hosts = sorted({upstream.host for color in board.config.colors for upstream in color.upstreams})
    stale = board.name_problems()
    yield _by(table.NAME_STALE, {host: host in stale for host in hosts})
    yield _one(table.READY, not board.unready())
    yield _one(table.STARTED, not board.awaited())
    yield from _of_processes(board)
    yield _by(table.SPANS, {result: board.spans.get(result, 0) for result in table.SPAN_RESULTS})
    usage = board.usage
    yield _family(table.MEMORY_USED, [((), usage.used)] if usage else [])
    yield _family(table.MEMORY_LIMIT, [((), usage.limit)] if usage else [])
    yield _one(table.SHEDDING, board.shedding)
    yield _one(table.START_TIME, board.started_at)
    yield _by(table.BUILD, {__version__: 1})


def _of_colors(
    board: Board, totals: Totals, exemplars: Mapping[tuple[str, int], Exemplar]
) -> Iterator[Family]:
    colors = [(name, totals.rows[slot]) for name, slot in board.slots()]
    rows = [(table.NO_COLOR, totals.rows[0]), *colors]
    yield _family(
        table.REQUESTS, [((name, code), row[place]) for name, row in rows for code, place in _CODES.items()]
    )
    yield _with_exemplars(_histogram(table.DURATION, rows, DURATIONS_AT, BUCKETS, Row.DURATION_NS), exemplars)
    for metric, at, size, total in _HISTOGRAMS:
        yield _histogram(metric, colors, at, size, total)
    for metric, place in _BY_COLOR:
        yield _family(metric, [((name,), row[place]) for name, row in colors])
    for metric, places in _BY_REASON:
        yield _family(
            metric, [((name, why), row[place]) for name, row in colors for why, place in places.items()]
        )
    yield _family(
        table.FALLBACKS,
        [
            ((name, other), totals.fallbacks[slot * MAX_COLORS + other_slot])
            for name, slot in board.slots()
            for other, other_slot in board.slots()
            if slot != other_slot
        ],
    )
    yield _family(table.WEIGHT, [((color.name,), color.weight) for color in board.config.colors])


def _of_endpoints(board: Board) -> Iterator[Family]:
    up: dict[Labels, float] = {}
    for (name, address), state in board.states().items():
        key = (name, name_of(address.ip, address.port))
        up[key] = min(up.get(key, 1), int(state == "up"))
    yield _family(table.ENDPOINT_UP, up.items())
    checked = {color.name for color in board.config.colors if color.probe} | {
        name for name, _ in board.checks
    }
    yield _family(
        table.CHECKS,
        [
            ((name, result), board.checks.get((name, result), 0))
            for name in sorted(checked)
            for result in table.CHECK_RESULTS
        ],
    )


def _of_processes(board: Board) -> Iterator[Family]:
    usages = read_processes(board)
    limits = {name: usage.max_files for name, usage in usages.items() if usage.max_files is not None}
    yield _by(table.OPEN_FILES, {name: usage.open_files for name, usage in usages.items()})
    yield _by(table.MAX_FILES, limits)
    yield _by(table.PROCESS_MEMORY, {name: usage.memory_bytes for name, usage in usages.items()})
    yield _by(table.CPU, {name: usage.cpu_s for name, usage in usages.items()})
    yield _by(table.LOOP_LAG, {str(index): lag_s for index, lag_s in read_loop_lags(board).items()})


def _histogram(metric: Metric, rows: list[tuple[str, list[int]]], at: int, size: int, total: Row) -> Family:
    unit = NS_A_SECOND if metric.name.endswith("_seconds") else 1
    series: list[tuple[Labels, list[float | str]]] = []
    for name, row in rows:
        counts = table.cumulate(metric, row[at : at + size])
        series.append(((name,), [*counts, counts[-1], row[total] / unit]))
    return Family(metric, series)


def _with_exemplars(family: Family, exemplars: Mapping[tuple[str, int], Exemplar]) -> Family:
    """Put a trace beside the counts that it is one of."""
    by_name = {name: values for (name,), values in family.series}
    for (name, edge), exemplar in exemplars.items():
        if values := by_name.get(name):
            values[edge] = (
                f'{values[edge]} # {{trace_id="{exemplar.trace_id}"}} {exemplar.seconds} {exemplar.at:.3f}'
            )
    return family


def _family(metric: Metric, samples: Iterable[tuple[Labels, float]]) -> Family:
    return Family(metric, [(labels, [+value]) for labels, value in samples])  # +True is 1


def _one(metric: Metric, value: float) -> Family:
    """Return a metric without labels."""
    return _family(metric, [((), value)])


def _by(metric: Metric, values: Mapping[str, float]) -> Family:
    """Return a metric with one label."""
    return _family(metric, [((label,), value) for label, value in values.items()])
