"""I/O: files of readings, CSV or Parquet, as a table of text; bills as Parquet or CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from meterd.rate.columns import NAMES
from meterd.rate.cycles import Rated
from meterd.rate.told import bills_of


class BadFile(ValueError):
    """The file as a whole cannot be read; the text says why."""


def read_table(file: Path) -> pa.Table:
    """The columns of `NAMES` as text, row by row as in the file; raises `BadFile`."""
    try:
        table = _parquet(file) if file.suffix == ".parquet" else _csv(file)
    except OSError as wrong:
        raise BadFile(f"{file}: {wrong.strerror or wrong}") from None
    except pa.ArrowInvalid as wrong:
        raise BadFile(f"{file}: {wrong}") from None
    missing = [name for name in NAMES if name not in table.column_names]
    if missing:
        raise BadFile(f"{file}: no column {', '.join(missing)}; a file of readings has {', '.join(NAMES)}")
    return table.select(list(NAMES))


def write_bills(file: Path, several: Sequence[Rated]) -> None:
    """Every line of every bill as a row of `BILL`, figures as exact decimals; raises `BadFile`."""
    from pyarrow import csv, parquet

    table = bills_of(several)
    try:
        if file.suffix == ".parquet":
            parquet.write_table(table, file)
        else:
            csv.write_csv(table, file)
    except OSError as wrong:
        raise BadFile(f"{file}: {wrong.strerror or wrong}") from None


def _csv(file: Path) -> pa.Table:
    from pyarrow import csv

    return csv.read_csv(
        file,
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(NAMES, pa.string()), strings_can_be_null=False, check_utf8=True
        ),
    )


def _parquet(file: Path) -> pa.Table:
    from pyarrow import parquet

    table = parquet.read_table(file)
    return pa.table({name: _text(table[name]) for name in NAMES if name in table.column_names})


def _text(column: Any) -> Any:
    """Text of a typed column; a float is refused: it may have lost the decimal that the meter sent."""
    kind = column.type
    if pa.types.is_floating(kind):
        raise pa.ArrowInvalid("values are floats; write decimals or text, so that nothing is rounded")
    if pa.types.is_timestamp(kind):
        if kind.tz is None:
            raise pa.ArrowInvalid("times have no zone")
        return pc.strftime(pc.cast(column, pa.timestamp("s", "UTC"), safe=True), format="%Y-%m-%dT%H:%M:%SZ")
    return pc.cast(column, pa.string())
