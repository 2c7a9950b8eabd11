"""Pure: the money of a partition since its last checkpoint: close rows and bills into balances and entries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from ledger.effects import Entry
from ledger.postings import bill_entry, usage_entry
from rating.bins import POSTED
from rating.calendar import first_day_of
from rating.partition import Partition, Rows
from rating.sheets import run_of


class Bookings:
    """Gathers what has to be posted; `drain` turns it into entries, one of a kind a checkpoint."""

    def __init__(self, minor: int) -> None:
        self._minor = minor
        self._used: list[tuple[Rows, Rows]] = []  # account slots, close rows
        self._estimated: list[tuple[Rows, Rows]] = []  # the same, of registers that were guessed for a bill
        self._closes = self._used
        self._bills: list[Rows] = []
        self._charges: list[Rows] = []
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
        if len(part.sheet):
            self._on_sheets(part, closes)
        self._closes.append((owners, closes.copy()))  # the kernel writes into its rows again

    def _on_sheets(self, part: Partition, closes: Rows) -> None:
        """What is posted of a bill cycle's energy, and what is carried of one that comes after the open one."""
        ladders = part.channel["ladder"][closes["channel"]]
        sheets = np.where(ladders >= 0, part.sheet_of[np.maximum(ladders, 0)], -1)
        some = sheets >= 0
        rows, sheet = closes[some], part.sheet[sheets[some]]
        at = run_of(sheet, np.maximum(rows["cycle"], sheet["cycle"])) + POSTED
        np.add.at(part.cell["energy_e11"], at, (rows["energy_minor"] + rows["adder_minor"]) * self._minor)
        later = (rows["last"] == 1) & (rows["cycle"] > sheet["cycle"])
        np.add.at(part.cell["wh"], at[later], (rows["energy_rest"] + rows["adder_rest"])[later])
        part.dirty_cell[at] = 1

    @contextmanager
    def estimating(self) -> Iterator[None]:
        """What is closed meanwhile is estimated use: an entry of its own, by which a statement can name it."""
        self._closes = self._estimated
        try:
            yield
        finally:
            self._closes = self._used

    def bill(self, bills: Rows, charges: Rows) -> None:
        """Bill cycles that closed (ledger.effects.BILL) and their charges; the balances hold both already."""
        self._bills.append(bills)
        self._charges.append(charges)

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
            charges = np.concatenate(self._charges)
            entry = bill_entry(offset=offset, booked_at_s=booked_at_s, bills=bills, days=days, charges=charges)
            self._bills, self._charges = [], []
            if entry is not None:
                out.append(entry)
        return out
