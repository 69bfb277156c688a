"""The little WebSocket and the percentiles of the benchmark's own load."""

from __future__ import annotations

import pytest
from bench.load import pick_percentile
from bench.origin import accept_key, build_frame, read_frames


def test_accept_key_is_the_standards_example() -> None:
    """
    The handshake is a real one (RFC 6455, 1.3).
    """
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("size", [0, 1, 125, 126, 5000])
@pytest.mark.parametrize("mask", [None, b"\x01\x02\x03\x04"])
def test_message_survives_its_frame(size: int, mask: bytes | None) -> None:
    """
    What one side says is what the other side hears, masked or not, short or long.
    """
    message = bytes(index % 251 for index in range(size))

    assert read_frames(bytearray(build_frame(0x82, message, mask))) == [(0x82, message)]


def test_frame_that_has_not_come_whole_is_left_for_later() -> None:
    """
    A message cut by the network is put together, not misread.
    """
    whole = build_frame(0x82, b"hello", b"abcd") + build_frame(0x82, b"world", b"efgh")
    buffer = bytearray()
    heard = []
    for byte in whole:
        buffer.append(byte)
        heard += read_frames(buffer)

    assert heard == [(0x82, b"hello"), (0x82, b"world")]


def test_masked_frame_is_the_standards_example() -> None:
    """
    Masking is as the standard has it (RFC 6455, 5.7).
    """
    frame = bytes.fromhex("818537fa213d7f9f4d5158")

    assert (build_frame(0x81, b"Hello", bytes.fromhex("37fa213d")), read_frames(bytearray(frame))) == (
        frame,
        [(0x81, b"Hello")],
    )


def test_percentiles_of_few_values_are_among_them() -> None:
    """
    The p99 of three downloads is the slowest of them, not an invention between two.
    """
    values = [1.0, 2.0, 9.0]

    assert [pick_percentile(values, percent) for percent in (50, 99, 100)] == [2.0, 9.0, 9.0]
