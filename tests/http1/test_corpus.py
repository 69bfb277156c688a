"""
Raw requests, one a file, named for what each tries.

`NAME.in` is accepted and goes on as `NAME.out`; `NAME.400` is refused with that status.
`good/` is what an honest client may send, `refused/` what is simply wrong, `smuggling/`
what has been published as a way to make two readers see two different requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz.ours import Reading, RequestReader

CORPUS = Path(__file__).parent / "corpus"
ACCEPTED = sorted(CORPUS.glob("*/*.in"))
REFUSED = sorted(path for path in CORPUS.glob("*/*") if path.suffix[1:].isdigit())


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def read_all(pieces: list[bytes]) -> list[Reading]:
    """Return every request of a connection; the last is the one that is refused or incomplete, if any."""
    reader = RequestReader()
    readings = []
    while pieces:
        reading = reader.read(pieces)
        readings.append(reading)
        if not reading.complete:
            break
        pieces = [reading.rest] if reading.rest else []
    return readings


def canonical(head: bytes) -> list[bytes]:
    """Return a head's lines; only the order of fields of one name means something."""
    line, *fields = head.split(b"\r\n")
    return [line, *sorted(fields, key=lambda field: field.partition(b":")[0].lower())]


def cut_everywhere(data: bytes) -> Iterator[list[bytes]]:
    """Yield the bytes whole, in two pieces cut at every place, and byte by byte."""
    yield [data]
    for at in range(1, min(len(data), 600)):
        yield [data[:at], data[at:]]
    yield [data[at : at + 1] for at in range(len(data))]


def test_the_corpus_is_here() -> None:
    """
    No checkout, however it treats line ends, may leave the corpus empty or mend its bytes.
    """
    assert len(ACCEPTED) >= 60
    assert len(REFUSED) >= 180
    assert (CORPUS / "smuggling" / "chunk-size-bare-lf.400").read_bytes().count(b"5\nhello\r\n") == 1
    assert b"\r\n\r\n" in (CORPUS / "good" / "minimal.in").read_bytes()


@pytest.mark.parametrize("path", ACCEPTED, ids=name_of)
def test_a_good_request_goes_on_as_it_should(path: Path) -> None:
    """
    What is accepted goes on with the same meaning: rewritten where a proxy must, untouched elsewhere.
    """
    rest = path.with_suffix(".out").read_bytes()
    for reading in read_all([path.read_bytes()]):
        assert reading.problem is None
        head, _, rest = rest.partition(b"\r\n\r\n")
        passed_on, _, _ = reading.forward.partition(b"\r\n\r\n")
        assert canonical(passed_on) == canonical(head)
        body, rest = rest[: len(reading.body)], rest[len(reading.body) :]
        assert reading.body == body

    assert rest == b""


@pytest.mark.parametrize("path", ACCEPTED, ids=name_of)
def test_a_good_request_may_come_in_any_pieces(path: Path) -> None:
    """
    However the network cuts a request up, it is read the same.
    """
    data = path.read_bytes()
    whole = RequestReader().read([data])

    for pieces in cut_everywhere(data):
        assert RequestReader().read(pieces) == whole


@pytest.mark.parametrize("path", REFUSED, ids=name_of)
def test_a_bad_request_is_refused(path: Path) -> None:
    """
    What is wrong or ambiguous gets the status that says so, and no word of a second request goes on.
    """
    readings = read_all([path.read_bytes()])

    assert len(readings) == 1
    problem = readings[0].problem
    assert problem is not None
    assert problem.status == int(path.suffix[1:])


@pytest.mark.parametrize("path", REFUSED, ids=name_of)
def test_a_bad_request_is_refused_in_any_pieces(path: Path) -> None:
    """
    No way to cut a bad request up gets it past.
    """
    for pieces in cut_everywhere(path.read_bytes()):
        reading = RequestReader().read(pieces)
        assert reading.problem is not None
        assert not reading.complete
