"""
The same judge under coverage guidance: Atheris (libFuzzer) looks for bytes that reach new branches.

Atheris is not among our dependencies, for it has wheels for Linux alone:

    pip install atheris
    python -m fuzz.guided -max_total_time=600 corpus/ tests/http1/corpus/smuggling

An input is a message, a response if it begins like one. Where it is cut follows from its bytes.
"""

from __future__ import annotations

import importlib
import sys
import zlib

from fuzz.generate import Case


def case_of(data: bytes) -> Case:
    """Return the case that an input stands for."""
    digest = zlib.crc32(data)
    cuts = (1 + digest % (len(data) - 1),) if len(data) > 1 else ()
    kind = "response" if data.startswith(b"HTTP/") else "request"
    return Case(kind, data, cuts, b"GET" if digest & 1 << 31 else b"HEAD")


def main() -> None:
    """Run until something is found; libFuzzer's options and corpus directories are the arguments."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["sillyproxy.http1", "h11", "fuzz.ours"]):
        judge = importlib.import_module("fuzz.judge").Judge()

    def test_one_input(data: bytes) -> None:
        judge.judge(case_of(data))

    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
