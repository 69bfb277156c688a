"""
The header of the PROXY protocol, read and written (HAProxy's `proxy-protocol.txt`, 2.1 and 2.2).
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct
from typing import Final

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
LONGEST_V1: Final = 107
# The addresses of IPv6 and what else may be told (TLVs); the standard wants 520 bytes at least.
MAX_V2: Final = 4096

_V1: Final = re.compile(
    rb"PROXY (?:UNKNOWN[^\r\n]*|TCP4 ([0-9.]{7,15}) ([0-9.]{7,15}) ([0-9]{1,5}) ([0-9]{1,5})"
    rb"|TCP6 ([0-9a-fA-F:.]{2,39}) ([0-9a-fA-F:.]{2,39}) ([0-9]{1,5}) ([0-9]{1,5}))\r\n"
)
_V2: Final = Struct(">12sBBH")
_SIZES: Final = {socket.AF_INET: 12, socket.AF_INET6: 36}
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21


class NoHeader(Exception):
    """What a connection begins with is no PROXY header. The text says why."""


def read_header(data: bytes) -> tuple[int, str] | None:
    """
    Return a header's size, and the client's address, empty if it does not say; None if it is not whole yet.

    Raise NoHeader.

    >>> read_header(b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\\r\\nGET")
    (40, '192.0.2.1')
    """
    if data.startswith(SIGNATURE):
        return _read_v2(data)
    if data.startswith(b"PROXY "):
        match = _V1.match(data)
        if match is not None and match.end() <= LONGEST_V1:
            source, _, *ports = (match[1], match[2], match[3], match[4]) if match[1] else match.groups()[4:]
            return match.end(), _address(source, ports, 4 if match[1] else 6) if source else ""
        if match is not None or len(data) >= LONGEST_V1 or b"\n" in data:
            raise NoHeader("a malformed PROXY line")
        return None
    if SIGNATURE.startswith(data[: len(SIGNATURE)]) or b"PROXY ".startswith(data[:6]):
        return None
    raise NoHeader("neither version of it")


def _address(source: bytes, ports: list[bytes], version: int) -> str:
    try:
        address = ip_address(source.decode())
    except ValueError:
        raise NoHeader("an address that is none") from None
    if address.version != version or any(int(port) > 65535 for port in ports):
        raise NoHeader("an address or a port that is none")
    return _text(address)


def _text(address: IPv4Address | IPv6Address) -> str:
    """Return an address; an IPv4 client of a dual-stack socket in its own notation."""
    return str((address.ipv4_mapped if address.version == 6 else None) or address)


def _read_v2(data: bytes) -> tuple[int, str] | None:
    if len(data) < _V2.size:
        return None
    _, command, family, size = _V2.unpack_from(data)
    if command not in (_LOCAL, _PROXY):
        raise NoHeader("an unknown version or command")
    end = _V2.size + size
    if end > MAX_V2:
        raise NoHeader("a header that is too long")
    if len(data) < end:
        return None
    if command == _LOCAL:
        return end, ""
    if family == _TCP4 and size >= _SIZES[socket.AF_INET]:
        return end, _text(IPv4Address(data[16:20]))
    if family == _TCP6 and size >= _SIZES[socket.AF_INET6]:
        return end, _text(IPv6Address(data[16:32]))
    if family >> 4 in (1, 2) and family & 0xF == 1:
        raise NoHeader("addresses that are cut off")
    return end, ""


def write_header(version: str, client: str, client_port: int, server: tuple[str, int] | None) -> bytes:
    """Return the header for a client, whose address may not be known (empty), and where it connected to."""
    if client and server and (":" in client) == (":" in server[0]):
        six = ":" in client
        if version == "v1":
            kind = b"TCP6" if six else b"TCP4"
            return b"PROXY %b %b %b %d %d\r\n" % (
                kind, client.encode(), server[0].encode(), client_port, server[1],
            )  # fmt: skip
        family = socket.AF_INET6 if six else socket.AF_INET
        addresses = socket.inet_pton(family, client) + socket.inet_pton(family, server[0])
        ports = client_port.to_bytes(2, "big") + server[1].to_bytes(2, "big")
        head = _V2.pack(SIGNATURE, _PROXY, _TCP6 if six else _TCP4, _SIZES[family])
        return head + addresses + ports
    return b"PROXY UNKNOWN\r\n" if version == "v1" else _V2.pack(SIGNATURE, _LOCAL, 0, 0)
