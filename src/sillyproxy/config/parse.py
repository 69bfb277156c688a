"""
Draft to Config: the only place where unchecked text becomes something to act on.

All problems are collected before any is raised, so that an operator who made three
mistakes restarts once, not three times. What can be lived with (an unknown name, a
weight without a URL) is returned as a warning beside the Config.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sillyproxy.config.merge import (
    DEFAULT,
    Draft,
    add_colors,
    merge,
    read_command_line,
    read_environment,
)
from sillyproxy.config.schema import (
    AccessLog,
    Certificate,
    Color,
    Config,
    Export,
    Limits,
    Listener,
    Origin,
    Outlier,
    Probe,
    Retry,
    Timeouts,
    Tls,
    Tracing,
    UpstreamTls,
)
from sillyproxy.config.settings import BY_NAME, COLOR, COLOR_SETTINGS, PROXY_SETTINGS, Setting
from sillyproxy.config.values import (
    BLANKS,
    MAX_COLORS,
    MAX_WORKERS,
    OUR_PREFIX,
    Refused,
    leaves,
    mask,
    nearest,
    overlap,
    show_duration,
    show_text,
    split_color_names,
    variable_of,
)

# A Config travels in one packet to each worker (tools.channel), so it may not grow without bound:
# neither one text, nor all that is kept of it.
MAX_TEXT: Final = 8192
MAX_TEXTS: Final = 48 * 1024
MAX_UPSTREAMS: Final = 256
MAX_NETWORKS: Final = 256
MAX_LISTENERS: Final = 16
# More would not be read; and those of a reload travel as well.
MAX_PROBLEMS: Final = 100

URL, WEIGHT = (BY_NAME[name] for name in (COLOR, f"{COLOR}_WEIGHT"))
PROBE_INTERVAL, PROBE_TIMEOUT = (BY_NAME[f"{COLOR}_HEALTH_{word}"] for word in ("INTERVAL", "TIMEOUT"))


@dataclass(frozen=True, slots=True)
class Problem:
    """
    One thing wrong, with remedy.

    `text` may be shown as it is (no password, no control characters); it is None where
    the variable is not set, or is not ours to show.
    """

    name: str
    text: str | None
    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.setting}  ({self.source})  {self.reason}"

    @property
    def setting(self) -> str:
        """The variable as it stands in a shell or a compose file."""
        name = show_text(self.name)
        return name if self.text is None else f"{name}={self.text}"


class ConfigError(Exception):
    """The draft is not a configuration. `problems` holds everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(f"{p.name}: {p.reason}" for p in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Reading:
    """
    What a source said: its draft, and what is wrong with how it is written.

    `fingerprint` changes with whatever was read.
    """

    draft: Draft
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    fingerprint: bytes = b""


NOTHING: Final = Reading({})


@dataclass(frozen=True, slots=True)
class ColorCredentials:
    """What is in a color's files: authorities, and a certificate with its key. PEM."""

    ca: bytes = b""
    chain: bytes = b""
    key: bytes = b""


@dataclass(frozen=True, slots=True)
class Credentials:
    """
    What is in the files of certificates and keys that the draft names, and what is wrong with them.

    `colors` are those of colors, by the variables of their URLs.
    """

    certificates: tuple[Certificate, ...] = ()
    client_ca: bytes = b""
    colors: Mapping[str, ColorCredentials] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


NO_CREDENTIALS: Final = Credentials()


def make_draft(
    environ: Mapping[str, str], files: Reading = NOTHING, listen: str | None = None
) -> Mapping[str, Origin]:
    """Return what all sources say together, trimmed. An empty value is no value: `GREEN=` unsets it."""
    return _trimmed(merge(read_environment(environ), files.draft, read_command_line(listen)))


def _trimmed(draft: Draft) -> dict[str, Origin]:
    trimmed = {name: Origin(origin.text.strip(BLANKS), origin.source) for name, origin in draft.items()}
    return {name: origin for name, origin in trimmed.items() if origin.text}


def load(
    environ: Mapping[str, str],
    *,
    cpus: int,
    colors: Sequence[str] = (),
    listen: str | None = None,
    files: Reading = NOTHING,
    credentials: Credentials = NO_CREDENTIALS,
    generation: int = 1,
    slots: Sequence[str] = (),
) -> tuple[Config, tuple[Problem, ...]]:
    """
    Return the configuration that environment, files and command line ask for, and the warnings.

    `cpus` is what `SILLYPROXY_WORKERS=auto` means here; `slots` are those of the generation
    before. Raises ConfigError with all problems, those of the files among them.
    """
    draft = make_draft(environ, files, listen)
    reader = _Reader(
        _trimmed(add_colors(draft, colors)),
        (*files.problems, *credentials.problems),
        (*files.warnings, *credentials.warnings),
    )
    fields = {setting.field: reader.value(setting) for setting in PROXY_SETTINGS}
    names = reader.color_names()
    present = tuple(reader.colors(names, credentials.colors))
    rows = tuple(dict.fromkeys((*slots, *names)))
    reader.check(fields, present)
    reader.check_slots(rows)
    if not reader.problems:
        reader.check_size()
    if reader.problems:
        raise ConfigError(_at_most(MAX_PROBLEMS, tuple(dict.fromkeys(reader.problems))))

    reader.warn_idle(names, present)
    reader.warn_needless(names)
    reader.warn_unknown(names, present)
    reader.warn_untraced(fields)
    reader.warn_open(fields["admin"], fields["admin_token"])
    if fields["workers"] is None:
        fields["workers"] = max(1, min(cpus, MAX_WORKERS))
    fields["tls.certificates"], fields["tls.client_ca"] = credentials.certificates, credentials.client_ca
    fields["access_log.format"] = fields["access_log.format"] or fields["log_format"]
    config = _build(
        fields,
        color_names=names,
        colors=present,
        origins=reader.used,
        generation=generation,
        slots=rows,
    )
    return config, _at_most(MAX_PROBLEMS, reader.warnings)


def _at_most(maximum: int, problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """Cut a list short, and say so in its last item."""
    if len(problems) <= maximum:
        return tuple(problems)
    first = problems[maximum - 1]
    rest = len(problems) - maximum + 1
    return (
        *problems[: maximum - 1],
        Problem(first.name, None, first.source, f"and {rest} more, from here on"),
    )


def _build(fields: Mapping[str, Any], **rest: Any) -> Config:
    """Make a Config of its values."""
    groups = _grouped(fields)
    return Config(
        **{**groups[""], **rest},
        timeouts=Timeouts(**groups["timeouts"]),
        limits=Limits(**groups["limits"]),
        access_log=AccessLog(**groups["access_log"]),
        outlier=Outlier(**groups["outlier"]),
        retry=Retry(**groups["retry"]),
        tracing=Tracing(**groups["tracing"]),
        export=Export(**groups["export"]),
        tls=Tls(**groups["tls"]),
    )


def _build_color(name: str, fields: Mapping[str, Any], files: ColorCredentials) -> Color:
    """Make a Color of its values; it is probed if there is a path to ask for."""
    groups = _grouped(fields)
    probe = Probe(**groups["probe"]) if groups["probe"]["path"] else None
    tls = UpstreamTls(**groups["tls"], ca=files.ca, chain=files.chain, key=files.key)
    return Color(name, **groups[""], probe=probe, tls=tls)


def _grouped(fields: Mapping[str, Any]) -> Mapping[str, dict[str, Any]]:
    """Return values by place: `timeouts.connect_s` is in the group `timeouts`, a plain name in that of ''."""
    groups: dict[str, dict[str, Any]] = {}
    for path, value in fields.items():
        group, _, name = path.rpartition(".")
        groups.setdefault(group, {})[name] = value
    return groups


class _Reader:
    """One draft while it is read: what was used of it, and what was found wrong."""

    def __init__(self, draft: Draft, problems: Sequence[Problem], warnings: Sequence[Problem]) -> None:
        self.draft = draft
        self.used: dict[str, Origin] = {}
        self.problems = list(problems)
        self.warnings = list(warnings)

    def value(self, setting: Setting, name: str = "") -> Any:
        """Read one setting; None if it is wrong."""
        name = name or setting.name
        origin = self.draft.get(name)
        if origin is None:
            return setting.kind.read(setting.default) if setting.default else setting.kind.none
        self.used[name] = origin
        try:
            return setting.kind.read(_checked(origin.text))
        except* Refused as group:
            for error in leaves(group):
                remedy = error.remedy or f"use {setting.kind.takes}, for instance {name}={setting.example}"
                self.problem(name, f"{error.reason}; {remedy}")
        return None

    def color_names(self) -> tuple[str, ...]:
        """Return the good names, so that the colors behind them are checked even if another name is bad."""
        origin = self.draft.get("SILLYPROXY_COLORS")
        names, _ = split_color_names(origin.text if origin else BY_NAME["SILLYPROXY_COLORS"].default)
        return names

    def colors(self, names: Sequence[str], credentials: Mapping[str, ColorCredentials]) -> Iterator[Color]:
        """Read the colors that are present; check the settings of those that are not."""
        for name in names:
            before = len(self.problems)
            fields = {s.field: self.value(s, s.name_for(name)) for s in COLOR_SETTINGS}
            self.check_probe(name, fields["probe.interval_s"], fields["probe.timeout_s"])
            if fields["proxy_protocol"] != "off" and any(
                u.scheme == "h2c" for u in fields["upstreams"] or ()
            ):
                name_of_it = f"{variable_of(name)}_PROXY_PROTOCOL"
                self.problem(
                    name_of_it, "connections of h2c:// are shared by clients; use http:// or https://"
                )
            if fields["upstreams"] and len(self.problems) == before:
                yield _build_color(name, fields, credentials.get(variable_of(name), ColorCredentials()))

    def check_probe(self, color: str, interval_s: float | None, timeout_s: float | None) -> None:
        """Refuse a check that the next one would overtake."""
        if interval_s is None or timeout_s is None or timeout_s <= interval_s:
            return
        interval, timeout = PROBE_INTERVAL.name_for(color), PROBE_TIMEOUT.name_for(color)
        if timeout in self.draft:
            self.problem(timeout, f"longer than {interval} ({show_duration(interval_s)}); use at most that")
        else:
            self.problem(
                interval, f"shorter than {timeout} ({show_duration(timeout_s)} unless set); set that as well"
            )

    def check(self, fields: Mapping[str, Any], colors: Sequence[Color]) -> None:
        """Find what is wrong between settings that are each right alone, and lists that are too long."""
        self.check_addresses(fields["listeners"], fields["tls.listeners"] or (), fields["admin"])
        self.check_certificates(fields["tls.listeners"], fields["tls.cert_files"], fields["tls.key_files"])
        self.at_most(
            MAX_NETWORKS, "SILLYPROXY_TRUSTED_PROXIES", len(fields["trusted_proxies"] or ()), "networks"
        )
        count = 0
        for color in colors:
            count += len(color.upstreams)
            self.at_most(MAX_UPSTREAMS, URL.name_for(color.name), count, "URLs of all colors")

    def check_addresses(
        self, plain: Sequence[Listener] | None, tls: Sequence[Listener], admin: Listener | None
    ) -> None:
        """Refuse an address that two would serve, and a proxy without any."""
        for listener in tls:
            if any(overlap(listener, other) for other in plain or ()):
                reason = f"SILLYPROXY_LISTEN has {listener} already; use another port"
                self.problem("SILLYPROXY_TLS_LISTEN", reason)
        for name, listeners in (("SILLYPROXY_LISTEN", plain or ()), ("SILLYPROXY_TLS_LISTEN", tls)):
            taken = next((listener for listener in listeners if admin and overlap(listener, admin)), None)
            if taken is not None:
                self.problem("SILLYPROXY_ADMIN", f"{name} has {taken} already; use another port, or off")
            self.at_most(MAX_LISTENERS, name, len(listeners), "addresses")
        if plain == () and not tls and "SILLYPROXY_TLS_LISTEN" not in self.draft:
            reason = "nothing to serve on; set SILLYPROXY_TLS_LISTEN, or use an address"
            self.problem("SILLYPROXY_LISTEN", reason)

    def check_certificates(
        self, listeners: Sequence[Listener] | None, certs: Sequence[str] | None, keys: Sequence[str] | None
    ) -> None:
        """Refuse TLS without a certificate, and certificates that have no key, or one too many."""
        if listeners and "SILLYPROXY_TLS_CERT" not in self.draft:
            self.problem("SILLYPROXY_TLS_CERT", "SILLYPROXY_TLS_LISTEN needs a certificate; name its file")
        if certs and keys and len(certs) != len(keys):
            self.problem(
                "SILLYPROXY_TLS_KEY",
                f"{len(keys)} for {len(certs)} of SILLYPROXY_TLS_CERT; name one for each, in the same order",
            )

    def check_size(self) -> None:
        """Refuse texts that are each right and too much together."""
        size = 0
        for name, origin in self.used.items():
            size += sum(len(text.encode("utf-8", "replace")) for text in (name, origin.text, origin.source))
            if size > MAX_TEXTS:
                self.problem(name, f"with this, all settings together are longer than {MAX_TEXTS} bytes")
                break

    def check_slots(self, rows: Sequence[str]) -> None:
        """Refuse more names than there are rows in the counts, which stay whose they were."""
        if len(rows) > MAX_COLORS >= len(self.color_names()):
            self.problem(
                "SILLYPROXY_COLORS",
                f"{len(rows)} names of colors since the start are more than {MAX_COLORS}; restart, or take "
                "names that were there before",
            )

    def at_most(self, maximum: int, name: str, count: int, what: str) -> None:
        """Refuse a list that is too long."""
        if count > maximum:
            self.problem(
                name, f"{count} {what} are more than {maximum}; use one name that resolves to them all"
            )

    def warn_idle(self, names: Sequence[str], colors: Sequence[Color]) -> None:
        """Warn of a proxy that would answer every request with 503, and of variables without their URL."""
        if not colors:
            name = URL.name_for(names[0])
            self.warn(
                name,
                f"no color has a URL, every request gets 503; set one, for instance {name}={URL.example}",
            )
        elif not any(color.weight for color in colors):
            name = WEIGHT.name_for(colors[0].name)
            self.warn(name, "all colors are at weight 0, every request gets 503")

    def warn_needless(self, names: Sequence[str]) -> None:
        """Warn of settings that need another one, which is not set."""
        for color in names:
            for setting in COLOR_SETTINGS:
                missing = self.missing(setting, color)
                if setting.name_for(color) in self.draft and missing:
                    self.warn(setting.name_for(color), f"{missing} is not set, so this has no effect")
        for setting in PROXY_SETTINGS:
            if setting.needs and setting.name in self.draft and setting.needs not in self.draft:
                self.warn(setting.name, f"{setting.needs} is not set, so this has no effect")

    def missing(self, setting: Setting, color: str) -> str:
        """Return the first variable without which a setting of a color has no effect, and that is not set."""
        if not setting.needs:
            return ""
        needed = BY_NAME[setting.needs]
        name = needed.name_for(color)
        return self.missing(needed, color) or ("" if name in self.draft else name)

    def warn_unknown(self, names: Sequence[str], colors: Sequence[Color]) -> None:
        """Warn of variables that look like ours and are not."""
        known = {s.name_for(color) for s in COLOR_SETTINGS for color in names} | {
            s.name for s in PROXY_SETTINGS
        }
        prefixes = {OUR_PREFIX: [s.name.removeprefix(OUR_PREFIX) for s in PROXY_SETTINGS]}
        for color in colors:
            prefix = f"{variable_of(color.name)}_"
            prefixes[prefix] = [
                s.name_for(color.name).removeprefix(prefix) for s in COLOR_SETTINGS if s is not URL
            ]
        for name in self.draft:
            if name in known:
                continue
            if name.upper() in known:
                self.warn(name, f"names are in capitals; did you mean {name.upper()} ?", shown=False)
                continue
            prefix = max((p for p in prefixes if name.upper().startswith(p)), key=len, default="")
            if prefix:
                rest = name.upper()[len(prefix) :][:64]
                close = nearest(rest, prefixes[prefix])
                if close:
                    reason = f"unknown; did you mean {prefix}{close} ?"
                else:
                    reason = (
                        f"unknown; the nearest known name is {prefix}{nearest(rest, prefixes[prefix], 0)}"
                    )
                self.warn(name, reason, shown=False)

    def warn_untraced(self, fields: Mapping[str, Any]) -> None:
        """Warn of a collector that will never get a span."""
        if fields["export.endpoint"] and fields["tracing.mode"] == "off":
            self.warn(
                "SILLYPROXY_OTLP_ENDPOINT",
                "SILLYPROXY_TRACING is off, so this has no effect; use continue or start",
            )

    def warn_open(self, admin: Listener | None, token: str | None) -> None:
        """Warn of an admin listener that answers strangers."""
        if admin is not None and not admin.is_local and token is None:
            self.warn(
                "SILLYPROXY_ADMIN",
                "whoever can connect to it sees configuration and traffic; set SILLYPROXY_ADMIN_TOKEN, or "
                "listen on 127.0.0.1",
            )

    def problem(self, name: str, reason: str) -> None:
        """Note what makes the draft unusable."""
        self.problems.append(self.note(name, reason))

    def warn(self, name: str, reason: str, *, shown: bool = True) -> None:
        """Note what can be lived with. The value of an unknown variable is not ours to show."""
        self.warnings.append(self.note(name, reason, shown=shown))

    def note(self, name: str, reason: str, *, shown: bool = True) -> Problem:
        """Return a problem with the text and the origin of its variable."""
        origin = self.draft.get(name)
        if origin is None:
            default = BY_NAME[name].default if name in BY_NAME else ""
            return Problem(name, default or None, DEFAULT if default else "not set", reason)
        return Problem(name, mask(name, origin.text) if shown else None, origin.source, reason)


def _checked(text: str) -> str:
    """Refuse what no setting takes: characters that do not print, and texts without end."""
    for char in text:
        if not char.isprintable():
            raise Refused(f"a character that does not print ({show_text(char)})")
    if len(text) > MAX_TEXT:
        raise Refused(f"longer than {MAX_TEXT} characters")
    return text
