from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import pytest

from tests.swarm import engine

TABLE = pytest.StashKey[list[str]]()


@dataclass(frozen=True)
class Images:
    """The tags of what is deployed. SWARM_TEST_PROXY names a ready image to try in our proxy's place."""

    proxy: str
    myapp: str
    load: str


def missing(reason: str) -> NoReturn:
    """Do without, and say so; in CI nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(f"in CI: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def images() -> Iterator[Images]:
    """A swarm, and our images in it."""
    try:
        with engine.engine(), engine.swarm():
            base = engine.make_base()
            yield Images(
                os.environ.get("SWARM_TEST_PROXY") or engine.build("proxy", base, "."),
                engine.build("myapp", base, "myapp"),
                engine.build("load", base, "tests/swarm/load"),
            )
    except engine.Unavailable as reason:
        missing(str(reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show what the walkthrough saw, passed or not."""
    for line in config.stash.get(TABLE, []):
        terminalreporter.write_line(line)
