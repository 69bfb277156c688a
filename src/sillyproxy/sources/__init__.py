"""Where the configuration comes from: the process environment, and files that may change while we run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

from sillyproxy import config
from sillyproxy.config import Problem, Reading
from sillyproxy.config.envfile import FILES
from sillyproxy.config.schema import Config
from sillyproxy.config.settings import BY_NAME
from sillyproxy.config.values import BLANKS, read_paths
from sillyproxy.sources import certificates, files

__all__ = ["find_admin", "find_certificates", "fingerprint", "load"]

# A change that is so long under way that more looks would not see its end.
MAX_LOOKS: Final = 5


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

    The files named in the environment win over it, the command line over all. It is the
    generation after `previous`, whose colors keep their rows in the counts. Raises
    ConfigError with all problems.
    """
    reading = _read_settled(_paths(environ))
    credentials = certificates.read_credentials(config.make_draft(environ, reading), time.time())
    return config.load(
        environ,
        cpus=cpus,
        colors=colors,
        listen=listen,
        files=reading,
        credentials=credentials,
        generation=previous.generation + 1 if previous else 1,
        slots=previous.slots if previous else (),
    )


def find_admin(environ: Mapping[str, str]) -> tuple[str, str]:
    """
    Return the address of the admin listener that is configured here, or `off`, and the token it asks for.

    For who asks that listener, and needs no other part of the configuration to be right.
    """
    draft = {name: value for name, value in environ.items() if value.strip(BLANKS)}
    draft |= {name: origin.text for name, origin in _read_settled(_paths(environ)).draft.items()}
    admin = draft.get("SILLYPROXY_ADMIN", "").strip(BLANKS) or BY_NAME["SILLYPROXY_ADMIN"].default
    return admin.lower() if admin.lower() == "off" else admin, draft.get("SILLYPROXY_ADMIN_TOKEN", "").strip(
        BLANKS
    )


def find_certificates(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the files of certificates and keys that the configuration names. Never raises."""
    return certificates.paths_of(config.make_draft(environ, _read_settled(_paths(environ))))


def fingerprint(environ: Mapping[str, str], others: Sequence[str] = ()) -> bytes:
    """
    Return a value that changes with the content of the files, and of `others`; empty where there are none.

    Cheap enough to be asked for several times a second. Never raises. Taken before `load`,
    a change in between is seen the next time.
    """
    return files.fingerprint((*_paths(environ), *others))


def _paths(environ: Mapping[str, str]) -> Sequence[str]:
    """Return the files that the environment names; none if it names them wrongly, as `load` will say."""
    text = environ.get(FILES, "").strip(BLANKS)
    try:
        return read_paths(text) if text else ()
    except ExceptionGroup:
        return ()


def _read_settled(paths: Sequence[str]) -> Reading:
    """
    Read the files until two readings in a row are the same.

    Files that are swapped together (a config map's link) would otherwise be read half before
    and half after.
    """
    reading = files.read_files(paths)
    for _ in range(MAX_LOOKS - 1):
        if not paths or files.fingerprint(paths) == reading.fingerprint:
            break
        reading = files.read_files(paths)
    return reading
