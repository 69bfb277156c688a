"""Numbers and colors as the page shows them."""

# ruff: noqa: RUF001 - minus signs and dashes are meant

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import Open, Play
from tests.browser.mock import Mock
from tests.browser.scenes import SCENES


@pytest.fixture(scope="module")
def words(browser: Browser) -> Iterator[Page]:
    """A page whose words can be asked for."""
    mock = Mock(SCENES["alone"])
    page = browser.new_page()
    page.goto(mock.url)
    yield page
    page.close()
    mock.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_color_is_legible(scheme: str, play: Play, watch: Open) -> None:
    """A color called yellow, white or navy can be read on the page, and so can words upon it."""
    page = watch(play("canary").url, color_scheme=scheme).open()
    names = [
        "yellow",
        "white",
        "black",
        "navy",
        "lime",
        "cyan",
        "red",
        "blue",
        "green",
        "v1",
        "inherit",
        "a b",
        "",
    ]
    found = page.evaluate(
        """async (names) => {
          const { Inks, contrast } = await import("/static/ink.js");
          const inks = new Inks();
          const rgb = (text) => text.startsWith("#")
            ? [1, 3, 5].map((place) => parseInt(text.slice(place, place + 2), 16))
            : text.match(/\\d+/g).map(Number);
          return names.map((name) => {
            const { ink, on } = inks.of(name);
            return [name, contrast(rgb(ink), inks.ground), contrast(rgb(ink), rgb(on))];
          });
        }""",
        names,
    )
    assert [(name, a, b) for name, a, b in found if min(a, b) < 4.5] == []


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("share(0)", "0 %"),
        ("share(0.00001)", "<0.01 %"),
        ("share(0.0033)", "0.33 %"),
        ("share(0.2)", "20.0 %"),
        ("share(0.9999)", ">99.9 %"),
        ("share(1)", "100 %"),
        ("share(null)", "–"),
        ("rate(9.94)", "9.9 /s"),
        ("rate(12345.6)", "12,346 /s"),
        ("milliseconds(0.1234)", "0.12 ms"),
        ("milliseconds(9.999)", "10.0 ms"),
        ("milliseconds(123.4)", "123 ms"),
        ("milliseconds(1234)", "1.23 s"),
        ("milliseconds(61234)", "61.2 s"),
        ("difference(-0.5, 'ms')", "−0.50 ms"),
        ("difference(0.0123, 'share')", "+1.23 points"),
        ("interval(0.01, 0.02, 'share')", "+1.00 to +2.00 points"),
        ("interval(-2, 1500, 'ms')", "−2.00 ms to +1.50 s"),
        ("interval(5, null, 'ms')", "+5.00 ms or more"),
        ("interval(null, -5, 'ms')", "−5.00 ms or less"),
        ("interval(null, null, 'ms')", "–"),
        ("scale(300, rate)", "0 – 300 /s"),
        ("scale(0.015, share)", "0 – 1.5 %"),
        ("scale(40, milliseconds)", "0 – 40 ms"),
        ("scale(2000, milliseconds)", "0 – 2 s"),
        ("scale(10, count)", "0 – 10"),
        ("bytes(16000000)", "15.3 MiB"),
        ("duration(0.2)", "0 s"),
        ("duration(59.6)", "1 min"),
        ("duration(3700)", "1 h 1 min"),
        ("duration(90000)", "1 d 1 h"),
        ("several(1, 'request')", "1 request"),
        ("several(2, 'request')", "2 requests"),
    ],
)
def test_numbers_are_written_for_people(call: str, text: str, words: Page) -> None:
    """Three digits or so, a unit, a dash for what is not known: never NaN, null or 17 digits."""
    shown = words.evaluate(f"import('/static/words.js').then((words) => {{ with (words) return {call}; }})")
    assert shown.replace("\u00a0", " ") == text
