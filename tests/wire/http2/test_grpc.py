"""Promise: gRPC passes through as if nobody were between, and what we have to say is said as gRPC says it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest

from tests.wire.certificates import make_authority, make_certificate
from tests.wire.harness import Proxy, find_free_port
from tests.wire.stress_tools import read_status, serving, wait_until


class Server(grpc.GenericRpcHandler):  # type: ignore[misc]
    """A server with a method of each kind, and the health service; `calls` counts colors."""

    def __init__(self, port: int = 0, credentials: Any = None) -> None:
        self.calls: Counter[str] = Counter()
        self.timeouts: list[str] = []
        self.healthy = True
        self.released = threading.Event()
        self.gone = threading.Event()
        self.server = grpc.server(futures.ThreadPoolExecutor(32))
        self.server.add_generic_rpc_handlers((self,))
        address = f"127.0.0.1:{port}"
        self.port: int = (
            self.server.add_secure_port(address, credentials)
            if credentials
            else self.server.add_insecure_port(address)
        )
        self.server.start()

    def service(self, details: Any) -> Any:
        metadata = dict(details.invocation_metadata)
        name = details.method.rpartition("/")[2]
        self.calls[metadata.get("color", "-")] += name != "Check"
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Down": grpc.unary_stream_rpc_method_handler(self.down),
            "Up": grpc.stream_unary_rpc_method_handler(self.up),
            "Both": grpc.stream_stream_rpc_method_handler(self.both),
            "Check": grpc.unary_unary_rpc_method_handler(self.check),
        }
        return kinds.get(name)

    def unary(self, request: bytes, context: Any) -> bytes:
        if request == b"wrong":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not like this: 50 % ü")
        if request == b"hang":
            context.add_callback(self.gone.set)
            self.released.wait(20)
        context.set_trailing_metadata((("x-sum", str(len(request))),))
        return request * 2

    def down(self, request: bytes, context: Any) -> Iterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number * 1000
        if request == b"3":
            self.released.wait(20)

    def up(self, requests: Iterable[bytes], context: Any) -> bytes:
        return b"%d" % sum(map(len, requests))

    def both(self, requests: Iterable[bytes], context: Any) -> Iterator[bytes]:
        for request in requests:
            yield request + b"!"

    def check(self, request: bytes, context: Any) -> bytes:
        if request not in (b"", b"\x0a\x04shop"):
            context.abort(grpc.StatusCode.NOT_FOUND, "what?")
        return b"\x08\x01" if self.healthy else b"\x08\x02"

    def stop(self) -> None:
        self.released.set()
        self.server.stop(None).wait(5)


@contextlib.contextmanager
def running(**how: Any) -> Iterator[Server]:
    server = Server(**how)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def backend() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def edge(backend: Server) -> Iterator[Proxy]:
    url = f"h2c://127.0.0.1:{backend.port}"
    with serving({"BLUE": url, "GREEN": url, "BLUE_WEIGHT": "3"}) as proxy:
        yield proxy


@pytest.fixture
def channel(edge: Proxy) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{edge.port}") as opened:
        yield opened


def test_unary(channel: Any, backend: Server) -> None:
    """Messages, metadata, trailers and status, divided by weight call by call on one connection."""
    backend.calls.clear()
    ask = channel.unary_unary("/t/Unary")
    reply, call = ask.with_call(b"ab")
    assert reply == b"abab"
    assert dict(call.trailing_metadata()) == {"x-sum": "2"}
    waiting = [ask.future(b"x" * number) for number in range(400)]
    assert [len(each.result()) for each in waiting] == [2 * number for number in range(400)]
    assert abs(backend.calls["blue"] - 301) <= 3
    assert sum(backend.calls.values()) == 401


def test_status_of_the_backend(channel: Any) -> None:
    """What it says is the client's, to the last letter."""
    with pytest.raises(grpc.RpcError) as wrong:
        channel.unary_unary("/t/Unary")(b"wrong")
    assert wrong.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert wrong.value.details() == "not like this: 50 % ü"
    with pytest.raises(grpc.RpcError) as unknown:
        channel.unary_unary("/t/Nobody")(b"")
    assert unknown.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_streams(channel: Any) -> None:
    """Many messages up, down, and both ways at once, each when it is sent."""
    assert list(channel.unary_stream("/t/Down")(b"500")) == [b"%d" % n * 1000 for n in range(500)]
    assert channel.stream_unary("/t/Up")(iter([b"x" * 10_000] * 300)) == b"3000000"
    asked: list[bytes] = []
    step = threading.Semaphore(1)

    def questions() -> Iterator[bytes]:
        for number in range(50):
            assert step.acquire(timeout=10)
            asked.append(b"%d" % number)
            yield asked[-1]

    for number, answer in enumerate(channel.stream_stream("/t/Both")(questions())):
        assert answer == b"%d!" % number
        assert len(asked) == number + 1
        step.release()
    assert len(asked) == 50


def test_large_messages(channel: Any) -> None:
    """Beyond every window, both ways."""
    assert channel.unary_unary("/t/Unary")(b"x" * 1_900_000) == b"x" * 3_800_000


def test_cancelled_call_is_cancelled_there(channel: Any, backend: Server) -> None:
    """And a deadline is: the backend is told, and goes on with nothing."""
    for how in ("cancel", "deadline"):
        backend.gone.clear()
        call = channel.unary_unary("/t/Unary").future(b"hang", timeout=0.5 if how == "deadline" else None)
        time.sleep(0.2)
        if how == "cancel":
            call.cancel()
        else:
            with pytest.raises(grpc.RpcError) as caught:
                call.result()
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert backend.gone.wait(5), how
        backend.released.set()
        backend.released.clear()


def test_deadline_is_longer_than_our_patience(backend: Server) -> None:
    """A call that says how long it may take has that time, whatever SILLYPROXY_RESPONSE_TIMEOUT says."""
    env = {"BLUE": f"h2c://127.0.0.1:{backend.port}", "SILLYPROXY_RESPONSE_TIMEOUT": "300ms"}
    with serving(env) as proxy, grpc.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:
        backend.released.clear()
        threading.Timer(1.2, backend.released.set).start()
        assert channel.unary_unary("/t/Unary")(b"hang", timeout=10) == b"hanghang"
        backend.released.clear()
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/t/Unary")(b"hang")
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert caught.value.details() == "no response in time"
        backend.released.set()


def test_nobody_there_is_unavailable() -> None:
    """What the proxy has to say is said by grpc-status; no call was made, so that a client may ask again."""
    env = {"BLUE": f"h2c://127.0.0.1:{find_free_port()}"}
    with (
        serving(env, ready=False) as proxy,
        grpc.insecure_channel(f"127.0.0.1:{proxy.port}", options=[("grpc.enable_retries", 0)]) as channel,
    ):
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/t/Unary")(b"")
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            assert caught.value.details() in ("connection refused", "no backends available")
        wait_until(lambda: read_status(proxy)["counters"]["replied"] == 2, "the counts")


def test_backend_that_dies_amid_a_stream() -> None:
    """A stream that breaks off is never one that ended well."""
    with (
        running() as server,
        serving({"BLUE": f"h2c://127.0.0.1:{server.port}"}) as proxy,
        grpc.insecure_channel(f"127.0.0.1:{proxy.port}") as channel,
    ):
        answers = channel.unary_stream("/t/Down")(b"3")
        assert next(answers) == b"0" * 1000
        server.server.stop(0)
        with pytest.raises(grpc.RpcError) as caught:
            list(answers)
        assert caught.value.code() != grpc.StatusCode.OK


def test_rolling_backends_lose_no_call() -> None:
    """Two servers are stopped in turn, gracefully: GOAWAY and REFUSED_STREAM send calls elsewhere."""
    ports = [find_free_port(), find_free_port()]
    servers = [Server(port) for port in ports]
    over = threading.Event()
    failed: list[str] = []
    done: Counter[str] = Counter()
    urls = ",".join(f"h2c://127.0.0.1:{port}" for port in ports)
    with serving({"BLUE": urls}) as proxy:

        def ask() -> None:
            with grpc.insecure_channel(
                f"127.0.0.1:{proxy.port}",
                options=[("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)],
            ) as channel:
                while not over.is_set():
                    try:
                        channel.unary_unary("/t/Unary")(b"x", timeout=10)
                        done["ok"] += 1
                    except grpc.RpcError as error:
                        failed.append(f"{error.code()} {error.details()}")

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for index in (0, 1, 0):
            time.sleep(0.7)
            servers[index].server.stop(5).wait()
            servers[index] = Server(ports[index])
        time.sleep(0.7)
        over.set()
        for thread in threads:
            thread.join()
    for server in servers:
        server.stop()
    # grpcio's server itself answers CANCELLED to a call that comes just as it begins to stop.
    assert [each for each in failed if "CANCELLED" not in each] == []
    assert len(failed) <= done["ok"] / 50
    assert done["ok"] > 300


def test_over_tls_both_ways(tmp_path: Path) -> None:
    """From the client over TLS, and to a server that speaks HTTP/2 by ALPN alone."""
    make_certificate(make_authority(tmp_path), tmp_path, "both", "DNS:localhost,IP:127.0.0.1")
    key, chain, ca = ((tmp_path / name).read_bytes() for name in ("both.key", "both.pem", "ca.pem"))
    port = find_free_port()
    with running(credentials=grpc.ssl_server_credentials([(key, chain)])) as server:
        env = {
            "BLUE": f"https://localhost:{server.port}",
            "BLUE_TLS_CA": str(tmp_path / "ca.pem"),
            "BLUE_HEALTH": "grpc",
            "BLUE_HEALTH_INTERVAL": "200ms",
            "BLUE_HEALTH_TIMEOUT": "200ms",
            "SILLYPROXY_TLS_LISTEN": f"127.0.0.1:{port}",
            "SILLYPROXY_TLS_CERT": str(tmp_path / "both.pem"),
            "SILLYPROXY_TLS_KEY": str(tmp_path / "both.key"),
        }
        with (
            serving(env),
            grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(ca)) as channel,
        ):
            assert channel.unary_unary("/t/Unary")(b"ab") == b"abab"
            assert list(channel.stream_stream("/t/Both")(iter([b"a", b"b"]))) == [b"a!", b"b!"]


@pytest.mark.parametrize(("asked", "good"), [("grpc", True), ("grpc:shop", True), ("grpc:other", False)])
def test_health_check(asked: str, good: bool) -> None:
    """gRPC's own check: of the server, or of a service; one that it does not know is not healthy."""
    with running() as server:
        env = {
            "BLUE": f"h2c://127.0.0.1:{server.port}",
            "BLUE_HEALTH": asked,
            "BLUE_HEALTH_INTERVAL": "100ms",
            "BLUE_HEALTH_TIMEOUT": "100ms",
            "SILLYPROXY_GATE": "any",
        }
        with serving(env, ready=good) as proxy:
            if not good:
                wait_until(lambda: "grpc-status 5" in proxy.read_log(), "a bad check")
                return

            def state() -> str:
                return str(read_status(proxy)["colors"][0]["endpoints"][0]["state"])

            wait_until(lambda: state() == "up", "its health")
            server.healthy = False
            wait_until(lambda: state() == "unhealthy", "bad checks")
            assert "not serving" in proxy.read_log()
            server.healthy = True
            wait_until(lambda: state() == "up", "its health")
