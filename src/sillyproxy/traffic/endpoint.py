"""
One address that can serve a color, as one worker sees it.

Three things keep requests away from it, each with its own end:

    avoided     no connection could be opened: 0.5 s, doubling to 10 s; the first that opens ends it
    ejected     it failed too often for requests that it had taken (`outlier`): a term, then a slow start
    unhealthy   its active check says so: until the check says otherwise, then a slow start

One that is far slower than its siblings rests a while after each answer: it is asked only if
all others are kept out as well.

The hot path asks one number of an endpoint, `full_from_ns`: from when on it takes its full
share. Only where that lies ahead anybody looks closer.
"""

from __future__ import annotations

from typing import Any, Final

FIRST_TERM_NS: Final = 500_000_000
LONGEST_TERM_NS: Final = 10_000_000_000
NEVER_NS: Final = 1 << 62

# What an endpoint gets at the very beginning of its slow start, of its full share.
FIRST_SHARE: Final = 0.1


def name_of(ip: str, port: int) -> str:
    """
    Return an address as operators write it; that of a unix socket is its path.

    >>> name_of("10.0.0.1", 80), name_of("::1", 80), name_of("/run/app.sock", 0)
    ('10.0.0.1:80', '[::1]:80', 'unix:/run/app.sock')
    """
    if ip.startswith("/"):
        return f"unix:{ip}"
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


class Endpoint:
    """
    An address and its state.

    `ip`, `port`, `base` (the path before every request's path) and `authority` (host and port
    of its URL), `scheme` and `host` never change; `upstream` is the place of that URL among its color's.
    `inflight` counts exchanges, `idle` are its kept connections, newest last: they belong to the
    pool, and so do `carriers`, those of HTTP/2; this floor only keeps them at hand. `gone`: its name
    no longer lists it. `answered` counts responses, whatever their status; `record` is what `outlier`
    remembers.
    """

    __slots__ = (
        "answered",
        "authority",
        "avoided_until_ns",
        "back_at_ns",
        "base",
        "carriers",
        "ejected_until_ns",
        "ejections",
        "failures",
        "full_from_ns",
        "gone",
        "host",
        "idle",
        "inflight",
        "ip",
        "name",
        "port",
        "record",
        "rests_until_ns",
        "returned_ns",
        "scheme",
        "slow_ns",
        "unhealthy",
        "upstream",
    )

    def __init__(
        self,
        upstream: int,
        ip: str,
        port: int,
        base: bytes = b"",
        authority: bytes = b"",
        scheme: str = "http",
        host: str = "",
    ) -> None:
        self.upstream = upstream
        self.ip = ip
        self.port = port
        self.base = base
        self.authority = authority
        self.scheme = scheme
        self.host = host
        self.name = name_of(ip, port)
        self.inflight = 0
        self.idle: list[Any] = []
        self.carriers: list[Any] = []
        self.gone = False
        self.answered = 0
        self.record = Record()
        self.failures = 0
        self.ejections = 0
        self.unhealthy = False
        self.avoided_until_ns = 0
        self.ejected_until_ns = 0
        # When it comes, or came, back from ejection or ill health, and how slowly it starts.
        self.returned_ns = 0
        self.slow_ns = 0
        self.rests_until_ns = 0
        self.back_at_ns = 0
        self.full_from_ns = 0

    def is_eligible(self, now_ns: int) -> bool:
        """Tell whether the endpoint may be given a request at `now_ns` (monotonic), if only now and then."""
        return self.back_at_ns <= now_ns

    def share(self, now_ns: int) -> float:
        """Return the part of its full share that it may take: 0 while kept out, 1 after its slow start."""
        if now_ns >= self.full_from_ns:
            return 1.0
        if now_ns < self.back_at_ns or now_ns < self.rests_until_ns:
            return 0.0
        return max(FIRST_SHARE, (now_ns - self.returned_ns) / self.slow_ns)

    def fail(self, now_ns: int) -> None:
        """Note that no connection could be opened: avoid the endpoint for a while."""
        term = min(FIRST_TERM_NS << min(self.failures, 8), LONGEST_TERM_NS)
        self.failures += 1
        self.avoided_until_ns = now_ns + term
        self._settle()

    def succeed(self) -> None:
        """Note that a connection opened: that none did is forgotten, what else there was is not."""
        self.failures = 0
        self.avoided_until_ns = 0
        self._settle()

    def eject(self, until_ns: int, ejections: int, slow_ns: int) -> None:
        """Keep requests away until `until_ns`, for the `ejections`-th time; then let it start slowly."""
        self.ejected_until_ns = until_ns
        self.returned_ns = max(self.returned_ns, until_ns)
        self.ejections = ejections
        self.slow_ns = slow_ns
        self._settle()

    def rest(self, until_ns: int) -> None:
        """Ask it only if there is nobody else, until `until_ns`."""
        self.rests_until_ns = until_ns
        self._settle()

    def set_health(self, *, unhealthy: bool, now_ns: int, slow_ns: int) -> None:
        """
        Note what the active check says; what is no news changes nothing.

        One that passes it again has proved more than the end of a term would.
        """
        if unhealthy == self.unhealthy:
            return
        self.unhealthy = unhealthy
        if not unhealthy:
            self.failures = 0
            self.avoided_until_ns = self.ejected_until_ns = 0
            self.returned_ns = now_ns
            self.slow_ns = slow_ns
        self._settle()

    def _settle(self) -> None:
        if self.unhealthy:
            self.back_at_ns = self.full_from_ns = NEVER_NS
        else:
            self.back_at_ns = max(self.avoided_until_ns, self.returned_ns)
            self.full_from_ns = max(
                self.avoided_until_ns, self.returned_ns + self.slow_ns, self.rests_until_ns
            )


class Record:
    """
    What `outlier` remembers of an endpoint.

    `in_a_row` failures since anything was answered, seen when `answered` stood at `at`;
    within the window: `errors`, how many of them were no response (`broken`), and the count
    of `answered` at which it `begins`. `slow_in_a_row` answers came far too late, the last
    at `slow_seen_ns` when `answered` stood at `slow_at`.
    """

    __slots__ = ("at", "begins", "broken", "errors", "in_a_row", "slow_at", "slow_in_a_row", "slow_seen_ns")

    def __init__(self) -> None:
        self.in_a_row = 0
        self.at = 0
        self.errors = 0
        self.broken = 0
        self.begins = 0
        self.slow_in_a_row = 0
        self.slow_at = 0
        self.slow_seen_ns = 0
