"""Promise: many WebSockets are no burden: counted by color, they cost little, and go one after the other."""

from __future__ import annotations

import os
import time

from tests.wire.harness import Client, is_readable
from tests.wire.stress_tools import (
    KIB,
    allow_descriptors,
    find_workers,
    origin,
    read_memory,
    read_metrics,
    read_status,
    serving,
    show,
    wait_until,
)

# WIRE_SOCKETS=9000 asks for more; so many threads of the origin are too slow to see the goodbyes one by one.
SOCKETS = int(os.environ.get("WIRE_SOCKETS", "1000"))
ASK = b"GET /switch/websocket HTTP/1.1\r\nHost: e\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
# "ping", not masked by zeros but with them: what an echo of it looks like is the same.
PING = b"\x89\x84\0\0\0\0ping"
GOING_AWAY = b"\x88\x02\x03\xe9"


def test_many_idle_websockets() -> None:
    """
    A thousand that are idle: counted by color, pings pass, memory is little, and a drain tells each 1001.

    Not all in one moment: their clients come back as they are told.
    """
    allow_descriptors(2 * SOCKETS + 500)
    with origin() as server:
        env = {
            "BLUE": server.url,
            "GREEN": server.url,
            "BLUE_WEIGHT": "4",
            "SILLYPROXY_DRAIN_TIMEOUT": "3",
        }
        with serving(env) as proxy:
            (worker,) = find_workers(proxy)
            before = read_memory(worker)
            clients = [Client(proxy.port) for _ in range(SOCKETS)]
            for client in clients:
                client.send(ASK)
                assert client.read_head().status == 101
            wait_until(lambda: read_status(proxy)["counters"]["tunnels_open"] == SOCKETS, "all of them")
            metrics = read_metrics(proxy)
            blue, green = (
                metrics[f'sillyproxy_color_tunnels{{color="{name}"}}'] for name in ("blue", "green")
            )
            assert abs(blue - 0.8 * SOCKETS) <= 2
            assert blue + green == SOCKETS
            for client in clients:
                client.send(PING)
            for client in clients:
                assert client.read_exactly(len(PING)) == PING
            a_socket = (read_memory(worker) - before) / SOCKETS
            show("WebSockets", memory_kib=a_socket / KIB)
            assert a_socket < 12 * KIB
            for client in clients[:100]:
                client.close()
            wait_until(lambda: read_status(proxy)["counters"]["tunnels_open"] == SOCKETS - 100, "the rest")
            proxy.process.terminate()
            start = time.monotonic()
            ends = []
            left = clients[100:]
            while left:
                time.sleep(0.01)
                for client in [client for client in left if is_readable(client.sock)]:
                    assert client.read_exactly(len(GOING_AWAY)) == GOING_AWAY
                    ends.append(time.monotonic() - start)
                    client.close()
                    left.remove(client)
            assert len(ends) == SOCKETS - 100
            ends.sort()
            show("goodbyes", first_s=ends[0], median_s=ends[len(ends) // 2], last_s=ends[-1])
            assert ends[-1] - ends[0] > 1.0 or SOCKETS > 1000
