"""
What the promises about load, loss and accounting are tested with: an origin that is quick,
clients that never stop asking, and a look into the proxy's processes.

`WIRE_FIGURES=1` shows every figure (`pytest -s` does too); a failing test shows its own anyway.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.wire.harness import PATIENCE_S, Client, Ended, Proxy, Reply, Stream, find_free_port, reset
from tests.wire.running import ask

GET = b"GET %b HTTP/1.1\r\nHost: edge\r\n\r\n"
KIB = 1024
MIB = 1024 * KIB


def show(what: str, **figures: float | str) -> None:
    """Print figures, for whoever wants to see them."""
    text = ", ".join(f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
                     for name, value in figures.items())  # fmt: skip
    print(f"\n[{what}] {text}")


def wait_until(is_true: Callable[[], object], what: str, patience_s: float = 2 * PATIENCE_S) -> None:
    """Wait until something is true; fail if it never is."""
    end = time.monotonic() + patience_s
    while not is_true():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


def request(path: str = "/", method: str = "GET", body: bytes | None = None, **fields: str) -> bytes:
    """Return a request's bytes; `_` in a field's name is `-`."""
    lines = [f"{method} {path} HTTP/1.1", "Host: edge"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


# The proxy's insides.


def read_status(proxy: Proxy) -> Any:
    """Return what `/api/status` says."""
    return json.loads(ask(f"127.0.0.1:{proxy.admin_port}", "/api/status")[1])


def read_counters(proxy: Proxy) -> dict[str, int]:
    """Return the counts of all workers together."""
    counters: dict[str, int] = read_status(proxy)["counters"]
    return counters


def read_metrics(proxy: Proxy) -> dict[str, float]:
    """Return the samples of `/metrics`, by name with labels."""
    text = ask(f"127.0.0.1:{proxy.admin_port}", "/metrics")[1]
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def find_workers(proxy: Proxy) -> list[int]:
    """Return the workers' processes, by index."""
    return [worker["pid"] for worker in read_status(proxy)["workers"]]


def find_controller(proxy: Proxy) -> int:
    """Return the controller's process."""
    children = Path(f"/proc/{proxy.process.pid}/task/{proxy.process.pid}/children").read_text().split()
    (controller,) = {int(pid) for pid in children} - set(find_workers(proxy))
    return controller


def wait_workers(proxy: Proxy, count: int) -> list[int]:
    """Wait until that many workers have said hello; return their processes."""
    wait_until(lambda: len(find_workers(proxy)) == count, f"{count} workers")
    return find_workers(proxy)


def count_descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def read_memory(pid: int, what: str = "VmRSS") -> int:
    """Return a figure of a process's memory, by its name in /proc/PID/status; bytes."""
    match = re.search(rf"^{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) * KIB


def read_tree_memory(proxy: Proxy) -> int:
    """Return the resident memory of all of the proxy's processes; bytes (shared pages count in each)."""
    return sum(read_memory(pid) for pid in [proxy.process.pid, find_controller(proxy), *find_workers(proxy)])


def count_queued(*ports: int) -> int:
    """Return how many bytes the kernel holds, sent or received, of the connections to these ports of ours."""
    queued = 0
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, here, there, state, queues, *_ = line.split()
            # Of one that listens it is the connections that wait (0A, proc_net_tcp.txt).
            if state != "0A" and {int(end.rpartition(":")[2], 16) for end in (here, there)} & set(ports):
                queued += sum(int(queue, 16) for queue in queues.split(":"))
    return queued


def allow_descriptors(count: int) -> None:
    """Let this process open that many descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard >= count, f"this test opens {count} descriptors and the hard limit is {hard}"
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def is_balanced(counters: Mapping[str, int]) -> bool:
    """Whether all that was accepted is accounted for."""
    return counters["accepted"] == sum(
        counters[part] for part in ("answered", "replied", "abandoned", "lost", "inflight")
    )


def wait_at_rest(proxy: Proxy) -> Any:
    """Wait until nothing is under way and nobody is connected; return the status then."""
    seen: list[Any] = []

    def is_at_rest() -> bool:
        # Counts are published 20 ms late at most: what stands still for longer is true.
        before = read_status(proxy)["counters"]
        time.sleep(0.1)
        seen[:] = [read_status(proxy)]
        counters = seen[0]["counters"]
        if counters != before:
            return False
        active = sum(color["upstream_connections"]["active"] for color in seen[0]["colors"])
        return not (
            counters["inflight"] or counters["connections_open"] or counters["tunnels_open"] or active
        )

    end = time.monotonic() + 2 * PATIENCE_S
    while not is_at_rest():
        assert time.monotonic() < end, f"never at rest: {seen[0]['counters']} {seen[0]['colors']}"
        time.sleep(0.02)
    return seen[0]


# The origin.


class QuickOrigin:
    """
    A server that answers by the request's path, a thread a connection.

    `/` the color; `/status/N`; `/bytes/N`; `/chunked/N`; `/sleep/S`, then as `/`; `/echo` the
    body's length; `/break` closes, `/reset` resets before an answer; `/cut` closes amid one;
    `/hang` never answers; `/trickle/N` one byte each 10 ms; `/deaf` reads no body until `hear`
    is set; `/switch/PROTOCOL` upgrades to one that echoes, `…/mute` to one that says nothing (`tunnelled`
    is what came). `closing_after` N: closes each connection after N answers, without a word. `mood` is asked
    with each request's number for a path in place of the request's own; empty: as that says.
    `order` are the ids (X-Id) in the order they came, `busiest` how many were under way at once.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, closing_after: int = 0) -> None:
        self.listener = socket.create_server((host, port), backlog=1024)
        self.host = host
        self.port: int = self.listener.getsockname()[1]
        self.closing_after = closing_after
        self.colors: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.order: list[str] = []
        self.tunnelled = bytearray()
        self.mood: Callable[[int], str] = lambda number: ""
        self.busy = self.busiest = 0
        self.ended: Counter[str] = Counter()  # how waits of /hang and /bytes for a gone proxy ended, by path
        self.connections = 0
        self.served = 0
        self.sent = 0
        self.heard = 0
        self.hear = threading.Event()
        self.lock = threading.Lock()
        self.opened: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def close(self) -> None:
        """Stop listening and close every connection."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.close_connections()

    def close_connections(self) -> None:
        """Close every connection."""
        for sock in list(self.opened):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.opened.add(sock)
            with self.lock:
                self.connections += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        stream = Stream(sock)
        answers = 0
        try:
            while True:
                while (end := stream.buffer.find(b"\r\n\r\n")) < 0:
                    stream.fill(timeout_s=600)
                head = stream.take(end + 4).decode("latin-1")
                stream.raw.clear()
                if not self._answer(stream, head):
                    return
                answers += 1
                if answers == self.closing_after:
                    return
        except (Ended, OSError):
            pass
        finally:
            self.opened.discard(sock)
            with contextlib.suppress(OSError):
                sock.close()

    def _answer(self, stream: Stream, head: str) -> bool:
        line, _, rest = head.partition("\r\n")
        path = line.split(" ")[1].partition("?")[0]
        fields = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in rest.split("\r\n"))
        }
        color = fields.get("color", "-")
        with self.lock:
            self.served += 1
            self.colors[color] += 1
            if "x-id" in fields:
                self.ids[fields["x-id"]] += 1
                self.order.append(fields["x-id"])
            path = self.mood(self.served) or path
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
        _, what, *rest_of_path = path.split("/")
        number = rest_of_path[0] if rest_of_path else ""
        sock = stream.sock
        try:
            if what == "deaf":
                self.hear.wait(60)
            length = self._read_body(stream, fields)
            if what == "sleep":
                time.sleep(float(number))
        finally:
            # Before the answer: the next request may come as soon as that is there.
            with self.lock:
                self.busy -= 1
        if what in ("", "sleep", "deaf"):
            body = color.encode()
        elif what == "echo":
            body = str(length).encode()
        elif what == "bytes":
            return self._send_much(sock, path, int(number))
        elif what == "chunked":
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            sock.sendall(b"2000\r\n" + bytes(8192) + b"\r\n")
            sock.sendall(b"%x\r\n%b\r\n" % (int(number), bytes(int(number))) + b"0\r\n\r\n")
            return True
        elif what == "status":
            sock.sendall(b"HTTP/1.1 %b X\r\nContent-Length: 2\r\n\r\nno" % number.encode())
            return True
        elif what == "trickle":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % int(number))
            for _ in range(int(number)):
                sock.sendall(b"x")
                time.sleep(0.01)
            return True
        elif what == "hang":
            self._wait_gone(stream, path)
            return False
        elif what == "half":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            self._wait_gone(stream, path)
            return False
        elif what == "cut":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            return False
        elif what == "switch":
            protocol = number or "echo"
            sock.sendall(
                b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: %b\r\n\r\n" % protocol.encode()
            )
            self._echo(stream, path)
            return False
        elif what == "reset":
            reset(sock)
            return False
        else:
            return False  # /break
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        return True

    def _read_body(self, stream: Stream, fields: Mapping[str, str]) -> int:
        length = int(fields.get("content-length", "0"))
        if "transfer-encoding" in fields:
            while data := stream.take_chunk():
                length += len(data)
                self.heard += len(data)
                stream.raw.clear()
            stream.take_fields()
            return length
        left = length - len(stream.take(min(length, len(stream.buffer))))
        while left:
            stream.sock.settimeout(60)
            data = stream.sock.recv(min(left, 256 * KIB))
            if not data:
                raise Ended("closed")
            left -= len(data)
            self.heard += len(data)
        return length

    def _send_much(self, sock: socket.socket, path: str, count: int) -> bool:
        sock.settimeout(60)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % count)
        data = memoryview(bytes(256 * KIB))
        left = count
        try:
            while left:
                sent = sock.send(data[:left])
                self.sent += sent
                left -= sent
        except OSError:
            self._note_end(path, "broken")
            return False
        return True

    def _echo(self, stream: Stream, path: str) -> None:
        try:
            while True:
                data = stream.take(len(stream.buffer))
                self.tunnelled += data
                if not path.endswith("/mute"):
                    stream.sock.sendall(data)
                stream.raw.clear()
                stream.fill(timeout_s=600)
        except (Ended, OSError):
            self._note_end(path, "closed")

    def _wait_gone(self, stream: Stream, path: str) -> None:
        try:
            while True:
                stream.fill(timeout_s=60)
        except Ended as end:
            self._note_end(path, end.how)

    def _note_end(self, path: str, how: str) -> None:
        with self.lock:
            self.ended[path] += how != "silent"


# Clients.


class Load:
    """
    Clients that keep asking over kept-alive connections until told to stop, each in a thread.

    `failures` lists everything that no client should see; an answer that is announced as
    the connection's last is followed by a new connection. `find_port` is asked for each
    new connection; None: there is nowhere to go any more, the client ends.
    """

    def __init__(
        self,
        find_port: Callable[[], int | None],
        clients: int,
        make: Callable[[int], tuple[bytes, bytes]] | None = None,
        *,
        pause_s: float = 0.0,
    ) -> None:
        self.find_port = find_port
        self.make = make or (lambda number: (b"GET", GET % b"/"))
        self.pause_s = pause_s
        self.statuses: Counter[int] = Counter()
        self.latencies: list[float] = []
        self.failures: list[str] = []
        self.announced = 0
        self.refused = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._go = threading.Event()
        self._go.set()
        self._asking = 0
        self._number = 0
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def wait_answers(self, count: int) -> None:
        """Wait until so many more answers have come."""
        goal = sum(self.statuses.values()) + count
        wait_until(lambda: sum(self.statuses.values()) >= goal, f"{count} answers; {self.failures[:3]}")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let nobody ask while the block runs: it begins when the last answer has come."""
        with self._lock:
            self._go.clear()
        wait_until(lambda: not self._asking, "the last answers")
        try:
            yield
        finally:
            self._go.set()

    def stop(self) -> None:
        """End every client after its present request."""
        self._stop.set()
        self.join()

    def join(self) -> None:
        """Wait until every client has ended."""
        for thread in self._threads:
            thread.join(2 * PATIENCE_S)
        assert not any(thread.is_alive() for thread in self._threads), "a client hangs"

    def _fail(self, what: str) -> None:
        with self._lock:
            self.failures.append(what)

    def _begin(self) -> int | None:
        """Return the number of the next request; None if nobody may ask now."""
        with self._lock:
            if not self._go.is_set():
                return None
            self._asking += 1
            self._number += 1
            return self._number

    def _run(self) -> None:
        client: Client | None = None
        asked = 0
        try:
            while not self._stop.is_set():
                if client is None:
                    port = self.find_port()
                    if port is None:
                        return
                    try:
                        client, asked = Client(port), 0
                    except OSError as error:
                        self.refused += 1
                        if self.find_port() == port:
                            self._fail(f"connect: {error}")
                        time.sleep(0.01)
                        continue
                number = self._begin()
                if number is None:
                    self._go.wait(0.1)
                    continue
                method, data = self.make(number)
                begun = time.monotonic()
                client.send(data)
                reply = client.read_reply(method)
                with self._lock:
                    self._asking -= 1
                client.stream.raw.clear()
                asked += 1
                if not reply.is_whole:
                    self._fail(
                        f"{method!r} {asked} on its connection: {reply.end} {reply.status} {reply.fault}"
                    )
                    client.close()
                    client = None
                    continue
                with self._lock:
                    self.statuses[reply.status] += 1
                    self.latencies.append(time.monotonic() - begun)
                if b"close" in reply.list("connection"):
                    self.announced += 1
                    client.close()
                    client = None
                if self.pause_s:
                    time.sleep(self.pause_s)
        finally:
            if client is not None:
                client.close()


@contextlib.contextmanager
def loading(
    port: int, clients: int, make: Callable[[int], tuple[bytes, bytes]] | None = None, *, pause_s: float = 0.0
) -> Iterator[Load]:
    """Have clients ask for as long as the block runs."""
    load = Load(lambda: port, clients, make, pause_s=pause_s)
    try:
        yield load
    finally:
        load.stop()


@contextlib.contextmanager
def serving(
    env: Mapping[str, str], *, ready: bool = True, kind: Callable[..., Proxy] = Proxy
) -> Iterator[Proxy]:
    """Run a proxy; at the end it stops cleanly, or the test has failed."""
    proxy = kind({"SILLYPROXY_ACCESS_LOG": "off", **env}, ready=ready)
    try:
        yield proxy
    except BaseException:
        print(proxy.read_log()[-4000:])
        proxy.kill()
        raise
    if proxy.process.poll() is None:
        proxy.stop()
    else:
        proxy.kill()


@contextlib.contextmanager
def origin(**how: Any) -> Iterator[QuickOrigin]:
    """Run an origin."""
    server = QuickOrigin(**how)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def origins(count: int) -> Iterator[list[QuickOrigin]]:
    """Run some origins."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(origin()) for _ in range(count)]


# A worker by itself.


class Located(Protocol):
    """Whoever listens on a port of this machine."""

    @property
    def port(self) -> int:
        """Where."""


class LoneWorker:
    """
    A worker without supervisor and controller, whose endpoints and settings the test decides.

    Two colors, blue and green, green at weight 0; `settings` change that and the rest. Each has one
    URL, unless they say otherwise.
    """

    def __init__(self, *blue: Located, **settings: str | int | float) -> None:
        self.port = find_free_port()
        self.settings: dict[str, str] = {
            "BLUE": "http://app",
            "GREEN": "http://app",
            "GREEN_WEIGHT": "0",
            "SILLYPROXY_ACCESS_LOG": "off",
            "SILLYPROXY_DRAIN_DELAY": "0",
            "SILLYPROXY_DRAIN_TIMEOUT": "2",
            "SILLYPROXY_WORKERS": "1",
        }
        self._change(settings)
        # Of its own, so that what it writes cannot fill a pipe that nobody reads.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed in `kill`)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.wire.lone_worker", str(self.port), json.dumps(self.settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        if blue:
            self.use(*blue)
            wait_until(self._answers, "the worker")

    def _change(self, settings: Mapping[str, str | int | float]) -> None:
        self.settings.update({name: str(value) for name, value in settings.items()})

    def _answers(self) -> bool:
        try:
            return ask_once(self.port, GET % b"/").status > 0
        except OSError:
            return False

    def _say(self, what: str, wish: object = 1) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({what: wish}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, self.read_log()
        return json.loads(answer)

    def use(
        self,
        *blue: Located,
        unhealthy: Collection[Located] = (),
        ejected: Mapping[Located, tuple[float, int]] | None = None,
        generation: int = 0,
        shedding: bool = False,
        **others: Sequence[Located],
    ) -> None:
        """
        Tell it the endpoints of blue, and of other colors by their names: all of the first URL.

        `ejected`: for so many seconds from now, for the so-manyth time.
        """
        colors = {"blue": blue, "green": (), **others}
        everyone = {name: [_address(server) for server in servers] for name, servers in colors.items()}
        sick = [_address(server) for server in unhealthy]
        now_ns = time.monotonic_ns()
        out = [
            [*_address(server), now_ns + int(for_s * 1e9), times]
            for server, (for_s, times) in (ejected or {}).items()
        ]
        self.tell(
            colors=everyone,
            unhealthy=dict.fromkeys(colors, sick),
            ejected=dict.fromkeys(colors, out),
            generation=generation,
            shedding=shedding,
        )

    def tell(self, **fields: object) -> None:
        """Tell it the endpoints, field by field: addresses are lists of URL's index, IP address, port."""
        usual = {"colors": {}, "unhealthy": {}, "ejected": {}, "generation": 0, "shedding": False}
        assert self._say("endpoints", usual | fields)

    def serve(self, **settings: str | int | float) -> None:
        """Have it serve by other settings, besides those it had: the next generation."""
        self._change(settings)
        assert self._say("serve", self.settings)

    def read_counts(self) -> Any:
        """Return its counts: of the worker, and of each color."""
        return self._say("counts")

    def hear(self, what: str) -> list[Any]:
        """Return what it has told its controller, of this kind, since it was heard last."""
        return [message for message in self._say("said") if message["what"] == what]

    def read_log(self) -> str:
        """Return what it has logged so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def stop(self) -> None:
        """Let its supervisor be gone; it ends with 0, and no bug has shown."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(20) == 0
        assert "Traceback" not in self.read_log(), self.read_log()

    def kill(self) -> None:
        """End it, without any judgement."""
        self.process.kill()
        self.process.wait(10)
        self._log.close()


def _address(server: Located) -> list[Any]:
    return [0, "127.0.0.1", server.port]


@contextlib.contextmanager
def lone_worker(*blue: Located, **settings: str | int | float) -> Iterator[LoneWorker]:
    """Run a worker with these endpoints of blue."""
    worker = LoneWorker(*blue, **settings)
    try:
        yield worker
        worker.stop()
    except BaseException:
        print(worker.read_log()[-4000:])
        raise
    finally:
        worker.kill()


def ask_once(port: int, data: bytes, method: bytes = b"GET") -> Reply:
    """Send one request on a connection of its own; return the response."""
    client = Client(port)
    try:
        client.send(data)
        return client.read_reply(method)
    finally:
        client.close()


def ask_many(port: int, count: int, data: bytes = GET % b"/", *, batch: int = 50) -> Counter[bytes]:
    """Ask over one connection, `batch` requests at a time; return the bodies, counted."""
    bodies: Counter[bytes] = Counter()
    client = Client(port)
    try:
        for start in range(0, count, batch):
            size = min(batch, count - start)
            client.send(data * size)
            for _ in range(size):
                reply = client.read_reply()
                assert reply.is_whole, reply
                bodies[reply.body if reply.status == 200 else b"%d" % reply.status] += 1
            client.stream.raw.clear()
    finally:
        client.close()
    return bodies
