"""The dashboard in a real browser, with a proxy that is played: also the states that are rare."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import expect

from tests.browser.conftest import Open, Play
from tests.browser.places import figure, wait_live, wait_until
from tests.browser.scenes import HOSTILE, SCENES, canary

expect.set_options(20_000)

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "has_touch": True},
    "contrast": {"color_scheme": "dark", "contrast": "more", "viewport": {"width": 800, "height": 900}},
}


scenes = pytest.mark.parametrize("scene", SCENES)


# What it may do, and where.


@scenes
def test_no_scene_makes_the_page_complain_or_ask_elsewhere(scene: str, play: Play, watch: Open) -> None:
    """
    Under the strict policy of the admin listener the page works: no console error, no request to
    another host, nothing forbidden, in whatever state the proxy is.
    """
    mock = play(scene)
    page = watch(mock.url).open()
    wait_live(page)
    before = mock.seq
    wait_until(page, lambda: mock.seq > before + 10, "ten seconds")
    assert page.evaluate("performance.getEntriesByType('resource').length") >= 12, "all of the page's files"


@scenes
@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing(scene: str, look: str, play: Play, watch: Open) -> None:
    """Axe, which knows what people with disabilities meet, finds no fault: contrast, names, roles, order."""
    page = watch(play(scene).url, bypass_csp=True, **LOOKS[look]).open()
    wait_live(page)
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


def test_axe_finds_nothing_in_old_figures(play: Play, watch: Open) -> None:
    """Figures that are old look so, and can still be read."""
    mock = play("canary")
    page = watch(mock.url, bypass_csp=True).open()
    mock.silent = True
    expect(page.locator("html")).to_have_attribute("data-link", "lost")
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


@scenes
def test_no_width_makes_the_page_scroll_sideways(scene: str, play: Play, watch: Open) -> None:
    """From 320 pixels up everything fits: nobody has to scroll sideways, and the page does not shift."""
    page = watch(play(scene).url).open()
    scrolled = {}
    for width in (320, 390, 700, 840, 900, 1000, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        scrolled[width] = page.evaluate("document.documentElement.scrollWidth")
    assert {width: needed for width, needed in scrolled.items() if needed > width} == {}


def test_markup_of_others_is_shown_as_text(play: Play, watch: Open) -> None:
    """Whatever an endpoint, a color, a log line or a setting is called is read by the operator, never run."""
    page = watch(play("hostile").url).open()
    for part in ("#who", "#notices", "#verdicts", "#cards", "#endpoints", "#events", "#answers", "#config"):
        expect(page.locator(part)).to_contain_text(HOSTILE)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src='x'], body script").count() == 0


# What it says.


def test_the_verdict_stands_first(play: Play, watch: Open) -> None:
    """Whoever moves traffic to green reads first whether green is as good as blue, also in the tab's name."""
    page = watch(play("canary").url).open()
    verdict = page.locator("#verdicts .sentence")
    expect(verdict).to_have_text(canary(0)["comparisons"][0]["text"])
    below = [
        page.locator(part).bounding_box()
        for part in ("#traffic", "#comparison", "#endpoints", "#events", "#config")
    ]
    tops = [box["y"] for box in [verdict.bounding_box(), *below] if box]
    assert tops == sorted(tops)
    assert tops[0] < 150
    expect(page).to_have_title("green is worse · sillyproxy edge-1")


def test_every_figure_of_a_color_is_there(play: Play, watch: Open) -> None:
    """Share asked and seen, rate, errors, percentiles and requests under way are shown, with units."""
    page = watch(play("canary").url).open()
    patterns = {
        "Share": r"asked 20\.0\s%\D*(19\.9|20\.\d)\s%",
        "Requests": r"4\d\.\d\s/s",
        "Errors": r"[23]\.\d\s%",
        "p50": r"14\.8\sms",
        "p95": r"58\.0\sms",
        "p99": r"210\sms",
        "Under way": r"[01]",
    }
    for name, pattern in patterns.items():
        expect(figure(page, "green", name)).to_have_text(re.compile(pattern))
    expect(page.locator("#split-asked")).to_have_attribute(
        "aria-label", "Asked for: blue 80.0\u00a0%, green 20.0\u00a0%"
    )


def test_lines_of_all_colors_have_one_scale(play: Play, watch: Open) -> None:
    """Lines are compared by their height: what is twice as high is twice as much, in whichever card."""
    page = watch(play("canary").url).open()
    for name in ("Requests", "Errors", "p50", "p95", "p99", "Under way"):
        scales = {figure(page, color, name).locator(".note").text_content() for color in ("blue", "green")}
        assert len(scales) == 1, name
    label = figure(page, "green", "p95").locator(".line").get_attribute("aria-label") or ""
    assert re.fullmatch(r"p95 of green over the last 5 minutes: between \d+\.\d\sms and \d+\.\d\sms", label)


def test_a_line_looks_back(play: Play, watch: Open) -> None:
    """Pointing at a line, or the slider by the keyboard, shows every figure as it was at that moment."""
    page = watch(play("canary", step_s=60).url).open()
    line = figure(page, "green", "p95").locator(".line")
    values = page.locator(".card .value")
    now = values.all_text_contents()
    line.hover(position={"x": 20, "y": 10})
    expect(page.locator("#lookback-words")).to_have_text(re.compile("ago$"))
    assert values.all_text_contents() != now
    page.mouse.move(2, 2)
    expect(page.locator("#lookback-words")).to_have_text("now")
    assert values.all_text_contents() == now
    slider = page.get_by_role("slider", name="Look back")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    expect(slider).to_have_attribute("aria-valuetext", re.compile("3\u00a0s ago$"))
    page.keyboard.press("End")
    expect(page.locator("#lookback-words")).to_have_text("now")


def test_what_is_not_as_it_should_be_is_said_above_all(play: Play, watch: Open) -> None:
    """Draining, not ready, a refused configuration, names that are not found: nobody overlooks them."""
    for scene, words in {
        "draining": "Draining: 3\u00a0requests under way may end",
        "nobody": "Not ready: no color is configured",
        "refused": "GREEN_WEIGHT=ten (environment): not a number",
        "starting": "Not ready: every color is at weight 0",
    }.items():
        page = watch(play(scene).url).open()
        expect(page.locator("#notices")).to_contain_text(words)
    expect(page.locator("#readiness")).to_have_text("Not ready")


def test_an_ejected_endpoint_says_why_and_until_when(play: Play, watch: Open) -> None:
    """An endpoint that is out shows its state in a word, the reason, and how long it still takes."""
    page = watch(play("canary").url).open()
    row = page.get_by_role("row", name=re.compile(r"10\.0\.2\.4:8080"))
    expect(row).to_contain_text("ejected")
    expect(row).to_contain_text("5 failures in a row")
    expect(row).to_contain_text(re.compile(r"in 23\ss \(2.\)"))


def test_the_configuration_can_be_filtered(play: Play, watch: Open) -> None:
    """Settings are found by name, value or origin; those at their default show on request."""
    page = watch(play("canary").url).open()
    rows = page.locator("#config tbody tr")
    expect(rows).to_have_count(5)
    page.get_by_label("only what is set").uncheck()
    expect(rows).to_have_count(7)
    page.get_by_label("Filter").fill("edge.env")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("/etc/sillyproxy/edge.env, line 2")
    page.get_by_label("Filter").fill("nothing is called so")
    expect(page.get_by_text("No setting matches.")).to_be_visible()


def test_the_window_is_chosen_and_kept(play: Play, watch: Open) -> None:
    """1, 5 or 15 minutes: the comparison follows, and who sends the address on sends the choice with it."""
    mock = play("canary")
    page = watch(mock.url).open()
    page.get_by_label("15 min").check()
    expect(page.locator("#legend")).to_contain_text("the last 15\u00a0min")
    assert mock.asked[-1][0] == "900"
    page.reload()
    expect(page.get_by_label("15 min")).to_be_checked()
    expect(page.locator("#legend")).to_contain_text("the last 15\u00a0min")


def test_the_theme_is_the_systems_until_somebody_chooses(play: Play, watch: Open) -> None:
    """Dark where the system is dark; a choice is remembered, and colors are drawn anew for their ground."""
    page = watch(play("canary").url, color_scheme="dark").open()
    ground = "getComputedStyle(document.querySelector('.section')).backgroundColor"
    ink = "document.querySelector('.card').style.getPropertyValue('--ink')"
    dark, dark_ink = page.evaluate(ground), page.evaluate(ink)
    button = page.get_by_role("button", name="Theme")
    button.click()
    expect(button).to_have_text("Theme: light")
    assert page.evaluate(ground) == "rgb(255, 255, 255)" != dark
    wait_until(page, lambda: page.evaluate(ink) != dark_ink, "another ink")
    page.reload()
    expect(button).to_have_text("Theme: light")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    button.click()
    button.click()
    expect(button).to_have_text("Theme: auto")
    assert page.evaluate(ground) == dark


def test_the_page_is_made_of_files_that_are_installed() -> None:
    """Every file that the page names is in the package, and nothing in it names another host."""
    static = Path(__file__).parents[2] / "src" / "sillyproxy" / "admin" / "static"
    text = {path.name: path.read_text() for path in static.iterdir()}
    for name, content in text.items():
        for wanted in re.findall(r'"(?:/static/|\./)([\w.]+)"', content):
            assert wanted in text, f"{name} names {wanted}"
        others = set(re.findall(r"https?://[\w.]+", content)) - {"http://www.w3.org"}
        assert others == set(), name
