"""
How a value is written: text to a typed value, and back.

A reader takes trimmed, printable text and returns the value or raises `Refused`, with
what is wrong and, where we can guess it, what was meant. A list raises an
ExceptionGroup: one `Refused` for each item that is wrong, so that one start shows all.

Reading is strict. What Python would take (`1e3`, `+1`, `1_000`, `nan`, digits of other
scripts) is more often a slip than a wish, and nothing here may differ between readers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from difflib import get_close_matches
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any, Final, TypeVar

from sillyproxy.config.schema import Listener, Network, Upstream

T = TypeVar("T")

BLANKS: Final = " \t\r\n"
MAX_COLORS: Final = 31
MAX_WORKERS: Final = 64
MAX_WEIGHT: Final = 1_000_000
MAX_CONNECTIONS: Final = 10_000_000
MAX_IN_A_ROW: Final = 1000
MAX_PATH: Final = 1000
MAX_STATUSES: Final = 32
# 7 days: epoll and poll count milliseconds in 31 bits, which end at 24 days.
MAX_DURATION_S: Final = 7 * 86400
MIN_HEADER_BYTES: Final = 1024
MAX_HEADER_BYTES: Final = 1 << 20
MAX_BODY_BYTES: Final = 1 << 50
# sockaddr_un.sun_path holds 108 bytes, one of them the final NUL.
MAX_SOCKET_PATH: Final = 107

# What a color's variables end in; the table of settings tells their meaning.
COLOR_SUFFIXES: Final = (
    "",
    "_WEIGHT",
    "_HEALTH",
    "_HEALTH_INTERVAL",
    "_HEALTH_TIMEOUT",
    "_HEALTH_RISE",
    "_HEALTH_FALL",
    "_HEALTH_STATUS",
    "_MAX_CONNECTIONS",
    "_MAX_QUEUE",
    "_QUEUE_TIMEOUT",
    "_TLS_CA",
    "_TLS_NAME",
    "_TLS_VERIFY",
    "_TLS_CERT",
    "_TLS_KEY",
    "_TLS_MIN",
    "_PROXY_PROTOCOL",
)
MIN_TOKEN: Final = 8
MAX_TOKEN: Final = 256

OUR_PREFIX: Final = "SILLYPROXY_"
# What the name of a secret has in it.
SECRET_WORDS: Final = ("TOKEN", "SECRET", "PASSWORD", "KEY", "OTLP_HEADERS")
OTHER_NAME: Final = "give it another name"

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+")
_INTEGER = re.compile(r"[0-9]+")
_DURATION = re.compile(rf"({_NUMBER.pattern})(ms|s|m|h)?", re.IGNORECASE)
_SIZE = re.compile(r"([0-9]+)([kmg])?", re.IGNORECASE)
_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}

_COLOR = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
# RFC 3986, 3.3 and 3.4: the bytes of a path and its query, as a request line may carry them.
_TARGET = re.compile(
    r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?"
)
_STATUS_CLASS = re.compile(r"([0-9])xx", re.IGNORECASE)
_STATUS_RANGE = re.compile(r"([0-9]{3})(?:[ \t]*-[ \t]*([0-9]{3}))?")
_HSTS = re.compile(r"(?:max-age=)?([0-9]{1,10})(;[ \t]*includeSubDomains)?(;[ \t]*preload)?", re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# gRPC's own check, and the full name of a service; its length is a byte (`health.http2`).
_GRPC = re.compile(r"grpc(?::[A-Za-z_][A-Za-z0-9_.]{0,99})?")
_DEFAULT_PORTS = {"http": 80, "https": 443, "h2c": 80}
_AUTHORITY = re.compile(r"(?:\[(?P<six>[^\]]*)\]|(?P<host>[^:\[\]]*))(?::(?P<port>.*))?")
# Docker names services and containers with underscores, which a host name in a URL may
# not have; its DNS answers to them all the same.
_HOST = re.compile(r"(?=.{1,254}\Z)[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?")
# RFC 3986, 3.3: the bytes of a path. Anything else would break the request line.
_BASE = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+;=:@-]|%[0-9A-Fa-f]{2})*)*")

# Fields that frame the message, belong to one connection, or are written by the proxy.
TAKEN_FIELDS: Final = frozenset(
    {
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-authentication-info",
        "proxy-status",
        "http2-settings",
        "expect",
        "max-forwards",
        "via",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
    }
)


class Refused(ValueError):
    """A text that is not a value: what is wrong with it, and the remedy if it is not just the usual form."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


def show_text(text: str) -> str:
    """
    Return text as it may stand in a terminal or a log: printable, not endless, no password of a URL.

    >>> show_text("http://user:secret@host")
    '***@host'
    """
    _, at, rest = text.rpartition("@")
    text = f"***@{rest}" if at else text
    return printable(text if len(text) <= 160 else f"{text[:157]}...")


def mask(name: str, text: str) -> str:
    """
    Return the text of a setting as it may be shown: not at all if its name says that it is a secret.

    >>> mask("SILLYPROXY_ADMIN_TOKEN", "hunter22"), mask("BLUE_WEIGHT", "4")
    ('***', '4')
    """
    return "***" if is_secret(name) else show_text(text)


def is_secret(name: str) -> bool:
    """Tell whether the value of a setting must not be shown."""
    return any(word in name.upper() for word in SECRET_WORDS)


def printable(text: str) -> str:
    """
    Return text with an escape for each character that does not print.

    >>> printable("a\\x1b")
    'a\\\\x1b'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(text: str, known: Sequence[str], cutoff: float = 0.6) -> str:
    """Return the known word that looks most like this one; empty if none does."""
    found = get_close_matches(text, known, n=1, cutoff=cutoff)
    return found[0] if found else ""


def _did_you_mean(guess: str) -> str:
    return f"did you mean {guess} ?" if guess else ""


def leaves(group: BaseExceptionGroup[Refused]) -> Iterator[Refused]:
    """Return what a list was refused for, one by one."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


def read_items(text: str, read: Callable[[str], T]) -> tuple[T, ...]:
    """Read a list, its items separated by commas; raise one Refused for each that is wrong."""
    items = [item.strip(BLANKS) for item in text.split(",")]
    values: list[T] = []
    refused: list[Refused] = []
    for item in items:
        try:
            if not item:
                raise Refused("nothing between two commas, or at an end")
            values.append(read(item))
        except Refused as error:
            where = f"{show_text(item)}: " if len(items) > 1 and item else ""
            refused.append(Refused(where + error.reason, error.remedy))
    if refused:
        raise ExceptionGroup("list", refused)
    return tuple(values)


# Numbers.


def read_weight(text: str) -> float:
    """
    Read a color's weight.

    >>> read_weight("0.5")
    0.5
    """
    if _NUMBER.fullmatch(text):
        if Decimal(text) > MAX_WEIGHT:
            raise Refused(f"more than {MAX_WEIGHT}")
        return float(text)
    if text.endswith("%") and _NUMBER.fullmatch(text[:-1].rstrip()):
        raise Refused(
            "weights have no unit; each is a share of the sum of all", _did_you_mean(text[:-1].rstrip())
        )
    if text.startswith("-") and _NUMBER.fullmatch(text[1:]):
        raise Refused("less than 0")
    if text.count(",") == 1 and _NUMBER.fullmatch(text.replace(",", ".")):
        raise Refused("a decimal takes a point", _did_you_mean(text.replace(",", ".")))
    raise Refused("not a number")


def show_weight(weight: float) -> str:
    """Return a weight as `read_weight` reads it, without an exponent."""
    return _plain(Decimal(repr(weight)))


def _plain(number: Decimal) -> str:
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def duration_reader(minimum_s: float) -> Callable[[str], float]:
    """Return the reader of a duration in seconds that is at least this long."""

    def read(text: str) -> float:
        match = _DURATION.fullmatch(text)
        if not match:
            if text.startswith("-") and _DURATION.fullmatch(text[1:]):
                raise Refused("less than 0")
            raise Refused("not a duration")
        # Decimal, so that 100ms and 0.1 are the same number.
        seconds = Decimal(match[1]) * _SECONDS[(match[2] or "s").lower()]
        if seconds > MAX_DURATION_S:
            raise Refused("more than 7 days")
        if seconds < Decimal(repr(minimum_s)):
            raise Refused(f"less than {show_duration(minimum_s)}")
        return float(seconds)

    return read


def show_duration(seconds: float) -> str:
    """
    Return a duration in the largest unit that needs no decimals.

    >>> [show_duration(s) for s in (0.5, 75.0, 60.0, 0.0)]
    ['500ms', '75s', '1m', '0s']
    """
    exact = Decimal(repr(seconds))
    for unit in ("h", "m", "s", "ms"):
        count = exact / _SECONDS[unit]
        if count == count.to_integral_value() and (count or unit == "s"):
            return f"{int(count)}{unit}"
    return f"{exact:f}s"


def size_reader(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return the reader of a size in bytes within these bounds."""

    def read(text: str) -> int:
        match = _SIZE.fullmatch(text)
        if not match:
            raise Refused("not a size")
        size = Decimal(match[1]) * _BYTES[(match[2] or "").lower()]
        if size > maximum:
            raise Refused(f"more than {show_size(maximum)}")
        if size < minimum:
            raise Refused(f"less than {show_size(minimum)}")
        return int(size)

    return read


def show_size(size: int) -> str:
    """
    Return a size in the largest unit that divides it.

    >>> [show_size(n) for n in (65536, 1000, 0)]
    ['64k', '1000', '0']
    """
    for unit in ("g", "m", "k"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return str(size)


def count_reader(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return the reader of a whole number within these bounds."""

    def read(text: str) -> int:
        if not _INTEGER.fullmatch(text):
            raise Refused("not a whole number")
        count = Decimal(text)
        if count > maximum:
            raise Refused(f"more than {maximum}")
        if count < minimum:
            raise Refused(f"less than {minimum}")
        return int(count)

    return read


_read_workers = count_reader(1, MAX_WORKERS)


def read_workers(text: str) -> int | None:
    """Read a number of worker processes; None for `auto`."""
    return None if text.lower() == "auto" else _read_workers(text)


def read_percent(text: str) -> float:
    """
    Read a share of a whole, as a part of 1.

    >>> [read_percent(text) for text in ("50%", "50", "0")]
    [0.5, 0.5, 0.0]
    """
    number = text.removesuffix("%").rstrip(BLANKS)
    if not _NUMBER.fullmatch(number):
        if number.startswith("-") and _NUMBER.fullmatch(number[1:]):
            raise Refused("less than 0")
        raise Refused("not a number of percent")
    percent = Decimal(number)
    if percent > 100:
        raise Refused("more than 100 percent")
    # Half of a percent, or a half? Who wants the former can say so.
    if number == text and 0 < percent < 1:
        meant = [show_text(_plain(guess)) for guess in (percent * 100, percent)]
        raise Refused("not clear without a percent sign", f"write {meant[0]}% or {meant[1]}%")
    return float(percent / 100)


def show_percent(share: float) -> str:
    """
    Return a share as `read_percent` reads it.

    >>> show_percent(0.125)
    '12.5%'
    """
    return f"{_plain(Decimal(repr(share)) * 100)}%"


# Words.


def word_reader(*words: str) -> Callable[[str], str]:
    """Return the reader of one of a few words, in any case of letters."""

    def read(text: str) -> str:
        if text.lower() in words:
            return text.lower()
        raise Refused("unknown word", _did_you_mean(nearest(text.lower(), words)))

    return read


def read_log_target(text: str) -> str:
    """Read where a log goes: one of three words, or the path of a file."""
    words = ("stdout", "stderr", "off")
    if text.lower() in words:
        return text.lower()
    # A path shows itself by a slash; or a slip like `stdot` would quietly become a file.
    if "/" not in text:
        guess = nearest(text.lower(), words) or f"./{text}"
        raise Refused("neither a known word nor a path with a slash", _did_you_mean(guess))
    if text.endswith("/"):
        raise Refused("a directory, not a file")
    return text


def read_field_name(text: str) -> str:
    """Read the name of the request field that carries the color."""
    if not _TOKEN.fullmatch(text):
        raise Refused("not the name of a header field")
    if text.lower() in TAKEN_FIELDS:
        raise Refused("a field that HTTP or proxies use themselves")
    return text


def read_color_name(text: str) -> str:
    """Read one color's name, in any case of letters."""
    name = text.lower()
    if not name:
        raise Refused("nothing between two commas, or at an end")
    if not _COLOR.fullmatch(name):
        raise Refused("not a color's name")
    if f"{variable_of(name)}_".startswith(OUR_PREFIX):
        raise Refused(f"its variables would look like settings of the proxy ({OUR_PREFIX}…)", OTHER_NAME)
    return name


def read_color_names(text: str) -> tuple[str, ...]:
    """Read the names of the colors; every variable must belong to one color alone."""
    names, refused = split_color_names(text)
    if refused:
        raise ExceptionGroup("list", refused)
    return names


def split_color_names(text: str) -> tuple[tuple[str, ...], list[Refused]]:
    """Return the good names, and what is wrong with the others."""
    owner: dict[str, str] = {}
    names: list[str] = []
    refused: list[Refused] = []
    for item in (part.strip(BLANKS) for part in text.split(",")):
        try:
            name = read_color_name(item)
            if name in names:
                raise Refused("named twice", "name it once")
            variables = [variable_of(name) + suffix for suffix in COLOR_SUFFIXES]
            for variable in variables:
                if variable in owner:
                    raise Refused(
                        f"shares the variable {variable} with the color {owner[variable]}", OTHER_NAME
                    )
        except Refused as error:
            where = f"{show_text(item)}: " if item else ""
            refused.append(Refused(where + error.reason, error.remedy))
            continue
        names.append(name)
        owner.update(dict.fromkeys(variables, name))
    if len(names) > MAX_COLORS:
        refused.append(Refused(f"{len(names)} colors are more than {MAX_COLORS}", "name fewer"))
    return tuple(names), refused


def variable_of(color: str) -> str:
    """
    Return the variable of a color's URL.

    >>> variable_of("blue-canary")
    'BLUE_CANARY'
    """
    return color.upper().replace("-", "_")


# Addresses.


def _read_ip4(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except ValueError:
        raise Refused("not an IPv4 address") from None


def _read_ip6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except ValueError:
        raise Refused("not an IPv6 address") from None
    if address.scope_id is not None:
        raise Refused("an IPv6 address with a zone is not supported")
    return str(address)


def _read_port(text: str, minimum: int) -> int:
    if not _INTEGER.fullmatch(text) or not minimum <= Decimal(text) <= 65535:
        raise Refused(f"the port is not a number from {minimum} to 65535")
    return int(Decimal(text))


def read_socket_path(path: str) -> str:
    """Read the path of a unix socket (unix(7))."""
    if not path.startswith("/") or path.endswith("/"):
        raise Refused("the path of a unix socket begins with / and names a file")
    if len(path.encode("utf-8", "surrogateescape")) > MAX_SOCKET_PATH:
        raise Refused(f"the path of a unix socket is longer than {MAX_SOCKET_PATH} bytes")
    return path


def read_listener(text: str) -> Listener:
    """
    Read one address to accept on. An empty host is all addresses, port 0 any free port.

    >>> read_listener("[::1]:8080")
    Listener(host='::1', port=8080, path='', tls=False)
    """
    if text.lower().startswith("unix:"):
        return Listener(path=read_socket_path(text[5:]))
    if "/" in text:
        raise Refused("an address, not a URL or a path" if "://" in text else "no unix: before the path")
    if _INTEGER.fullmatch(text):
        raise Refused("no colon before the port", _did_you_mean(f":{text}"))
    if text.count(":") > 1 and not text.startswith("["):
        raise Refused("an IPv6 address without brackets", "write it as in [::1]:8080")
    match = _AUTHORITY.fullmatch(text)
    if not match:
        raise Refused("not an address")
    if match["port"] is None:
        raise Refused("no port", _did_you_mean(f"{text}:8080"))
    if match["six"] is not None:
        host = _read_ip6(match["six"])
    elif match["host"] == "*":
        raise Refused("all addresses are written without *", _did_you_mean(f":{match['port']}"))
    elif match["host"].lower() == "localhost":
        host = "127.0.0.1"
    else:
        # A name may resolve to another address tomorrow, or to none at boot.
        host = match["host"] and _read_ip4(match["host"])
    return Listener(host, _read_port(match["port"], 0))


def read_listeners(text: str) -> tuple[Listener, ...]:
    """Read the addresses to accept on; no two of them may claim the same port of the same address."""
    listeners = read_items(text, read_listener)
    for i, listener in enumerate(listeners):
        for earlier in listeners[:i]:
            if overlap(listener, earlier):
                raise Refused(f"{listener} is covered by {earlier} already", "name it once")
    return listeners


def overlap(a: Listener, b: Listener) -> bool:
    """Tell whether two listeners would accept the same connections."""
    if a.path or b.path:
        return a.path == b.path
    if a.port != b.port or a.port == 0:
        return False
    if a.host == b.host or "" in (a.host, b.host):
        return True
    return (":" in a.host) == (":" in b.host) and bool({"0.0.0.0", "::"} & {a.host, b.host})  # noqa: S104


def show_listeners(listeners: Sequence[Listener]) -> str:
    """Return listeners as `read_listeners` reads them."""
    return ",".join(map(str, listeners))


def read_plain_listeners(text: str) -> tuple[Listener, ...]:
    """Read the addresses to accept clear text on; none for `off`."""
    return () if text.lower() == "off" else read_listeners(text)


def show_plain_listeners(listeners: Sequence[Listener]) -> str:
    """Return listeners as `read_plain_listeners` reads them."""
    return show_listeners(listeners) or "off"


def read_tls_listeners(text: str) -> tuple[Listener, ...]:
    """Read the addresses to accept TLS on."""
    return tuple(replace(listener, tls=True) for listener in read_listeners(text))


def read_hsts(text: str) -> str:
    """
    Read the value of Strict-Transport-Security (RFC 6797, 6.1), or the seconds alone.

    >>> read_hsts("31536000; includesubdomains")
    'max-age=31536000; includeSubDomains'
    """
    match = _HSTS.fullmatch(text)
    if match is None:
        raise Refused("not seconds, maybe with includeSubDomains and preload")
    seconds, sub_domains, preload = match.groups()
    words = [f"max-age={int(seconds)}"]
    words += ["includeSubDomains"] * bool(sub_domains) + ["preload"] * bool(preload)
    return "; ".join(words)


def read_admin(text: str) -> Listener | None:
    """Read the address of the admin listener; None for `off`."""
    return None if text.lower() == "off" else read_listener(text)


def read_token(text: str) -> str:
    """Read a secret that travels in a header field. What it is stands in no message."""
    if not all("!" <= char <= "~" for char in text):
        raise Refused("not ASCII letters, digits and signs alone", "use what `openssl rand -hex 16` prints")
    if not MIN_TOKEN <= len(text) <= MAX_TOKEN:
        raise Refused(
            f"{len(text)} characters are not from {MIN_TOKEN} to {MAX_TOKEN}",
            "use what `openssl rand -hex 16` prints",
        )
    return text


def show_admin(listener: Listener | None) -> str:
    """Return the admin listener as `read_admin` reads it."""
    return str(listener) if listener else "off"


def read_upstreams(text: str) -> tuple[Upstream, ...]:
    """Read the URLs of a color."""
    for item in text.split(","):
        # Before anything is quoted: what stands before the @ is a password, commas and all.
        if "@" in _SCHEME.sub("", item.strip(BLANKS)).partition("/")[0]:
            raise Refused("a user or password in the URL is not supported", "remove what stands before the @")
    upstreams = read_items(text, read_upstream)
    for i, upstream in enumerate(upstreams):
        if upstream in upstreams[:i]:
            raise Refused(f"{upstream} is named twice", "name it once; a share is set by the weight")
    return upstreams


def read_upstream(text: str) -> Upstream:
    """
    Read one URL of a color.

    >>> read_upstream("http://myapp-v1:8080/base/")
    Upstream(scheme='http', host='myapp-v1', port=8080, base='/base')
    >>> read_upstream("unix:/run/app.sock"), read_upstream("https://shop").port
    (Upstream(scheme='unix', host='/run/app.sock', port=0, base=''), 443)
    """
    if text[:5].lower() == "unix:":
        return Upstream("unix", read_socket_path(text[5:]), 0)
    match = _SCHEME.match(text)
    if not match:
        raise Refused("no scheme", _did_you_mean(_guess_url(text)))
    scheme: Any = match[1].lower()
    if scheme not in _DEFAULT_PORTS:
        raise Refused(f"the scheme {show_text(match[1])} is not supported", "use http://, https:// or h2c://")
    rest = text[match.end() :]
    for mark, word in (("?", "query"), ("#", "fragment")):
        if mark in rest:
            raise Refused(f"a URL with a {word} is not supported", "a request brings its own")
    authority, slash, path = rest.partition("/")
    host, port = read_authority(authority, _DEFAULT_PORTS[scheme])
    base = (slash + path).rstrip("/")
    if not _BASE.fullmatch(base):
        raise Refused("the path has characters that a URL may not have", "write them as %XX")
    if len(text) > 2000:
        raise Refused("longer than 2000 characters", "shorten the path")
    return Upstream(scheme, host, port, base)


def read_server_name(text: str) -> str:
    """Read a host name or an address, as a certificate is for it."""
    host, _ = read_authority(f"[{text}]" if ":" in text else text, 443)
    return host


def read_authority(text: str, default_port: int = 80) -> tuple[str, int]:
    """Read the host of a URL and its port, `default_port` unless it is named."""
    if text.count(":") > 1 and not text.startswith("["):
        raise Refused("an IPv6 address without brackets", "write it as in http://[::1]:8080")
    match = _AUTHORITY.fullmatch(text)
    if not match:
        raise Refused("not a host")
    port = default_port if match["port"] is None else _read_port(match["port"], 1)
    if match["six"] is not None:
        return _read_ip6(match["six"]), port
    host = match["host"]
    if not host:
        raise Refused("no host")
    if not host.isascii():
        raise Refused("a host name with letters beyond ASCII", "write its xn-- form")
    # A last label of digits alone is an address to every resolver (and 127.1 to some).
    if host.rstrip(".").rpartition(".")[2].isdigit():
        return _read_ip4(host), port
    if not _HOST.fullmatch(host):
        raise Refused("not a host name")
    return host, port


def _guess_url(text: str) -> str:
    if re.match(r"(?i)https?[:/]|[^/]*//", text):
        return ""
    try:
        return f"http://{text}" if read_upstream(f"http://{text}") else ""
    except Refused:
        return ""


def show_upstreams(upstreams: Sequence[Upstream]) -> str:
    """Return URLs as `read_upstreams` reads them."""
    return ",".join(map(str, upstreams))


# Health checks.


def read_probe_path(text: str) -> str:
    """
    Read the path of a health check; a query may follow it. Or `grpc`, maybe with a service.

    >>> read_probe_path("/healthz?deep=1"), read_probe_path("grpc:shop.Cart")
    ('/healthz?deep=1', 'grpc:shop.Cart')
    """
    if _GRPC.fullmatch(text):
        return text
    if text.startswith("grpc:"):
        raise Refused("not the full name of a service", "use grpc, or grpc:package.Service")
    if _SCHEME.match(text):
        raise Refused("a URL, not a path", "leave out scheme and host; the color's URL has them")
    if not text.startswith("/"):
        guess = f"/{text}" if _TARGET.fullmatch(f"/{text}") else ""
        raise Refused("does not begin with /", _did_you_mean(guess))
    if "#" in text:
        raise Refused("a path with a fragment is never sent", "remove what follows the #")
    if not _TARGET.fullmatch(text):
        raise Refused("a path has characters that a request may not have", "write them as %XX")
    if len(text) > MAX_PATH:
        raise Refused(f"longer than {MAX_PATH} characters", "shorten the path")
    return text


def read_statuses(text: str) -> tuple[tuple[int, int], ...]:
    """
    Read which status codes are good, as ranges with their first and last code.

    >>> read_statuses("2xx, 301, 401-403")
    ((200, 299), (301, 301), (401, 403))
    """
    ranges = tuple(dict.fromkeys(read_items(text, _read_status)))
    if len(ranges) > MAX_STATUSES:
        raise Refused(f"{len(ranges)} items are more than {MAX_STATUSES}", "use ranges, as in 200-399")
    return ranges


def _read_status(text: str) -> tuple[int, int]:
    if match := _STATUS_CLASS.fullmatch(text):
        first, last = int(match[1]) * 100, int(match[1]) * 100 + 99
    elif match := _STATUS_RANGE.fullmatch(text):
        first, last = int(match[1]), int(match[2] or match[1])
    else:
        raise Refused("not a status code")
    # RFC 9110, 15: codes end at 599; a 1xx is not the answer yet.
    if first < 200 or last > 599:
        raise Refused("the status code of an answer is from 200 to 599")
    if first > last:
        raise Refused("the range ends before it begins", _did_you_mean(f"{last}-{first}"))
    return first, last


def show_statuses(ranges: Sequence[tuple[int, int]]) -> str:
    """Return status codes as `read_statuses` reads them."""
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


# Files.


def read_paths(text: str) -> tuple[str, ...]:
    """Read the paths of files or directories, in their order."""
    return read_items(text, str)


def read_path(text: str) -> str:
    """Read the path of one file."""
    return text


def read_networks(text: str) -> tuple[Network, ...]:
    """Read networks and single addresses."""
    return tuple(dict.fromkeys(read_items(text, read_network)))


def read_network(text: str) -> Network:
    """
    Read a network, or one address as the network of itself.

    >>> read_network("10.0.0.0/8")
    IPv4Network('10.0.0.0/8')
    """
    address, slash, prefix = text.partition("/")
    if "%" in text or (slash and not _INTEGER.fullmatch(prefix)):
        raise Refused("not a network")
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise Refused("not a network") from None
    # Compared as numbers: an IPv6 address has many spellings.
    if int(network.network_address) != int(ip_network(address).network_address):
        raise Refused(f"the address has bits beyond its /{network.prefixlen}", _did_you_mean(str(network)))
    return network


def show_networks(networks: Sequence[Network]) -> str:
    """Return networks as `read_networks` reads them."""
    return ",".join(map(str, networks))
