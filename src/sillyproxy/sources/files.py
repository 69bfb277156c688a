"""
Files and directories of settings, read as they are now.

Whatever is mounted there is read the same way: a file on a host, a Docker config, a
secret, a Kubernetes config map with its swapped `..data` link. Nothing waits here and
nothing is without bound, because this is done several times a second in the process that
all others depend on.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sillyproxy.config import Problem, Reading
from sillyproxy.config.envfile import FILES, is_variable, read_lines, read_value
from sillyproxy.config.schema import Origin
from sillyproxy.config.values import printable, show_text

MAX_FILE_BYTES: Final = 1 << 20
MAX_FILES: Final = 256
# Names of a directory that are looked at, hidden ones and directories among them.
MAX_NAMES: Final = 4096

# As every kind of file is opened: a fifo without a writer must not make us wait.
_OPEN: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class CannotRead(Exception):
    """A file cannot be used. The message is for the operator, whole."""


@dataclass(frozen=True, slots=True)
class _File:
    """One file as it was found: its content, or why there is none. `name` is empty where it holds lines."""

    path: str
    name: str = ""
    content: bytes = b""
    failure: str = ""


def read_files(paths: Sequence[str]) -> Reading:
    """
    Return what all files say, the later over the earlier, and everything that is wrong with them.

    The files of a directory are read in the order of their names. Never raises.
    """
    draft: dict[str, Origin] = {}
    problems: list[Problem] = []
    warnings: list[Problem] = []
    files = list(_read(paths))
    for file in files:
        reading = _reading(file, ",".join(paths))
        draft.update(reading.draft)
        problems += reading.problems
        warnings += reading.warnings
    return Reading(draft, tuple(problems), tuple(warnings), _digest(files))


def read_file(path: str) -> bytes:
    """Return what is in a file. Raise CannotRead."""
    try:
        return _content(path)
    except (OSError, ValueError) as error:
        raise CannotRead(_reason(error)) from None


def fingerprint(paths: Sequence[str]) -> bytes:
    """
    Return a value that changes when a content, a failure or the set of the files does.

    Comparable within this process and its forks only. Never raises.
    """
    return _digest(_read(paths)) if paths else b""


def _digest(files: Sequence[_File] | Iterator[_File]) -> bytes:
    # The interpreter's own hash (SipHash, 64 bits, keyed): hashlib would cost each process 4 MB.
    parts = tuple(hash((file.path, file.name, file.content, file.failure)) for file in files)
    return hash(parts).to_bytes(8, "big", signed=True)


def _reading(file: _File, setting: str) -> Reading:
    """Return what one file says."""
    source = f"file {printable(file.path)}"
    failure = file.failure
    if file.content.startswith((b"\xff\xfe", b"\xfe\xff")):
        failure = "UTF-16; save it as UTF-8"
    if failure:
        reason = f"{printable(file.path)}: {failure}"
        return Reading({}, (Problem(FILES, show_text(setting), "environment", reason),))
    text = file.content.decode("utf-8", "surrogateescape")
    return read_value(file.name, text, source) if file.name else read_lines(text, source)


def _read(paths: Sequence[str]) -> Iterator[_File]:
    """Return every file, read. One that cannot be read does not hide the others."""
    count = 0
    for path in paths:
        try:
            names = _names(path)
        except CannotRead as error:
            yield _File(path, failure=str(error))
            continue
        for full, name in names:
            count += 1
            if count > MAX_FILES:
                yield _File(path, failure=f"more than {MAX_FILES} files in all")
                return
            try:
                yield _File(full, name, _content(full))
            except CannotRead as error:
                yield _File(full, name, failure=str(error))
            except OSError as error:
                # Gone since its directory was read; but a link to nothing is a failure.
                if full == path or os.path.lexists(full):
                    yield _File(full, name, failure=_reason(error))


def _names(path: str) -> list[tuple[str, str]]:
    """Return the files that a path stands for, each with the variable that it is the value of, if any."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            return [(path, "")]
        if not stat.S_ISDIR(mode):
            raise CannotRead("neither a file nor a directory")
        with os.scandir(path) as entries:
            found = []
            for seen, entry in enumerate(entries):
                if seen >= MAX_NAMES:
                    raise CannotRead(f"a directory of more than {MAX_NAMES} names")
                if _is_ours(entry):
                    found.append(entry.name)
    except (OSError, ValueError) as error:
        raise CannotRead(_reason(error)) from None
    return [(os.path.join(path, name), name if is_variable(name) else "") for name in sorted(found)]


def _is_ours(entry: os.DirEntry[str]) -> bool:
    """Tell whether a name in a directory is a file of settings: not hidden, no editor's copy."""
    # A copy `edge.env~` would come after `edge.env` and bring the old values back.
    if entry.name.startswith((".", "#")) or entry.name.endswith("~"):
        return False
    try:
        # A link to nothing is one of ours: somebody will be told.
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:
        return True


def _content(path: str) -> bytes:
    """Return what is in a file; raise OSError as the system says it, CannotRead for what we do not take."""
    descriptor = os.open(path, _OPEN)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CannotRead("neither a file nor a directory")
        content = b""
        while chunk := os.read(descriptor, MAX_FILE_BYTES + 1 - len(content)):
            content += chunk
        if len(content) > MAX_FILE_BYTES:
            raise CannotRead("larger than 1 MiB")
        return content
    finally:
        os.close(descriptor)


def _reason(error: OSError | ValueError) -> str:
    """Return what the system says, without the number and the path."""
    return ((isinstance(error, OSError) and error.strerror) or str(error)).lower()
