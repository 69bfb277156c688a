"""
Promise: on a plain host the proxy itself is replaced without a lost request (docs/howto/host.md).

Somebody else holds the listening socket (systemd's socket activation), so that who comes while no
proxy runs waits in its queue for the next one.

`WIRE_RESTARTS=100` makes the longest test as long as the promise.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.wire.activation import Holder
from tests.wire.harness import Client, find_free_port
from tests.wire.running import ask, stop
from tests.wire.stress_tools import GET, QuickOrigin, ask_once, origin, request, show, wait_until

RESTARTS = int(os.environ.get("WIRE_RESTARTS", "15"))


@pytest.fixture
def backend() -> Iterator[QuickOrigin]:
    with origin() as server:
        yield server


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    one = Holder(tmp_path, socket.create_server(("127.0.0.1", 0), backlog=1024))
    yield one
    one.close()


class Visitor:
    """
    A client that keeps asking, as HTTP has it: an answer that says `Connection: close` is the last
    of its connection. `resent` counts what was asked again because an idle connection was closed
    before a byte of the answer; `failures` is everything else that went wrong.
    """

    def __init__(self, port: int, *, keeps_alive: bool) -> None:
        self.answers = 0
        self.resent = 0
        self.longest_s = 0.0
        self.failures: list[str] = []
        self._port = port
        self._data = GET % b"/" if keeps_alive else request("/", Connection="close")
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        client, asked = None, 0
        while not self._stop:
            begun = time.monotonic()
            try:
                client = client or Client(self._port)
            except OSError as error:
                self.failures.append(f"connect: {error}")
                continue
            client.send(self._data)
            reply = client.read_reply()
            client.stream.raw.clear()
            if reply.is_whole and reply.status == 200:
                self.answers += 1
                self.longest_s = max(self.longest_s, time.monotonic() - begun)
                asked += 1
                if b"close" not in reply.list("connection"):
                    time.sleep(0.003)
                    continue
            elif asked and not reply.status and not reply.fault.strip("b'"):
                self.resent += 1
            else:
                self.failures.append(f"{reply.status} {reply.end} after {asked}: {reply.body!r}")
            client.close()
            client, asked = None, 0
            time.sleep(0.003)
        if client is not None:
            client.close()

    def stop(self) -> None:
        """End after the present request."""
        self._stop = True
        self._thread.join(20)


def restart_under_load(holder: Holder, restart: Callable[[], None], times: int, what: str) -> None:
    """Restart so often while visitors ask; nobody's request fails."""
    visitors = [Visitor(holder.port, keeps_alive=number % 4 != 3) for number in range(8)]
    begun = time.monotonic()
    for _ in range(times):
        restart()
        before = sum(visitor.answers for visitor in visitors)
        wait_until(lambda: sum(v.answers for v in visitors) >= before + 100, "answers")  # noqa: B023
    lasted = time.monotonic() - begun
    for visitor in visitors:
        visitor.stop()
    failures = [failure for visitor in visitors for failure in visitor.failures]
    show(
        f"{times} {what}",
        requests=sum(visitor.answers for visitor in visitors),
        failed=len(failures),
        asked_again=sum(visitor.resent for visitor in visitors),
        longest_s=max(visitor.longest_s for visitor in visitors),
        each_s=lasted / times,
    )
    assert not failures
    assert not sum(visitor.resent for visitor in visitors)
    assert "Traceback" not in holder.log


@pytest.mark.slow
def test_restarts_fail_no_request(holder: Holder, backend: QuickOrigin) -> None:
    """
    `systemctl restart`, again and again under load of kept-alive and new connections: SIGTERM, the
    old one ends, a new one starts on the same socket. No request fails, none has to be sent again.
    """
    running = [holder.start({"BLUE": backend.url})]
    holder.wait_notified("READY=1")

    def restart() -> None:
        holder.stop(running.pop())
        running.append(holder.start({"BLUE": backend.url}))

    restart_under_load(holder, restart, RESTARTS, "restarts")


@pytest.mark.slow
def test_overlapping_restarts_fail_no_request(holder: Holder, backend: QuickOrigin) -> None:
    """The next one is started before the old one is stopped, both on the same socket: nobody even waits."""
    running = [holder.start({"BLUE": backend.url})]
    holder.wait_notified("READY=1")

    def restart() -> None:
        running.append(holder.start({"BLUE": backend.url}))
        holder.wait_notified("READY=1")
        holder.stop(running.pop(0))

    restart_under_load(holder, restart, 10, "overlapping restarts")


def test_who_comes_while_nobody_serves_waits_for_the_next(holder: Holder, backend: QuickOrigin) -> None:
    """Connections that come between two proxies are neither refused nor reset: the next one answers them."""
    first = holder.start({"BLUE": backend.url})
    holder.wait_notified("READY=1")
    assert ask_once(holder.port, GET % b"/").status == 200
    holder.stop(first)
    clients = [Client(holder.port) for _ in range(50)]
    for client in clients:
        client.send(GET % b"/")
    holder.start({"BLUE": backend.url})
    assert [client.read_reply().status for client in clients] == [200] * 50
    for client in clients:
        client.close()


def test_inherited_socket_is_served_by_every_worker(holder: Holder, backend: QuickOrigin) -> None:
    """One socket for all workers: while one is stopped, another takes every connection."""
    process = holder.start({"BLUE": backend.url, "SILLYPROXY_WORKERS": "2"})
    holder.wait_notified("READY=1")
    assert ask_once(holder.port, GET % b"/").status == 200
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for worker in map(int, children[1:]):
        stop(worker)
        assert {ask_once(holder.port, GET % b"/").status for _ in range(30)} == {200}
        os.kill(worker, signal.SIGCONT)


def test_addresses_are_matched_with_inherited_sockets(tmp_path: Path, backend: QuickOrigin) -> None:
    """
    Each address of SILLYPROXY_LISTEN and SILLYPROXY_ADMIN that was passed on is served on that
    socket, others are bound; one that is passed on and asked for by nobody is a warning.
    """
    public, admin, spare = (socket.create_server(("127.0.0.1", 0)) for _ in range(3))
    other = find_free_port()
    ports = [sock.getsockname()[1] for sock in (public, admin, spare)]
    holder = Holder(tmp_path, public, admin, spare)
    holder.start(
        {
            "BLUE": backend.url,
            "SILLYPROXY_LISTEN": f"127.0.0.1:{ports[0]},127.0.0.1:{other}",
            "SILLYPROXY_ADMIN": f"127.0.0.1:{ports[1]}",
        }
    )
    try:
        holder.wait_notified("READY=1")
        assert ask_once(ports[0], GET % b"/").status == 200
        assert ask_once(other, GET % b"/").status == 200
        assert ask(f"127.0.0.1:{ports[1]}", "/healthz")[0] == 200
        assert f"nobody serves it address=127.0.0.1:{ports[2]}" in holder.log
    finally:
        holder.close()


def test_all_that_is_passed_on_is_served(tmp_path: Path, backend: QuickOrigin) -> None:
    """Without SILLYPROXY_LISTEN every socket is served: IPv4 and IPv6 apart, and a unix socket."""
    four = socket.create_server(("0.0.0.0", 0))
    port = four.getsockname()[1]
    six = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=False)
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "edge.sock"))
    unix.listen()
    holder = Holder(tmp_path, four, six, unix)
    try:
        process = holder.start({"BLUE": backend.url})
        holder.wait_notified("READY=1")
        for address in (f"127.0.0.1:{port}", f"[::1]:{port}", f"unix:{tmp_path}/edge.sock"):
            assert ask(address, "/", Host="edge")[0] == 200
        assert "nobody serves it" not in holder.log
        holder.stop(process)
        assert (tmp_path / "edge.sock").exists()  # it is not ours to remove
    finally:
        holder.close()


@pytest.mark.parametrize("asked", [":{}", "[::]:{}"])
def test_every_way_to_write_all_addresses_is_the_same_socket(
    tmp_path: Path, backend: QuickOrigin, asked: str
) -> None:
    """`ListenStream=80` is what `:80` and `[::]:80` mean."""
    everywhere = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    holder = Holder(tmp_path, everywhere)
    try:
        holder.start({"BLUE": backend.url, "SILLYPROXY_LISTEN": asked.format(holder.port)})
        holder.wait_notified("READY=1")
        assert ask_once(holder.port, GET % b"/").status == 200
        assert "nobody serves it" not in holder.log
    finally:
        holder.close()


def test_sockets_for_another_process_are_left_alone(holder: Holder, backend: QuickOrigin) -> None:
    """LISTEN_PID says who the sockets are for: a child that merely has the variables does not take them."""
    port = find_free_port()
    holder.start({"BLUE": backend.url, "LISTEN_PID": "1", "SILLYPROXY_LISTEN": f"127.0.0.1:{port}"})
    holder.wait_notified("READY=1")
    assert ask_once(port, GET % b"/").status == 200
    assert f"127.0.0.1:{holder.port}" not in holder.log


def test_inherited_descriptor_that_is_no_listening_socket(tmp_path: Path, backend: QuickOrigin) -> None:
    """A unit that passes on something else: one clear line, exit status 1."""
    with socket.socket() as sock:
        holder = Holder(tmp_path, sock)
        assert holder.start({"BLUE": backend.url}).wait(20) == 1
        assert holder.log == (
            "sillyproxy: cannot listen on inherited descriptor 3: not a listening stream socket\n"
        )
        holder.close()


def test_service_manager_is_told(holder: Holder, backend: QuickOrigin) -> None:
    """`Type=notify-reload`: READY once it serves, RELOADING and READY around a reload, then STOPPING."""
    process = holder.start({"BLUE": backend.url})
    holder.wait_notified("READY=1")
    before = time.monotonic_ns() // 1000
    process.send_signal(signal.SIGHUP)
    reloading = dict(line.split("=") for line in holder.wait_notified("RELOADING=1").split("\n"))
    assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    holder.wait_notified("READY=1")
    process.send_signal(signal.SIGTERM)
    holder.wait_notified("STOPPING=1")
    assert process.wait(20) == 0
