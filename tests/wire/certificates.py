"""Authorities and certificates for tests, made by the real openssl(1)."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    cert: Path
    key: Path


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def make_authority(directory: Path, name: str = "ca") -> Pair:
    """Make an authority."""
    pair = Pair(directory / f"{name}.pem", directory / f"{name}.key")
    _openssl(
        "req", "-x509", *_KEY, "-keyout", pair.key, "-out", pair.cert, "-days", "30", "-subj", f"/CN={name}"
    )
    return pair


def make_certificate(
    authority: Pair, directory: Path, file: str, names: str = "", *, subject: str = "", days: int = 30
) -> Pair:
    """Make a certificate for `names` (`DNS:a.test,IP:127.0.0.1`), which ends in so many days."""
    pair = Pair(directory / f"{file}.pem", directory / f"{file}.key")
    request = directory / f"{file}.csr"
    _openssl(
        "req", "-new", *_KEY, "-utf8", "-keyout", pair.key, "-out", request, "-subj", subject or f"/CN={file}"
    )
    extensions = directory / f"{file}.ext"
    extensions.write_text(f"subjectAltName={names}\n" if names else "basicConstraints=CA:FALSE\n")
    _openssl(
        *("x509", "-req", "-in", request, "-CA", authority.cert, "-CAkey", authority.key, "-CAcreateserial"),
        *("-out", pair.cert, "-days", str(days), "-extfile", extensions),
    )
    return pair
