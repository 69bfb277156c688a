"""Addresses that are bound; the promises to operators are in tests/wire/test_supervisor.py."""

from __future__ import annotations

import errno
import socket
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from sillyproxy.config.schema import Listener
from sillyproxy.tools.listen import CannotListen, bind, bind_more, inherit, listen


def test_each_worker_has_a_queue_of_its_own() -> None:
    """Connections to one address are spread over the sockets of all workers."""
    bound = bind(Listener("127.0.0.1", 0), 2)
    listen(bound.listener, bound.sockets)
    counts = [0, 0]
    clients = [socket.create_connection(("127.0.0.1", bound.listener.port)) for _ in range(64)]
    for index, sock in enumerate(bound.sockets):
        with suppress(BlockingIOError):
            while True:
                sock.accept()[0].close()
                counts[index] += 1
    for client in clients:
        client.close()
    bound.close()
    assert sum(counts) == 64
    assert all(counts)


def test_without_ipv6_a_wildcard_is_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without IPv6 `:PORT` still serves IPv4."""
    real = socket.socket

    def without_ipv6(family: int, *rest: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *rest)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    bound = bind(Listener("", 0), 1)
    assert bound.sockets[0].family == socket.AF_INET
    bound.close()


def test_address_of_another_machine_is_refused() -> None:
    """An address that this machine does not have is one clear reason."""
    with pytest.raises(CannotListen, match=r"192\.0\.2\.1:0: cannot assign requested address"):
        bind(Listener("192.0.2.1", 0), 1)


def test_path_of_another_socket_is_not_removed(tmp_path: Path) -> None:
    """Who stops removes the path only if it is still its own: a successor may have taken it over."""
    path = tmp_path / "s"
    bound = bind(Listener(path=str(path)), 1)
    path.unlink()
    with closing(socket.socket(socket.AF_UNIX)) as successor:
        successor.bind(str(path))
        bound.unlink()
        assert path.exists()
    bound.close()


def test_nobody_is_let_in_before_it_is_said() -> None:
    """An address that is bound only is refused to clients: what comes after it may still be wrong."""
    bound = bind(Listener("127.0.0.1", 0), 2)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", bound.listener.port))
    listen(bound.listener, bound.sockets)
    socket.create_connection(("127.0.0.1", bound.listener.port)).close()
    bound.close()


def test_address_of_ours_gets_more_sockets_for_more_workers() -> None:
    """More workers get queues of their own on the same address; a unix socket stays the one it is."""
    bound = bind(Listener("127.0.0.1", 0), 2)
    listen(bound.listener, bound.sockets)
    more = bind_more(bound, 4)
    assert len(more) == 2
    assert {sock.getsockname() for sock in more} == {("127.0.0.1", bound.listener.port)}
    assert bind_more(bound, 1) == ()
    for sock in (*bound.sockets, *more):
        sock.close()


def test_fewer_workers_share_all_sockets() -> None:
    """Every socket belongs to some worker, however few there are, and to one alone."""
    bound = bind(Listener("127.0.0.1", 0), 5)
    for workers in (1, 2, 3, 5):
        owned = [sock for place in range(workers) for sock in bound.sockets_of(place, workers)]
        assert sorted(map(id, owned)) == sorted(map(id, bound.sockets))
    bound.close()


@pytest.mark.parametrize("environ", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_FDS": "1"}])
def test_sockets_are_inherited_only_by_whom_they_are_for(environ: dict[str, str]) -> None:
    """Without LISTEN_PID, or with another process's, nothing is taken."""
    assert inherit(environ) == ()
