"""Where a WebSocket's frames begin and end, however its bytes come."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side

from sillyproxy.proxy.websocket import GOING_AWAY, GOING_AWAY_MASKED, Frames

# Both sides of where the length takes two bytes, and eight, more (RFC 6455, 5.2).
LENGTHS = st.sampled_from([0, 1, 2, 125, 126, 127, 128, 65535, 65536, 70000]) | st.integers(0, 300)


data_frames = st.builds(
    Frame, st.sampled_from([Opcode.CONT, Opcode.TEXT, Opcode.BINARY]), LENGTHS.map(bytes), st.booleans()
)
control_frames = st.builds(Frame, st.sampled_from([Opcode.PING, Opcode.PONG]), st.integers(0, 125).map(bytes))


@st.composite
def frames(draw: st.DrawFn) -> tuple[bytes, list[int]]:
    """Return the bytes of some frames, made by `websockets`, and where each ends."""
    some = draw(st.lists(data_frames | control_frames, min_size=1, max_size=6))
    pieces = [frame.serialize(mask=draw(st.booleans())) for frame in some]
    return b"".join(pieces), list(accumulate(map(len, pieces)))


def cut(data: bytes, places: list[int]) -> Iterator[tuple[bytes, int]]:
    """Return the data in pieces, each with how much has come then."""
    at = 0
    for place in [*sorted({place % (len(data) + 1) for place in places}), len(data)]:
        yield data[at:place], place
        at = place


@given(frames(), st.lists(st.integers(0, 2**20), max_size=8))
def test_a_word_fits_only_between_two_frames(stream: tuple[bytes, list[int]], places: list[int]) -> None:
    """
    However the bytes are cut into reads: between two frames a frame of ours may come, inside one never.
    """
    data, ends = stream
    counted = Frames()
    assert counted.between
    for piece, come in cut(data, places):
        counted.feed(memoryview(piece))
        assert counted.between == (come in (0, *ends))


@given(frames())
def test_bytes_that_come_one_by_one_are_the_same(stream: tuple[bytes, list[int]]) -> None:
    """
    Where packets begin and end means nothing, within a frame's head least of all.
    """
    data, ends = stream
    counted = Frames()
    there = []
    for at in range(min(len(data), 2000)):
        counted.feed(data[at : at + 1])
        if counted.between:
            there.append(at + 1)

    assert there == [end for end in ends if end <= 2000]


def find_ends(data: bytes) -> Iterator[tuple[int, bool]]:
    """
    Return where each whole frame of any bytes ends, and whether it is a Close: RFC 6455, 5.2, anew.
    """
    at = 0
    while len(data) - at >= 2:
        first, second = data[at], data[at + 1]
        at += 2
        wide = {126: 2, 127: 8}.get(second & 127, 0)
        if len(data) - at < wide:
            return
        length = int.from_bytes(data[at : at + wide], "big") if wide else second & 127
        at += wide + (4 if second & 128 else 0) + length
        if at > len(data):
            return
        yield at, first & 15 == 8


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=5))
@example(b"\x82\x7f" + b"\xff" * 20, [3, 12])
@example(b"\x82\x7f" + bytes(8), [1])
def test_any_bytes_are_counted_as_the_rfc_says(data: bytes, places: list[int]) -> None:
    """
    What is no sensible WebSocket (lengths of exabytes, opcodes that nobody knows) is counted all the same,
    and takes no memory.
    """
    counted = Frames()
    for piece, come in cut(data, places):
        counted.feed(piece)
        ends = list(find_ends(data[:come]))
        closed = any(is_close for _, is_close in ends)
        if not closed and not counted.closed:
            assert counted.between == (come == (ends[-1][0] if ends else 0))
        if closed:
            assert counted.closed
        assert len(counted.part) < 14


@given(frames(), st.booleans(), st.booleans())
def test_after_a_close_nothing_is_said(stream: tuple[bytes, list[int]], mask: bool, more: bool) -> None:
    """
    When one side has said Close the closing handshake is under way, and a second Close has no place in it.
    """
    data, _ = stream
    counted = Frames()
    counted.feed(data)
    assert counted.between
    counted.feed(Frame(Opcode.CLOSE, b"\x03\xe8bye").serialize(mask=mask))
    if more:
        counted.feed(data)

    assert counted.closed
    assert not counted.between


def read_close(word: bytes, side: Side) -> Protocol:
    """Let one side of `websockets` read our word."""
    protocol = Protocol(side, state=OPEN)
    protocol.receive_data(word)
    return protocol


def test_both_words_mean_going_away() -> None:
    """
    An independent implementation reads our words as Close 1001 (RFC 6455, 7.4.1): unmasked from a server,
    masked from a client, as each side demands of the other (5.1).
    """
    for word, side in ((GOING_AWAY, Side.CLIENT), (GOING_AWAY_MASKED, Side.SERVER)):
        protocol = read_close(word, side)
        assert protocol.parser_exc is None
        assert protocol.close_rcvd is not None
        assert protocol.close_rcvd.code == CloseCode.GOING_AWAY
    assert read_close(GOING_AWAY, Side.SERVER).parser_exc is not None
