"""I/O: one partition of a registry version, out of its Parquet files.

Files are read a row group at a time and only what belongs to the partition is kept, so that a job holds a
partition and never a city. Of what the import worked out, `partition` and `slot` are believed, to find a row;
the facts are derived again (audit.world).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from audit.world import World, build
from config.settings import Paths

_BATCH_ROWS: Final = 1 << 16
_SMALL_BYTES: Final = 1 << 14
_ROWS_AT_ONCE: Final = 2048  # of a table as Python values at a time
# (table, column that says whose a row is, columns), in the order in which they are narrowed.
_OF_POINT: Final = {
    "points": "metering_point timezone",
    "meters": "metering_point meter concentrator from to digits multiplier power_max_w",
    "changeouts": "metering_point at old_meter old_final new_meter new_initial",
}
_OF_ACCOUNT: Final = {
    "tariffs": "account tariff from to",
    "attributes": "account name value from",
    "opening_accounts": "account balance arrears cycle_energy",
}
_OF_METER: Final = {
    "registers": "meter register role resolution",
    "opening_registers": "meter register value read_at quality",
}


class Rows:
    """A table's rows as mappings, made a few at a time, as often as somebody asks."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        names = self._table.column_names
        for batch in self._table.to_batches(max_chunksize=_ROWS_AT_ONCE):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield dict(zip(names, row, strict=True))

    def column(self, name: str) -> Any:
        """One column, whole."""
        return self._table.column(name)


def world(paths: Paths, digest: str, partition: int) -> World:
    """What a registry version says of one partition, derived from its tables."""
    folder = paths.registry / digest
    version = json.loads((folder / "version.json").read_text())
    accounts = _kept(folder, "accounts", "account metering_point from to partition slot", "partition", [partition])
    tables = {"accounts": accounts}
    for name, columns in _OF_POINT.items():
        tables[name] = _kept(folder, name, columns, "metering_point", accounts.column("metering_point"))
    for name, columns in _OF_ACCOUNT.items():
        tables[name] = _kept(folder, name, columns, "account", accounts.column("account"))
    for name, columns in _OF_METER.items():
        tables[name] = _kept(folder, name, columns, "meter", tables["meters"].column("meter"))
    return build(digest, int(version["partitions"]), str(version["timezone"]), tables)


def channel_slots(paths: Paths, digest: str, partition: int) -> Iterator[tuple[int, tuple[str, int, int]]]:
    """(slot, (serial, register code, from_s)) of every channel of a partition."""
    columns = "meter register_code from_s partition slot"
    for row in _kept(paths.registry / digest, "channels", columns, "partition", [partition]):
        yield row["slot"], (row["meter"], row["register_code"], row["from_s"])


def ladder_slots(paths: Paths, digest: str, partition: int) -> Iterator[tuple[int, tuple[str, str]]]:
    """(slot, (account, tariff)) of every ladder of a partition."""
    for row in _kept(paths.registry / digest, "ladders", "account tariff partition slot", "partition", [partition]):
        yield row["slot"], (row["account"], row["tariff"])


def _kept(folder: Path, name: str, columns: str, key: str, wanted: Any) -> Rows:
    """The rows of a table whose `key` is among `wanted`; an empty table where there is no file."""
    names = columns.split()
    path = folder / f"{name}.parquet"
    if not path.is_file():
        return Rows(pa.table({column: pa.array([], pa.string()) for column in names}))
    try:
        return Rows(_read(path, names, key, wanted))
    except pa.ArrowException as error:
        raise OSError(f"{path}: {str(error)[:200]}") from error


@lru_cache(maxsize=64)
def _small(path: Path, _inode: int, _changed_ns: int) -> Any:
    """A small table, whole: opening its file takes longer than narrowing it, and every partition asks for it."""
    with pq.ParquetFile(path, memory_map=False) as file:
        return file.read(use_threads=False)


def _read(path: Path, names: list[str], key: str, wanted: Any) -> Any:
    stat = path.stat()
    if stat.st_size <= _SMALL_BYTES:
        table = _small(path, stat.st_ino, stat.st_mtime_ns)
        among = pa.array(wanted) if isinstance(wanted, list) else wanted.combine_chunks()
        among = among.cast(table.schema.field(key).type)
        return table.filter(pc.is_in(table.column(key), value_set=among)).select(names)
    kept = []
    with pq.ParquetFile(path, memory_map=False) as file:
        among = pa.array(wanted) if isinstance(wanted, list) else wanted.combine_chunks()
        among = among.cast(file.schema_arrow.field(key).type)
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=names, use_threads=False):
            mask = pc.is_in(batch.column(batch.schema.get_field_index(key)), value_set=among)
            if pc.any(mask).as_py():
                kept.append(batch.filter(mask))
        schema = pa.schema([file.schema_arrow.field(column) for column in names])
    return pa.Table.from_batches([batch.select(names) for batch in kept], schema=schema)
