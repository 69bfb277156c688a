"""The table of settings, and the page made from it."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

import pytest

from sillyproxy.config import load
from sillyproxy.config.report import settings_page
from sillyproxy.config.schema import Config
from sillyproxy.config.settings import COLOR_SETTINGS, PROXY_SETTINGS, SETTINGS, Setting
from sillyproxy.config.values import COLOR_SUFFIXES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


def test_page_is_current() -> None:
    """
    The reference says what the table says; `python scripts/settings_page.py` writes it anew.
    """
    assert PAGE.read_text(encoding="utf-8") == settings_page()


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_page_lists_every_setting(setting: Setting) -> None:
    """
    Every setting has a row in the reference.
    """
    assert f"\n| `{setting.name}` | " in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_example_and_default_are_what_the_setting_takes(setting: Setting) -> None:
    """
    An operator who copies the example of an error message gets no second error.
    """
    assert setting.kind.read(setting.example) is not None
    assert not setting.default or setting.kind.show(setting.kind.read(setting.default))
    assert setting.default or setting.absent


@pytest.mark.parametrize("setting", COLOR_SETTINGS[1:], ids=lambda s: s.name)
def test_setting_of_a_color_says_what_it_needs(setting: Setting) -> None:
    """
    A setting that does nothing without another one can be warned of.
    """
    assert setting.needs in {s.name for s in COLOR_SETTINGS}


@pytest.mark.parametrize("setting", PROXY_SETTINGS, ids=lambda s: s.name)
def test_setting_is_read_into_its_field(setting: Setting) -> None:
    """
    What is set arrives in the part of the Config that the table names.
    """
    also = {"SILLYPROXY_TLS_CERT": "/c.pem"} if setting.name == "SILLYPROXY_TLS_LISTEN" else {}
    config, _ = load({setting.name: setting.example, **also}, cpus=7)

    assert attrgetter(setting.field)(config) == setting.kind.read(setting.example)


def test_every_field_of_a_config_has_a_setting() -> None:
    """
    Nothing in a Config is out of an operator's reach.
    """
    paths = {setting.field.partition(".")[0] for setting in PROXY_SETTINGS if setting.field}
    made = {"colors", "generation", "origins", "slots"}

    assert paths | made == set(Config.__dataclass_fields__)


def test_suffixes_that_colors_are_told_apart_by_are_those_of_the_table() -> None:
    """
    No new variable of a color can collide with another color unnoticed.
    """
    assert [f"<COLOR>{suffix}" for suffix in COLOR_SUFFIXES] == [s.name for s in COLOR_SETTINGS]
