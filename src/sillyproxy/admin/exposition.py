"""The metrics as Prometheus reads them: the counts of all workers, summed when somebody asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from sillyproxy import __version__
from sillyproxy.admin.board import Board
from sillyproxy.metrics import table
from sillyproxy.metrics.layout import DURATIONS_AT, FIRST_BYTES_AT, MAX_COLORS, RETRY_REASONS, Row, Worker
from sillyproxy.metrics.slab import Totals
from sillyproxy.metrics.table import Metric

Sample = tuple[tuple[str, ...], float]

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
    (table.TUNNELS, Worker.TUNNELS_OPEN),
    (table.LOG_DROPPED, Worker.LOG_DROPPED),
    (table.RESTARTS, Worker.RESTARTS),
)


def expose(board: Board, accept: str) -> tuple[bytes, str]:
    """Return the metrics of this moment in the format that `accept` asks for, and its media type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_OfBoard(board))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


class _OfBoard(Collector):
    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterator[Family]:
        board, totals = self._board, self._board.totals()
        yield from _of_colors(board, totals)
        yield from (_family(metric, [((), totals.worker[place])]) for metric, place in _BY_WORKER)
        yield _family(table.WORKERS, [((), len(board.workers))])
        yield _family(table.GENERATION, [((), board.config.generation)])
        yield _family(table.RELOADS, [((result,), n) for result, n in board.reloads.items()])
        refused = board.reload is not None and board.reload.result == "refused"
        yield _family(table.CONFIG_REFUSED, [((), refused)])
        yield _family(table.LOOKUPS, [((result,), n) for result, n in board.lookups.items()])
        hosts = sorted({upstream.host for color in board.config.colors for upstream in color.upstreams})
        stale = board.name_problems()
        yield _family(table.NAME_STALE, [((host,), host in stale) for host in hosts])
        yield _family(table.READY, [((), not board.unready())])
        yield _family(table.STARTED, [((), not board.awaited())])
        usage = board.usage
        yield _family(table.MEMORY_USED, [((), usage.used)] if usage else [])
        yield _family(table.MEMORY_LIMIT, [((), usage.limit)] if usage else [])
        yield _family(table.SHEDDING, [((), board.shedding)])
        yield _family(table.START_TIME, [((), board.started_at)])
        yield _family(table.BUILD, [((__version__,), 1)])


def _of_colors(board: Board, totals: Totals) -> Iterator[Family]:
    colors = [(name, totals.rows[slot]) for name, slot in board.slots()]
    rows = [(table.NO_COLOR, totals.rows[0]), *colors]
    yield _family(
        table.REQUESTS, [((name, code), row[place]) for name, row in rows for code, place in _CODES.items()]
    )
    yield _durations(rows)
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
    up: dict[tuple[str, ...], float] = {}
    for (name, address), state in board.states().items():
        key = (name, show_endpoint(address.ip, address.port))
        up[key] = min(up.get(key, 1), state == "up")
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


def _durations(rows: Iterable[tuple[str, list[int]]]) -> Family:
    family = HistogramMetricFamily(table.DURATION.name, table.DURATION.help, labels=table.DURATION.labels)
    for name, row in rows:
        fine = row[DURATIONS_AT:FIRST_BYTES_AT]
        buckets = [(repr(edge), float(count)) for edge, count in table.cumulate(fine)]
        buckets.append(("+Inf", float(sum(fine))))
        family.add_metric((name,), buckets, row[Row.DURATION_NS] / 1e9)
    return family


def _family(metric: Metric, samples: Iterable[Sample]) -> Family:
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = make(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, float(value))
    return family


def show_endpoint(ip: str, port: int) -> str:
    """
    Return an endpoint as operators write it.

    >>> show_endpoint("10.0.0.1", 80), show_endpoint("::1", 80)
    ('10.0.0.1:80', '[::1]:80')
    """
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
