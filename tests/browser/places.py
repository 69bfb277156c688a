"""Where things stand on the page."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

SPAN = 300


def card(page: Page, color: str) -> Locator:
    """Return a color's card."""
    return page.locator(".card", has=page.get_by_role("heading", name=color, exact=True))


def figure(page: Page, color: str, name: str) -> Locator:
    """Return a row of a color's card."""
    return card(page, color).locator(
        ".row", has=page.locator("dt > span:first-child", has_text=re.compile(f"^{name}$"))
    )


def places(page: Page, color: str = "blue", name: str = "Requests") -> list[int]:
    """Return the seconds of the last five minutes that a line shows, 299 the newest; a gap is left out."""
    path = figure(page, color, name).locator(".line-own").get_attribute("d") or ""
    return [int(place) for place in re.findall(r"[ML](\d+) ", path)]


def count_breaks(page: Page) -> int:
    """Return in how many pieces a line is drawn."""
    return (figure(page, "blue", "Requests").locator(".line-own").get_attribute("d") or "").count("M")


def wait_live(page: Page) -> None:
    """Wait until the page says that it is live."""
    expect(page.locator("#link-words")).to_have_text("Live")


def wait_until(page: Page, is_true: Callable[[], object], what: str) -> None:
    """
    Wait until something is true; fail if it never is.

    Playwright's own wait for an expression evaluates text within the page, which its policy forbids.
    """
    end = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < end, f"waited in vain for {what}"
        page.wait_for_timeout(20)
