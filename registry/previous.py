"""Pure: the version that runs now, as far as the next one must keep to it: who has which slot, and what is fixed.

Channels, accounts and points never go away, a point never changes its partition, and what a channel counts
from never changes behind the engine's back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from registry import columns
from registry.checks import at
from registry.columns import Ints
from registry.devices import Meters, Points, Registers
from registry.faults import Faults
from registry.people import Accounts
from registry.spans import Channels

_FIXED: Final = ("opening_value", "opening_at_s", "resolution", "multiplier", "bill")


@dataclass(slots=True)
class Previous:
    """Columns of the version before: ids as Arrow strings, the rest numpy, one entry per point, account, ..."""

    digest: str
    content: str
    partitions: int
    tariffs: tuple[str, ...]
    point_ids: Any
    point_partition: npt.NDArray[np.int16]
    account_ids: Any
    account_partition: npt.NDArray[np.int16]
    account_slot: npt.NDArray[np.int32]
    channel_meter: Any
    channel_register: npt.NDArray[np.uint8]
    channel_from_s: npt.NDArray[np.int64]
    channel_account: Any
    channel_tariff: Any
    channel_partition: npt.NDArray[np.int16]
    channel_slot: npt.NDArray[np.int32]
    channel_facts: npt.NDArray[np.void]  # CHANNEL_FACTS in the order of these columns
    ladder_account: Any
    ladder_tariff: Any
    ladder_partition: npt.NDArray[np.int16]
    ladder_slot: npt.NDArray[np.int32]

    def check_points(self, points: Points, partitions: int, faults: Faults) -> None:
        """All points are still there, in as many partitions."""
        if partitions != self.partitions:
            faults.add("points.csv", 0, f"{partitions} partitions, but the active version has {self.partitions}")
        lost = columns.places(self.point_ids, points.ids) < 0
        faults.rows("points.csv", _whole(lost), lost, lambda row: f"point {self.point_ids[row]} has disappeared")

    def channel_slots(
        self,
        channels: Channels,
        meters: Meters,
        registers: Registers,
        accounts: Accounts,
        tariffs: tuple[str, ...],
        channel_tariff: npt.NDArray[np.int32],
        faults: Faults,
    ) -> tuple[npt.NDArray[np.int32], Ints]:
        """(slot of each channel that was there before, else -1; channels per partition before)."""
        slots = np.full(len(channels), -1, np.int32)
        code = registers.code[channels.register]
        keys = _channel_key(registers.meter[channels.register], code, channels.from_s)
        meter = columns.places(self.channel_meter, meters.ids)
        wanted = _channel_key(meter, self.channel_register, self.channel_from_s)
        found = _find(keys, wanted)
        found[meter < 0] = -1
        lost = found < 0
        faults.rows("meters.csv", _whole(lost), lost, lambda row: f"{self._words(row)} has disappeared")
        before = np.flatnonzero(~lost)
        now = found[before]
        account = columns.places(self.channel_account, accounts.ids)[before]
        moved = (account != channels.account[now]) & (account >= 0)
        faults.rows(
            "accounts.csv", _whole(moved), moved, lambda row: f"{self._words(int(before[row]))} changed account"
        )
        codes, values = columns.coded(self.channel_tariff)
        index = np.array([tariffs.index(name) for name in values.to_pylist()] or [-1], np.int32)
        swapped = index[codes][before] != channel_tariff[now] if len(before) else np.zeros(0, bool)
        faults.rows(
            "tariffs.csv", _whole(swapped), swapped, lambda row: f"{self._words(int(before[row]))} changed tariff"
        )
        current = {
            "opening_value": channels.opening_value[now],
            "opening_at_s": channels.opening_at_s[now],
            "resolution": registers.resolution[channels.register[now]],
            "multiplier": meters.row_multiplier[channels.row[now]],
            "bill": registers.bill[channels.register[now]],
        }
        for name in _FIXED:
            file = "opening_registers.csv" if name.startswith("opening") else "registers.csv"
            changed = self.channel_facts[name][before] != current[name]
            words = partial(self._changed_words, before, name)
            faults.rows(file, _whole(changed), changed, words)
        slots[now] = self.channel_slot[before]
        return slots, np.bincount(self.channel_partition, minlength=self.partitions)

    def account_slots(self, ids: Any, faults: Faults) -> tuple[npt.NDArray[np.int32], Ints]:
        """(slot of each account that was there before, else -1; accounts per partition before)."""
        lost = columns.places(self.account_ids, ids) < 0
        faults.rows(
            "accounts.csv", _whole(lost), lost, lambda row: f"account {self.account_ids[row]} has disappeared"
        )
        return at(self.account_slot, columns.places(ids, self.account_ids), -1), np.bincount(
            self.account_partition, minlength=self.partitions
        )

    def ladder_slots(
        self, ids: Any, account: npt.NDArray[np.int32], tariff: npt.NDArray[np.int32], tariffs: tuple[str, ...]
    ) -> tuple[npt.NDArray[np.int32], Ints]:
        """(slot of each ladder that was there before, else -1; ladders per partition before)."""
        codes, values = columns.coded(self.ladder_tariff)
        index = np.array([tariffs.index(name) for name in values.to_pylist()] or [-1], np.int64)
        keys = columns.places(self.ladder_account, ids).astype(np.int64) << 20 | index[codes]
        row = _find(keys, account.astype(np.int64) << 20 | tariff)
        return at(self.ladder_slot, row, -1), np.bincount(self.ladder_partition, minlength=self.partitions)

    def _changed_words(self, before: Ints, name: str, row: int) -> str:
        return f"{self._words(int(before[row]))}: {name} changed"

    def _words(self, row: int) -> str:
        return f"the channel of meter {self.channel_meter[row]} for account {self.channel_account[row]}"


def _whole(rows: npt.NDArray[np.bool_]) -> Ints:
    """Line 0 for each: what is missing has no line."""
    return np.zeros(len(rows), np.int64)


def _channel_key(
    meter: npt.NDArray[np.int32], code: npt.NDArray[np.uint8], from_s: npt.NDArray[Any]
) -> npt.NDArray[np.uint64]:
    """(meter < 2**24, register < 2**8, time < 2**32) in one number."""
    key: npt.NDArray[np.uint64] = meter.astype(np.uint64) << np.uint64(40)
    key |= code.astype(np.uint64) << np.uint64(32)
    key |= from_s.astype(np.uint64)
    return key


def _find(keys: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> Ints:
    """Row of each wanted key; -1 where there is none."""
    if not len(keys):
        return np.full(len(wanted), -1, np.int64)
    order = np.argsort(keys, kind="stable")
    row = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    found: Ints = np.where(keys[row] == wanted, row, -1)
    return found
