"""I/O: writes the parts of a version's folder: the image, its indexes, the tables that carry slots."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from config.units import REGISTER_NAME
from registry import columns
from registry.arrays import CUT_BY, ImageArrays
from registry.compile import Compiled, Tables
from registry.tables import Table, write_parquet

IMAGE: Final = "image"
INDEX: Final = "index"
PARTIES_INDEX: Final = "parties.arrow"
ACCOUNTS_INDEX: Final = "accounts.arrow"  # by account id
SLOTS_INDEX: Final = "slots.arrow"  # by (partition, slot)
_BATCH_ROWS: Final = 1 << 20


def image(folder: Path, arrays: ImageArrays) -> None:
    """One .npy per array of all partitions, and meta.json for the rest."""
    (folder / IMAGE).mkdir(exist_ok=True)
    for name in CUT_BY:
        np.save(folder / IMAGE / f"{name}.npy", getattr(arrays, name))
    meta = {
        "starts": arrays.starts,
        "lists": arrays.lists,
        "tariffs": arrays.tariffs,
        "histories": [[[change.name, change.from_s, change.value] for change in one] for one in arrays.histories],
    }
    (folder / IMAGE / "meta.json").write_text(json.dumps(meta, separators=(",", ":")))


def party_index(folder: Path, table: Table) -> None:
    """Parties by id, for look-ups by bisection in a mapped file."""
    whole = pa.table({name: columns.plain(table[name]) for name in table.layout.columns})
    _write_index(folder, PARTIES_INDEX, whole.take(_by_id(whole.column("party"))))


def slots(folder: Path, tables: Tables, compiled: Compiled, accounts_table: Table) -> None:
    """Tables that say who sits where: points, accounts, channels, ladders; and the account indexes."""
    points = pq.read_table(folder / "points.parquet")
    write_parquet(folder / "points.parquet", points.append_column("partition", pa.array(compiled.point_partition)))
    del points
    _accounts(folder, tables, compiled, accounts_table)
    _channels(folder, tables, compiled)
    ladders = pa.table(
        {
            "account": tables.accounts.ids.take(pa.array(compiled.ladder_account)),
            "tariff": _named(compiled.arrays.tariffs, compiled.ladder_tariff),
            "partition": pa.array(compiled.ladder_partition),
            "slot": pa.array(compiled.ladder_slot),
        }
    )
    write_parquet(folder / "ladders.parquet", ladders)


def _accounts(folder: Path, tables: Tables, compiled: Compiled, accounts_table: Table) -> None:
    partition, slot = pa.array(compiled.account_partition), pa.array(compiled.account_slot)
    more = {
        "partition": partition,
        "slot": slot,
        "from_s": pa.array(tables.accounts.from_s),
        "until_s": pa.array(tables.accounts.to_s),
    }
    write_parquet(folder / "accounts.parquet", accounts_table.arrow(**more))
    ids, holder = columns.plain(accounts_table["account"]), columns.plain(accounts_table["party"])
    found = pa.table({"account": ids, "party": holder, "partition": partition, "slot": slot})
    _write_index(folder, ACCOUNTS_INDEX, found.take(_by_id(found.column("account"))))
    place = compiled.account_partition.astype(np.int64) << 32 | compiled.account_slot
    by_slot = found.select(["account", "party"]).take(pa.array(np.argsort(place, kind="stable")))
    _write_index(folder, SLOTS_INDEX, by_slot)


def _channels(folder: Path, tables: Tables, compiled: Compiled) -> None:
    """channels.parquet, a million rows at a time."""
    channels, registers = tables.channels, tables.registers
    codes = [REGISTER_NAME[code].value if code in REGISTER_NAME else "" for code in range(256)]
    with _Rows(folder / "channels.parquet") as out:
        for begin in range(0, max(1, len(channels)), _BATCH_ROWS):
            cut = slice(begin, begin + _BATCH_ROWS)
            register, row = channels.register[cut], channels.row[cut]
            out.write(
                pa.table(
                    {
                        "meter": tables.meters.ids.take(pa.array(registers.meter[register])),
                        "register": _named(tuple(codes), registers.code[register]),
                        "role": _named(("check", "bill"), registers.bill[register]),
                        "account": tables.accounts.ids.take(pa.array(channels.account[cut])),
                        "tariff": _named(tables.tariffs.names, channels.tariff[cut]),
                        "partition": pa.array(compiled.channel_partition[cut]),
                        "slot": pa.array(compiled.channel_slot[cut]),
                        "from_s": pa.array(channels.from_s[cut]),
                        "until_s": pa.array(channels.until_s[cut]),
                        "opening_value": pa.array(channels.opening_value[cut]),
                        "opening_at_s": pa.array(channels.opening_at_s[cut]),
                        "closing_value": pa.array(channels.closing_value[cut]),
                        "multiplier": pa.array(tables.meters.row_multiplier[row].astype(np.int32)),
                        "resolution": pa.array(registers.resolution[register].astype(np.int32)),
                        "register_code": pa.array(registers.code[register].astype(np.int32)),
                    }
                )
            )


class _Rows:
    """A Parquet file that is written piece by piece."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None

    def __enter__(self) -> _Rows:
        return self

    def write(self, table: pa.Table) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._path, table.schema, store_schema=False, compression="zstd", write_statistics=False
            )
        self._writer.write_table(table)

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()


def _named(names: tuple[str, ...], which: npt.NDArray[Any]) -> Any:
    """Names by number, as an encoded column."""
    return pa.DictionaryArray.from_arrays(pa.array(which.astype(np.int32)), pa.array(names or ("",), pa.string()))


def _by_id(ids: Any) -> Any:
    whole = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0)
    if columns.ascending(whole):
        return pa.array(np.arange(len(whole)))
    return pc.sort_indices(whole)


def _write_index(folder: Path, name: str, table: pa.Table) -> None:
    """One uncompressed record batch: look-ups by row in a mapped file cost nothing."""
    (folder / INDEX).mkdir(exist_ok=True)
    table = table.combine_chunks()
    with pa.OSFile(str(folder / INDEX / name), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def make_durable(folder: Path) -> None:
    """fsync every file and folder below, and the folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """fsync a folder's entries."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
