"""Field blocks: read as an independent decoder reads them, written so that it reads what was meant."""

from __future__ import annotations

import secrets

import hpack
import pytest
from fuzz.hpack_blocks import Blocks, disagreement
from hypothesis import given
from hypothesis import strategies as st

from sillyproxy.http2.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, ConnectionProblem
from sillyproxy.http2.hpack import FieldBlocks, survey, write_field, write_status

NAMES = st.from_regex(rb"[a-z0-9-]{1,40}", fullmatch=True)
VALUES = st.binary(max_size=400)


def test_blocks_are_read_as_another_decoder_reads_them() -> None:
    """Twenty thousand connections' blocks, half of them broken somewhere."""
    seed = secrets.randbits(32)
    blocks = Blocks(seed)
    for number in range(20_000):
        found = disagreement(blocks.connection())
        assert not found, f"seed {seed}, connection {number}: {found}"


@given(st.lists(st.tuples(NAMES, VALUES), max_size=20), st.sampled_from([200, 204, 206, 299, 404, 500, 999]))
def test_what_is_written_is_read_as_meant(fields: list[tuple[bytes, bytes]], status: int) -> None:
    code = b"%d" % status
    block = write_status(code) + b"".join(write_field(name, value) for name, value in fields)
    read = [tuple(field) for field in hpack.Decoder(1 << 20).decode(block, raw=True)]
    assert read == [(b":status", code), *fields]
    assert survey(block) == (True, [])


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(block: bytes) -> None:
    """What is not well-formed never reaches the decoder, and nothing else than a refusal comes out."""
    code = 0
    try:
        FieldBlocks(1000).read(block)
    except ConnectionProblem as problem:
        code = problem.code
    assert code in (0, COMPRESSION_ERROR, ENHANCE_YOUR_CALM)


@pytest.mark.parametrize(
    ("block", "steady"),
    [
        (b"\x82\x84", True),
        (b"\x0f\x0d\x015", True),
        (b"\x10\x01a\x01b", True),
        (b"\x40\x01a\x01b", False),
        (b"\x20\x82", False),
    ],
)
def test_steady_blocks_leave_the_table(block: bytes, steady: bool) -> None:
    reader = FieldBlocks(1000)
    reader.read(block)
    assert reader.is_steady is steady


def test_list_that_is_too_large_is_a_bomb() -> None:
    reader = FieldBlocks(1000)
    with pytest.raises(ConnectionProblem) as caught:
        reader.read(b"\x40\x01a\x64" + b"b" * 100 + b"\xbe" * 50)
    assert caught.value.code == ENHANCE_YOUR_CALM
