"""I/O: writes the parts of a version's folder: the image, its indexes, the tables that carry slots.

What has a partition is written a partition at a time, behind what is there.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from config.units import REGISTER_NAME
from registry import columns, layout, lookup
from registry.arrays import CUT_BY
from registry.compile import Compiled
from registry.cut import Tables
from registry.image import AttributeChange, PartitionImage
from registry.people import Accounts
from registry.spans import Channels
from registry.tables import Rows, Table, column, extend

IMAGE: Final = "image"
INDEX: Final = "index"
PARTIES_INDEX: Final = "parties.arrow"
ACCOUNTS_INDEX: Final = "accounts.arrow"  # by account id
SLOTS_INDEX: Final = "slots.arrow"  # by (partition, slot)
_REGISTERS: Final = tuple(REGISTER_NAME[code].value if code in REGISTER_NAME else "" for code in range(256))


class ImageFiles:
    """The image, written partition by partition: one .npy per array, and meta.json for the rest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / IMAGE
        self._folder.mkdir()
        self._files: dict[str, BinaryIO] = {}
        self._dtypes: dict[str, Any] = {}
        self._rows: dict[str, int] = {}
        self._starts: dict[str, list[int]] = {kind: [0] for kind in dict.fromkeys(CUT_BY.values())}
        self._lists: list[dict[str, tuple[int, int]]] = []

    def add(self, image: PartitionImage) -> None:
        """The next partition."""
        for name in CUT_BY:
            values: npt.NDArray[Any] = getattr(image, name)
            if name not in self._files:
                self._files[name] = (self._folder / f"{name}.npy").open("wb")
                self._dtypes[name], self._rows[name] = values.dtype, 0
                self._head(name)
            values.tofile(self._files[name])
            self._rows[name] += len(values)
        for kind, rows in (
            ("channels", image.channels),
            ("ladders", image.ladders),
            ("accounts", image.accounts),
            ("lists", image.list_meter),
        ):
            self._starts[kind].append(self._starts[kind][-1] + len(rows))
        self._lists.append(image.lists)

    def _head(self, name: str) -> None:
        """The header with the count so far: it is as long for every count."""
        fact = {
            "descr": np.lib.format.dtype_to_descr(self._dtypes[name]),
            "fortran_order": False,
            "shape": (self._rows[name],),
        }
        self._files[name].seek(0)
        np.lib.format.write_array_header_1_0(self._files[name], fact)

    def close(self, tariffs: tuple[str, ...], histories: tuple[tuple[AttributeChange, ...], ...]) -> None:
        """All partitions are there."""
        for name, file in self._files.items():
            self._head(name)
            file.close()
        meta = {
            "starts": self._starts,
            "lists": self._lists,
            "tariffs": tariffs,
            "histories": [[[change.name, change.from_s, change.value] for change in one] for one in histories],
        }
        (self._folder / "meta.json").write_text(json.dumps(meta, separators=(",", ":")))


def party_index(folder: Path, table: Table) -> None:
    """Parties by id, for look-ups by bisection in a mapped file."""
    order = _by_id(columns.plain(table["party"]))
    _write_index(folder, PARTIES_INDEX, {name: columns.plain(table[name]) for name in table.layout.columns}, order)


class SlotTables:
    """channels.parquet and ladders.parquet, in order of (partition, slot), a partition at a time."""

    def __init__(self, folder: Path, tariffs: tuple[str, ...]) -> None:
        self._folder = folder
        self._tariffs = tariffs
        self._out: dict[str, Rows] = {}

    def add(self, number: int, tables: Tables, channels: Channels, compiled: Compiled) -> None:
        """The next partition."""
        registers, order = tables.registers, np.argsort(compiled.channel_slot)
        register, row = channels.register[order], channels.row[order]
        self._write(
            "channels",
            meter=columns.take(tables.meters.ids, registers.meter[register]),
            register=_named(_REGISTERS, registers.code[register]),
            role=_named(("check", "bill"), registers.bill[register]),
            account=columns.take(tables.accounts.ids, channels.account[order]),
            tariff=_named(tables.tariffs.names, channels.tariff[order]),
            partition=np.full(len(order), number, np.int16),
            slot=np.arange(len(order), dtype=np.int32),
            from_s=channels.from_s[order],
            until_s=channels.until_s[order],
            opening_value=channels.opening_value[order],
            opening_at_s=channels.opening_at_s[order],
            closing_value=channels.closing_value[order],
            multiplier=tables.meters.row_multiplier[row].astype(np.int32),
            resolution=registers.resolution[register].astype(np.int32),
            register_code=registers.code[register].astype(np.int32),
        )
        order = np.argsort(compiled.ladder_slot)
        self._write(
            "ladders",
            account=columns.take(tables.accounts.ids, compiled.ladder_account[order]),
            tariff=_named(self._tariffs, compiled.ladder_tariff[order]),
            partition=np.full(len(order), number, np.int16),
            slot=np.arange(len(order), dtype=np.int32),
        )

    def _write(self, name: str, **values: Any) -> None:
        piece = pa.table(values)
        if name not in self._out:
            few = [column for column in piece.column_names if column not in ("meter", "account", "slot")]
            self._out[name] = Rows(self._folder / f"{name}.parquet", piece.schema, few)
        self._out[name].write(piece)

    def close(self) -> None:
        """All partitions are there."""
        for out in self._out.values():
            out.close()


def accounts(folder: Path, known: Accounts, partition: npt.NDArray[np.int16], slot: npt.NDArray[np.int32]) -> None:
    """accounts.parquet gets its slots; and the account indexes."""
    extend(folder, layout.ACCOUNTS, partition=partition, slot=slot, from_s=known.from_s, until_s=known.to_s)
    party = column(folder / "accounts.parquet", "party")
    found = {"account": known.ids, "party": party, "partition": pa.array(partition), "slot": pa.array(slot)}
    _write_index(folder, ACCOUNTS_INDEX, found, _by_id(known.ids))
    place = partition.astype(np.int64) << 32 | slot
    _write_index(folder, SLOTS_INDEX, {"account": known.ids, "party": party}, np.argsort(place, kind="stable"))


def _named(names: tuple[str, ...], which: npt.NDArray[Any]) -> Any:
    """Names by number, as an encoded column."""
    return pa.DictionaryArray.from_arrays(pa.array(which.astype(np.int32)), pa.array(names or ("",), pa.string()))


def _by_id(ids: Any) -> npt.NDArray[Any] | None:
    """Rows in order of their id; None when they are so already."""
    return None if lookup.ascending(ids) else np.asarray(pc.sort_indices(ids))


def _write_index(folder: Path, name: str, table: dict[str, Any], order: npt.NDArray[Any] | None) -> None:
    """One uncompressed record batch: look-ups by row in a mapped file cost nothing."""
    (folder / INDEX).mkdir(exist_ok=True)
    if order is not None:
        table = {key: columns.take(values, order) for key, values in table.items()}
    whole = pa.table(table)
    with pa.OSFile(str(folder / INDEX / name), "wb") as sink, pa.ipc.new_file(sink, whole.schema) as writer:
        writer.write_table(whole)


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
