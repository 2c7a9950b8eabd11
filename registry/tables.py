"""I/O: one CSV file to a Parquet file of the same text, which is then read column by column.

A file is never in memory whole: it is parsed a few megabytes at a time, and what judges it holds one column of
text at most. What is no row becomes a fault with its line.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from registry.columns import Lines
from registry.faults import Faults
from registry.layout import FileLayout

BLOCK_BYTES: Final = 4 << 20


@dataclass(slots=True)
class Table:
    """A file's columns as pyarrow arrays (plain or dictionary-encoded strings) and each row's line.

    The column used last is kept, the others are read again when they are asked for.
    """

    layout: FileLayout
    lines: Lines
    path: Path
    _name: str = ""
    _column: Any = None

    @property
    def file(self) -> str:
        return self.layout.file

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, name: str) -> Any:
        if self._name != name:
            self._column = None
            self._column, self._name = self._read(name), name
        return self._column

    def _read(self, name: str) -> Any:
        if not len(self):
            return pa.array([], pa.string())
        few = [name] if name in self.layout.few else None
        with pq.ParquetFile(self.path, read_dictionary=few, memory_map=False) as file:
            return _whole(file.read([name], use_threads=False).column(0))

    def texts(self, name: str, rows: npt.NDArray[np.int64]) -> list[str]:
        """Some cells of a column, for the words of faults."""
        found: list[str] = self[name].take(pa.array(rows)).to_pylist()
        return found


class Rows:
    """A Parquet file that is written piece by piece: plain text and integers, no Arrow schema inside.

    So any reader sees the same types. A piece is a row group (or several, beyond a million rows).
    """

    def __init__(self, path: Path, schema: pa.Schema, few: list[str]) -> None:
        self._writer = pq.ParquetWriter(
            path, schema, store_schema=False, compression="zstd", use_dictionary=few, write_statistics=False
        )

    def __enter__(self) -> Rows:
        return self

    def write(self, piece: pa.Table) -> None:
        self._writer.write_table(piece)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """All pieces are there."""
        self._writer.close()


def read(directory: Path, layout: FileLayout, faults: Faults, folder: Path) -> Table:
    """Read one file; faults for a missing file, a wrong header, rows with another number of cells, bad UTF-8.

    Its text goes to `folder` as Parquet: an empty table when there is no such file, or it could not be read.
    """
    source, target = directory / layout.file, folder / f"{layout.name}.parquet"
    if source.is_file():
        if _header_is_right(source, layout, faults):
            try:
                return Table(layout, _convert(source, target, layout, faults), target)
            except pa.ArrowInvalid as wrong:
                line = _not_utf8(source)
                if line:
                    faults.add(layout.file, line, "is not UTF-8")
                else:
                    faults.add(layout.file, 0, str(wrong).split("\n")[0][:200])
        faults.unread.add(layout.file)
    elif layout.required:
        faults.add(layout.file, 0, "missing")
        faults.unread.add(layout.file)
    with Rows(target, _schema(layout), []) as out:
        out.write(_schema(layout).empty_table())
    return Table(layout, Lines(), target)


def extend(folder: Path, layout: FileLayout, **more: Any) -> None:
    """Add columns (numpy, as long as the table; in place of one of that name), a row group at a time."""
    path, fresh = folder / f"{layout.name}.parquet", folder / f"{layout.name}.part"
    low = 0
    with pq.ParquetFile(path, memory_map=False) as file:
        types = {name: pa.string() for name in layout.columns}
        types |= {name: pa.from_numpy_dtype(values.dtype) for name, values in more.items()}
        with Rows(fresh, pa.schema(types), [*layout.few, *more]) as out:
            for number in range(file.num_row_groups):
                piece = file.read_row_group(number, use_threads=False)
                high = low + len(piece)
                own = {name: pa.array(values[low:high]) for name, values in more.items()}
                kept = {name: piece[name] for name in layout.columns}
                out.write(pa.table(kept | own))
                low = high
    fresh.replace(path)


def column(path: Path, name: str, groups: list[int] | None = None) -> Any:
    """One column of a Parquet file (or of some of its row groups) as one array."""
    with pq.ParquetFile(path, memory_map=False) as file:
        if groups is None:
            return _whole(file.read([name], use_threads=False).column(0))
        return _whole(file.read_row_groups(groups, [name], use_threads=False).column(0))


def _not_utf8(path: Path) -> int:
    """The first line that is no UTF-8; 0 when there is none. Only a file that could not be read is looked through."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 0


def _header_is_right(path: Path, layout: FileLayout, faults: Faults) -> bool:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            header = next(csv.reader(file), [])
    except csv.Error:
        header = ["\0"]
    if any("\0" in name or not name.isprintable() for name in header):  # UTF-16, for one: what it holds is no word
        faults.add(layout.file, 1, "the header is not plain UTF-8 text")
        return False
    count = faults.count
    for name in dict.fromkeys(header):
        if name not in layout.columns:
            faults.add(layout.file, 1, f"unknown column {name[:40]!r}; there are {', '.join(layout.columns)}")
        elif header.count(name) > 1:
            faults.add(layout.file, 1, f"column {name!r} more than once")
    for name in layout.columns:
        if name not in header:
            faults.add(layout.file, 1, f"column {name!r} is missing")
    return faults.count == count


def _convert(source: Path, target: Path, layout: FileLayout, faults: Faults) -> Lines:
    broken: list[int] = []

    def refuse(row: Any) -> str:
        broken.append(row.number)
        faults.add(layout.file, row.number, f"{row.actual_columns} cells, {row.expected_columns} expected")
        return "skip"

    batches = pacsv.open_csv(
        source,
        # one thread, so that a broken row has its line number
        read_options=pacsv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
        parse_options=pacsv.ParseOptions(
            ignore_empty_lines=False, invalid_row_handler=refuse, newlines_in_values=False
        ),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(layout.columns, pa.string()),
            include_columns=layout.columns,
            strings_can_be_null=False,
            null_values=[],
        ),
    )
    count = 0
    with Rows(target, _schema(layout), list(layout.few)) as out:
        for batch in batches:
            out.write(pa.Table.from_batches([batch]))
            count += len(batch)
    return Lines(count, np.sort(np.array(broken, np.int64)))


def _schema(layout: FileLayout) -> pa.Schema:
    return pa.schema([(name, pa.string()) for name in layout.columns])


def _whole(column: Any) -> Any:
    """One array of the chunks; an encoded one with a single dictionary."""
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    if column.num_chunks == 1:
        return column.chunk(0)
    found = column.combine_chunks()
    return found.chunk(0) if isinstance(found, pa.ChunkedArray) else found
