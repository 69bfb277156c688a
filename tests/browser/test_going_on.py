"""The dashboard as time passes: what it keeps, what it draws, when it says so."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.conftest import Open, Play
from tests.browser.mock import Mock
from tests.browser.places import SPAN, count_breaks, places, wait_live, wait_until
from tests.browser.scenes import SCENES, canary


def test_history_is_kept_over_a_reconnect(play: Play, watch: Open) -> None:
    """A connection that breaks costs no line: the page asks for what it missed, and has it all."""
    mock = play("canary")
    page = watch(mock.url).open()
    wait_live(page)
    assert places(page) == list(range(SPAN))
    mock.cut()
    wait_until(page, lambda: len(mock.asked) == 2, "the page to come back")
    window, last = mock.asked[1]
    assert (window, (last or "").partition("-")[0]) == ("60", "one")
    wait_live(page)
    assert places(page) == list(range(SPAN))
    assert count_breaks(page) == 1


def test_another_controller_begins_anew(play: Play, watch: Open) -> None:
    """After a restart of the controller its seconds are others: old lines are not mixed with new ones."""
    mock = play("canary")
    page = watch(mock.url).open()
    assert len(places(page)) == SPAN
    mock.restart("two")
    wait_until(page, lambda: len(places(page)) < SPAN, "a line that begins anew")
    kept = places(page, name="Under way")
    assert kept == list(range(kept[0], SPAN))
    assert kept[0] > SPAN / 2


def test_a_lost_connection_is_said_and_found_again(play: Play, watch: Open) -> None:
    """Old figures are never taken for new ones: for how long nothing came is shown, until something comes."""
    mock = play("canary")
    page = watch(mock.url).open()
    mock.silent = True
    expect(page.locator("#link-words")).to_have_text(
        re.compile(r"^Not connected for \d+\ss, showing old data$")
    )
    expect(page.locator("#said")).to_have_text("Not connected; showing old data.")
    assert page.locator("html").get_attribute("data-link") == "lost"
    assert places(page), "the lines stay"
    mock.silent = False
    wait_live(page)
    expect(page.locator("#said")).to_have_text("Connected again.")


def test_a_proxy_that_is_gone_and_comes_back_is_found(play: Play, watch: Open) -> None:
    """A restart, or an answer that is no stream, is waited out; nobody has to reload the page."""
    first = play("canary")
    watched = watch(first.url)
    watched.expected = ("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED", "503")
    page = watched.open()
    first.status = 503
    first.cut()
    expect(page.locator("#link-words")).to_have_text(re.compile("^Not connected"))
    first.status = 200
    wait_live(page)
    first.close()
    expect(page.locator("#link-words")).to_have_text(re.compile("^Not connected"))
    second = Mock(SCENES["alone"], port=first.port)
    try:
        wait_live(page)
        expect(page.locator("#verdicts")).to_contain_text("blue takes all traffic")
    finally:
        second.close()


def test_a_hidden_page_draws_nothing_and_forgets_nothing(play: Play, watch: Open) -> None:
    """
    It draws in animation frames alone, one at a time, and a hidden tab gets none: then nothing is
    drawn, and all of it is there at the next look.
    """
    mock = play("canary", step_s=0.05)
    watched = watch(mock.url)
    watched.page.add_init_script(
        """window.frames_ = []; window.hidden_ = false;
        const real = requestAnimationFrame.bind(window);
        window.requestAnimationFrame = (draw) => (window.hidden_ ? window.frames_.push(draw) : real(draw));"""
    )
    page = watched.open()
    page.evaluate("window.hidden_ = true")
    wait_until(page, lambda: page.evaluate("window.frames_.length"), "a frame to draw")
    page.evaluate(
        """window.changes = 0;
        new MutationObserver((all) => { window.changes += all.length; })
          .observe(document.querySelector('main'),
            { subtree: true, childList: true, characterData: true, attributes: true });"""
    )
    before = mock.seq
    wait_until(page, lambda: mock.seq > before + 40, "forty seconds")
    assert page.evaluate("[window.changes, window.frames_.length]") == [0, 1]
    page.evaluate("window.hidden_ = false; window.frames_.pop()()")
    assert places(page) == list(range(SPAN))
    assert count_breaks(page) == 1


def test_a_screen_reader_is_not_talked_to_every_second(play: Play, watch: Open) -> None:
    """Numbers change silently; the verdict is said when it becomes another."""
    mock = play("canary", step_s=0.05)
    page = watch(mock.url).open()
    expect(page.locator("#said")).to_have_text(canary(0)["comparisons"][0]["text"])
    assert page.locator("[aria-live], [role=status], [role=alert]").count() == 1
    page.evaluate(
        """window.said = [];
        const said = document.querySelector('#said');
        new MutationObserver(() => window.said.push(said.textContent))
          .observe(said, { subtree: true, childList: true, characterData: true });"""
    )
    before = mock.seq
    wait_until(page, lambda: mock.seq > before + 30, "thirty seconds")
    assert page.evaluate("window.said") == []
    mock.scene = SCENES["five"]
    wait_until(page, lambda: page.evaluate("window.said.length"), "the other verdict")
    assert "green is as good as blue" in page.evaluate("window.said.at(-1)")


def test_all_is_reached_by_keyboard(play: Play, watch: Open) -> None:
    """Tab goes from the skip link through every control, in the order of the page, and shows where it is."""
    page = watch(play("canary").url).open()
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "document.activeElement.className || document.activeElement.id || document.activeElement.name"
            )
        )
        outline = page.evaluate(
            """(() => { const at = document.activeElement;
            const seen = (e) => e && getComputedStyle(e).outlineStyle !== 'none';
            return seen(at) || seen(at.nextElementSibling); })()"""
        )
        assert outline or reached[-1] == "skip", reached
    wanted = ["skip", "window", "button", "lookback", "config-filter", "config-set"]
    assert [one for one in reached if one in wanted] == wanted


def test_nothing_slides_or_fades(play: Play, watch: Open) -> None:
    """Nobody is made dizzy, with or without a preference for less motion: what changes just changes."""
    page = watch(play("canary").url).open()
    lasting = """[...document.querySelectorAll('*')].map((e) => getComputedStyle(e))
      .map((style) => `${style.transitionDuration} ${style.animationName}`)"""
    assert set(page.evaluate(lasting)) == {"0s none"}
