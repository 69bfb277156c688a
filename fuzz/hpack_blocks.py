"""
Field blocks of HTTP/2 (RFC 7541), well-formed and not, for two decoders that must say the same.

The other one is the `hpack` library. `python -m fuzz.hpack_blocks SECONDS` goes on for so long.
"""

from __future__ import annotations

import secrets
import sys
import time
from random import Random

import hpack
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from sillyproxy.http2.frames import ConnectionProblem
from sillyproxy.http2.hpack import FieldBlocks

MAX_LIST_BYTES = 65536

_HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
_LENGTHS = (0, 1, 2, 5, 9, 30, 130, 300)
_PREFIXES = ((0x40, 6), (0x40, 6), (0, 4), (0, 4), (0x10, 4))


class Blocks:
    """Makes the blocks of connections, by a seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311  (no secret)

    def connection(self) -> list[bytes]:
        """Return some blocks that come one after the other."""
        return [self._block() for _ in range(self._random.randrange(1, 5))]

    def _block(self) -> bytes:
        random = self._random
        block = b"".join(self._field() for _ in range(random.randrange(6)))
        if block and random.random() < 0.3:
            at = random.randrange(len(block))
            block = block[:at] + random.randbytes(1) + block[at + 1 :]
        if random.random() < 0.1:
            block = block[: random.randrange(len(block) + 1)]
        return block

    def _field(self) -> bytes:
        random = self._random
        index = random.choice(
            (0, random.randrange(1, 62), random.randrange(1, 70), random.randrange(62, 300))
        )
        kind = random.random()
        if kind < 0.4:
            return self._number(index, 7, 0x80)
        if kind < 0.5:
            return self._number(random.choice((0, 10, 100, 4096, 4097, 5000)), 5, 0x20)
        flag, bits = random.choice(_PREFIXES)
        name = b"" if index else self._string()
        return self._number(index, bits, flag) + name + self._string()

    def _string(self) -> bytes:
        random = self._random
        size = random.choice(_LENGTHS)
        text = bytes(
            random.randrange(256) if random.random() < 0.1 else random.choice(b"abc-xyz/0123 %")
            for _ in range(size)
        )
        kind = random.random()
        if kind < 0.4:
            return self._number(len(text), 7, 0) + text
        coded = _HUFFMAN.encode(text) if kind < 0.85 else random.randbytes(random.randrange(8))
        return self._number(len(coded), 7, 0x80) + coded

    def _number(self, number: int, bits: int, flag: int) -> bytes:
        most = (1 << bits) - 1
        if number < most:
            return bytes((flag | number,))
        out = [flag | most]
        number -= most
        while number >= 128:
            out.append(number % 128 + 128)
            number //= 128
        out.append(number)
        if self._random.random() < 0.02:
            out[-1] |= 0x80
            out.append(0)
        return bytes(out)


def disagreement(blocks: list[bytes]) -> str:
    """Return what the two make of the blocks of one connection, if it is not the same; else nothing."""
    ours, theirs = FieldBlocks(MAX_LIST_BYTES), hpack.Decoder(MAX_LIST_BYTES)
    theirs.max_allowed_table_size = 4096
    for block in blocks:
        here = there = None
        try:
            here = ours.read(block)
        except ConnectionProblem as problem:
            why = problem.reason
        try:
            there = [tuple(field) for field in theirs.decode(block, raw=True)]
        except hpack.HPACKError as problem:
            why = repr(problem)
        if here != there:
            reason = why if None in (here, there) else ""
            return f"{block!r} of {blocks!r}: {here} here, {there} there ({reason})"
        if here is None:
            break
    return ""


def main() -> None:
    """Compare for some time."""
    seed = secrets.randbits(32)
    blocks = Blocks(seed)
    end = time.monotonic() + float(sys.argv[1])
    number = 0
    while time.monotonic() < end:
        found = disagreement(blocks.connection())
        number += 1
        if found:
            sys.exit(f"seed {seed}, connection {number}: {found}")
    print(f"field blocks of {number} connections are read as the hpack library reads them (seed {seed})")


if __name__ == "__main__":
    main()
