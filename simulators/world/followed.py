"""I/O (reads the ledger): every account, followed from change to change: state, postings, and what was said of it.

Rows of the state come out of pages and deltas here, row by row, not by the code that starts a daemon; postings are
added up as they come. So after each change every account that it touched is looked at: is its balance what was posted
on it, and was it told that it is low.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ledger.effects import PAGE_SLOTS, SUBLEDGER
from rating.state import ACCOUNT, CHANNEL, COLD, AccountFlag, ChannelFlag
from registry.image import NO_TRIGGER
from simulators.world.findings import Finding, version_of

if TYPE_CHECKING:
    from simulators.world.world import World

_DTYPES: Final = {"account": ACCOUNT, "channel": CHANNEL, "cold": COLD}
_PAGES: Final = "SELECT version, partition, array, page, body FROM state_page WHERE version > ?"
_DELTAS: Final = "SELECT version, partition, array, count, body FROM state_delta WHERE version > ?"
_PER_FEN_E11: Final = 10**9
_ESTIMATE: Final = 1
Home = tuple[int, int]  # partition and slot


class Followed:
    """Of one life of a ledger; after a restore one begins anew."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rows: dict[str, dict[Home, Any]] = {name: {} for name in _DTYPES}
        self._channels: dict[Home, list[Home]] = {}
        self._posted: Counter[Home] = Counter()
        self._low: set[tuple[str, int]] = set()  # account and arm of each low balance
        self._alerted: set[str] = set()
        self._version = self._entry = self._event = 0

    def look(self, db: sqlite3.Connection) -> None:
        """At what has changed since the last look; raises `Finding`."""
        self._events(db)
        for home in sorted(self._postings(db) | self._state(db)):
            self._judged(home)

    def live(self) -> dict[str, tuple[int, bool]]:
        """Live balance in fen of every account that is open, and whether it rests on an estimate."""
        rows = self._rows["account"].items()
        return {self._name(home): self._live(home) for home, row in rows if row["flags"] & AccountFlag.OPEN}

    def shown(self, partition: int, live_fen: Sequence[int]) -> None:
        """What people are shown of every account of a partition is posted less accrued; raises `Finding`."""
        for slot, fen in enumerate(live_fen):
            expected_fen, _ = self._live((partition, slot))
            if fen != expected_fen:
                name = self._name((partition, slot))
                raise Finding("live = posted - accrued", f"{name}: {fen} is shown, {expected_fen} is in the state")

    # -- what came -----------------------------------------------------------------------------------------------
    def _events(self, db: sqlite3.Connection) -> None:
        asked = "SELECT id, kind, account, arm FROM event WHERE id > ? ORDER BY id"
        for number, kind, account, arm in db.execute(asked, (self._event,)):
            self._event = number
            if kind == "low_balance":
                self._low.add((account, arm))
            elif kind == "alert":
                self._alerted.add(account)

    def _postings(self, db: sqlite3.Connection) -> set[Home]:
        touched: set[Home] = set()
        asked = "SELECT partition, entry_id, body FROM subledger WHERE entry_id > ? ORDER BY entry_id"
        for partition, entry, body in db.execute(asked, (self._entry,)):
            self._entry = entry
            for row in np.frombuffer(body, SUBLEDGER):
                home = (partition, int(row["slot"]))
                self._posted[home] += int(row["amount_fen"])
                touched.add(home)
        return touched

    def _state(self, db: sqlite3.Connection) -> set[Home]:
        """Accounts whose row or one of whose channels came anew."""
        came: list[tuple[int, str, int, int, Any]] = []
        for version, partition, array, page, body in db.execute(_PAGES, (self._version,)):
            if array in _DTYPES:
                rows = np.frombuffer(body, _DTYPES[array])
                slots = page * PAGE_SLOTS + np.arange(len(rows))
                came += [(version, array, partition, int(slot), row) for slot, row in zip(slots, rows, strict=True)]
        for version, partition, array, count, body in db.execute(_DELTAS, (self._version,)):
            if array in _DTYPES:
                slots = np.frombuffer(body, "<i4", count)
                rows = np.frombuffer(body, _DTYPES[array], count, offset=4 * count)
                came += [(version, array, partition, int(slot), row) for slot, row in zip(slots, rows, strict=True)]
        came.sort(key=lambda one: one[0])
        for version, array, partition, slot, row in came:
            self._version = version
            self._rows[array][partition, slot] = row
        if any(array == "cold" for _, array, *_ in came):
            self._own()
        cold = self._rows["cold"]
        return {
            (partition, slot if array == "account" else int(cold[partition, slot]["account"]))
            for _, array, partition, slot, _ in came
            if array == "account" or (partition, slot) in cold
        } & self._rows["account"].keys()

    def _own(self) -> None:
        channels: dict[Home, list[Home]] = defaultdict(list)
        for (partition, slot), row in self._rows["cold"].items():
            channels[partition, int(row["account"])].append((partition, slot))
        self._channels = channels

    # -- what must be so -----------------------------------------------------------------------------------------
    def _name(self, home: Home) -> str:
        newest, _ = self._world.scene.versions[-1]
        return version_of(self._world.registry, newest).account_id(*home)

    def _live(self, home: Home) -> tuple[int, bool]:
        row = self._rows["account"][home]
        channels = [self._rows["channel"][at] for at in self._channels.get(home, ()) if at in self._rows["channel"]]
        accrued = int(row["carry_energy_e11"]) + int(row["carry_adder_e11"]) + int(row["pending_e11"])
        accrued += sum(int(c["accrued_energy_e11"]) + int(c["accrued_adder_e11"]) for c in channels)
        guessed = any(c["flags"] & ChannelFlag.BILL and c["quality"] == _ESTIMATE for c in channels)
        return int(row["balance_fen"]) + (-accrued) // _PER_FEN_E11, guessed

    def _judged(self, home: Home) -> None:
        """Balance = posted; whoever is at or under a limit was told so. (An estimate alone triggers nothing.)"""
        row = self._rows["account"].get(home)
        balance_fen = int(row["balance_fen"]) if row is not None else 0
        if balance_fen != self._posted[home]:
            how = f"{self._name(home)}: {balance_fen} in the state, {self._posted[home]} posted"
            raise Finding("balance = posted", how)
        if row is None or not row["flags"] & AccountFlag.OPEN:
            return
        live_fen, guessed = self._live(home)
        name, trigger_fen = self._name(home), int(row["trigger_fen"])
        if live_fen <= row["alert_fen"] and name not in self._alerted:
            raise Finding("who is low is told", f"{name} has {live_fen} fen, and there is no alert")
        if trigger_fen != NO_TRIGGER and live_fen <= trigger_fen and not guessed:
            self._world.counts["low balance seen"] += 1
            if (name, int(row["arm"])) not in self._low:
                how = f"{name} has {live_fen} fen, the trigger is {trigger_fen}, and arm {row['arm']} has no event"
                raise Finding("who is low is triggered", how)
