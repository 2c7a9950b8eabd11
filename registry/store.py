"""I/O: a staged version as it is read back: the image in mapped memory, and single look-ups by bisection.

Nothing is loaded whole: arrays are mapped copy-on-write (so that compiled code may take them as writable;
nothing ever is written back), and ids stand sorted in mapped Arrow files.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from config.settings import AutopaySettings
from registry import routes as routing
from registry.arrays import CUT_BY, ImageArrays
from registry.image import AttributeChange, RegistryImage

VERSION_FILE: Final = "version.json"


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody who is told and who pays."""

    id: str
    name: str
    language: str
    notify: str


def load_arrays(folder: Path) -> ImageArrays:
    """The arrays of a version's folder, mapped."""
    meta = json.loads((folder / "image" / "meta.json").read_text())
    arrays: dict[str, Any] = {name: np.asarray(_mapped(folder / "image" / f"{name}.npy")) for name in CUT_BY}
    return ImageArrays(
        **arrays,
        starts=meta["starts"],
        lists=[{name: (low, high) for name, (low, high) in one.items()} for one in meta["lists"]],
        tariffs=tuple(meta["tariffs"]),
        histories=tuple(tuple(AttributeChange(*change) for change in one) for one in meta["histories"]),
    )


def _mapped(path: Path) -> npt.NDArray[Any]:
    try:
        found: npt.NDArray[Any] = np.load(path, mmap_mode="c").view(np.ndarray)
    except ValueError:  # an empty array cannot be mapped
        found = np.load(path)
    return found


def load_image(registry_root: Path, digest: str) -> RegistryImage:
    """The image of a version."""
    return load_arrays(registry_root / digest).image(digest)


class RegistryReader:
    """Look-ups in one version. Unknown names raise KeyError."""

    def __init__(self, registry_root: Path, digest: str) -> None:
        self.folder = registry_root / digest
        self.digest = digest
        if not (self.folder / VERSION_FILE).is_file():
            raise FileNotFoundError(f"no registry version {digest} under {registry_root}")

    @cached_property
    def version(self) -> dict[str, Any]:
        """digest, previous, partitions, timezone, counts."""
        found: dict[str, Any] = json.loads((self.folder / VERSION_FILE).read_text())
        return found

    @cached_property
    def image(self) -> RegistryImage:
        """The image, mapped."""
        return load_arrays(self.folder).image(self.digest)

    @cached_property
    def _by_slot(self) -> Any:
        return _index(self.folder, "slots")

    @cached_property
    def _accounts(self) -> Any:
        return _index(self.folder, "accounts")

    @cached_property
    def _parties(self) -> Any:
        return _index(self.folder, "parties")

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        sizes = [len(partition.accounts) for partition in self.image.partitions]
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def _row(self, partition: int, slot: int) -> int:
        if not 0 <= slot < self._starts[partition + 1] - self._starts[partition]:
            raise KeyError(f"partition {partition} has no account slot {slot}")
        return int(self._starts[partition]) + slot

    def account_id(self, partition: int, slot: int) -> str:
        """The text id of an account slot."""
        return str(self._by_slot.column("account")[self._row(partition, slot)].as_py())

    def account_ids(self, partition: int, slots: npt.NDArray[Any] | Iterable[int]) -> list[str]:
        """Text ids of many slots of a partition."""
        rows = np.fromiter(slots, np.int64) + self._starts[partition]
        if len(rows) and not (rows.min() >= self._starts[partition] and rows.max() < self._starts[partition + 1]):
            raise KeyError(f"partition {partition} has no such account slots")
        found: list[str] = self._by_slot.column("account").take(pa.array(rows)).to_pylist()
        return found

    def slots(self, partition: int, start: int, count: int) -> Any:
        """Columns `account` and `party` of consecutive slots, as a slice of the mapped index: nothing is copied."""
        whole = self._starts[partition + 1] - self._starts[partition]
        if not (start >= 0 and start + count <= whole):
            raise KeyError(f"partition {partition} has {whole} account slots, not {start + count}")
        return self._by_slot.slice(int(self._starts[partition]) + start, count)

    def holder_of_slot(self, partition: int, slot: int) -> str:
        """The party that holds an account slot."""
        return str(self._by_slot.column("party")[self._row(partition, slot)].as_py())

    def find_account(self, account: str) -> tuple[int, int]:
        """(partition, slot) of an account's text id."""
        row = _bisect(self._accounts.column("account"), account)
        return self._accounts.column("partition")[row].as_py(), self._accounts.column("slot")[row].as_py()

    def holder(self, account: str) -> str:
        """The party of an account."""
        return str(self._accounts.column("party")[_bisect(self._accounts.column("account"), account)].as_py())

    def party(self, party: str) -> Party:
        """Name, language and channels of a party."""
        row = _bisect(self._parties.column("party"), party)
        return Party(
            party, *(str(self._parties.column(name)[row].as_py()) for name in ("name", "language", "notify"))
        )

    def mandates(self, defaults: AutopaySettings) -> list[dict[str, Any]]:
        """Rows for the ledger's mandate table; what a mandate left empty is the settings' own.

        A cap that is wider than the settings' own is cut to it: a mandate may be stricter, never looser.
        """
        return [_mandate(row, defaults) for row in self._table("mandates").to_pylist()]

    def shards(self) -> dict[str, str]:
        """Every concentrator's shard."""
        table = self._table("concentrators")
        names, shards = table.column("concentrator").to_pylist(), table.column("shard").to_pylist()
        return dict(zip(names, shards, strict=True))

    def routes(self) -> routing.Routes:
        """Address -> partition, concentrator -> shard, for ingest."""
        return self._routes

    @cached_property
    def _routes(self) -> routing.Routes:
        return routing.routes(self.image, self.shards())

    def _table(self, name: str) -> Any:
        with pq.ParquetFile(self.folder / f"{name}.parquet") as file:  # read_table makes a data set of it first
            return file.read(use_threads=False)


def _mandate(row: dict[str, Any], defaults: AutopaySettings) -> dict[str, Any]:
    def given(name: str, default: int) -> int:
        return int(row[name]) if row[name] >= 0 else default

    target_fen = given("target_fen", 0)
    return {
        "id": row["mandate"],
        "payer": row["payer"],
        "account": row["account"],
        "gateway": row["gateway"],
        "token": row["token"],
        "priority": row["priority"],
        "trigger_fen": row["trigger_fen"],
        "amount_fen": 0 if target_fen else given("amount_fen", defaults.amount_fen),
        "target_fen": target_fen,
        "cap_charge_fen": min(given("cap_charge_fen", defaults.cap_charge_fen), defaults.cap_charge_fen),
        "cap_day_fen": min(given("cap_day_fen", defaults.cap_day_fen), defaults.cap_day_fen),
        "cap_month_fen": min(given("cap_month_fen", defaults.cap_month_fen), defaults.cap_month_fen),
        "cap_day_count": min(given("cap_day_count", defaults.cap_day_count), defaults.cap_day_count),
        "cooldown_s": max(given("cooldown_s", defaults.cooldown_s), defaults.cooldown_s),
        "window_from": row["window_from"] or "00:00",
        "window_to": row["window_to"] or "00:00",
        "valid_from_s": row["valid_from_s"],
        "valid_until_s": row["valid_until_s"],
        "cancelled_at_s": None,
    }


def _index(folder: Path, name: str) -> Any:
    """The one record batch of a mapped index file."""
    source = pa.memory_map(str(folder / "index" / f"{name}.arrow"))
    reader = pa.ipc.open_file(source)
    if reader.num_record_batches == 0:
        return pa.record_batch([pa.array([], field.type) for field in reader.schema], schema=reader.schema)
    assert reader.num_record_batches == 1, f"{name}.arrow holds more than one batch"
    return reader.get_batch(0)


class _Ids:
    """A sorted Arrow column as a sequence for bisect: two dozen single reads a look-up."""

    def __init__(self, column: Any) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, row: int) -> str:
        return str(self._column[row].as_py())


def _bisect(column: Any, wanted: str) -> int:
    ids = _Ids(column)
    row = bisect.bisect_left(ids, wanted)
    if row == len(ids) or ids[row] != wanted:
        raise KeyError(wanted)
    return row
