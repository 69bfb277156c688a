"""
Sessions of HTTP/2 with something wrong somewhere: the proxy says so or serves on, and never breaks.

Whatever comes, the worker lives, its log has no traceback, and what the origin got was well-formed.
"""

from __future__ import annotations

import contextlib
import secrets
from random import Random

from tests.wire.harness import Ended, Origin, is_readable
from tests.wire.http2.peer import (
    DATA,
    END_STREAM,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    Peer,
    block,
    frame,
    get,
    headers,
    request,
    settings,
    u32,
    window,
)
from tests.wire.stress_tools import find_workers, serving

SESSIONS = 400


def make_session(random: Random) -> bytes:
    """Return frames that mean something, and of which some were changed."""
    frames = []
    number = 1
    for _ in range(random.randrange(1, 12)):
        kind = random.randrange(9)
        open_one = max(1, number - 2)
        if kind < 3:
            frames.append(get(number, random.choice(("/", "/a?b", "/x" * 50))))
            number += 2
        elif kind == 3:
            fields = request("/", "POST", ("content-length", str(random.randrange(20))))
            body = random.randbytes(random.randrange(20))
            frames.append(headers(number, fields, 0))
            frames.append(frame(DATA, random.choice((0, END_STREAM)), number, body))
            number += 2
        elif kind == 4:
            fields = random.sample(request("/", "PUT", ("te", "trailers"), ("x", "y" * 200)), 5)
            data = block(fields)
            cut = random.randrange(len(data))
            frames.append(frame(1, random.choice((0, 1)), number, data[:cut]))
            frames.append(frame(9, 4, number, data[cut:]))
            number += 2
        elif kind == 5:
            frames.append(window(random.choice((0, open_one)), random.choice((1, 1 << 16, (1 << 31) - 1))))
        elif kind == 6:
            frames.append(settings((random.randrange(10), random.choice((0, 1, 16384, 1 << 31)))))
        elif kind == 7:
            frames.append(frame(random.choice((RST_STREAM, PRIORITY, PING)), 0, open_one, u32(8)))
        else:
            frames.append(frame(DATA, PADDED, open_one, bytes((random.randrange(9),)) + random.randbytes(6)))
    for _ in range(random.randrange(3)):
        at = random.randrange(len(frames))
        one = bytearray(frames[at])
        if random.random() < 0.5:
            one[random.randrange(min(9, len(one)))] ^= 1 << random.randrange(8)
        else:
            one[random.randrange(len(one))] = random.randrange(256)
        frames[at] = bytes(one)
    return b"".join(frames)


def test_sessions_with_something_wrong() -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    random = Random(seed)
    server = Origin()
    with serving({"BLUE": server.url, "SILLYPROXY_HEADER_TIMEOUT": "500ms"}) as proxy:
        (worker,) = find_workers(proxy)
        for number in range(SESSIONS):
            server.restart()
            peer = Peer(proxy.port, greet=False)
            data = PREFACE + settings() + make_session(random)
            with contextlib.suppress(Ended, OSError):
                if random.random() < 0.3:
                    cut = random.randrange(len(data))
                    peer.send(data[:cut])
                    while is_readable(peer.sock, timeout_s=0.005):
                        peer.read_frame()
                    data = data[cut:]
                peer.send(data)
                while is_readable(peer.sock, timeout_s=0.005):
                    peer.read_frame()
            peer.close()
            assert not server.faults, (seed, number, server.faults)
        assert find_workers(proxy) == [worker]
        other = Peer(proxy.port)
        assert other.get().status == 200
        other.close()
    server.close()
