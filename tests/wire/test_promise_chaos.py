"""Promise: whatever happens at the same time, nothing breaks but what was broken from outside."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter

from tests.wire.harness import Client, find_free_port, reset
from tests.wire.stress_tools import (
    GET,
    QuickOrigin,
    ask_many,
    is_balanced,
    origin,
    request,
    serving,
    show,
    wait_at_rest,
)

UPGRADE = request("/switch", Connection="upgrade", Upgrade="echo")
CHUNKED = b"POST /echo HTTP/1.1\r\nHost: e\r\nTransfer-Encoding: chunked\r\n\r\n"
SOME = (
    GET % b"/",
    GET % b"/sleep/0.02",
    GET % b"/status/404",
    GET % b"/bytes/400000",
    GET % b"/chunked/90000",
    GET % b"/trickle/20",
    GET % b"/break",
    GET % b"/reset",
    GET % b"/cut",
    GET % b"/half",
    GET % b"/hang",
    UPGRADE + b"hello",
    request("/echo", "POST", bytes(300_000)),
    request("/echo", "PUT", b"x", Expect="100-continue"),
    request("/break", "POST", bytes(300_000)),
    request("/reset", "PUT", bytes(3_000_000)),
    request("/hang", "POST", b"x" * 100),
    request("/", "HEAD"),
    CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b"5\r\nhello\r\n",
    CHUNKED + b"5\r\nhel!o...",
    b"nonsense\r\n\r\n",
    b"\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTT",
    (GET % b"/") * 5,
    GET % b"/status/200" + request("/echo", "POST", bytes(50_000)) + GET % b"/",
)


def wreak(port: int, until: float, seed: int, seen: Counter[str]) -> None:
    """Send one thing or the other, read some of the answer or none, and leave somehow."""
    chance = random.Random(seed)
    while time.monotonic() < until:
        client = Client(port)
        for _ in range(chance.choice((1, 1, 3))):
            data = chance.choice(SOME)
            if chance.random() < 0.2:
                data = data[: chance.randrange(len(data))]
            client.send(data)
            if chance.random() < 0.6:
                client.sock.settimeout(0.05)
                try:
                    seen[client.sock.recv(chance.choice((10, 1000, 100_000)))[:12].decode("latin-1")] += 1
                except OSError as error:
                    seen[type(error).__name__] += 1
        leave = chance.random()
        if leave < 0.3:
            reset(client.sock)
        elif leave < 0.5:
            with contextlib.suppress(OSError):  # it may have been reset
                client.half_close()
            time.sleep(0.01)
        client.close()


def stir(backend: QuickOrigin, until: float) -> None:
    """Close the backend's connections now and then."""
    while time.monotonic() < until:
        time.sleep(0.3)
        backend.close_connections()


def test_everything_at_once_breaks_nothing() -> None:
    """
    Twelve clients do at random all that clients can do wrong, before backends that do the same,
    one that is dead and one that closes connections: no internal error, the worker lives, the
    books balance, and an honest client is served.
    """
    env = {
        "SILLYPROXY_RESPONSE_TIMEOUT": "300ms",
        "SILLYPROXY_HEADER_TIMEOUT": "500ms",
        "SILLYPROXY_IDLE_TIMEOUT": "700ms",
        "SILLYPROXY_MAX_BODY_BYTES": "2m",
    }
    seed = random.randrange(1 << 30)
    with origin() as one, origin(closing_after=2) as two:
        dead = f"http://127.0.0.1:{find_free_port()}"
        env |= {"BLUE": f"{one.url},{two.url}", "GREEN": f"{dead},{one.url}"}
        with serving(env) as proxy:
            until = time.monotonic() + 5
            seen: Counter[str] = Counter()
            threads = [
                threading.Thread(target=wreak, args=(proxy.port, until, seed + number, seen), daemon=True)
                for number in range(12)
            ]
            threads.append(threading.Thread(target=stir, args=(one, until), daemon=True))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            counters = wait_at_rest(proxy)["counters"]
            show("chaos", seed=seed, **counters)
            print(seen)
            assert "internal error" not in proxy.read_log()
            assert (counters["lost"], counters["restarts"]) == (0, 0)
            assert is_balanced(counters)
            assert b"502" not in ask_many(proxy.port, 50)
