"""I/O: `meterd balances`: every account's posted, accrued and live balance, partition by partition, in columns.

Six million rows pass through in chunks: balances come as arrays from the state, ids as slices of a mapped index,
money becomes text as one 128-bit decimal column; nothing is looped over but for a terminal.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from meterd import output
from meterd.commands.config import ConfigOption, JsonOption

if TYPE_CHECKING:
    from meterd.lookup import View

COLUMNS: Final = ("account", "holder", "posted", "accrued", "live", "arrears")
CHUNK: Final = 100_000
SHOWN_MAX: Final = 1000


def balances(
    config: ConfigOption = None,
    json: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header line.")] = False,
) -> None:
    """List every account with its posted, accrued and live balance in yuan."""
    from meterd.lookup import opened

    with opened(config) as view:
        if csv or (not json and not sys.stdout.isatty()):
            _columns(view, "," if csv else "\t")
        elif json:
            _objects(view)
        else:
            _table(view)


def chunks(view: View) -> Iterator[Any]:
    """pyarrow record batches of text columns under COLUMNS; accrued is posted - live, in whole fen rounded up."""
    import pyarrow as pa

    from ledger.reads import balances as read
    from meterd.views.money import yuan_column
    from rating.state import ARRAYS

    for partition in range(view.partitions):
        found = read(view.connection, partition, ARRAYS)
        for start in range(0, len(found.posted_fen), CHUNK):
            cut = slice(start, start + CHUNK)
            posted, live = found.posted_fen[cut], found.live_fen[cut]
            who = view.registry.slots(partition, start, len(posted))
            money = (posted, posted - live, live, found.arrears_fen[cut])
            columns = [who.column("account"), who.column("party"), *map(yuan_column, money)]
            yield pa.RecordBatch.from_arrays(columns, names=list(COLUMNS))


def _columns(view: View, delimiter: str) -> None:
    sys.stdout.write(delimiter.join(COLUMNS) + "\n")
    for batch in chunks(view):
        sys.stdout.write(_text(batch, delimiter))


def _text(batch: Any, delimiter: str) -> str:
    """Rows as text; quoted only where some id of the chunk asks for it."""
    import pyarrow as pa
    from pyarrow.csv import CSVWriter, WriteOptions

    for quoting in ("none", "needed"):  # to pyarrow, "needed" is every text
        text = io.BytesIO()
        options = WriteOptions(include_header=False, delimiter=delimiter, quoting_style=quoting)
        try:
            with CSVWriter(text, batch.schema, write_options=options) as writer:
                writer.write(batch)
        except pa.ArrowInvalid:
            continue
        return text.getvalue().decode()
    raise AssertionError("text that no quoting can hold")


def _objects(view: View) -> None:
    import json as json_format

    before = "[\n"
    for batch in chunks(view):
        for row in batch.to_pylist():
            sys.stdout.write(before + json_format.dumps(row))
            before = ",\n"
    sys.stdout.write("\n]\n" if before == ",\n" else "[]\n")


def _table(view: View) -> None:
    rows: list[tuple[Any, ...]] = []
    total = 0
    for batch in chunks(view):
        total += len(batch)
        shown = batch.slice(0, max(0, SHOWN_MAX - len(rows))).to_pylist()
        rows += [(row["account"], row["holder"], *(Decimal(row[name]) for name in COLUMNS[2:])) for row in shown]
    output.table(COLUMNS, rows)
    if total > len(rows):
        output.warn(f"the first {len(rows)} of {total} accounts: use --csv for all of them")
