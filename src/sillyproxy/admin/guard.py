"""
Who may ask the admin listener, and what.

Nothing is changed by asking: GET and HEAD are all it takes. Health is for everybody, because whoever
asks for it (an orchestrator, a load balancer) seldom can send a secret, and it tells next to nothing.
Everything else needs the token, where one is set.

Where none is set and the listener is on the loopback, the machine decides who connects; but a web page
that somebody on it reads connects from there as well. It cannot read what another site answers, unless
it makes its own name resolve to 127.0.0.1 (DNS rebinding); and then the Host field has that name.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable
from hashlib import sha256
from hmac import compare_digest
from ipaddress import ip_address
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sillyproxy.config.schema import Config

FOR_ALL: Final = frozenset({"/healthz", "/readyz", "/startupz"})

# The page needs what this server has, and no inline script, no frame, no other host.
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

_CHALLENGES: Final = ('Basic realm="sillyproxy", charset="UTF-8"', 'Bearer realm="sillyproxy"')


class Guard:
    """Lets through to `app` who may ask, by the configuration in force at that moment."""

    def __init__(self, app: ASGIApp, config: Callable[[], Config]) -> None:
        self._app = app
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        refusal = self._refuse(scope)
        await (refusal or self._app)(scope, receive, send)

    def _refuse(self, scope: Scope) -> Response | None:
        if scope["method"] not in ("GET", "HEAD"):
            return _say(405, "nothing can be changed here; use GET or HEAD", {"Allow": "GET, HEAD"})
        if scope["path"] in FOR_ALL:
            return None
        config, headers = self._config(), Headers(scope=scope)
        if config.admin_token is not None:
            if is_authorized(headers.get("authorization", ""), config.admin_token):
                return None
            response = _say(401, "needs SILLYPROXY_ADMIN_TOKEN, as Bearer token or as password of any user")
            for challenge in _CHALLENGES:
                response.headers.append("WWW-Authenticate", challenge)
            return response
        on_loopback = config.admin is not None and config.admin.is_local and not config.admin.path
        if on_loopback and not is_own_name(headers.get("host", "localhost")):
            return _say(
                403, "the Host field is neither an IP address nor localhost: see SILLYPROXY_ADMIN_TOKEN"
            )
        return None


def is_authorized(field: str, token: str) -> bool:
    """
    Tell whether an Authorization field has the token: as Bearer, or as password of Basic, any user.

    How long it takes tells nothing of the token, not even its length.

    >>> is_authorized("Bearer correct-horse", "correct-horse"), is_authorized("Bearer x", "correct-horse")
    (True, False)
    >>> is_authorized("Basic OmNvcnJlY3QtaG9yc2U=", "correct-horse")
    True
    """
    scheme, _, value = field.strip().partition(" ")
    match scheme.lower():
        case "bearer":
            given = value.strip().encode("latin-1", "replace")
        case "basic":
            try:
                given = b64decode(value.strip(), validate=True).partition(b":")[2]
            except (binascii.Error, ValueError):
                return False
        case _:
            return False
    return compare_digest(sha256(given).digest(), sha256(token.encode()).digest())


def is_own_name(host: str) -> bool:
    """
    Tell whether a Host field can only mean this machine: an IP address or localhost, port or not.

    >>> [is_own_name(host) for host in ("127.0.0.1:9080", "[::1]:9080", "localhost", "evil.example:9080")]
    [True, True, True, False]
    """
    host = host.strip().lower()
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
    else:
        name, colon, port = host.partition(":")
        port = colon + port
    if port and not (port.startswith(":") and port[1:].isdecimal()):
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _say(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers={"Cache-Control": "no-store", **(headers or {})})
