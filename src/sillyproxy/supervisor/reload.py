"""
The configuration is read again: what is wrong is found before anything of the old one is given up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sillyproxy.config import ConfigError, Problem
from sillyproxy.config.schema import Config
from sillyproxy.supervisor.addresses import Addresses, Plan
from sillyproxy.supervisor.source import Source
from sillyproxy.tools import logs
from sillyproxy.tools.listen import CannotListen


class Wrong(Exception):
    """What is asked for now cannot be served. `problems` is everything that is wrong with it."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Proposal:
    """What could be served instead: all its addresses are bound. `changed` names the settings that differ."""

    config: Config
    plan: Plan
    changed: str


def propose(source: Source, addresses: Addresses, asked: Config, in_force: Config) -> Proposal | None:
    """
    Return what is asked for now; None if it is what was `asked` the last time. Raise Wrong.

    `in_force` is what came of the last time: its ports are the real ones.
    """
    try:
        config, warnings = source.load(in_force)
    except ConfigError as error:
        raise Wrong(*map(str, error.problems)) from None
    log_warnings(warnings)
    if is_same(config, asked):
        return None
    if asked.colors and not config.colors:
        # A file cut short, or moved away for a moment, asks for nothing as well.
        raise Wrong("no color has a URL any more; to serve none, restart without one")
    try:
        plan = addresses.plan(config)
    except CannotListen as error:
        raise Wrong(str(error)) from None
    try:
        logs.check_writable(config.access_log.target)
    except logs.CannotLog as error:
        plan.close()
        raise Wrong(str(error)) from None
    return Proposal(config, plan, _name_changes(asked, config))


def is_same(one: Config, other: Config) -> bool:
    """Tell whether two configurations ask for the same, wherever it is written."""
    return replace(one, generation=0, origins={}) == replace(other, generation=0, origins={})


def _name_changes(before: Config, after: Config) -> str:
    """Return the names of the settings that are not what they were; no values, they may be secret."""
    names = sorted({*before.origins, *after.origins})
    changed = [name for name in names if _text(before, name) != _text(after, name)]
    if before.tls.certificates != after.tls.certificates or before.tls.client_ca != after.tls.client_ca:
        changed.append("certificates")
    return ",".join(changed)


def _text(config: Config, name: str) -> str | None:
    origin = config.origins.get(name)
    return origin.text if origin else None


def log_warnings(warnings: tuple[Problem, ...]) -> None:
    """Say what is odd about a configuration that can be lived with."""
    for warning in warnings:
        logs.warning("configuration", setting=warning.setting, reason=warning.reason, source=warning.source)
