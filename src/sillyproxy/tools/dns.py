"""
Ask the system's resolver for the addresses of a name, without blocking.

`getaddrinfo` is what knows /etc/hosts, search domains and the resolver of a container, so
it is what we use; it blocks, so it runs in threads. A look-up that the caller gave up
waiting for goes on in its thread, and the next caller for that name waits for the same
one: a resolver that is slow is never asked faster than it answers.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

THREADS: Final = 32  # made as they are needed; one for each name that is slow at the same time

GetAddrInfo = Callable[..., list[tuple[Any, ...]]]

_NO_NAME: Final = (socket.EAI_NONAME, socket.EAI_NODATA)


class LookupFailed(Exception):
    """There are no addresses. `is_final`: the DNS says so; else it could not be asked or did not answer."""

    def __init__(self, reason: str, *, is_final: bool) -> None:
        super().__init__(reason)
        self.is_final = is_final


class Resolver:
    """The system's resolver. `results` counts look-ups by how they ended."""

    def __init__(self, timeout_s: float = 5.0, getaddrinfo: GetAddrInfo = socket.getaddrinfo) -> None:
        self.results: Counter[str] = Counter({"ok": 0, "no_name": 0, "failed": 0, "timeout": 0})
        self._timeout_s = timeout_s
        self._getaddrinfo = getaddrinfo
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="dns")
        self._under_way: dict[str, asyncio.Future[list[str]]] = {}

    async def lookup(self, name: str, timeout_s: float | None = None) -> list[str]:
        """Return the addresses of `name` as the resolver orders them, one at least. Raise LookupFailed."""
        future = self._under_way.get(name)
        if future is None:
            future = asyncio.get_running_loop().run_in_executor(self._threads, self._ask, name)
            self._under_way[name] = future
            future.add_done_callback(lambda _: self._under_way.pop(name, None))
        done, _ = await asyncio.wait((future,), timeout=timeout_s or self._timeout_s)
        if not done:
            # Its end, whenever that is, is nobody's concern if nobody waits for it again.
            future.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            self.results["timeout"] += 1
            raise LookupFailed("no answer in time", is_final=False)
        try:
            addresses = future.result()
        except (OSError, UnicodeError) as error:
            is_final = isinstance(error, socket.gaierror) and error.errno in _NO_NAME
            self.results["no_name" if is_final else "failed"] += 1
            reason = getattr(error, "strerror", None) or str(error)
            raise LookupFailed(reason.lower(), is_final=is_final) from None
        if not addresses:
            self.results["no_name"] += 1
            raise LookupFailed("the name has no addresses", is_final=True)
        self.results["ok"] += 1
        return addresses

    def _ask(self, name: str) -> list[str]:
        found = self._getaddrinfo(name, None, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def allow_large_answers() -> None:
    """
    Let answers be larger than 512 bytes, which is where Docker's resolver cuts them: 15 addresses.

    Call before the first look-up of the process: the C library reads it once.
    """
    options = os.environ.get("RES_OPTIONS", "").split()
    if "edns0" not in options:
        os.environ["RES_OPTIONS"] = " ".join([*options, "edns0"])
