"""Where the configuration comes from: the process environment, and files that may change while we run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sillyproxy import config
from sillyproxy.config import Problem
from sillyproxy.config.schema import Config

__all__ = ["fingerprint", "load"]


def load(
    environ: Mapping[str, str],
    *,
    colors: Sequence[str],
    listen: str | None,
    cpus: int,
    previous: Config | None = None,
) -> tuple[Config, tuple[Problem, ...]]:
    """
    Return the configuration that is asked for now, and the warnings.

    It is the generation after `previous`, whose colors keep their rows in the counts. Raises
    ConfigError with all problems.
    """
    return config.load(
        environ,
        cpus=cpus,
        colors=colors,
        listen=listen,
        generation=previous.generation + 1 if previous else 1,
        slots=previous.slots if previous else (),
    )


def fingerprint(environ: Mapping[str, str]) -> bytes:
    """
    Return a value that changes with the content of the files; empty where there are none.

    Cheap enough to be asked for several times a second. Never raises. Taken before `load`,
    a change in between is seen the next time.
    """
    return b""
