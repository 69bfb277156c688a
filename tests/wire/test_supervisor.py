"""The supervisor: addresses, processes, their deaths."""

from __future__ import annotations

import os
import signal
import socket
import stat
from contextlib import closing
from pathlib import Path

import pytest

from tests.wire.running import ask, running, stop, wait_until


def test_port_0_is_one_port_for_all_workers() -> None:
    """With port 0 the kernel chooses, all workers share the choice, and the log says which it is."""
    with running(SILLYPROXY_LISTEN="127.0.0.1:0") as proxy:
        proxy.wait_serving()
        wait_until(lambda: len({proxy.get().split()[0] for _ in range(20)}) == 2, "both workers")


def test_wildcard_serves_ipv4_and_ipv6() -> None:
    """`:PORT` takes IPv4 and IPv6 clients alike."""
    with running(SILLYPROXY_LISTEN=":0") as proxy:
        port = proxy.address.rpartition(":")[2]
        assert ask(f"127.0.0.1:{port}", "/")[0] == 200
        assert ask(f"[::1]:{port}", "/")[0] == 200


def test_listen_on_the_command_line_wins() -> None:
    """`serve --listen` takes the place of SILLYPROXY_LISTEN."""
    with running("--listen", "127.0.0.2:0", SILLYPROXY_LISTEN="127.0.0.1:0") as proxy:
        assert proxy.address.startswith("127.0.0.2:")


def test_address_in_use_is_one_clear_line() -> None:
    """An address that another process listens on: one line that names it, exit status 1, no traceback."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with running(SILLYPROXY_LISTEN=f"127.0.0.1:{port}") as proxy:
            assert proxy.wait_end() == 1
            assert proxy.lines == [f"sillyproxy: cannot listen on 127.0.0.1:{port}: address already in use"]


def test_address_of_another_sillyproxy_is_in_use() -> None:
    """Two proxies never share an address, although the workers of one do."""
    with running() as first, running(SILLYPROXY_LISTEN=first.address) as second:
        assert second.wait_end() == 1
        assert "address already in use" in second.lines[-1]


def test_admin_address_in_use_starts_nothing() -> None:
    """The admin address is bound before anything is started; in use, it is the end."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with running(SILLYPROXY_ADMIN=f"127.0.0.1:{port}") as proxy:
            assert proxy.wait_end() == 1
            assert proxy.lines == [f"sillyproxy: cannot listen on 127.0.0.1:{port}: address already in use"]


def test_access_log_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    """An access log in a directory that does not exist is found before anything is started."""
    with running(SILLYPROXY_ACCESS_LOG=str(tmp_path / "no" / "log")) as proxy:
        assert proxy.wait_end() == 1
        assert "cannot write the access log" in proxy.lines[-1]


def test_unix_socket_is_shared_and_removed(tmp_path: Path) -> None:
    """A unix path is served by all, open to whoever may enter its directory, and removed at the end."""
    path = tmp_path / "edge.sock"
    with running(SILLYPROXY_LISTEN=f"unix:{path}") as proxy:
        proxy.wait_serving()
        assert ask(f"unix:{path}", "/")[0] == 200
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        proxy.send(signal.SIGTERM)
        assert proxy.wait_end() == 0
    assert not path.exists()


def test_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    """The path that a killed process left behind is taken over."""
    path = tmp_path / "edge.sock"
    with closing(socket.socket(socket.AF_UNIX)) as left_behind:
        left_behind.bind(str(path))
    with running(SILLYPROXY_LISTEN=f"unix:{path}") as proxy:
        proxy.wait_serving()
        assert ask(f"unix:{path}", "/")[0] == 200


def test_unix_socket_that_somebody_serves_is_left_alone(tmp_path: Path) -> None:
    """A path that somebody listens on is in use: it is neither taken over nor removed."""
    path = tmp_path / "edge.sock"
    with closing(socket.socket(socket.AF_UNIX)) as other:
        other.bind(str(path))
        other.listen()
        with running(SILLYPROXY_LISTEN=f"unix:{path}") as proxy:
            assert proxy.wait_end() == 1
            assert "address already in use" in proxy.lines[-1]
    assert path.exists()


def test_file_in_the_place_of_a_unix_socket_is_left_alone(tmp_path: Path) -> None:
    """A path that is a file is never replaced."""
    path = tmp_path / "edge.sock"
    path.write_text("precious")
    with running(SILLYPROXY_LISTEN=f"unix:{path}") as proxy:
        assert proxy.wait_end() == 1
    assert path.read_text() == "precious"


def test_killed_worker_is_replaced() -> None:
    """A worker that is killed has a successor, which serves and which the controller knows."""
    with running(SILLYPROXY_WORKERS="1") as proxy:
        proxy.wait_serving()
        before = proxy.pid_of("worker 0")
        os.kill(before, signal.SIGKILL)
        proxy.wait_line(f"worker 0 died.* pid={before} reason=SIGKILL")
        assert int(proxy.get().split()[1]) != before
        wait_until(lambda: proxy.status()["workers"][0]["pid"] != before, "the successor's hello")


def test_killed_worker_keeps_its_counts_and_books_what_was_lost() -> None:
    """The counts of a killed worker stay; what it had under way is booked as lost, and the books balance."""
    with running(SILLYPROXY_WORKERS="1") as proxy:
        proxy.wait_serving()
        proxy.get()
        host, _, port = proxy.address.rpartition(":")
        with closing(socket.create_connection((host, int(port)))) as client:
            client.sendall(b"GET /hang HTTP/1.1\r\n\r\n")
            wait_until(lambda: proxy.status()["counters"]["inflight"] == 1, "the request under way")
            os.kill(proxy.pid_of("worker 0"), signal.SIGKILL)
            proxy.wait_line("worker 0 died.* lost=1")
        proxy.get()
        counters = proxy.status()["counters"]
        assert (counters["accepted"], counters["answered"], counters["lost"]) == (3, 2, 1)
        assert (counters["inflight"], counters["restarts"]) == (0, 1)
        assert proxy.status()["balance"]["balanced"]


def test_connection_that_waits_for_a_dead_worker_is_served_by_its_successor() -> None:
    """A connection that a stopped and then killed worker had not accepted yet is not lost."""
    with running(SILLYPROXY_WORKERS="1") as proxy:
        proxy.wait_serving()
        worker = proxy.pid_of("worker 0")
        stop(worker)
        host, _, port = proxy.address.rpartition(":")
        with closing(socket.create_connection((host, int(port)))) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            os.kill(worker, signal.SIGKILL)
            client.settimeout(20)
            assert client.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["worker 0", "controller"])
def test_process_that_hangs_is_replaced(name: str) -> None:
    """
    A process that is stopped and never goes on is killed within some ten seconds; what waits in the
    queue of a worker is served by its successor.
    """
    with running(SILLYPROXY_WORKERS="1") as proxy:
        proxy.wait_serving()
        pid = proxy.pid_of(name)
        stop(pid)
        assert int(proxy.get().split()[1]) != (pid if name == "worker 0" else 0)
        proxy.wait_line(f"{name} hangs, killing it pid={pid}")
        wait_until(lambda: proxy.pid_of(name) != pid, "the successor")


def test_killed_controller_is_replaced_and_workers_serve_on() -> None:
    """Without a controller requests are served; its successor knows all workers and tells them all."""
    with running() as proxy:
        proxy.wait_serving()
        before = proxy.pid_of("controller")
        os.kill(before, signal.SIGKILL)
        proxy.get()
        proxy.wait_line(f"controller died.* pid={before} reason=SIGKILL")
        wait_until(lambda: len(proxy.status()["workers"]) == 2, "both workers in the new controller's view")
        assert proxy.get("/endpoints") == "127.0.0.1"


def test_process_that_keeps_dying_is_started_ever_more_seldom() -> None:
    """A worker that cannot live is started again at once, then after 0.1 s, 0.2 s and so on."""
    with running(STANDIN="crash", SILLYPROXY_WORKERS="1") as proxy:
        proxy.wait_line(r"worker 0 died.* reason=\"exit code 3\".* in_s=0\.0")
        proxy.wait_line(r"worker 0 died.* in_s=0\.1")
        proxy.wait_line(r"worker 0 died.* in_s=0\.4")


@pytest.mark.parametrize("name", ["worker 0", "controller"])
def test_processes_end_with_the_supervisor(name: str) -> None:
    """When the supervisor itself is killed, nobody stays behind."""
    with running() as proxy:
        proxy.wait_serving()
        pid = proxy.pid_of(name)
        proxy.process.kill()
        proxy.process.wait()

        def is_gone() -> bool:
            try:
                return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
            except FileNotFoundError:
                return True

        wait_until(is_gone, f"the end of {name}")


def test_workers_hold_no_sockets_of_others() -> None:
    """A worker has its own listener, wires and lifeline: nobody keeps an address open for another."""
    with running() as proxy:
        proxy.wait_serving()
        sockets = [one for one in proxy.get("/descriptors").split() if one.startswith("socket:")]
        assert len(set(sockets)) == 4  # listener, two wires, and the connection that asks


def test_workers_carry_no_libraries() -> None:
    """What the command line and the control plane import is not in the memory of a worker."""
    with running() as proxy:
        modules = set(proxy.get("/modules").split())
        assert not modules & {"click", "starlette", "uvicorn", "prometheus_client", "asyncio", "rich"}


def test_accepted_connections_have_no_delay() -> None:
    """Accepted connections inherit TCP_NODELAY, so that no worker has to ask for it."""
    with running() as proxy:
        assert proxy.get("/nodelay") == "1"
