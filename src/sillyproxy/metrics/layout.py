"""
What we count, and where each count lives in a worker's block of shared memory.

Every count is a signed 64-bit integer with one writer, its worker. A block is the
worker's own counts, then the fallbacks from each color to each other, then one row a
color. Slot 0 stands for "no color": exchanges that ended before a color was chosen.
Slots 1 … are the names of `Config.slots`, in that order.

Durations are counted in logarithmic buckets, 16 to an octave (4.4 % wide each), from
64 µs to 134 s, so that percentiles are good to a few percent whatever the scale.
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


class Row(IntEnum):
    """Counts of one color in one worker; the duration buckets follow."""

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


RETRY_REASONS: Final = {
    "refused": Row.RETRY_REFUSED,
    "timeout": Row.RETRY_TIMEOUT,
    "closed": Row.RETRY_CLOSED,
    "reset": Row.RETRY_RESET,
}

PER_OCTAVE: Final = 16
FIRST_EXPONENT: Final = 16  # 2**16 ns = 65.5 µs: everything below is in bucket 0
OCTAVES: Final = 21  # to 2**37 ns = 137 s: everything above is in the last bucket
BUCKETS: Final = PER_OCTAVE * OCTAVES
_FIRST_NS: Final = 1 << FIRST_EXPONENT
_LAST_NS: Final = 1 << (FIRST_EXPONENT + OCTAVES)
_BUCKET_ZERO: Final = ((FIRST_EXPONENT + 1) << 4) + 16

WORKER_SIZE: Final = 32
ROW_HEAD: Final = 32
ROW_SIZE: Final = ROW_HEAD + BUCKETS
FALLBACKS_AT: Final = WORKER_SIZE
ROWS_AT: Final = FALLBACKS_AT + MAX_COLORS * MAX_COLORS
BLOCK_SIZE: Final = ROWS_AT + MAX_COLORS * ROW_SIZE

GAUGES: Final = (Worker.INFLIGHT, Worker.CONNECTIONS_OPEN, Worker.TUNNELS_OPEN)
ROW_GAUGES: Final = (Row.INFLIGHT, Row.UPSTREAM_ACTIVE, Row.UPSTREAM_IDLE, Row.QUEUED)


def bucket_of(duration_ns: int) -> int:
    """
    Return the bucket of a duration.

    The top five bits of the number tell the octave and the sixteenth within it (linear
    within an octave, as in HdrHistogram), which costs no logarithm.

    >>> bucket_of(0), bucket_of(65_536), bucket_of(131_072), bucket_of(10**15)
    (0, 0, 16, 335)
    """
    if duration_ns < _FIRST_NS:
        return 0
    if duration_ns >= _LAST_NS:
        return BUCKETS - 1
    exponent = duration_ns.bit_length()
    return (exponent << 4) + (duration_ns >> (exponent - 5)) - _BUCKET_ZERO


def quantile_ns(buckets: Sequence[int], part: float) -> int:
    """
    Return the duration that `part` of those counted took at most, to the edge of its bucket.

    In ns; 0 if none were counted.

    >>> counts = [0] * BUCKETS
    >>> counts[0], counts[16] = 90, 10
    >>> quantile_ns(counts, 0.5), quantile_ns(counts, 0.99)
    (69632, 139264)
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

    >>> bucket_limit_ns(0), bucket_limit_ns(15), bucket_limit_ns(16)
    (69632, 131072, 139264)
    """
    octave, part = divmod(bucket, PER_OCTAVE)
    return (17 + part) << (FIRST_EXPONENT + octave - 4)
