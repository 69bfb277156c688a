"""
Ask the system's resolver for the addresses of a name, without blocking.

`getaddrinfo` is what knows /etc/hosts, search domains and the resolver of a container, so
it is what we use; it blocks, so it runs in threads. A look-up that the caller gave up
waiting for goes on in its thread, and the next caller for that name waits for the same
one: a resolver that is slow is never asked faster than it answers.

No name is looked up more often than once a second, whoever asks: what was found in the
last second is what the next caller gets, good or bad. A look-up is one question for each
family of addresses that this machine has, A or AAAA or both (AI_ADDRCONFIG), for the name
and, while it is not found, for the name in each search domain (each of those once a second
too). The C library repeats a question only to the next name server, or over TCP if the
answer was cut.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

OPTIONS: Final = ("edns0", "attempts:1", "timeout:2")
THREADS: Final = 32  # made as they are needed; one for each name that is slow at the same time

GetAddrInfo = Callable[..., list[tuple[Any, ...]]]

_NO_NAME: Final = (socket.EAI_NONAME, socket.EAI_NODATA)


class LookupFailed(Exception):
    """There are no addresses. `is_final`: the DNS says so; else it could not be asked or did not answer."""

    def __init__(self, reason: str, *, is_final: bool) -> None:
        super().__init__(reason)
        self.is_final = is_final


class Resolver:
    """
    The system's resolver. `results` counts look-ups by how they ended.

    `spacing_s`: the least time from the start of a look-up to the start of the next one for the same name.
    `begun` is called when one begins; none begins before `not_before`, on the clock: whoever asked before
    this process asked for the same names.
    """

    def __init__(
        self,
        timeout_s: float = 5.0,
        getaddrinfo: GetAddrInfo = socket.getaddrinfo,
        clock: Callable[[], float] = time.monotonic,
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        self.results: Counter[str] = Counter({"ok": 0, "no_name": 0, "failed": 0, "timeout": 0})
        self.spacing_s = 1.0
        self.not_before = 0.0
        self._note_begun = begun
        self._timeout_s = timeout_s
        self._getaddrinfo = getaddrinfo
        self._clock = clock
        self._begun: dict[str, float] = {}
        self._last: dict[str, asyncio.Future[list[str]]] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="dns")

    async def lookup(self, name: str, timeout_s: float | None = None) -> list[str]:
        """Return the addresses of `name` as the resolver orders them, one at least. Raise LookupFailed."""
        await asyncio.sleep(max(0.0, self.not_before - self._clock()))
        future = self._begin(name)
        done, _ = await asyncio.wait((future,), timeout=timeout_s or self._timeout_s)
        if not done:
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

    def _begin(self, name: str) -> asyncio.Future[list[str]]:
        """Return the look-up that is under way or was begun just now, else a new one."""
        now = self._clock()
        for other, future in list(self._last.items()):
            if future.done() and now - self._begun[other] >= self.spacing_s:
                del self._last[other], self._begun[other]
        if name not in self._last:
            future = asyncio.get_running_loop().run_in_executor(self._threads, self._ask, name)
            # Its end is nobody's concern if nobody waits for it any more.
            future.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            self._last[name], self._begun[name] = future, now
            self._note_begun()
        return self._last[name]

    def _ask(self, name: str) -> list[str]:
        # Addresses of a family that this machine does not have are no use, and not asked for. Loopback
        # does not count as having it, but is what `localhost` is about.
        flags = 0 if name.lower() == "localhost" else socket.AI_ADDRCONFIG
        found = self._getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=flags)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def set_options() -> None:
    """
    Tell the C library how to ask, where the operator's RES_OPTIONS does not.

    - `edns0`: answers may be larger than 512 bytes. A cut one is marked, and asked for again over TCP
      (glibc; musl since 1.2.4), so that nothing is missing without; with it some 27 to 45 addresses
      need no second question.
    - `attempts:1`, `timeout:2`: a question that is not answered, or with an error, is not repeated by the
      library, five seconds later, but by us.

    Call before the first look-up of the process: the C library reads it once.
    """
    options = os.environ.get("RES_OPTIONS", "").split()
    named = {option.partition(":")[0] for option in options}
    options += [option for option in OPTIONS if option.partition(":")[0] not in named]
    os.environ["RES_OPTIONS"] = " ".join(options)
