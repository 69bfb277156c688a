"""The PROXY header: what is one, what is none, and what is not whole yet."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillyproxy.tools.proxied import MAX_V2, SIGNATURE, NoHeader, read_header, write_header


def v2(command: int, family: int, addresses: bytes, size: int | None = None) -> bytes:
    length = len(addresses) if size is None else size
    return SIGNATURE + struct.pack(">BBH", command, family, length) + addresses


FOUR = bytes((192, 0, 2, 1, 192, 0, 2, 2)) + b"\x13\x88\0\x50"
SIX = socket.inet_pton(socket.AF_INET6, "2001:db8::1") + bytes(16) + b"\x13\x88\0\x50"


@pytest.mark.parametrize(
    ("data", "size", "ip"),
    [
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n", 40, "192.0.2.1"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\nGET / HTTP/1.1\r\n", 40, "192.0.2.1"),
        (b"PROXY TCP6 2001:DB8::1 ::1 5000 80\r\n", 36, "2001:db8::1"),
        (b"PROXY UNKNOWN\r\n", 15, ""),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", 35, ""),
        (v2(0x21, 0x11, FOUR), 28, "192.0.2.1"),
        (v2(0x21, 0x11, FOUR) + b"GET", 28, "192.0.2.1"),
        (v2(0x21, 0x11, FOUR + b"\x04\0\x01x"), 32, "192.0.2.1"),
        (v2(0x21, 0x21, SIX), 52, "2001:db8::1"),
        (v2(0x20, 0x11, FOUR), 28, ""),
        (v2(0x20, 0, b""), 16, ""),
        (v2(0x21, 0, b""), 16, ""),
        (v2(0x21, 0x31, bytes(216)), 232, ""),
    ],
)
def test_header(data: bytes, size: int, ip: str) -> None:
    assert read_header(data) == (size, ip)
    for cut in range(1, size):
        assert read_header(data[:cut]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 5000\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\n",
        b"PROXY TCP4 192.0.2.256 192.0.2.2 5000 80\r\n",
        b"PROXY TCP4 ::1 ::1 5000 80\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 5000 80\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 65536\r\n",
        b"PROXY TCP4 192.0.2.1  192.0.2.2 5000 80\r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 5000 80\r\n",
        b"proxy TCP4 192.0.2.1 192.0.2.2 5000 80\r\n",
        b"PROXY UNKNOWN" + b" " * 100 + b"\r\n",
        b"PROXY UNKNOWN" + b"x" * 120,
        v2(0x11, 0x11, FOUR),
        v2(0x22, 0x11, FOUR),
        v2(0x21, 0x11, FOUR[:8]),
        v2(0x21, 0x21, FOUR),
        v2(0x21, 0x11, FOUR, MAX_V2),
    ],
)
def test_no_header(data: bytes) -> None:
    with pytest.raises(NoHeader):
        read_header(data)


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    """A header, none, or not whole yet; never anything else."""
    for start in (b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\0\x0c"):
        whole = start + data
        try:
            found = read_header(whole)
        except NoHeader:
            continue
        assert found is None or 0 < found[0] <= len(whole)


@given(st.ip_addresses(), st.ip_addresses(), st.integers(0, 65535), st.integers(0, 65535))
def test_what_is_written_is_read(client: object, server: object, port: int, other: int) -> None:
    same = (":" in str(client)) == (":" in str(server))
    shown = str(getattr(client, "ipv4_mapped", None) or client)
    for version in ("v1", "v2"):
        data = write_header(version, str(client), port, (str(server), other))
        assert read_header(data) == (len(data), shown if same else "")
        assert read_header(write_header(version, "", 0, None)) == (15 if version == "v1" else 16, "")
