"""
One worker without its supervisor and controller, whose endpoints a test decides.

`python -m tests.wire.lone_worker PORT`: serves two colors, blue and green, on that port. Each
line of its standard input is the endpoints from then on: `blue=IP:PORT,IP:PORT green=…`; each
time they were sent it says `ok`. End of file is the supervisor's end.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import sys
import threading

from sillyproxy import worker
from sillyproxy.config.schema import AccessLog, Color, Config, Timeouts, Upstream
from sillyproxy.metrics.layout import Row
from sillyproxy.metrics.layout import Worker as Count
from sillyproxy.metrics.slab import BLOCK_BYTES, block_of, read_totals
from sillyproxy.setup import WorkerSetup
from sillyproxy.tools.channel import Address, Channel, Endpoints, make_pair


def _read_endpoints(line: str) -> Endpoints:
    colors = {}
    for word in line.split():
        name, _, addresses = word.partition("=")
        pairs = [address.rpartition(":") for address in addresses.split(",") if address]
        colors[name] = tuple(Address(0, ip, int(port)) for ip, _, port in pairs)
    return Endpoints(colors)


def _direct(channel: Channel, memory: memoryview, lifeline: int) -> None:
    for line in sys.stdin:
        if line.strip() == "counts":
            totals = read_totals(memory, 1, 3)
            print(
                json.dumps(
                    {
                        "worker": {place.name.lower(): totals.worker[place] for place in Count},
                        "blue": {place.name.lower(): totals.rows[1][place] for place in Row},
                    }
                ),
                flush=True,
            )
        else:
            assert channel.send(_read_endpoints(line))
            print("ok", flush=True)
    os.close(lifeline)


def main() -> int:
    """Serve until the standard input ends."""
    upstream = (Upstream("http", "app", 80),)
    config = Config(
        colors=(Color("blue", upstream), Color("green", upstream, weight=0)),
        access_log=AccessLog("off"),
        timeouts=Timeouts(drain_delay_s=0, drain_timeout_s=2),
    )
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=256)
    memory = memoryview(mmap.mmap(-1, BLOCK_BYTES))
    ours, theirs = make_pair()
    lifeline, hold = os.pipe()
    threading.Thread(target=_direct, args=(Channel(ours), memory, hold), daemon=True).start()
    return worker.run(WorkerSetup(0, config, [listener], Channel(theirs), block_of(memory, 0), lifeline))


if __name__ == "__main__":
    sys.exit(main())
