"""
Who a client is by its certificate, as fields for the backend.

`Client-Cert` is the certificate itself (RFC 9440, 2.2), `X-Client-Cert-Subject` its subject as
RFC 4514 writes one. Clients cannot send either: `http1.forward` drops them.
"""

from __future__ import annotations

import re
import ssl
from base64 import b64encode
from typing import Final

# RFC 4514, 3: names of attributes that have a short one.
_SHORT: Final = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
_SPECIAL: Final = re.compile(r'["+,;<>\\]|^[ #]| $')


def identity_fields(session: ssl.SSLObject) -> bytes:
    """Return the fields that say whose certificate was shown and verified; empty if none was."""
    encoded = session.getpeercert(binary_form=True)
    if not encoded:
        return b""
    subject = (session.getpeercert() or {}).get("subject", ())
    return b"\r\nClient-Cert: :%b:\r\nX-Client-Cert-Subject: %b" % (
        b64encode(encoded),
        _name(subject),  # type: ignore[arg-type]
    )


def _name(rdns: tuple[tuple[tuple[str, str], ...], ...]) -> bytes:
    """
    Return a name, the most specific part first, as RFC 4514, 2 has it.

    >>> _name(((("countryName", "DE"),), (("commonName", "a, b"),)))
    b'CN=a\\\\, b,C=DE'
    """
    parts = [
        "+".join(f"{_SHORT.get(key, key)}={_escape(value)}" for key, value in rdn) for rdn in reversed(rdns)
    ]
    return ",".join(parts).encode()


def _escape(value: str) -> str:
    value = _SPECIAL.sub(lambda match: f"\\{match[0]}", value)
    # What is not visible ASCII would not pass everywhere, or be a line of its own (RFC 4514, 2.4).
    return "".join(
        char if " " <= char <= "~" else "".join(f"\\{byte:02X}" for byte in char.encode()) for char in value
    )
