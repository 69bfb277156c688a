"""
What the log hears of things that may happen to every request: the first, and then one now and then.

Each line says how many there were since the line before it, so that nothing is hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

# How often the log hears of the same thing.
OFTEN_NS: Final = 10_000_000_000
SELDOM_NS: Final = 60_000_000_000
_MOST_KEYS: Final = 1024


class Teller:
    """Keeps `log` from being told the same again and again; `clock` returns monotonic ns."""

    def __init__(self, log: Callable[..., None], clock: Callable[[], int]) -> None:
        self._log = log
        self._clock = clock
        self._told: dict[tuple[str, ...], tuple[int, int]] = {}

    def tell(
        self,
        level: str,
        message: str,
        every_ns: int,
        *,
        of_requests: bool = True,
        **fields: str | int | float | bool | None,
    ) -> None:
        """
        Log a line, or only count it: `every_ns` is how often there is one of a message, color and endpoint.

        Where it is `of_requests`, `requests` is added: how many this line stands for.
        """
        key = (message, str(fields.get("color")), str(fields.get("endpoint")), str(fields.get("to")))
        last_ns, since = self._told.get(key, (-every_ns, 0))
        now_ns = self._clock()
        if now_ns - last_ns < every_ns:
            self._told[key] = (last_ns, since + 1)
            return
        if len(self._told) >= _MOST_KEYS:
            self._told.clear()
        self._told[key] = (now_ns, 0)
        if of_requests:
            fields["requests"] = since + 1
        self._log(level, message, **fields)

    def end(self, color: str, *messages: str) -> int | None:
        """
        Forget that the log has heard these of a color.

        Return how many there were that it has not heard of; None if it has heard nothing.
        """
        heard = [key for key in self._told if key[0] in messages and key[1] == color]
        return sum(self._told.pop(key)[1] for key in heard) if heard else None
