"""A TLS connection as a transport: every byte, both ways, however slowly the other side takes it."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from select import select
from typing import TypeVar

import pytest

from sillyproxy.proxy.tls import TlsTransport

T = TypeVar("T")

PATIENCE_S = 30.0
# More than the buffers of both sockets hold, and no multiple of a record.
PAYLOAD = bytes(range(251)) * 20_000


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a certificate for `sillyproxy.test` and its key."""
    both = tmp_path_factory.mktemp("tls") / "both.pem"
    key = both.with_name("key.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-keyout", str(key), "-out", str(both), "-days", "2"),
            *("-subj", "/CN=sillyproxy.test", "-addext", "subjectAltName=DNS:sillyproxy.test"),
        ],
        check=True,
        capture_output=True,
    )
    both.write_text(both.read_text() + key.read_text())
    return both


@contextmanager
def connected(certificate: Path, version: ssl.TLSVersion) -> Iterator[tuple[TlsTransport, ssl.SSLSocket]]:
    """Give our side, after the handshake, and a blocking client that OpenSSL drives by itself."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(PATIENCE_S)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    client = ssl.create_default_context(cafile=str(certificate))
    client.minimum_version = client.maximum_version = version
    transport = TlsTransport(server, ours, server=True)
    wrapped: list[ssl.SSLSocket] = []
    thread = threading.Thread(
        target=lambda: wrapped.append(client.wrap_socket(theirs, server_hostname="sillyproxy.test"))
    )
    thread.start()
    while not transport.shake_hands():
        assert select([ours], [], [], PATIENCE_S)[0], "no handshake"
    thread.join(PATIENCE_S)
    assert wrapped[0].version() == version.name.replace("_", ".")
    with wrapped[0] as peer:
        try:
            yield transport, peer
        finally:
            transport.close()


def patiently(transport: TlsTransport, act: Callable[[], T], *, writing: bool = False) -> T:
    """Do what would block as soon as it does not."""
    fd = transport.fileno()
    while True:
        try:
            return act()
        except BlockingIOError:
            ready = select([] if writing else [fd], [fd] if writing else [], [], PATIENCE_S)
            assert any(ready), "the other side is silent"


VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


@VERSIONS
@pytest.mark.parametrize("into_buffer", [False, True])
def test_what_the_peer_sends_arrives(certificate: Path, version: ssl.TLSVersion, into_buffer: bool) -> None:
    """All of it; a read that brings less than it asked for has left nothing that no event would tell of."""
    with connected(certificate, version) as (transport, peer):
        writer = threading.Thread(target=peer.sendall, args=(PAYLOAD,))
        writer.start()
        got = bytearray()
        buffer = memoryview(bytearray(256 * 1024))
        while len(got) < len(PAYLOAD):
            if into_buffer:
                got += buffer[: patiently(transport, lambda: transport.recv_into(buffer))]
            else:
                got += patiently(transport, lambda: transport.recv(16384))
        writer.join(PATIENCE_S)
        assert bytes(got) == PAYLOAD
        with pytest.raises(BlockingIOError):
            transport.recv(1)


@VERSIONS
def test_a_short_read_has_left_nothing(certificate: Path, version: ssl.TLSVersion) -> None:
    """With all that was sent in the kernel already, reading until a read is short finds all of it."""
    with connected(certificate, version) as (transport, peer):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        sent = PAYLOAD[:150_000]
        peer.sendall(sent)
        got = bytearray()
        while True:
            data = transport.recv(16384)
            got += data
            if len(data) < 16384:
                break
        assert bytes(got) == sent


@VERSIONS
def test_a_slow_reader_gets_each_byte_once(certificate: Path, version: ssl.TLSVersion) -> None:
    """What is not taken is said to be not taken, but for what is encrypted: that is sent later, once."""
    with connected(certificate, version) as (transport, peer):
        got = bytearray()

        def read_slowly() -> None:
            while len(got) < len(PAYLOAD):
                got.extend(peer.recv(7001))

        reader = threading.Thread(target=read_slowly)
        rest = memoryview(PAYLOAD)
        rest = rest[transport.send(rest) :]
        assert rest, "the kernel took it all: this would test nothing"
        assert transport.is_waiting
        with pytest.raises(BlockingIOError):
            transport.send(rest)
        reader.start()
        while rest:
            rest = rest[patiently(transport, partial(transport.send, rest), writing=True) :]
        reader.join(PATIENCE_S)
        assert not reader.is_alive()
        assert bytes(got) == PAYLOAD
        assert not transport.is_waiting


@VERSIONS
def test_its_end_is_an_end(certificate: Path, version: ssl.TLSVersion) -> None:
    """A peer that says goodbye has ended."""
    with connected(certificate, version) as (transport, peer):
        peer.sendall(b"the last")
        goodbye = threading.Thread(target=peer.unwrap)
        goodbye.start()
        assert patiently(transport, lambda: transport.recv(100)) == b"the last"
        assert patiently(transport, lambda: transport.recv(100)) == b""
        transport.close()
        goodbye.join(PATIENCE_S)
        assert not goodbye.is_alive()


@VERSIONS
def test_without_a_goodbye_it_is_broken(certificate: Path, version: ssl.TLSVersion) -> None:
    """Somebody may have cut it: what came is not to be taken for the whole. It says so each time."""
    with connected(certificate, version) as (transport, peer):
        peer.sendall(b"the first half")
        socket.socket.close(peer)
        assert patiently(transport, lambda: transport.recv(100)) == b"the first half"
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                patiently(transport, lambda: transport.recv(100))


@VERSIONS
def test_we_say_goodbye(certificate: Path, version: ssl.TLSVersion) -> None:
    """The end of what we send is told apart from a cut."""
    with connected(certificate, version) as (transport, peer):
        assert transport.send(b"all of it") == 9
        transport.shutdown(socket.SHUT_WR)
        assert peer.recv(100) == b"all of it"
        assert peer.recv(100) == b""


def test_what_is_no_handshake_is_refused(certificate: Path) -> None:
    """Plain HTTP, say."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    with ours, theirs:
        theirs.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with pytest.raises(ssl.SSLError):
            TlsTransport(server, ours, server=True).shake_hands()
