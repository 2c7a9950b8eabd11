"""I/O: the version that runs now, read back a partition at a time for the import that follows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from registry.previous import Previous
from registry.tables import column


class Active:
    """Reads a version's folder. Its channels and ladders stand in order of (partition, slot) in their tables."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        version = json.loads((folder / "version.json").read_text())
        meta = json.loads((folder / "image" / "meta.json").read_text())
        self.digest: str = version["digest"]
        self.partitions: int = version["partitions"]
        self.tariffs: tuple[str, ...] = tuple(meta["tariffs"])
        self._starts: dict[str, list[int]] = meta["starts"]

    def points(self) -> tuple[Any, npt.NDArray[np.int16]]:
        """(ids, partition of each)."""
        path = self._folder / "points.parquet"
        return column(path, "metering_point"), np.asarray(column(path, "partition")).astype(np.int16)

    def part(self, number: int) -> Previous:
        """One partition."""
        low, high = (self._starts["accounts"][place] for place in (number, number + 1))
        with pa.memory_map(str(self._folder / "index" / "slots.arrow")) as source:
            reader = pa.ipc.open_file(source)
            names = reader.get_batch(0).column("account") if reader.num_record_batches else pa.array([], pa.string())
            # a copy, so that the mapping goes
            accounts = names.slice(low, high - low).take(pa.array(np.arange(high - low)))
        channels, ladders = self._rows("channels", number), self._rows("ladders", number)
        return Previous(
            account_ids=accounts,
            channel_meter=channels("meter"),
            channel_register=np.asarray(channels("register_code")).astype(np.uint8),
            channel_from_s=np.asarray(channels("from_s")).astype(np.uint32),
            channel_account=channels("account"),
            channel_tariff=channels("tariff"),
            channel_facts=self._image("channels", number),
            ladder_account=ladders("account"),
            ladder_tariff=ladders("tariff"),
            ladder_facts=self._image("ladders", number),
        )

    def _image(self, name: str, number: int) -> npt.NDArray[np.void]:
        """A partition's rows of an array of the image."""
        low, high = (self._starts[name][place] for place in (number, number + 1))
        return _slice(self._folder / "image" / f"{name}.npy", low, high)

    def _rows(self, table: str, number: int) -> Any:
        """Columns of a partition's rows, by name: its row groups are its own."""
        path = self._folder / f"{table}.parquet"
        low, high = (self._starts[table][place] for place in (number, number + 1))
        groups, begin = [], 0
        with pq.ParquetFile(path, memory_map=False) as file:
            for group in range(file.num_row_groups):
                if low <= begin < high:
                    groups.append(group)
                begin += file.metadata.row_group(group).num_rows
        return lambda name: column(path, name, groups)


def _slice(path: Path, low: int, high: int) -> npt.NDArray[np.void]:
    """Rows [low, high) of a .npy file, read and not mapped."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        _, _, dtype = np.lib.format.read_array_header_1_0(file)
        file.seek(low * dtype.itemsize, 1)
        found: npt.NDArray[np.void] = np.fromfile(file, dtype, high - low)
    return found
