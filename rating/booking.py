"""Pure: the money of a partition since its last checkpoint: close rows and bills into balances and entries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from ledger.effects import Entry
from ledger.postings import bill_entry, usage_entry
from rating.calendar import first_day_of
from rating.partition import Partition, Rows


class Bookings:
    """Gathers what has to be posted; `drain` turns it into entries, one of a kind a checkpoint."""

    def __init__(self) -> None:
        self._used: list[tuple[Rows, Rows]] = []  # account slots, close rows
        self._estimated: list[tuple[Rows, Rows]] = []  # the same, of registers that were guessed for a bill
        self._closes = self._used
        self._bills: list[Rows] = []
        self.entries: list[Entry] = []

    def close(self, part: Partition, closes: Rows) -> None:
        """Days that ended: balances fall by whole minor units, remainders at a cycle's end go to the carry."""
        if len(closes) == 0:
            return
        owners = part.cold["account"][closes["channel"]]
        np.subtract.at(part.account["balance_fen"], owners, closes["energy_minor"] + closes["adder_minor"])
        last = closes["last"] == 1
        np.add.at(part.account["carry_energy_e11"], owners[last], closes["energy_rest"][last])
        np.add.at(part.account["carry_adder_e11"], owners[last], closes["adder_rest"][last])
        part.dirty_account[owners] = 1
        self._closes.append((owners, closes.copy()))  # the kernel writes into its rows again

    @contextmanager
    def estimating(self) -> Iterator[None]:
        """What is closed meanwhile is estimated use: an entry of its own, by which a statement can name it."""
        self._closes = self._estimated
        try:
            yield
        finally:
            self._closes = self._used

    def bill(self, bills: Rows) -> None:
        """Bill cycles that closed (ledger.effects.BILL); the balances are already rounded."""
        self._bills.append(bills)

    def drain(self, offset: int, booked_at_s: int) -> list[Entry]:
        """All entries since the last call; nothing is kept."""
        out, self.entries = self.entries, []
        for kind, gathered in (("usage", self._used), ("estimate", self._estimated)):
            if not gathered:
                continue
            closes = np.concatenate([rows for _, rows in gathered])
            usage = usage_entry(
                offset=offset,
                booked_at_s=booked_at_s,
                slots=np.concatenate([owners for owners, _ in gathered]),
                channels=closes["channel"],
                days=closes["day"],
                quantity=closes["quantity"],
                energy_fen=closes["energy_minor"],
                adder_fen=closes["adder_minor"],
            )
            gathered.clear()
            if usage is not None:
                out.append(replace(usage, kind=kind))
        if self._bills:
            bills = np.concatenate(self._bills)
            last_days = {int(c): first_day_of(int(c) + 1) - 1 for c in np.unique(bills["cycle"])}
            days = np.array([last_days[int(c)] for c in bills["cycle"]], np.int64)
            entry = bill_entry(offset=offset, booked_at_s=booked_at_s, bills=bills, days=days)
            self._bills = []
            if entry is not None:
                out.append(entry)
        return out
