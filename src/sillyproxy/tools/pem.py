"""
Certificates and keys as OpenSSL takes them, from memory.

`ssl` is imported only where there is something to read: what the supervisor imports is in the
memory of every worker.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import ssl

# TLS 1.2 with a key agreed on anew for each connection, and authenticated encryption: what is left
# of Mozilla's intermediate profile without DHE. TLS 1.3 has no others.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

_NEVER_EXPIRES: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME


class Unusable(Exception):
    """A certificate, its key or an authority cannot be used. The message is for the operator."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a certificate says: the host names it is for, and its end; seconds since 1970."""

    names: tuple[str, ...]
    not_after: int


def make_server_context() -> ssl.SSLContext:
    """Return a server's context without a certificate, for TLS 1.2 and newer."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context


def make_client_context(
    ca: bytes, *, verify: bool, chain: bytes, key: bytes, minimum: str, protocols: list[str]
) -> ssl.SSLContext:
    """
    Return a client's context that trusts `ca`, or the system's authorities if it is empty. Raise Unusable.

    Without `verify` it believes whoever answers. It shows `chain`, if there is one, and offers to speak
    one of `protocols` (ALPN).
    """
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if minimum == "1.3" else ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca:
        load_authorities(context, ca)
    else:
        context.load_default_certs()
    if chain:
        load_pair(context, chain, key)
    context.set_alpn_protocols(protocols)
    return context


def why_failed(error: OSError) -> tuple[bool, str]:
    """Tell whether it was a certificate that a handshake failed for, and in a few words what was wrong."""
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        return True, f"certificate: {error.verify_message}".rstrip(".")
    if isinstance(error, ssl.SSLError):
        return False, f"TLS: {(error.reason or 'failed').replace('_', ' ').lower()}"
    return False, "TLS: closed during the handshake"


def load_pair(context: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    """Have `context` show this certificate. Raise Unusable."""
    import ssl

    def refuse_password() -> bytes:
        raise Unusable("the key is encrypted; decrypt it, a proxy that starts by itself has no password")

    try:
        with _file_of(chain + b"\n" + key) as path:
            context.load_cert_chain(path, password=refuse_password)
    except ssl.SSLError as error:
        raise Unusable(_say(error)) from None


def load_authorities(context: ssl.SSLContext, pem: bytes) -> None:
    """Have `context` trust these authorities, and ask for certificates of theirs. Raise Unusable."""
    import ssl

    try:
        with _file_of(pem) as path:
            context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise Unusable(_say(error)) from None


def read_facts(chain: bytes, key: bytes) -> Facts:
    """
    Return what a certificate says. Raise Unusable if it cannot be shown, or has another key.

    The only way to have a certificate read by `ssl` is to be shown it, in a handshake with ourselves.
    """
    import ssl

    server = make_server_context()
    load_pair(server, chain, key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(_NEVER_EXPIRES)
    load_authorities(client, chain)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server)
    try:
        for side in (theirs, ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    except ssl.SSLError as error:
        raise Unusable(_say(error)) from None
    said: dict[str, Any] = dict(theirs.getpeercert() or {})
    names = tuple(value.lower() for kind, value in said.get("subjectAltName", ()) if kind == "DNS")
    return Facts(names, int(ssl.cert_time_to_seconds(said["notAfter"])))


@contextmanager
def _file_of(content: bytes) -> Iterator[str]:
    """Return a path of what is in memory alone: `ssl` takes keys from files only."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


_REASONS: Final = {
    "KEY_VALUES_MISMATCH": "the key is not that of the certificate",
    "KEY_TYPE_MISMATCH": "the key is not that of the certificate",
    "PEM": "no certificate and private key in PEM",
    "NO_START_LINE": "no certificate and private key in PEM",
    "NO_CERTIFICATE_OR_CRL_FOUND": "no certificate in PEM",
    "BAD_BASE64_DECODE": "damaged PEM",
    "BAD_END_LINE": "damaged PEM",
    "EE_KEY_TOO_SMALL": "the key is too small to be safe; use ECDSA P-256, or RSA with 2048 bits or more",
    "CA_MD_TOO_WEAK": "signed with a hash that is not safe any more; use SHA-256",
}


def _say(error: ssl.SSLError) -> str:
    """Return in words what OpenSSL does not like."""
    reason = error.reason or "PEM"
    return _REASONS.get(reason) or reason.replace("_", " ").lower()
