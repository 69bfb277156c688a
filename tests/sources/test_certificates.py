"""Files of certificates and keys: what is wrong with them is told at once, by file and variable."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from tests.wire.certificates import make_authority, make_certificate

from sillyproxy import sources
from sillyproxy.config import ConfigError, Problem
from sillyproxy.config.schema import Config


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with certificates, good and bad."""
    directory = tmp_path_factory.mktemp("keys")
    authority = make_authority(directory)
    make_certificate(authority, directory, "shop", "DNS:Shop.test,DNS:*.shop.test")
    make_certificate(authority, directory, "soon", "DNS:soon.test", days=3)
    (directory / "both.pem").write_bytes(
        (directory / "shop.pem").read_bytes() + (directory / "shop.key").read_bytes()
    )
    (directory / "text.pem").write_text("no PEM at all\n")
    (directory / "large.pem").write_text("#" * 70_000)
    return directory


def load(keys: Path, cert: str, key: str = "", **more: str) -> tuple[Config, tuple[Problem, ...]]:
    def paths(names: str) -> str:
        return ",".join(str(keys / name) for name in names.split(",") if name)

    environ = {"BLUE": "http://a", "SILLYPROXY_TLS_LISTEN": ":8443", "SILLYPROXY_TLS_CERT": paths(cert)}
    return sources.load(environ | {"SILLYPROXY_TLS_KEY": paths(key)} | more, colors=(), listen=None, cpus=1)


def refusals(keys: Path, cert: str, key: str = "", **more: str) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        load(keys, cert, key, **more)
    return [(problem.name, problem.reason.replace(f"{keys}/", "")) for problem in caught.value.problems]


@pytest.mark.parametrize(("cert", "key"), [("shop.pem", "shop.key"), ("both.pem", "")])
def test_a_certificate_is_read_with_its_names_and_its_end(keys: Path, cert: str, key: str) -> None:
    """The key may be in a file of its own or with the certificate; neither is shown."""
    config, warnings = load(keys, cert, key)
    (certificate,) = config.tls.certificates
    assert certificate.names == ("shop.test", "*.shop.test")
    assert 29 * 86400 < certificate.not_after - time.time() <= 30 * 86400
    assert "PRIVATE" not in repr(config)
    assert not warnings


def test_a_certificate_near_its_end_is_a_warning(keys: Path) -> None:
    """Two weeks before, at every start and reload."""
    _, warnings = load(keys, "soon.pem", "soon.key")
    (warning,) = warnings
    assert warning.name == "SILLYPROXY_TLS_CERT"
    assert "soon.pem ends at 20" in warning.reason


@pytest.mark.parametrize(
    ("cert", "key", "reason"),
    [
        ("shop.pem", "soon.key", "shop.pem: the key is not that of the certificate"),
        ("shop.pem", "", "shop.pem: no certificate and private key in PEM"),
        ("text.pem", "shop.key", "text.pem: no certificate and private key in PEM"),
        ("none.pem", "shop.key", "none.pem: no such file or directory"),
        ("large.pem", "shop.key", "with large.pem, all PEM files are longer than 65536 bytes"),
    ],
)
def test_what_cannot_be_used_is_refused(keys: Path, cert: str, key: str, reason: str) -> None:
    """The problem names the file and what is wrong with it."""
    assert refusals(keys, cert, key) == [("SILLYPROXY_TLS_CERT", reason)]


def test_every_problem_at_once(keys: Path) -> None:
    """Two bad certificates, a bad authority and a bad weight are four problems of one start."""
    told = refusals(
        keys,
        "text.pem,none.pem",
        "shop.key,soon.key",
        BLUE_WEIGHT="heavy",
        SILLYPROXY_TLS_CLIENT_CA=str(keys / "text.pem"),
    )
    assert sorted(name for name, _ in told) == [
        "BLUE_WEIGHT",
        "SILLYPROXY_TLS_CERT",
        "SILLYPROXY_TLS_CERT",
        "SILLYPROXY_TLS_CLIENT_CA",
    ]


def test_an_encrypted_key_is_refused_without_asking(keys: Path, tmp_path: Path) -> None:
    """Nobody is there to type a password."""
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", keys / "shop.key", "-out", locked, "-passout", "pass:secret"],
        check=True,
        capture_output=True,
    )
    (told,) = refusals(keys, "shop.pem", str(locked))
    assert "the key is encrypted" in told[1]


def test_keys_and_certificates_come_in_pairs(keys: Path) -> None:
    """One key for two certificates says nothing about whose it is."""
    (told,) = refusals(keys, "shop.pem,soon.pem", "shop.key")
    assert told[0] == "SILLYPROXY_TLS_KEY"
    assert told[1].startswith("1 for 2 of SILLYPROXY_TLS_CERT")


def test_tls_needs_a_certificate_and_a_port_of_its_own(keys: Path) -> None:
    """Neither the clear text's nor the admin listener's; without any listener there is nothing to serve."""
    assert [name for name, _ in refusals(keys, "")] == ["SILLYPROXY_TLS_CERT"]
    taken = refusals(keys, "both.pem", SILLYPROXY_TLS_LISTEN=":8080,:9080")
    assert [name for name, _ in taken] == ["SILLYPROXY_TLS_LISTEN", "SILLYPROXY_ADMIN"]
    nothing = refusals(keys, "both.pem", SILLYPROXY_TLS_LISTEN="", SILLYPROXY_LISTEN="off")
    assert [name for name, _ in nothing] == ["SILLYPROXY_LISTEN"]
    config, _ = load(keys, "both.pem", SILLYPROXY_LISTEN="off")
    assert not config.listeners
    assert [str(listener) for listener in config.tls.listeners] == [":8443"]


def test_a_change_of_a_file_is_seen(keys: Path, tmp_path: Path) -> None:
    """The files that are watched are those that the configuration names, wherever it does."""
    settings = tmp_path / "edge.env"
    settings.write_text(f"SILLYPROXY_TLS_CERT={tmp_path / 'edge.pem'}\n")
    (tmp_path / "edge.pem").write_bytes((keys / "both.pem").read_bytes())
    environ = {"SILLYPROXY_ENV_FILE": str(settings)}
    watched = sources.find_certificates(environ)
    assert watched == (str(tmp_path / "edge.pem"),)
    before = sources.fingerprint(environ, watched)
    assert before == sources.fingerprint(environ, watched)
    (tmp_path / "edge.pem").write_bytes((keys / "soon.pem").read_bytes())
    assert before != sources.fingerprint(environ, watched)
