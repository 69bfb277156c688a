"""Promise: a drain loses nothing over HTTP/2: GOAWAY says what was served and what was not."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from tests.wire.harness import Ended, Origin, Proxy, find_free_port
from tests.wire.http2.peer import REFUSED_STREAM, Peer, request
from tests.wire.stress_tools import origin, serving


def test_two_words_of_goodbye() -> None:
    """First that nothing more should come, while what is on its way is served; then which was the last."""
    server = Origin()
    release = threading.Event()
    with serving({"BLUE": server.url, "SILLYPROXY_DRAIN_TIMEOUT": "10"}) as proxy:
        server.restart(
            (lambda exchange: release.wait(10), b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
        )
        peer = Peer(proxy.port)
        slow = peer.ask(request("/slow"))
        server.wait()
        proxy.process.terminate()
        while not peer.goaway:
            peer.read_frame()
        assert peer.goaway == [((1 << 31) - 1, 0, b"")]
        # The client may not have heard yet.
        server.restart()
        assert peer.get().status == 200
        while len(peer.goaway) < 2:
            peer.read_frame()
        assert peer.goaway[1] == (slow + 2, 0, b"")
        late = peer.read_answer(peer.ask(request()))
        assert (late.end, late.code) == ("reset", REFUSED_STREAM)
        release.set()
        answer = peer.read_answer(slow)
        assert (answer.status, answer.body, answer.end) == (200, b"late", "ended")
        assert peer.read_end() == "closed"
        assert proxy.process.wait(5) == 0
    server.close()


def test_idle_client_is_let_go_soon() -> None:
    """A connection without requests does not hold up the end."""
    server = Origin()
    with serving({"BLUE": server.url, "SILLYPROXY_DRAIN_TIMEOUT": "30"}) as proxy:
        peer = Peer(proxy.port)
        assert peer.get().status == 200
        started = time.monotonic()
        proxy.process.terminate()
        assert peer.read_end() == "closed"
        peer.close()
        assert proxy.process.wait(10) == 0
        assert time.monotonic() - started < 8
    server.close()


@pytest.mark.slow
def test_rolling_update_under_load_loses_nothing() -> None:
    """
    Clients go on with another replica when one says goodbye; every request is served once, or surely not.

    Two proxies in turn are stopped and started again; what GOAWAY or REFUSED_STREAM call not served is
    asked for again, anything else that fails would be lost.
    """
    ports = [find_free_port(), find_free_port()]
    over = threading.Event()
    lost: list[str] = []
    served: Counter[str] = Counter()

    def ask(which: int) -> None:
        number = 0
        while not over.is_set():
            try:
                peer = Peer(ports[(which + number) % 2])
            except OSError:
                number += 1
                time.sleep(0.01)
                continue
            number += 1
            while not over.is_set():
                streams = {peer.ask(request("/", "POST"), b"x" * 100): 1 for _ in range(8)}
                try:
                    for stream in streams:
                        answer = peer.read_answer(stream)
                        if answer.end == "ended" and answer.status == 200:
                            served["ok"] += 1
                        elif answer.code != REFUSED_STREAM:
                            lost.append(f"{answer}")
                        else:
                            served["refused"] += 1
                except Ended as end:
                    last = peer.goaway[-1][0] if peer.goaway else -1
                    left = [
                        stream
                        for stream in streams
                        if not peer.answers.get(stream, None) or not peer.answers[stream].end
                    ]
                    if last < 0 or any(stream <= last for stream in left):
                        lost.append(f"{end} {peer.goaway} {left}")
                    served["not served"] += len(left)
                    break
                if peer.goaway:
                    break
            peer.close()

    def start(index: int) -> Proxy:
        return Proxy({"BLUE": server.url, "SILLYPROXY_LISTEN": f"127.0.0.1:{ports[index]}",
                      "SILLYPROXY_DRAIN_TIMEOUT": "10"})  # fmt: skip

    with origin() as server:
        proxies = [start(0), start(1)]
        threads = [threading.Thread(target=ask, args=(which,)) for which in range(6)]
        for thread in threads:
            thread.start()
        for index in (0, 1, 0, 1):
            time.sleep(0.7)
            proxies[index].stop()
            proxies[index] = start(index)
        time.sleep(0.5)
        over.set()
        for thread in threads:
            thread.join()
        for proxy in proxies:
            proxy.stop()
    assert lost == []
    assert served["ok"] > 500
    assert server.served >= served["ok"]
