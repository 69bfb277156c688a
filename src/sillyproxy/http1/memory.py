"""
What was read before need not be read again.

The same heads come again and again, and when a head is new, most of its lines are not: a
browser changes a cookie or a referrer, a backend its date. Reading is a pure function of
the bytes, so both are remembered by them. A head that comes again costs one look-up; a
new one costs a look-up a line, and the regular expressions only for the lines that are
new. Nothing can ever be read another way than the first time.

What comes for the first time is only noted, by its hash: heads that never come again
(a tracing id in each) would else push out those that do, and cost memory for nothing.
Everything remembered is bounded: two generations, and when the young one is full the old
one is forgotten, with all that was not asked for since.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

from sillyproxy.http1.grammar import FIELD

# Keys and what is remembered by them, both generations together.
PLAN_BYTES: Final = 2 * 1024 * 1024
LINE_BYTES: Final = 512 * 1024
_MAX_HEAD_BYTES: Final = 8192
_MAX_LINE_BYTES: Final = 1024
_PLAN_OVERHEAD: Final = 500
_LINE_OVERHEAD: Final = 100

_ONCE: Final = 4096

Plan = TypeVar("Plan")


class Plans(dict[bytes, Plan], Generic[Plan]):
    """
    Plans by the bytes they are made from: `plans[head]`.

    `make` makes a plan that is not remembered, and raises what is wrong with the bytes. A
    dictionary by inheritance, so that what is remembered costs no call of ours.
    """

    __slots__ = ("_bytes", "_make", "_old", "_once")

    def __init__(self, make: Callable[[bytes], Plan]) -> None:
        self._make = make
        self._once: set[int] = set()
        self._old: dict[bytes, Plan] = {}
        self._bytes = 0

    def __missing__(self, head: bytes) -> Plan:
        plan = self._old.get(head)
        if plan is None:
            plan = self._make(head)
            if _is_new(head, self._once):
                return plan
        if len(head) <= _MAX_HEAD_BYTES:
            self._bytes += 3 * len(head) + _PLAN_OVERHEAD
            if self._bytes > PLAN_BYTES // 2:
                self._old = dict(self)
                self.clear()
                self._bytes = 0
            self[head] = plan
        return plan


def _is_new(text: bytes, once: set[int]) -> bool:
    """Tell whether `text` comes for the first time, as far as `once`, which notes it, remembers."""
    key = hash(text)
    if key in once:
        return False
    if len(once) >= _ONCE:
        once.clear()
    once.add(key)
    return True


class Field(NamedTuple):
    """A field that means something to us: its line, its name in lower case, its value without white space."""

    line: bytes
    name: bytes
    value: bytes


class FieldLines:
    """
    Checks field lines, and finds those of the `special` names.

    Names are in lower case; one that ends in `*` is a prefix.

    >>> lines = FieldLines(["host", "x-forwarded-*"])
    >>> lines.find([b"Host: a", b"Accept: b", b"X-Forwarded-For: c"])[1].name
    b'x-forwarded-for'
    """

    __slots__ = ("_bytes", "_names", "_old", "_once", "_plain", "_prefixes", "_special")

    def __init__(self, special: list[str]) -> None:
        self._names = frozenset(name.encode() for name in special if not name.endswith("*"))
        self._prefixes = tuple(name[:-1].encode() for name in special if name.endswith("*"))
        self._plain: set[bytes] = set()
        self._old: set[bytes] = set()
        self._once: set[int] = set()
        self._special: dict[bytes, Field] = {}
        self._bytes = 0

    def find(self, lines: list[bytes]) -> list[Field]:
        """
        Return the special fields among the lines, in order. Raises ValueError if a line is no field line.
        """
        plain = self._plain
        known = self._special
        found = []
        for line in [line for line in lines if line not in plain]:
            field = known.get(line) or self._read(line)
            if field is not None:
                found.append(field)
        return found

    def _read(self, line: bytes) -> Field | None:
        """Read a line that was not read lately; None if it means nothing to us."""
        if line in self._old:
            self._remember_plain(line)
            return None
        match = FIELD.fullmatch(line)
        if match is None:
            raise ValueError("malformed field line")
        name = match[1].lower()
        if name not in self._names and not name.startswith(self._prefixes):
            if not _is_new(line, self._once):
                self._remember_plain(line)
            return None
        field = Field(line, name, match[2].strip(b" \t"))
        if len(line) <= _MAX_LINE_BYTES and not _is_new(line, self._once):
            self._account(2 * len(line))
            self._special[line] = field
        return field

    def _remember_plain(self, line: bytes) -> None:
        if len(line) <= _MAX_LINE_BYTES:
            self._account(len(line))
            self._plain.add(line)

    def _account(self, size: int) -> None:
        self._bytes += size + _LINE_OVERHEAD
        if self._bytes > LINE_BYTES // 2:
            self._old, self._plain, self._bytes = self._plain, set(), 0
            self._special = {}
