"""Promise: with TLS clients are who they are, and nothing is lost when certificates change."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.wire.certificates import make_authority, make_certificate
from tests.wire.harness import PATIENCE_S, Client, Exchange, Origin, Proxy, Stream, find_free_port, get_values
from tests.wire.stress_tools import (
    GET,
    is_balanced,
    read_counters,
    read_metrics,
    serving,
    wait_at_rest,
    wait_until,
)

NAMES = {"shop": "DNS:shop.test", "wild": "DNS:*.blog.test,DNS:blog.test", "new": "DNS:shop.test"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with an authority and certificates of it."""
    directory = tmp_path_factory.mktemp("keys")
    authority = make_authority(directory)
    for file, names in NAMES.items():
        make_certificate(authority, directory, file, names)
    clients = make_authority(directory, "clients")
    make_certificate(clients, directory, "alice", subject="/C=DE/O=Müller, Söhne/CN=alice")
    make_certificate(make_authority(directory, "strangers"), directory, "mallory")
    return directory


def trust(keys: Path, **versions: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(keys / "ca.pem"))
    for side, version in versions.items():
        setattr(context, f"{side}imum_version", version)
    return context


class TlsClient(Client):
    """A raw connection to the proxy, with TLS by OpenSSL's own sockets."""

    def __init__(
        self,
        port: int,
        context: ssl.SSLContext,
        name: str | None = "shop.test",
        session: ssl.SSLSession | None = None,
    ) -> None:
        super().__init__(port)
        self.tls = context.wrap_socket(self.sock, server_hostname=name, session=session)
        self.sock = self.tls
        self.stream = Stream(self.tls)


@contextlib.contextmanager
def tls_proxy(
    keys: Path, backend: str, env: Mapping[str, str] = {}, files: tuple[str, ...] = ("shop",)
) -> Iterator[tuple[Proxy, int]]:
    port = find_free_port()
    asked = {
        "BLUE": backend,
        "SILLYPROXY_TLS_LISTEN": f"127.0.0.1:{port}",
        "SILLYPROXY_TLS_CERT": ",".join(str(keys / f"{file}.pem") for file in files),
        "SILLYPROXY_TLS_KEY": ",".join(str(keys / f"{file}.key") for file in files),
        **env,
    }
    with serving(asked) as proxy:
        yield proxy, port


def name_on(client: TlsClient) -> str:
    """Return the common name on the certificate that was shown."""
    subject: Any = (client.tls.getpeercert() or {})["subject"]
    return str(dict(rdn[0] for rdn in subject)["commonName"])


def is_served(port: int, context: ssl.SSLContext) -> bool:
    """Ask; raise OSError if there is no connection. TLS 1.3 says so with the first read."""
    client = TlsClient(port, context)
    client.tls.sendall(GET % b"/")
    return client.tls.recv(1) != b""


@contextlib.contextmanager
def scripted(script: Callable[[Exchange], None]) -> Iterator[Origin]:
    origin = Origin()
    origin.restart(script)
    yield origin
    origin.close()
    assert not origin.faults


def answer(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_requests_pass_and_the_backend_knows_that_it_was_tls(keys: Path, version: ssl.TLSVersion) -> None:
    """Keep-alive over TLS 1.2 and 1.3; the backend is told https, the books balance."""
    with scripted(answer) as origin, tls_proxy(keys, origin.url) as (proxy, port):
        client = TlsClient(port, trust(keys, min=version, max=version))
        assert client.tls.version() == version.name.replace("_", ".")
        for number in range(5):
            client.send(GET % b"/%d" % number)
            assert client.read_reply().body == b"ok"
        client.close()
        for seen in origin.requests:
            assert get_values(seen.fields, "x-forwarded-proto") == [b"https"]
        wait_at_rest(proxy)
        counters = read_counters(proxy)
        assert is_balanced(counters)
        assert counters["answered"] == 5


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_versions_and_weak_ciphers_are_refused(keys: Path) -> None:
    """TLS 1.1 is not spoken, nor what Mozilla's profile leaves out; with a minimum of 1.3 not 1.2."""
    with scripted(answer) as origin, tls_proxy(keys, origin.url) as (proxy, port):
        for ciphers in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "DHE-RSA-AES128-GCM-SHA256"):
            context = trust(keys, max=ssl.TLSVersion.TLSv1_2)
            context.set_ciphers(ciphers)
            with pytest.raises((ssl.SSLError, OSError)):
                TlsClient(port, context)
        old = trust(keys)
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, OSError)):
            TlsClient(port, old)
        wait_until(
            lambda: read_metrics(proxy)['sillyproxy_tls_handshakes_total{result="failed"}'] == 4, "4 failures"
        )
    env = {"SILLYPROXY_TLS_MIN": "1.3"}
    with scripted(answer) as origin, tls_proxy(keys, origin.url, env) as (_, port):
        with pytest.raises((ssl.SSLError, OSError)):
            TlsClient(port, trust(keys, max=ssl.TLSVersion.TLSv1_2))
        TlsClient(port, trust(keys)).close()


def test_a_certificate_is_chosen_by_name(keys: Path) -> None:
    """An exact name, then a wild one, then the first; also without any name."""
    with scripted(answer) as origin, tls_proxy(keys, origin.url, files=("shop", "wild")) as (_, port):
        context = trust(keys)
        context.check_hostname = False
        shown = {"shop.test": "shop", "SHOP.test": "shop", "blog.test": "wild", "a.blog.test": "wild"}
        shown |= {"a.b.blog.test": "shop", "other.test": "shop"}
        for name, file in shown.items():
            client = TlsClient(port, context, name)
            assert name_on(client) == file, name
            client.close()
        client = TlsClient(port, context, None)
        assert name_on(client) == "shop"
        client.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_goes_on_in_any_worker(keys: Path, version: ssl.TLSVersion) -> None:
    """Whichever of three workers takes the connection, a session of one of the others is taken up."""
    env = {"SILLYPROXY_WORKERS": "3"}
    with scripted(answer) as origin, tls_proxy(keys, origin.url, env) as (proxy, port):
        context = trust(keys, min=version, max=version)
        session = None
        for number in range(12):
            client = TlsClient(port, context, session=session)
            assert client.tls.session_reused == (number > 0)
            client.send(GET % b"/")
            assert client.read_reply().body == b"ok"
            session = client.tls.session
            client.close()
        counted = 'sillyproxy_tls_handshakes_total{result="%s"}'
        wait_until(lambda: read_metrics(proxy)[counted % "resumed"] == 11, "all of them counted")
        assert read_metrics(proxy)[counted % "full"] == 1


def test_clear_text_is_told_what_is_spoken(keys: Path) -> None:
    """HTTP without TLS gets 400, anything else is closed; neither is a request."""
    with scripted(answer) as origin, tls_proxy(keys, origin.url) as (proxy, port):
        client = Client(port)
        client.send(GET % b"/")
        reply = client.read_reply()
        assert (reply.status, reply.list("connection")) == (400, [b"close"])
        assert b"https://" in reply.body
        client.close()
        client = Client(port)
        client.send(b"\0\1\2\3")
        assert client.wait_end() in ("closed", "reset")
        client.close()
        assert not origin.requests
        assert read_counters(proxy)["accepted"] == 0


def test_a_slow_handshake_ends(keys: Path) -> None:
    """Who says nothing, or half a hello, has the time of a request head; others do not notice."""
    env = {"SILLYPROXY_HEADER_TIMEOUT": "500ms"}
    with scripted(answer) as origin, tls_proxy(keys, origin.url, env) as (proxy, port):
        silent, half = Client(port), Client(port)
        half.send(b"\x16\x03\x01\x02\x00\x01\x00")
        wait_until(lambda: read_metrics(proxy)["sillyproxy_downstream_connections"] == 2, "both")
        quick = TlsClient(port, trust(keys))
        quick.send(GET % b"/")
        assert quick.read_reply().body == b"ok"
        assert silent.wait_end() in ("closed", "reset")
        assert half.wait_end() in ("closed", "reset")
        for client in (silent, half, quick):
            client.close()
        wait_until(lambda: read_metrics(proxy)["sillyproxy_downstream_connections"] == 0, "nobody")


def test_large_bodies_pass_both_ways(keys: Path) -> None:
    """Eight megabytes up and down, byte for byte, and a response to a reader that is slow."""
    body = bytes(range(256)) * (8 * 4096)

    def echo(exchange: Exchange) -> None:
        while exchange.read_some():
            pass
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(exchange.request.body))
        exchange.send(exchange.request.body)

    with scripted(echo) as origin, tls_proxy(keys, origin.url) as (_, port):
        client = TlsClient(port, trust(keys))
        head = b"POST / HTTP/1.1\r\nHost: edge\r\nContent-Length: %d\r\n\r\n" % len(body)
        sender = threading.Thread(target=client.send, args=(head + body,))
        sender.start()
        reply = client.read_reply(b"POST")
        sender.join(PATIENCE_S)
        assert reply.body == body
        client.close()


def test_subject_of_a_client_reaches_the_backend_and_cannot_be_forged(keys: Path) -> None:
    """Who shows a certificate of the authority is named; who claims one is not; strangers get nothing."""
    env = {"SILLYPROXY_TLS_CLIENT_CA": str(keys / "clients.pem"), "SILLYPROXY_TLS_CLIENT_AUTH": "optional"}
    forged = (
        b"GET /%b HTTP/1.1\r\nHost: edge\r\nClient-Cert: :eA==:\r\nX-Client-Cert-Subject: CN=root\r\n"
        b"X-CLIENT-CERT-SUBJECT: CN=root\r\nX-Request-ID: 1\r\n\r\n"
    )
    with scripted(answer) as origin, tls_proxy(keys, origin.url, env) as (proxy, port):
        context = trust(keys)
        context.load_cert_chain(keys / "alice.pem", keys / "alice.key")
        alice, nobody, clear = TlsClient(port, context), TlsClient(port, trust(keys)), Client(proxy.port)
        session = None
        for client, path in ((alice, b"alice"), (nobody, b"nobody"), (clear, b"clear")):
            for request in (forged % path, GET % b"/" + b""):
                client.send(request)
                assert client.read_reply().body == b"ok"
        session = alice.tls.session
        again = TlsClient(port, context, session=session)
        assert again.tls.session_reused
        again.send(GET % b"/again")
        assert again.read_reply().body == b"ok"
        stranger = trust(keys)
        stranger.load_cert_chain(keys / "mallory.pem", keys / "mallory.key")
        with pytest.raises((ssl.SSLError, OSError)):
            is_served(port, stranger)
        for client in (alice, nobody, clear, again):
            client.close()
    seen = [
        [get_values(one.fields, name) for name in ("client-cert", "x-client-cert-subject")]
        for one in origin.requests
    ]
    encoded = b"".join((keys / "alice.pem").read_bytes().split(b"-----")[2].split())
    named = [[b":" + encoded + b":"], [b"CN=alice,O=M\\C3\\BCller\\, S\\C3\\B6hne,C=DE"]]
    assert base64.b64decode(encoded)
    assert seen == [named, named, [[], []], [[], []], [[], []], [[], []], named]


def test_clients_without_a_certificate_are_not_served_where_it_is_required(keys: Path) -> None:
    """TLS 1.3 tells them after the handshake, with the first read."""
    env = {"SILLYPROXY_TLS_CLIENT_CA": str(keys / "clients.pem")}
    with scripted(answer) as origin, tls_proxy(keys, origin.url, env) as (_, port):
        with pytest.raises((ssl.SSLError, OSError)):
            is_served(port, trust(keys))
        assert not origin.requests


def test_clear_text_is_sent_to_tls(keys: Path) -> None:
    """Host, path, query and method stay; who has no Host is told so; HSTS is in what TLS answers alone."""
    env = {
        "SILLYPROXY_TLS_REDIRECT": "308",
        "SILLYPROXY_TLS_REDIRECT_PORT": "8443",
        "SILLYPROXY_TLS_HSTS": "600; includesubdomains",
    }
    with scripted(answer) as origin, tls_proxy(keys, origin.url, env) as (proxy, port):
        client = Client(proxy.port)
        for host, there in ((b"shop.test:80", b"shop.test:8443"), (b"[::1]:80", b"[::1]:8443")):
            client.send(b"POST /a?b=%%2F HTTP/1.1\r\nHost: %b\r\nContent-Length: 2\r\n\r\nhi" % host)
            reply = client.read_reply(b"POST")
            assert reply.status == 308
            assert get_values(reply.fields, "location") == [b"https://%b/a?b=%%2F" % there]
            assert not get_values(reply.fields, "strict-transport-security")
        client.send(b"HEAD / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        assert client.read_reply(b"HEAD").status == 308
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.read_reply().status == 400
        client.close()
        assert not origin.requests
        secure = TlsClient(port, trust(keys))
        secure.send(GET % b"/")
        reply = secure.read_reply()
        assert get_values(reply.fields, "strict-transport-security") == [b"max-age=600; includeSubDomains"]
        secure.close()
        wait_at_rest(proxy)
        assert is_balanced(read_counters(proxy))


def test_a_renewed_certificate_is_shown_and_nothing_is_lost(keys: Path, tmp_path: Path) -> None:
    """
    Files are replaced under load: new connections get the new certificate, old ones stay, no request fails.

    A certificate whose key is not there yet is refused, and the old one goes on.
    """
    cert, key = tmp_path / "edge.pem", tmp_path / "edge.key"
    copy = {"SILLYPROXY_TLS_CERT": str(cert), "SILLYPROXY_TLS_KEY": str(key), "SILLYPROXY_WORKERS": "2"}

    def put(file: str) -> None:
        for here, there in ((keys / f"{file}.key", key), (keys / f"{file}.pem", cert)):
            (tmp_path / "new").write_bytes(here.read_bytes())
            (tmp_path / "new").rename(there)

    put("shop")
    with scripted(answer) as origin, tls_proxy(keys, origin.url, copy) as (proxy, port):
        context = trust(keys)

        def shown() -> bytes | None:
            client = TlsClient(port, context)
            client.send(GET % b"/")
            assert client.read_reply().body == b"ok"
            encoded = client.tls.getpeercert(binary_form=True)
            client.close()
            return encoded

        stays = TlsClient(port, context)
        served = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                served.append(shown())

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        before = shown()
        cert.write_bytes((keys / "new.pem").read_bytes())
        wait_until(lambda: "refused, the old one goes on" in proxy.read_log(), "the refusal")
        assert "the key is not that of the certificate" in proxy.read_log()
        assert shown() == before
        put("new")
        after = ssl.PEM_cert_to_DER_cert((keys / "new.pem").read_text())
        wait_until(lambda: all(shown() == after for _ in range(6)), "the new certificate")
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S)
        stays.send(GET % b"/")
        assert stays.read_reply().body == b"ok"
        stays.close()
        assert {before, after} == set(served)
        expiry = f'sillyproxy_tls_certificate_expiry_timestamp_seconds{{path="{cert}"}}'
        assert read_metrics(proxy)[expiry] > 0


def test_tls_begins_with_a_reload(keys: Path, tmp_path: Path) -> None:
    """A proxy that had no TLS gets it, and loses it again, by its file of settings."""
    port = find_free_port()
    settings = tmp_path / "edge.env"
    settings.write_text("")
    with (
        scripted(answer) as origin,
        serving({"BLUE": origin.url, "SILLYPROXY_ENV_FILE": str(settings)}) as proxy,
    ):
        settings.write_text(
            f"SILLYPROXY_TLS_LISTEN=127.0.0.1:{port}\nSILLYPROXY_TLS_CERT={keys / 'shop.pem'}\n"
            f"SILLYPROXY_TLS_KEY={keys / 'shop.key'}\n"
        )
        wait_until(lambda: "configuration adopted" in proxy.read_log(), "the reload")
        client = TlsClient(port, trust(keys))
        client.send(GET % b"/")
        assert client.read_reply().body == b"ok"
        settings.write_text("")
        wait_until(lambda: "no more listening" in proxy.read_log(), "the end of it")

        def is_refused() -> bool:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                return True
            return False

        wait_until(is_refused, "a closed port")
        client.send(GET % b"/")
        assert client.read_reply().body == b"ok"
        client.close()


def test_curl_and_openssl_agree(keys: Path) -> None:
    """Real clients: curl takes it for verified, and s_client finds a resumed session."""
    with scripted(answer) as origin, tls_proxy(keys, origin.url) as (_, port):
        there = ["--resolve", f"shop.test:{port}:127.0.0.1", f"https://shop.test:{port}/"]
        done = subprocess.run(
            ["curl", "-sS", "--cacert", keys / "ca.pem", "-w", "%{ssl_verify_result} %{http_code}", *there],
            capture_output=True,
            check=True,
            timeout=30,
        )
        assert done.stdout == b"ok0 200"
        said = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-reconnect", "-no_ticket", "-tls1_2"],
            input=b"",
            capture_output=True,
            timeout=30,
            check=False,
        ).stdout
        assert b"Secure Renegotiation IS supported" in said
