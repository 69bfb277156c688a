"""Who may ask what: the token, the Host field."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillyproxy.admin.guard import is_authorized, is_own_name

TOKEN = "correct-horse:battery"


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "field",
    [
        f"Bearer {TOKEN}",
        f"bearer {TOKEN}",
        f"Bearer  {TOKEN} ",
        basic("", TOKEN),
        basic("admin", TOKEN),
        basic("ümlaut", TOKEN).replace("Basic", "BASIC"),
    ],
)
def test_token_is_taken_in_both_schemes(field: str) -> None:
    """The token is a Bearer token, or the password of any user, colons and all."""
    assert is_authorized(field, TOKEN)


@pytest.mark.parametrize(
    "field",
    [
        "",
        TOKEN,
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Digest {TOKEN}",
        f"Basic {TOKEN}",
        "Basic",
        "Basic !!!",
        basic(TOKEN, ""),
        "Basic " + b64encode(TOKEN.encode()).decode(),
        f"Bearer ümlaut{TOKEN}",
    ],
)
def test_anything_else_is_not(field: str) -> None:
    """No token, half of one, one in another place or another scheme: none of it is let in."""
    assert not is_authorized(field, TOKEN)


@given(st.text(max_size=60))
def test_no_field_breaks_it(field: str) -> None:
    """Whatever a client sends as Authorization is refused, and breaks nothing."""
    assert not is_authorized(field, "a-token-that-nobody-draws")
    is_own_name(field)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:9080",
        "[::1]",
        "[::1]:9080",
        "localhost:80",
        "LOCALHOST",
        "a.localhost:1",
        "10.0.0.1",
    ],
)
def test_own_names_are_known(host: str) -> None:
    """Whoever asks by an IP address or as localhost meant this machine."""
    assert is_own_name(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:9080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "127.0.0.1:x",
        "[::1]x",
        "localhost:80:80",
        "notlocalhost",
    ],
)
def test_names_that_may_be_made_to_point_here_are_not(host: str) -> None:
    """A name whose owner can make it resolve to 127.0.0.1 is not one of ours (DNS rebinding)."""
    assert not is_own_name(host)
