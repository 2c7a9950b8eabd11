"""I/O: one CSV file to a table of text columns with their line numbers; what is no row becomes a fault."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from registry.columns import Lines
from registry.faults import Faults
from registry.layout import FileLayout

BLOCK_BYTES: Final = 4 << 20


@dataclass(slots=True)
class Table:
    """A file's columns as pyarrow arrays (plain or dictionary-encoded strings) and each row's line."""

    layout: FileLayout
    lines: Lines
    columns: dict[str, Any]

    @property
    def file(self) -> str:
        return self.layout.file

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, name: str) -> Any:
        return self.columns[name]

    def text(self, name: str, row: int) -> str:
        """One cell, for a fault's words."""
        return str(self.columns[name][row].as_py())

    def arrow(self, **more: Any) -> pa.Table:
        """The table as it was, with more columns behind."""
        return pa.table({**self.columns, **more})


def read(directory: Path, layout: FileLayout, faults: Faults) -> Table:
    """Read one file; faults for a missing file, a wrong header, rows with another number of cells, bad UTF-8."""
    path = directory / layout.file
    if not path.is_file():
        if layout.required:
            faults.add(layout.file, 0, "missing")
            faults.unread.add(layout.file)
        return _empty(layout)
    if not _header_is_right(path, layout, faults):
        faults.unread.add(layout.file)
        return _empty(layout)
    broken: list[int] = []

    def refuse(row: Any) -> str:
        broken.append(row.number or 0)
        faults.add(layout.file, row.number or 0, f"{row.actual_columns} cells, {row.expected_columns} expected")
        return "skip"

    try:
        # Line numbers need one thread; only a file that has broken rows is read a second time for them.
        table = _parse(path, layout, "error")
    except pa.ArrowInvalid:
        try:
            table = _parse(path, layout, refuse)
        except pa.ArrowInvalid as wrong:
            faults.add(layout.file, 0, str(wrong).split("\n")[0][:200])
            faults.unread.add(layout.file)
            return _empty(layout)
    lines = np.arange(2, 2 + len(table) + len(broken), dtype=np.int32)
    lines = np.delete(lines, np.array(broken, np.int64) - 2) if broken else lines
    return Table(layout, lines, {name: _whole(table.column(name)) for name in layout.columns})


def write_parquet(path: Path, table: pa.Table) -> None:
    """As plain text and integers: no Arrow schema inside, so any reader sees the same types."""
    pq.write_table(table, path, store_schema=False, compression="zstd", use_dictionary=True, write_statistics=False)


def _header_is_right(path: Path, layout: FileLayout, faults: Faults) -> bool:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            header = next(csv.reader(file), [])
    except csv.Error:
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


def _parse(path: Path, layout: FileLayout, refuse: Any) -> pa.Table:
    few = pa.dictionary(pa.int32(), pa.string())
    strict = refuse == "error"
    return pacsv.read_csv(
        path,
        read_options=pacsv.ReadOptions(block_size=BLOCK_BYTES, use_threads=strict),
        parse_options=pacsv.ParseOptions(
            ignore_empty_lines=False, invalid_row_handler=None if strict else refuse, newlines_in_values=False
        ),
        convert_options=pacsv.ConvertOptions(
            column_types={name: few if name in layout.few else pa.string() for name in layout.columns},
            strings_can_be_null=False,
            null_values=[],
        ),
    )


def _whole(column: Any) -> Any:
    """One array of the chunks; an encoded one with a single dictionary."""
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _empty(layout: FileLayout) -> Table:
    nothing = pa.array([], pa.string())
    return Table(layout, np.zeros(0, np.int32), dict.fromkeys(layout.columns, nothing))
