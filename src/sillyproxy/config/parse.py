"""
Draft to Config: the only place where unchecked text becomes something to act on.

All problems are collected before any is raised, so that an operator who made three
mistakes restarts once, not three times. What can be lived with (an unknown name, a
weight without a URL) is returned as a warning beside the Config.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sillyproxy.config.merge import (
    DEFAULT,
    Draft,
    add_colors,
    merge,
    read_command_line,
    read_environment,
)
from sillyproxy.config.schema import AccessLog, Color, Config, Limits, Origin, Timeouts
from sillyproxy.config.settings import BY_NAME, COLOR_SETTINGS, PROXY_SETTINGS, Setting
from sillyproxy.config.values import (
    BLANKS,
    MAX_WORKERS,
    OUR_PREFIX,
    Refused,
    leaves,
    nearest,
    overlap,
    show_text,
    split_color_names,
    variable_of,
)

# A Config travels in one packet to each worker (tools.channel), so it may not grow without bound.
MAX_TEXT: Final = 8192
MAX_UPSTREAMS: Final = 256
MAX_NETWORKS: Final = 256
MAX_LISTENERS: Final = 16

URL, WEIGHT, HEALTH = COLOR_SETTINGS


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


def load(
    environ: Mapping[str, str],
    *,
    cpus: int,
    colors: Sequence[str] = (),
    listen: str | None = None,
    generation: int = 1,
    slots: Sequence[str] = (),
) -> tuple[Config, tuple[Problem, ...]]:
    """
    Return the configuration that environment and command line ask for, and the warnings.

    `cpus` is what `SILLYPROXY_WORKERS=auto` means here. Raises ConfigError with all problems.
    """
    draft = merge(read_environment(environ), read_command_line(listen))
    return parse(add_colors(draft, colors), cpus=cpus, generation=generation, slots=slots)


def parse(
    draft: Draft, *, cpus: int, generation: int = 1, slots: Sequence[str] = ()
) -> tuple[Config, tuple[Problem, ...]]:
    """
    Return the Config that a draft asks for, and the warnings; raise ConfigError with all problems.

    `slots` are those of the generation before.
    """
    reading = _Reading(draft)
    fields = {setting.field: reading.value(setting) for setting in PROXY_SETTINGS if not setting.later}
    names = reading.color_names()
    colors = tuple(reading.colors(names))
    reading.check(fields, colors)
    if reading.problems:
        raise ConfigError(tuple(dict.fromkeys(reading.problems)))

    reading.warn_idle(names, colors)
    reading.warn_later(names)
    reading.warn_unknown(names, colors)
    if fields["workers"] is None:
        fields["workers"] = max(1, min(cpus, MAX_WORKERS))
    config = _build(
        fields,
        color_names=names,
        colors=colors,
        origins=reading.used,
        generation=generation,
        slots=tuple(dict.fromkeys((*slots, *names))),
    )
    return config, tuple(reading.warnings)


def _build(fields: Mapping[str, Any], **rest: Any) -> Config:
    """Put each value in its place: `timeouts.connect_s` in Timeouts, a plain name in the Config itself."""
    groups: dict[str, dict[str, Any]] = {"": {}, "timeouts": {}, "limits": {}, "access_log": {}}
    for path, value in fields.items():
        group, _, name = path.rpartition(".")
        groups[group][name] = value
    return Config(
        **{**groups[""], **rest},
        timeouts=Timeouts(**groups["timeouts"]),
        limits=Limits(**groups["limits"]),
        access_log=AccessLog(**groups["access_log"], format=fields["log_format"]),
    )


class _Reading:
    """One draft while it is read: what was used of it, and what was found wrong."""

    def __init__(self, draft: Draft) -> None:
        # An empty value is no value: `GREEN=` in a compose file unsets it.
        trimmed = {name: Origin(origin.text.strip(BLANKS), origin.source) for name, origin in draft.items()}
        self.draft = {name: origin for name, origin in trimmed.items() if origin.text}
        self.used: dict[str, Origin] = {}
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

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

    def colors(self, names: Sequence[str]) -> Iterator[Color]:
        """Read the colors that are present; check the weights of those that are not."""
        for name in names:
            upstreams = self.value(URL, URL.name_for(name))
            weight = self.value(WEIGHT, WEIGHT.name_for(name))
            if upstreams is not None and weight is not None:
                yield Color(name, upstreams, weight)

    def check(self, fields: Mapping[str, Any], colors: Sequence[Color]) -> None:
        """Find what is wrong between settings that are each right alone, and lists that are too long."""
        listeners, admin = fields["listeners"] or (), fields["admin"]
        for listener in listeners:
            if admin and overlap(listener, admin):
                self.problem(
                    "SILLYPROXY_ADMIN", f"SILLYPROXY_LISTEN has {listener} already; use another port, or off"
                )
                break
        self.at_most(MAX_LISTENERS, "SILLYPROXY_LISTEN", len(listeners), "addresses")
        self.at_most(
            MAX_NETWORKS, "SILLYPROXY_TRUSTED_PROXIES", len(fields["trusted_proxies"] or ()), "networks"
        )
        count = 0
        for color in colors:
            count += len(color.upstreams)
            self.at_most(MAX_UPSTREAMS, URL.name_for(color.name), count, "URLs of all colors")

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
        for color in names:
            url = URL.name_for(color)
            for name in (WEIGHT.name_for(color), HEALTH.name_for(color)):
                if name in self.draft and url not in self.draft:
                    self.warn(name, f"{url} is not set, so this has no effect")

    def warn_later(self, names: Sequence[str]) -> None:
        """Warn of settings that are known and do nothing yet."""
        for name in (*(HEALTH.name_for(color) for color in names), "SILLYPROXY_ENV_FILE"):
            if name in self.draft:
                self.warn(name, "known, but does not take effect yet in this version")

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
        return Problem(name, show_text(origin.text) if shown else None, origin.source, reason)


def _checked(text: str) -> str:
    """Refuse what no setting takes: characters that do not print, and texts without end."""
    for char in text:
        if not char.isprintable():
            raise Refused(f"a character that does not print ({show_text(char)})")
    if len(text) > MAX_TEXT:
        raise Refused(f"longer than {MAX_TEXT} characters")
    return text
