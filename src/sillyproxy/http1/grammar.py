"""
The grammar of HTTP/1.1 as named fragments, and the patterns compiled from them.

Sources: RFC 9110 sections 5.5, 5.6 and 7.2, RFC 9112 sections 2 to 7, RFC 3986 for
hosts. Every quantifier that can be is possessive (`++`, Python 3.11): a head either
matches in one pass or fails in one pass, so no input can make a pattern backtrack.
"""

from __future__ import annotations

import re
from typing import Final

# RFC 9110, 5.6.2 token; 5.5 field-value: visible characters, obs-text, SP and HTAB inside.
TCHAR: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
VALUE: Final = rb"[\t -~\x80-\xff]*+"

# What may stand in a request target: visible ASCII but for `"`, `#`, `<` and `>`. RFC 3986
# allows less; these are what the URL standard's percent-encode sets leave bare, so what
# browsers send. A fragment never is part of a target.
TARGET: Final = rb"[!$-;=?-~]"

TOKEN: Final = re.compile(TCHAR + rb"++")

# The request line nearly everybody sends, at the beginning of a head. What does not match is
# looked at again, slowly; so are the methods that have rules of their own.
ORIGIN_LINE: Final = re.compile(
    rb"(?!CONNECT |OPTIONS |TRACE )(" + TCHAR + rb"++) (/" + TARGET + rb"*+) HTTP/1\.1(?=\r\n)"
)
ANY_LINE: Final = re.compile(rb"(" + TCHAR + rb"++) (" + TARGET + rb"++) HTTP/([0-9])\.([0-9])")
# Only to tell a wrong version (505) from a wrong line (400).

ABSOLUTE_TARGET: Final = re.compile(rb"(?i:https?)://([^/?]*+)((?:/[^?]*+)?+)((?:\?.*+)?+)")

# RFC 9112, 4: the reason phrase may be empty; many servers then leave out the space too.
STATUS_LINE: Final = re.compile(rb"HTTP/1\.([0-9]) ([1-5][0-9][0-9])(?: (" + VALUE + rb"))?+")

# A field section without its last line end: each line begins with CRLF. No obs-fold, no
# space before the colon, no bare CR or LF, no NUL or other control character.
FIELDS: Final = re.compile(rb"(?:\r\n" + TCHAR + rb"++:" + VALUE + rb")*+")

# One of its lines: name and value, the white space around which is still on it.
FIELD: Final = re.compile(rb"(" + TCHAR + rb"++):(" + VALUE + rb")")

# RFC 3986, 3.2.2 and 3.2.3, without user information (RFC 9110, 4.2.4).
_REG_NAME: Final = rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*+"
_IP_LITERAL: Final = rb"\[(?:[0-9A-Fa-f:.]{2,45}+|[vV][0-9A-Fa-f]++\.[A-Za-z0-9\-._~!$&'()*+,;=:]++)\]"
HOST: Final = re.compile(rb"(?:" + _IP_LITERAL + rb"|" + _REG_NAME + rb")(?::([0-9]{0,5}))?+")

# RFC 9110, 8.6. Digits alone: no sign, no list, no space inside; 2**63 is enough for anyone.
LENGTH: Final = re.compile(rb"[0-9]{1,18}")

# RFC 9112, 7.1: chunk-size [ chunk-ext ] CRLF; 15 hexadecimal digits keep a size below 2**60.
_QUOTED: Final = rb"\"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+\""
_EXTENSION: Final = (
    rb"[ \t]*+;[ \t]*+" + TCHAR + rb"++(?:[ \t]*+=[ \t]*+(?:" + TCHAR + rb"++|" + _QUOTED + rb"))?+"
)
CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})((?:" + _EXTENSION + rb")*+)\r\n")
