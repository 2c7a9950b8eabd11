"""Pure: the version that runs now, as far as the next one must keep to it: who has which slot, what is fixed.

Channels, accounts and points never go away, a point never changes its partition, and what a channel counts from
and what an account brought never change behind the engine's back: its state took them in once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from config.units import decimal_text
from registry import columns, lookup
from registry.columns import Ints
from registry.devices import Meters, Registers
from registry.faults import Faults
from registry.people import Accounts
from registry.spans import Channels

_FIXED: Final = ("opening_value", "opening_at_s", "resolution", "multiplier", "bill")


@dataclass(slots=True)
class Previous:
    """One partition of the version before: ids as Arrow strings, the rest numpy. A row's number is its slot."""

    account_ids: Any
    channel_meter: Any
    channel_register: npt.NDArray[np.uint8]
    channel_from_s: npt.NDArray[np.uint32]
    channel_account: Any
    channel_tariff: Any
    channel_facts: npt.NDArray[np.void]  # CHANNEL_FACTS
    ladder_account: Any
    ladder_tariff: Any
    ladder_facts: npt.NDArray[np.void]  # LADDER_FACTS

    def channel_slots(
        self,
        channels: Channels,
        meters: Meters,
        registers: Registers,
        accounts: Accounts,
        tariffs: tuple[str, ...],
        channel_tariff: npt.NDArray[np.int32],
        faults: Faults,
    ) -> npt.NDArray[np.int32]:
        """Slot of each channel that was there before, else -1; what is lost or altered is a fault."""
        slots = np.full(len(channels), -1, np.int32)
        code = registers.code[channels.register]
        keys = _channel_key(registers.meter[channels.register], code, channels.from_s)
        meter = lookup.places(self.channel_meter, meters.ids)
        wanted = _channel_key(meter, self.channel_register, self.channel_from_s)
        found = _find(keys, wanted)
        found[meter < 0] = -1
        lost = found < 0
        faults.rows("meters.csv", _whole(lost), lost, lambda row: f"{self._words(row)} has disappeared")
        before = np.flatnonzero(~lost)
        now = found[before]
        account = lookup.places(self.channel_account, accounts.ids)[before]
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
        slots[now] = before
        return slots

    def account_slots(self, ids: Any, faults: Faults) -> npt.NDArray[np.int32]:
        """Slot of each account that was there before, else -1; `ids` are the accounts of the same partition."""
        found = lookup.places(self.account_ids, ids)
        lost = found < 0
        faults.rows(
            "accounts.csv",
            _whole(lost),
            lost,
            lambda row: f"account {self.account_ids[row]} has disappeared, or its point has changed",
        )
        slots = np.full(len(ids), -1, np.int32)
        slots[found[~lost]] = np.flatnonzero(~lost)
        return slots

    def ladder_slots(
        self, ids: Any, account: npt.NDArray[np.int32], tariff: npt.NDArray[np.int32], tariffs: tuple[str, ...]
    ) -> npt.NDArray[np.int32]:
        """Slot of each ladder that was there before, else -1."""
        codes, values = columns.coded(self.ladder_tariff)
        index = np.array([tariffs.index(name) for name in values.to_pylist()] or [-1], np.int64)
        keys = lookup.places(self.ladder_account, ids).astype(np.int64) << 20 | index[codes]
        return _find(keys, account.astype(np.int64) << 20 | tariff).astype(np.int32)

    def check_openings(self, accounts: Accounts, faults: Faults) -> npt.NDArray[np.bool_]:
        """Accounts that have a ladder, and so their opening, already; another `cycle_energy` for one is a fault.

        Silence is none: what such an account brought stays as it was.
        """
        row = lookup.places(self.ladder_account, accounts.ids)
        opened = np.zeros(len(accounts.ids), bool)
        brought_wh = np.zeros(len(accounts.ids), np.int64)
        opened[row[row >= 0]] = True
        np.add.at(brought_wh, row[row >= 0], self.ladder_facts["opening_used"][row >= 0])
        told_wh = accounts.cycle_energy_wh
        faults.rows(
            "opening_accounts.csv",
            accounts.opening_line,
            opened & (told_wh >= 0) & (told_wh != brought_wh),
            lambda place: (
                f"cycle_energy {decimal_text(int(told_wh[place]), 3)} of account {accounts.ids[place]}, which was"
                f" opened with {decimal_text(int(brought_wh[place]), 3)}: that is counted and does not change"
            ),
        )
        return opened

    def _changed_words(self, before: Ints, name: str, row: int) -> str:
        return f"{self._words(int(before[row]))}: {name} changed"

    def _words(self, row: int) -> str:
        return f"the channel of meter {self.channel_meter[row]} for account {self.channel_account[row]}"


def check_points(
    before: Any, partition: npt.NDArray[np.int16], ids: Any, partitions: tuple[int, int], faults: Faults
) -> npt.NDArray[np.int16]:
    """Partition of each point that was there before, else -1. All are still there, in as many partitions.

    `before` and their `partition` are the version before's points; `partitions` are the counts (before, now).
    """
    if partitions[0] != partitions[1]:
        faults.add("points.csv", 0, f"{partitions[1]} partitions, but the active version has {partitions[0]}")
    found = lookup.places(before, ids)
    lost = found < 0
    faults.rows("points.csv", _whole(lost), lost, lambda row: f"point {before[row]} has disappeared")
    home = np.full(len(ids), -1, np.int16)
    home[found[~lost]] = partition[~lost]
    return home


def _whole(rows: npt.NDArray[np.bool_]) -> Ints:
    """Line 0 for each: what is missing has no line."""
    return np.broadcast_to(np.int64(0), len(rows))


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
