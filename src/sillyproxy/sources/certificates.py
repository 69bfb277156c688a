"""
The files of certificates and keys, read and tried when the configuration is.

What is wrong with one is told with all else that is wrong. Their content is part of the
configuration: a certificate that was renewed is a change like any other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from sillyproxy.config import ColorCredentials, Credentials, Problem
from sillyproxy.config.schema import Certificate, Origin
from sillyproxy.config.values import mask, printable, read_paths
from sillyproxy.sources import files
from sillyproxy.tools import pem

CERT: Final = "SILLYPROXY_TLS_CERT"
KEY: Final = "SILLYPROXY_TLS_KEY"
CLIENT_CA: Final = "SILLYPROXY_TLS_CLIENT_CA"
_COLOR_FILES: Final = re.compile(r"(?!SILLYPROXY_)([A-Z0-9_]+)_TLS_(?:CA|CERT|KEY)")

# A Config travels in one packet to each worker, and this with it (`config.parse.MAX_TEXTS`).
MAX_BYTES: Final = 64 * 1024
WARN_DAYS: Final = 14


def paths_of(draft: Mapping[str, Origin]) -> tuple[str, ...]:
    """Return the files that the draft names, for who watches them."""
    names = [f"{color}_TLS_{what}" for color in _colors(draft) for what in ("CA", "CERT", "KEY")]
    return tuple(path for name in (CERT, KEY, CLIENT_CA, *names) for path in _paths(draft, name))


def _colors(draft: Mapping[str, Origin]) -> list[str]:
    """Return the variables of the colors that have files and a URL."""
    found = {match[1]: None for name in draft if (match := _COLOR_FILES.fullmatch(name))}
    return [color for color in found if color in draft]


def read_credentials(draft: Mapping[str, Origin], now_s: float) -> Credentials:
    """Return what is in the files that the draft names, at `now_s`, seconds since 1970. Never raises."""
    return _Reader(draft, now_s).read()


def _paths(draft: Mapping[str, Origin], name: str) -> Sequence[str]:
    """Return the files of a setting; none if it names them wrongly, as `config.load` will say."""
    if name not in draft:
        return ()
    try:
        return read_paths(draft[name].text)
    except ExceptionGroup:
        return ()


class _Reader:
    def __init__(self, draft: Mapping[str, Origin], now_s: float) -> None:
        self._draft = draft
        self._now_s = now_s
        self._problems: list[Problem] = []
        self._warnings: list[Problem] = []
        self._left = MAX_BYTES

    def read(self) -> Credentials:
        certs, keys = _paths(self._draft, CERT), _paths(self._draft, KEY)
        certificates = []
        if KEY not in self._draft:
            keys = certs
        if len(keys) == len(certs):
            for cert_path, key_path in zip(certs, keys, strict=True):
                certificate = self._certificate(cert_path, key_path)
                if certificate is not None:
                    certificates.append(certificate)
        client_ca = self._all_authorities(CLIENT_CA)
        colors = {color: self._color(color) for color in _colors(self._draft)}
        return Credentials(
            tuple(certificates), client_ca, colors, tuple(self._problems), tuple(self._warnings)
        )

    def _color(self, color: str) -> ColorCredentials:
        cert, key = f"{color}_TLS_CERT", f"{color}_TLS_KEY"
        shown = None
        for path in _paths(self._draft, cert)[:1]:
            shown = self._certificate(path, (*_paths(self._draft, key), path)[0], cert, key)
        ca = self._all_authorities(f"{color}_TLS_CA")
        return ColorCredentials(ca, *((shown.chain, shown.key) if shown else ()))

    def _certificate(
        self, cert_path: str, key_path: str, cert: str = CERT, key_name: str = KEY
    ) -> Certificate | None:
        chain = self._content(cert, cert_path)
        key = self._content(key_name, key_path) if key_path != cert_path else b""
        if chain is None or key is None:
            return None
        try:
            facts = pem.read_facts(chain, key)
        except pem.Unusable as error:
            self._problem(cert, f"{printable(cert_path)}: {error}")
            return None
        left_s = facts.not_after - self._now_s
        if left_s < WARN_DAYS * 86400:
            end = datetime.fromtimestamp(facts.not_after, UTC).strftime("%Y-%m-%d %H:%M UTC")
            verb = "has ended" if left_s <= 0 else "ends"
            self._warnings.append(self._note(cert, f"{printable(cert_path)} {verb} at {end}; renew it"))
        return Certificate(cert_path, facts.names, facts.not_after, chain, key)

    def _all_authorities(self, name: str) -> bytes:
        return b"\n".join(self._authorities(name, path) for path in _paths(self._draft, name))

    def _authorities(self, name: str, path: str) -> bytes:
        content = self._content(name, path)
        if content is None:
            return b""
        try:
            pem.load_authorities(pem.make_server_context(), content)
        except pem.Unusable as error:
            self._problem(name, f"{printable(path)}: {error}")
        return content

    def _content(self, name: str, path: str) -> bytes | None:
        try:
            content = files.read_file(path)
        except files.CannotRead as error:
            self._problem(name, f"{printable(path)}: {error}")
            return None
        if len(content) > self._left:
            self._problem(name, f"with {printable(path)}, all PEM files are longer than {MAX_BYTES} bytes")
            return None
        self._left -= len(content)
        return content

    def _problem(self, name: str, reason: str) -> None:
        self._problems.append(self._note(name, reason))

    def _note(self, name: str, reason: str) -> Problem:
        origin = self._draft[name]
        return Problem(name, mask(name, origin.text), origin.source, reason)
