"""I/O: rows into SQLite, many to a statement.

sqlite3 gives up Python's global lock around each step of a statement and queues for it again behind a busy network
thread: 256 statements, or one `executemany` of 256 rows, cost 256 turns. Here 255 rows are eight.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Final

SIZES: Final = (128, 64, 32, 16, 8, 4, 2, 1)


def many(words: str, columns: int) -> dict[int, str]:
    """`INSERT INTO ... VALUES ` for so many rows at once, by their number."""
    row = "(" + ",".join("?" * columns) + ")"
    return {size: words + ",".join([row] * size) for size in SIZES}


def insert(connection: sqlite3.Connection, statements: Mapping[int, str], rows: Sequence[tuple[object, ...]]) -> None:
    """All rows, in order, in the caller's transaction; `statements`: as `many` made them."""
    at = 0
    for size in SIZES:
        while len(rows) - at >= size:
            connection.execute(statements[size], list(chain.from_iterable(rows[at : at + size])))
            at += size
