"""
What we count, and where each count lives in a worker's block of shared memory.

Every count is a signed 64-bit integer with one writer, its worker. A block is the
worker's own counts, then the fallbacks from each color to each other, then one row a
color. Slot 0 stands for "no color": exchanges that ended before a color was chosen.
Slots 1 … are the names of `Config.slots`, in that order.

A row is the counts of `Row`, then what every exchange adds to (durations, first bytes, sizes
of responses), then what few do (connects, waits in the queue, sizes of requests).

Durations are counted in logarithmic buckets, 32 to an octave (3.1 % wide at most), from
33 µs to 137 s, so that percentiles are good to 1.6 % whatever the scale. Sizes are counted
by their number of binary digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

MAX_COLORS: Final = 32
MAX_WORKERS: Final = 64


class Worker(IntEnum):
    """Counts of a whole worker. Gauges say so; all else only grows."""

    ACCEPTED = 0  # exchanges begun: a request head was read, or was refused
    ANSWERED = 1  # ended with a backend's response, whole or cut short by the backend
    REPLIED = 2  # ended with a reply of our own
    ABANDONED = 3  # ended because the client went away
    LOST = 4  # under way in a worker that was killed (written by the supervisor)
    INFLIGHT = 5  # gauge: exchanges begun and not ended
    CONNECTIONS = 6  # client connections accepted
    CONNECTIONS_OPEN = 7  # gauge
    CONNECTIONS_REFUSED = 8  # over the connection limit
    TUNNELS_OPEN = 9  # gauge: upgraded connections
    LOG_DROPPED = 10  # access log lines given up because nobody read them
    GENERATION = 11  # gauge: the configuration in use
    HEAD_TIMEOUTS = 12  # clients closed for a slow head
    RESTARTS = 13  # times that this worker died and another took its place (written by the supervisor)
    PID = 14  # gauge: its process, 0 if there is none (written before it runs, so that it copies it)
    SHED = 15  # client connections refused because memory ran out; they are in CONNECTIONS_REFUSED as well
    LOOP_LAG_NS = 16  # gauge: the longest that an event had to wait for others in the last 5 to 10 s
    PUBLISHED_NS = 17  # gauge: when these counts were published; monotonic. Nothing happened since
    TLS_HANDSHAKES = 18  # that went well …
    TLS_RESUMED = 19  # … of which took up a session
    TLS_FAILED = 20  # clients closed because theirs did not
    H2_CONNECTIONS = 21  # clients that spoke HTTP/2 …
    H2_ERRORS = 22  # … and were closed for breaking its rules, or asking too much


class Row(IntEnum):
    """Counts of one color in one worker; the buckets follow."""

    OTHER = 0  # by class of status code: OTHER = 499 and what is out of range
    C1XX = 1
    C2XX = 2
    C3XX = 3
    C4XX = 4
    C5XX = 5
    RETRY_REFUSED = 6  # sent again elsewhere: the connection was refused …
    RETRY_TIMEOUT = 7  # … or timed out …
    RETRY_CLOSED = 8  # … or a pooled connection turned out closed
    INFLIGHT = 9  # gauge
    UPSTREAM_ACTIVE = 10  # gauge: upstream connections with an exchange
    UPSTREAM_IDLE = 11  # gauge: upstream connections in the pool
    UPSTREAM_CONNECTS = 12  # connections opened
    UPSTREAM_FAILURES = 13  # connections that could not be opened
    BYTES_IN = 14  # request bodies, bytes relayed
    BYTES_OUT = 15  # response bodies, bytes relayed
    DURATION_NS = 16  # sum over the histogram
    CUT_SHORT = 17  # responses that the backend broke off
    RETRY_RESET = 18  # sent again elsewhere: the connection broke before the response, and twice does no harm
    RETRY_DENIED = 19  # not sent again: too many were under way (the retry budget)
    EJECT_CONSECUTIVE = 20  # endpoints ejected for failures in a row …
    EJECT_RATE = 21  # … or for an error rate far from their siblings'
    QUEUED = 22  # gauge: requests that wait for an endpoint with room
    QUEUE_TIMEOUT = 23  # requests that waited too long for one …
    QUEUE_FULL = 24  # … or found the queue full
    RESTS = 25  # times that an endpoint was let rest, being far slower than usual
    FIRST_BYTE_NS = 26  # sum over the histogram
    CONNECT_NS = 27  # sum over the histogram
    QUEUE_WAIT_NS = 28  # sum over the histogram
    TUNNELS = 29  # gauge: upgraded connections


RETRY_REASONS: Final = {
    "refused": Row.RETRY_REFUSED,
    "timeout": Row.RETRY_TIMEOUT,
    "closed": Row.RETRY_CLOSED,
    "reset": Row.RETRY_RESET,
}

PER_OCTAVE: Final = 32
FIRST_EXPONENT: Final = 15  # 2**15 ns = 32.8 µs: everything below is in bucket 0
OCTAVES: Final = 22  # to 2**37 ns = 137 s: everything above is in the last bucket
BUCKETS: Final = PER_OCTAVE * OCTAVES
_FIRST_NS: Final = 1 << FIRST_EXPONENT
_LAST_NS: Final = 1 << (FIRST_EXPONENT + OCTAVES)
_BUCKET_ZERO: Final = ((FIRST_EXPONENT + 1) << 5) + 32

# Sizes in bytes: bucket n counts those with n binary digits, so 2**n is above all of them.
SIZES: Final = 48

WORKER_SIZE: Final = 32
ROW_HEAD: Final = 32
DURATIONS_AT: Final = ROW_HEAD
FIRST_BYTES_AT: Final = DURATIONS_AT + BUCKETS  # from the request sent to the head of the response
SIZES_OUT_AT: Final = FIRST_BYTES_AT + BUCKETS  # response bodies
HOT_SIZE: Final = SIZES_OUT_AT + SIZES
CONNECTS_AT: Final = HOT_SIZE  # until a connection was open
QUEUE_WAITS_AT: Final = CONNECTS_AT + BUCKETS  # for an endpoint with room
SIZES_IN_AT: Final = QUEUE_WAITS_AT + BUCKETS  # request bodies that are not empty
ROW_SIZE: Final = SIZES_IN_AT + SIZES
FALLBACKS_AT: Final = WORKER_SIZE
ROWS_AT: Final = FALLBACKS_AT + MAX_COLORS * MAX_COLORS
BLOCK_SIZE: Final = ROWS_AT + MAX_COLORS * ROW_SIZE

GAUGES: Final = (Worker.INFLIGHT, Worker.CONNECTIONS_OPEN, Worker.TUNNELS_OPEN, Worker.LOOP_LAG_NS)
ROW_GAUGES: Final = (Row.INFLIGHT, Row.UPSTREAM_ACTIVE, Row.UPSTREAM_IDLE, Row.QUEUED, Row.TUNNELS)


def bucket_of(duration_ns: int) -> int:
    """
    Return the bucket of a duration.

    The top six bits of the number tell the octave and the part of it (linear within an
    octave, as in HdrHistogram), which costs no logarithm.

    >>> bucket_of(0), bucket_of(32_768), bucket_of(65_536), bucket_of(10**15)
    (0, 0, 32, 703)
    """
    if duration_ns < _FIRST_NS:
        return 0
    if duration_ns >= _LAST_NS:
        return BUCKETS - 1
    exponent = duration_ns.bit_length()
    return (exponent << 5) + (duration_ns >> (exponent - 6)) - _BUCKET_ZERO


def quantile_ns(buckets: Sequence[int], part: float) -> int:
    """
    Return the duration that `part` of those counted took at most, to the edge of its bucket.

    In ns; 0 if none were counted.

    >>> counts = [0] * BUCKETS
    >>> counts[0], counts[32] = 90, 10
    >>> quantile_ns(counts, 0.5), quantile_ns(counts, 0.99)
    (33792, 67584)
    """
    wanted = part * sum(buckets)
    seen = 0
    for bucket, count in enumerate(buckets):
        seen += count
        if count and seen >= wanted:
            return bucket_limit_ns(bucket)
    return 0


def bucket_limit_ns(bucket: int) -> int:
    """
    Return the upper edge of a bucket; ns.

    >>> bucket_limit_ns(0), bucket_limit_ns(31), bucket_limit_ns(32)
    (33792, 65536, 67584)
    """
    octave, part = divmod(bucket, PER_OCTAVE)
    return (33 + part) << (FIRST_EXPONENT + octave - 5)
