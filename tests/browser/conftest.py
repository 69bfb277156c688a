from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import Watched, chromium, missing
from tests.browser.mock import Mock
from tests.browser.scenes import SCENES

Open = Callable[..., Watched]
Play = Callable[..., Mock]


# Not for the whole session: while playwright's loop runs, no asynchronous test can.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for the tests of a module."""
    try:
        with chromium() as running:
            yield running
    except FileNotFoundError as error:
        missing(str(error))


@pytest.fixture
def watch(browser: Browser) -> Iterator[Open]:
    """Open pages at an URL, each in a context of its own; at the end none has done what it must not do."""
    watched: list[Watched] = []

    def open_page(url: str, **how: Any) -> Watched:
        watched.append(Watched(browser.new_context(**how), url))
        return watched[-1]

    yield open_page
    for one in watched:
        one.context.close()
    for one in watched:
        one.check()


@pytest.fixture
def play() -> Iterator[Play]:
    """Play scenes by name; at the end they stop."""
    mocks: list[Mock] = []

    def start(scene: str, **how: Any) -> Mock:
        mocks.append(Mock(SCENES[scene], **how))
        return mocks[-1]

    yield start
    for mock in mocks:
        mock.close()
