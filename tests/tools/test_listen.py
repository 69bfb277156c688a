"""Addresses that are bound; the promises to operators are in tests/wire/test_supervisor.py."""

from __future__ import annotations

import errno
import socket
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from sillyproxy.config.schema import Listener
from sillyproxy.tools.listen import CannotListen, bind, listen


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
