"""Where a chunked body ends, and what of it goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillyproxy.http1.framing import (
    FORBIDDEN_TRAILERS,
    MAX_EXTENSION_BYTES,
    MAX_LINE_BYTES,
    MAX_TRAILER_BYTES,
    Chunked,
    ChunkError,
)

chunks = st.lists(st.binary(min_size=1, max_size=40), max_size=5)
extensions = st.sampled_from((b"", b"", b";a", b";a=b", b'; a = "b;\\""', b" \t;x"))
# What is good, what is nearly good, and noise, one after the other.
noise = st.lists(
    st.sampled_from(
        (b"0", b"1", b"a", b"\r\n", b"\r\n\r\n", b"\r", b"\n", b";", b"x=", b'"', b" ", b"hi", b"X: y", b"\0")
    )
    | st.binary(max_size=3),
    max_size=20,
).map(b"".join)  # fmt: skip


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Draw a good chunked body and its payload."""
    parts = draw(chunks)
    data = b"".join(b"%x%b\r\n%b\r\n" % (len(part), draw(extensions), part) for part in parts)
    trailers = draw(st.sampled_from((b"", b"", b"X-Sum: 1\r\n", b"X: y\r\nZ:\r\n")))
    return data + b"0" + draw(extensions) + b"\r\n" + trailers + b"\r\n", b"".join(parts)


def follow(pieces: list[bytes], *, decode: bool = False) -> tuple[bytes, bytes, bool, int, bool]:
    """Return what goes on, what is left, if the body is done, its payload's size, if it is wrong."""
    body = Chunked(decode=decode)
    out = rest = b""
    for index, piece in enumerate(pieces):
        try:
            out += bytes(body.feed(piece))
        except ChunkError:
            return out, b"", False, 0, True
        if body.done:
            rest = body.rest + b"".join(pieces[index + 1 :])
            break
    return out, rest, body.done, body.payload_bytes, False


@given(bodies(), st.binary(max_size=20))
def test_a_good_body_is_followed_to_its_end(body: tuple[bytes, bytes], behind: bytes) -> None:
    """
    A chunked body ends where it says, and what comes behind it belongs to the next request.
    """
    data, payload = body
    out, rest, done, size, wrong = follow([data + behind])

    assert done
    assert not wrong
    assert rest == behind
    assert size == len(payload)
    # What goes on is a chunked body of the same payload.
    assert follow([out], decode=True)[:3] == (payload, b"", True)


@given(bodies(), st.binary(max_size=20))
def test_decoded_body_is_the_payload(body: tuple[bytes, bytes], behind: bytes) -> None:
    """
    A client of HTTP/1.0 gets the payload and nothing of the chunks.
    """
    data, payload = body

    assert follow([data + behind], decode=True) == (payload, behind, True, len(payload), False)


@given(bodies().map(lambda body: body[0]) | noise, st.booleans())
def test_a_body_may_come_in_any_pieces(data: bytes, decode: bool) -> None:
    """
    Whole, in two pieces cut anywhere, or byte by byte: the same goes on, the same is left, and the
    same is refused.
    """
    whole = follow([data], decode=decode)
    for pieces in (
        *([data[:at], data[at:]] for at in range(1, len(data))),
        [data[at : at + 1] for at in range(len(data))],
    ):
        if not data:
            continue
        cut = follow(pieces, decode=decode)
        if whole[4]:
            assert cut[4]
        else:
            assert cut == whole


@given(noise)
def test_what_goes_on_of_a_bad_body_is_the_beginning_of_a_good_one(data: bytes) -> None:
    """
    No byte goes on that was not understood: whatever was passed on before the fault can still become
    a good body, and never is a whole one.
    """
    out, _, done, _, wrong = follow([data[at : at + 1] for at in range(len(data))])

    again = follow([out]) if out else (b"", b"", False, 0, False)
    assert not again[4]
    if wrong or not done:
        assert not again[2]
    # Nothing is held back of it either: a size line goes on whole, with its end, or not at all.
    assert again[0] == out


def test_large_chunk_goes_on_without_being_copied() -> None:
    """
    Inside a chunk the very bytes that came go on.
    """
    body = Chunked()
    body.feed(b"100\r\n")
    piece = memoryview(b"x" * 0xFF)

    assert body.feed(piece) is piece
    assert body.feed(b"x\r\n0\r\n\r\nrest") == b"x\r\n0\r\n\r\n"
    assert body.rest == b"rest"


@pytest.mark.parametrize("name", sorted(FORBIDDEN_TRAILERS))
def test_a_field_that_must_not_trail_does_not(name: bytes) -> None:
    """
    A field that frames, routes or authenticates a message is taken out of the trailers, whatever its case.
    """
    body = Chunked()

    assert body.feed(b"0\r\nA: 1\r\n%b: x\r\nZ: 2\r\n\r\n" % name.title()) == b"0\r\nA: 1\r\nZ: 2\r\n\r\n"
    assert body.done


def test_the_color_cannot_come_in_a_trailer() -> None:
    """
    The color header and the forwarding fields are ours: a client cannot set them behind its body.
    """
    body = Chunked(drop=FORBIDDEN_TRAILERS | {b"color"})

    assert body.feed(b"0\r\nCOLOR: green\r\nX-Forwarded-For: ::1\r\n\r\n") == b"0\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"1;" + b"a" * (MAX_LINE_BYTES + 20),
        b"1;" + b"a" * (MAX_LINE_BYTES + 20) + b"\r\nx\r\n",
        b"1;aaaaaaaaaaaaaaa\r\nx\r\n" * (MAX_EXTENSION_BYTES // 16 + 2),
        b"0\r\n" + b"X: y\r\n" * (MAX_TRAILER_BYTES // 6 + 2),
        b"0\r\n" + b"X: y\r\n" * (MAX_TRAILER_BYTES // 6 + 2) + b"\r\n",
    ],
    ids=["line waits", "line", "extensions", "trailers wait", "trailers"],
)
def test_what_a_client_can_make_us_hold_is_bounded(data: bytes) -> None:
    """
    Neither a size line, nor all extensions of a body, nor its trailers may grow without end.
    """
    with pytest.raises(ChunkError):
        Chunked().feed(data)


@pytest.mark.parametrize(
    ("longest", "good"),
    [
        (b"%b;%b" % (b"0" * 14 + b"1", b"a" * (MAX_LINE_BYTES - 1)) + b"\r\nx\r\n0\r\n\r\n", True),
        (b"%b;%b" % (b"0" * 14 + b"1", b"a" * MAX_LINE_BYTES) + b"\r\nx\r\n0\r\n\r\n", False),
        (b"0\r\nX:" + b"y" * (MAX_TRAILER_BYTES - 2) + b"\r\n\r\n", True),
        (b"0\r\nX:" + b"y" * (MAX_TRAILER_BYTES - 1) + b"\r\n\r\n", False),
    ],
    ids=["extension", "extension too long", "trailers", "trailers too long"],
)
def test_limits_do_not_depend_on_how_a_body_is_cut_up(longest: bytes, good: bool) -> None:
    """
    What is just small enough to be accepted whole is accepted byte by byte too.
    """
    assert follow([longest])[4] is not good
    assert follow([longest[at : at + 1] for at in range(len(longest))])[4] is not good


@pytest.mark.parametrize("size", [b"f" * 15, b"1000000000000", b"0" * 15])
def test_sizes_below_two_to_the_sixtieth_are_read(size: bytes) -> None:
    """
    A chunk may be larger than any machine's memory, but no size is cut to fit a machine's word.
    """
    body = Chunked()

    assert body.feed(size + b"\r\n") == size + b"\r\n"
    assert not body.done


@pytest.mark.parametrize("early", [b"x", b"5 5", b"-", b"0x", b"5\n", b"5\rx", b"\n", b"1" * 16, b"5 \r\n"])
def test_what_can_no_longer_become_a_size_is_refused_at_once(early: bytes) -> None:
    """
    A client that sends no chunk is told so, not waited for.
    """
    with pytest.raises(ChunkError):
        Chunked().feed(early)
