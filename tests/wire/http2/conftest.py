"""A proxy for all tests of a module that do not ask for one of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.harness import Origin, Proxy
from tests.wire.stress_tools import serving


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    server = Origin()
    yield server
    server.close()


@pytest.fixture(scope="module")
def proxy(origin: Origin) -> Iterator[Proxy]:
    with serving({"BLUE": origin.url}) as running:
        yield running
