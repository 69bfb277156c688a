"""
Where the configuration comes from, and whether it has changed since we read it.

The files are looked at, several times a second, and not watched through the kernel: inotify does
not see every bind mount and network volume, and reading a few small files costs little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sillyproxy import sources
from sillyproxy.config import Problem
from sillyproxy.config.schema import Config
from sillyproxy.tools.cpus import available_cpus

LOOK_EVERY_S: Final = 0.25


class Source:
    """The environment and command line that we were started with, and the files that they name."""

    def __init__(
        self, environ: Mapping[str, str], colors: Sequence[str] = (), listen: str | None = None
    ) -> None:
        self._environ = environ
        self._colors = colors
        self._listen = listen
        self._read = b""
        self._seen = b""
        self._certificates: Sequence[str] = ()

    @property
    def is_watched(self) -> bool:
        """Whether there are files that may change."""
        return bool(self._environ.get("SILLYPROXY_ENV_FILE") or self._certificates)

    def load(self, previous: Config | None = None) -> tuple[Config, tuple[Problem, ...]]:
        """Return the configuration of now, and the warnings. Raise ConfigError."""
        # Before they are read: what changes meanwhile is then seen as a change.
        self._certificates = sources.find_certificates(self._environ)
        self._read = self._seen = sources.fingerprint(self._environ, self._certificates)
        return sources.load(
            self._environ,
            colors=self._colors,
            listen=self._listen,
            cpus=available_cpus(),
            previous=previous,
        )

    def has_changed(self) -> bool:
        """Look once. True if what was read is not there any more, and two looks in a row saw the same."""
        before, self._seen = self._seen, sources.fingerprint(self._environ, self._certificates)
        # An editor may be half-way.
        return self._seen != self._read and self._seen == before
