"""I/O (stdout and stderr): how every command prints: rich on a terminal, tab-separated in a pipe, JSON on request.

In JSON a decimal is a string, an integer an integer, so that no reader's float touches money. What meters sent
may end up in a cell, so control characters are shown as escapes: a payload cannot write to the terminal.
"""

from __future__ import annotations

import json as json_format
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Final

Advance = Callable[[int], None]
_LINES_OF_PROGRESS: Final = 10


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, json: bool = False, title: str = "") -> None:
    """Print rows under `columns`: JSON is a list of objects; in a pipe the first line names the columns."""
    if json:
        _print_json([dict(zip(columns, map(_plain, row), strict=True)) for row in rows])
        return
    if not sys.stdout.isatty():
        lines = [columns, *rows]
        sys.stdout.writelines("\t".join(cell(value) for value in line) + "\n" for line in lines)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=Text(title) if title else None, title_justify="left")
    kept = [tuple(row) for row in rows]
    for place, name in enumerate(columns):
        number = bool(kept) and all(_is_number(row[place]) for row in kept)
        drawn.add_column(Text(name), justify="right" if number else "left", overflow="fold")
    for row in kept:
        drawn.add_row(*(Text(cell(value)) for value in row))
    Console().print(drawn)


def record(mapping: Mapping[str, Any], json: bool = False, *, title: str = "") -> None:
    """Print one thing as key and value lines; JSON is one object, which may be nested."""
    if json:
        _print_json({key: _plain(value) for key, value in mapping.items()})
        return
    if not sys.stdout.isatty():
        sys.stdout.writelines(f"{cell(key)}\t{cell(value)}\n" for key, value in mapping.items())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table.grid(padding=(0, 2))
    for key, value in mapping.items():
        drawn.add_row(Text(key, style="bold"), Text(cell(value)))
    console = Console()
    if title:
        console.print(Text(title, style="bold"))
    console.print(drawn)


def line(text: str) -> None:
    """One line of an answer on stdout, as it is (no markup)."""
    sys.stdout.write(text + "\n")


def warn(text: str) -> None:
    """One line on stderr, for people; never part of the answer."""
    sys.stderr.write(_visible(text) + "\n")


@contextmanager
def progress(what: str, total: int) -> Iterator[Advance]:
    """Show how far `what` has come on stderr: a bar on a terminal, else at most ten lines. Yields advance(count)."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        parts = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        with Progress(*parts, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task(what, total=total)
            yield lambda count: bar.advance(task, count)
        return
    done = told = 0

    def advance(count: int) -> None:
        nonlocal done, told
        done += count
        tenth = done * _LINES_OF_PROGRESS // max(1, total)
        if tenth > told:
            told = tenth
            sys.stderr.write(f"{_visible(what)}\t{done}/{total}\n")

    yield advance


def cell(value: Any) -> str:
    """One value as text on one line."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case Decimal():
            return format(value, "f")
        case Enum():
            return cell(value.value)
        case Mapping() | list() | tuple():
            return _visible(json_format.dumps(_plain(value), ensure_ascii=False))
        case bytes():
            return _visible(value.decode("utf-8", "backslashreplace"))
        case _:
            return _visible(str(value))


def _plain(value: Any) -> Any:
    """What json.dumps can take, exactly: decimals as text, bytes as text with escapes, paths as text."""
    match value:
        case None | bool() | str():
            return value
        case Enum():
            return _plain(value.value)
        case int() | float():
            return value
        case Decimal():
            return format(value, "f")
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case Path():
            return str(value)
        case Mapping():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case Iterable():
            return [_plain(inner) for inner in value]
        case _ if hasattr(value, "item"):  # a numpy scalar
            return _plain(value.item())
        case _:
            raise TypeError(f"no JSON for {type(value).__name__}")


def _print_json(value: Any) -> None:
    # stdout may not be UTF-8 (LANG=C), and a payload may hold lone surrogates: ASCII passes everywhere
    text = json_format.dumps(value, indent=2, ensure_ascii=not _speaks_utf8(value), allow_nan=False)
    sys.stdout.write(text + "\n")


def _speaks_utf8(value: Any) -> bool:
    try:
        json_format.dumps(value, ensure_ascii=False).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _visible(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if unicodedata.category(c)[0] != "C" and c not in "\u2028\u2029" else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)
