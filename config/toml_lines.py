"""Pure: on which line of a TOML text each key stands, for faults and origins (tomllib does not say).

The text has already been accepted by tomllib, so this scanner may be loose: it only has to find statements,
and step over values. Keys inside an inline table have the line of the table's own key. Tables of an array
are numbered: the second `[[rows]]` is ("rows", 1), and its keys ("rows", 1, "name").
"""

from __future__ import annotations

import re
from typing import Final

Key = tuple[str, ...]
Place = tuple[str | int, ...]  # a key, with the number of each table of an array

_GAP: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY: Final = re.compile(r"""[ \t]*([A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')[ \t]*(\.?)""")
# What a value is made of, longest first: strings (their brackets do not count), comments, brackets, the rest.
_PIECE: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"""+'
    r"|'''.*?'''+"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*"
    r"|[\[\]{}\n]"
    r"""|[^"'#\[\]{}\n]+""",
    re.DOTALL,
)


def key_lines(text: str) -> dict[Place, int]:
    """Line (from 1) of every table header and key of valid TOML `text`; of an array of tables, also its first."""
    lines: dict[Place, int] = {}
    rows: dict[Place, int] = {}  # number of the latest table of each array
    table: Place = ()
    at = _skip_gap(text, 0)
    line, counted = 1, 0
    while at < len(text):
        line += text.count("\n", counted, at)
        counted = at
        if text[at] == "[":
            in_array = text.startswith("[[", at)
            named, at = _dotted(text, at + (2 if in_array else 1))
            if in_array and named:
                array = (*_numbered(named[:-1], rows), named[-1])
                lines.setdefault(array, line)
                rows[array] = rows.get(array, -1) + 1
            table = _numbered(named, rows)
            lines.setdefault(table, line)
            at = _line_end(text, at)
        else:
            key, after = _dotted(text, at)
            if not key:  # not TOML after all: say what is known
                return lines
            for size in range(1, len(key) + 1):
                lines.setdefault(table + key[:size], line)
            at = _skip_value(text, after)
        at = _skip_gap(text, at)
    return lines


def _numbered(named: Place, rows: dict[Place, int]) -> Place:
    """A header's names with the number of the latest table wherever one of them is an array."""
    key: Place = ()
    for name in named:
        key += (name,)
        if key in rows:
            key += (rows[key],)
    return key


def line_of(lines: dict[Place, int], key: Place) -> int | None:
    """Line of `key`, or of the nearest table above it; None when nothing of it is in the file."""
    for size in range(len(key), 0, -1):
        if key[:size] in lines:
            return lines[key[:size]]
    return None


def _skip_gap(text: str, at: int) -> int:
    found = _GAP.match(text, at)
    return found.end() if found else at


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _dotted(text: str, at: int) -> tuple[Key, int]:
    parts: list[str] = []
    while found := _KEY.match(text, at):
        word = found.group(1)
        parts.append(word[1:-1] if word[0] in "\"'" else word)
        at = found.end()
        if not found.group(2):
            break
    return tuple(parts), at


def _skip_value(text: str, at: int) -> int:
    depth = 0
    while found := _PIECE.match(text, at):
        piece = found.group()
        if piece == "\n" and depth == 0:
            return at
        depth += (piece in "[{") - (piece in "]}")
        at = found.end()
    return len(text)
