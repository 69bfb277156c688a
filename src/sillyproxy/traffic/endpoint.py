"""
One address that can serve a color, as one worker sees it.

An endpoint that cannot be connected to is avoided for a term that doubles with every
further failure, so that a dead address costs a client's wait now and then and not each
time; when the term is over the next request tries it. The first connection that opens
clears it.
"""

from __future__ import annotations

from typing import Any, Final

FIRST_TERM_NS: Final = 500_000_000
LONGEST_TERM_NS: Final = 10_000_000_000


class Endpoint:
    """
    An address and its state.

    `ip`, `port`, `base` (the path before every request's path) and `authority` (host and port
    of its URL) never change.
    `inflight` counts exchanges, `idle` are its kept connections, newest last: they belong
    to the pool, this floor only keeps them at hand. `gone`: its name no longer lists it.
    """

    __slots__ = (
        "authority",
        "avoided_until_ns",
        "base",
        "failures",
        "gone",
        "idle",
        "inflight",
        "ip",
        "name",
        "port",
        "upstream",
    )

    def __init__(self, upstream: int, ip: str, port: int, base: bytes = b"", authority: bytes = b"") -> None:
        self.upstream = upstream
        self.ip = ip
        self.port = port
        self.base = base
        self.authority = authority
        self.name = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
        self.inflight = 0
        self.idle: list[Any] = []
        self.failures = 0
        self.avoided_until_ns = 0
        self.gone = False

    def is_eligible(self, now_ns: int) -> bool:
        """Tell whether the endpoint may be given a request at `now_ns` (monotonic)."""
        return self.avoided_until_ns <= now_ns

    def fail(self, now_ns: int) -> None:
        """Note that no connection could be opened: avoid the endpoint for a while."""
        term = min(FIRST_TERM_NS << min(self.failures, 8), LONGEST_TERM_NS)
        self.failures += 1
        self.avoided_until_ns = now_ns + term

    def succeed(self) -> None:
        """Note that a connection opened: the past is forgotten."""
        self.failures = 0
        self.avoided_until_ns = 0
