"""Pure: one partition's state arrays against one registry image: opening, growing, and what is derived from both.

The arrays (rating.state) are all that is stored. Everything else here can be computed again from the image and
the book: the channels of an account, the ends of bill cycles, the sorted concentrator lists.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from config.units import FED_IN_REGISTER, Quality
from rating.book import TariffBook
from rating.calendar import months_of
from rating.compiled import Batch, Homes
from rating.rings import tie
from rating.served import Served, served
from rating.sheets import CYCLES, allotted, cycles_needed, longer_runs, places
from rating.state import ACCOUNT, ARRAYS, CHANNEL, COLD, FED_IN, LADDER, AccountFlag, ChannelFlag
from rating.takeover import Activated, bounds_moved, moved_back, take_over
from registry.image import PartitionImage

Rows = npt.NDArray[Any]


def empty_arrays() -> dict[str, Rows]:
    return {name: np.zeros(0, dtype=dtype) for name, dtype in ARRAYS.items()}


class Partition:
    """State arrays, dirty marks, and the look-ups that the engine needs. Rows are only ever added."""

    def __init__(self, arrays: dict[str, Rows], sheet_cycles: int = CYCLES) -> None:
        self.channel, self.cold = arrays["channel"], arrays["cold"]
        self.ladder, self.account = arrays["ladder"], arrays["account"]
        self.sheet, self.cell = arrays["sheet"], arrays["cell"]
        self._sheet_cycles = sheet_cycles
        self.dirty_sheet = np.zeros(len(self.sheet), np.uint8)
        self.dirty_cell = np.zeros(len(self.cell), np.uint8)
        self.sheet_of = np.full(len(self.ladder), -1, np.int32)
        self.served = Served.nobody()
        self._covered_s: int | None = None  # up to where all sheets have cells; None: not known
        self.dirty_channel = np.zeros(len(self.channel), np.uint8)  # of `cold`, too
        self.dirty_ladder = np.zeros(len(self.ladder), np.uint8)
        self.dirty_account = np.zeros(len(self.account), np.uint8)
        self.image: PartitionImage | None = None
        self.book: TariffBook | None = None
        self.cycle_end_s = np.zeros((0, 0), np.int64)  # [tariff, cycle - first cycle of the horizon]
        self.cycle_base = 0
        self._sorted: dict[str, npt.NDArray[np.int64]] = {}

    def homes(self) -> Homes:
        """The arrays for compiled code."""
        marks = self.dirty_channel, self.dirty_ladder
        return Homes(
            self.channel, self.cold, self.ladder, *marks, self.sheet_of, self.sheet, self.cell, self.dirty_cell
        )

    def arrays(self) -> dict[str, Rows]:
        return {name: getattr(self, name) for name in ARRAYS}

    def attach(self, image: PartitionImage, book: TariffBook) -> None:
        """Use this image and book; the state already fits them (see `activate` for a change)."""
        self.image, self.book = image, book
        self._sorted.clear()
        self.cycle_base, cycles = 0, 0
        if book.calendars:
            first, end = book.calendars[0].first_day, book.calendars[0].end_day
            self.cycle_base, last = (int(c) for c in months_of([first, end - 1]))
            cycles = last - self.cycle_base + 1
        self.cycle_end_s = np.array(
            [
                [book.cycle_end_s(tariff, self.cycle_base + c) for c in range(cycles)]
                for tariff in range(len(book.tariffs))
            ],
            dtype=np.int64,
        ).reshape(len(book.tariffs), cycles)
        self._find_sheets()

    def _find_sheets(self) -> None:
        assert self.image is not None
        assert self.book is not None
        self.sheet_of = places(self.sheet, len(self.image.ladders))
        self.served = served(self.sheet, self.image, self.book)
        self._covered_s = None

    def activate(self, image: PartitionImage, book: TariffBook) -> Activated:
        """Take over a new registry version: keep every slot, open the new ones, hand registers over where a date
        lies before them."""
        old_book, old_image, old_accounts = self.book, self.image, len(self.account)
        old_channels, old_ladders = len(self.channel), len(self.ladder)
        old_until_s = self.channel["until_s"].copy()
        furthest_s = self._furthest_s()
        places = self._ladder_instants(old_book, furthest_s) if old_book is not None and old_ladders else None
        self.attach(image, book)
        self._grow(len(image.channels), len(image.ladders), len(image.accounts))
        self._open_ladders(old_ladders)
        ladders, since_s = np.zeros(0, np.int32), tuple[int, ...]()
        if places is not None and old_book is not None and old_image is not None:
            facts = image.ladders[:old_ladders]
            self.ladder["stage"][:old_ladders] = book.stage_at(facts["tariff"], facts["history"], places)
            ladders, since_s = bounds_moved(old_book, book, old_image.ladders, facts, furthest_s)
        tie(self.ladder, image, book, old_channels, furthest_s)
        self._open_channels(old_channels)
        self._open_accounts(old_accounts)
        self._open_sheets(old_book)
        for marks in (self.dirty_channel, self.dirty_ladder, self.dirty_account, self.dirty_sheet, self.dirty_cell):
            marks[:] = 1
        new = range(old_accounts, len(self.account))
        return Activated(new, moved_back(self.channel, old_until_s), ladders, since_s)

    def _furthest_s(self) -> npt.NDArray[np.int64]:
        """For each ladder the time of the latest register that counts on it."""
        furthest = np.zeros(len(self.ladder), np.int64)
        on = (self.channel["ladder"] >= 0) & (self.channel["value"] >= 0)
        np.maximum.at(furthest, self.channel["ladder"][on], self.channel["at_s"][on].astype(np.int64))
        return furthest

    def _ladder_instants(self, book: TariffBook, furthest_s: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """For each ladder an instant inside the stage it stands on, so that the stage can be found in another book.

        A ladder moves on with energy, not with time: at the boundary it still stands in the old cycle.
        """
        stage = self.ladder["stage"]
        return np.clip(furthest_s, book.stage_start[stage], book.stage_end[stage] - 1)

    def _grow(self, channels: int, ladders: int, accounts: int) -> None:
        def longer(rows: Rows, count: int, dtype: Any) -> Rows:
            if count < len(rows):
                raise AssertionError("a registry version may not lose slots")
            out = np.zeros(count, dtype=dtype)
            out[: len(rows)] = rows
            return out

        self.channel, self.cold = longer(self.channel, channels, CHANNEL), longer(self.cold, channels, COLD)
        self.ladder, self.account = longer(self.ladder, ladders, LADDER), longer(self.account, accounts, ACCOUNT)
        self.dirty_channel = longer(self.dirty_channel, channels, np.uint8)
        self.dirty_ladder = longer(self.dirty_ladder, ladders, np.uint8)
        self.dirty_account = longer(self.dirty_account, accounts, np.uint8)

    def _open_ladders(self, first: int) -> None:
        assert self.image is not None
        assert self.book is not None
        facts = self.image.ladders[first:]
        new = self.ladder[first:]
        new["used"] = facts["opening_used"]
        new["account"] = facts["account"]
        new["stage"] = self.book.stage_at(facts["tariff"], facts["history"], facts["opening_at_s"])

    def _open_channels(self, first: int) -> None:
        """New channels start at their opening register, or where the span before them stands already; dated facts
        and places in the book are renewed for all."""
        assert self.image is not None
        assert self.book is not None
        facts = self.image.channels
        fresh, new = self.channel[first:], facts[first:]
        fresh["value"] = new["opening_value"]
        fresh["at_s"] = new["opening_at_s"]
        fresh["quality"] = np.where(new["opening_quality"] == 0, int(Quality.A), new["opening_quality"])
        rows = self.channel
        for name in ("ladder", "until_s", "power_max_w", "multiplier", "resolution", "digits"):
            rows[name] = facts[name]
        self.cold["next"] = facts["next"]
        self.cold["account"] = facts["account"]
        take_over(rows, self.cold)
        rows["segment"] = self.book.segment_at(facts["tariff"], rows["at_s"])
        unplaced = (rows["ladder"] >= 0) & (self.ladder["stage"][np.maximum(rows["ladder"], 0)] < 0)
        rows["segment"][unplaced] = -1
        fed_in = facts["register"] == FED_IN_REGISTER
        counted = ~fed_in | np.append(self.book.fed_in(), False)[facts["tariff"]]  # else it is only checked
        billed = (facts["bill"] == 1) & (facts["tariff"] >= 0) & counted
        flags = rows["flags"] & ~np.uint8(ChannelFlag.BILL | ChannelFlag.SHARED | ChannelFlag.DEAR)
        until_s = self.ladder["ring_until_s"][np.maximum(rows["ladder"], 0)] if len(self.ladder) else 0
        starts_s = self.book.seg_start[np.maximum(rows["segment"], 0)] if len(self.book.seg_start) else 0
        shared = (rows["ladder"] >= 0) & (rows["segment"] >= 0) & (starts_s < until_s)
        flags = np.where(billed, flags | ChannelFlag.BILL, flags)
        rows["counts"] = np.append(self.book.steps(), np.uint8(0))[facts["tariff"]] | fed_in * np.uint8(FED_IN)
        flags = np.where(self._dear(), flags | ChannelFlag.DEAR, flags)
        rows["flags"] = np.where(shared, flags | ChannelFlag.SHARED, flags)

    def _dear(self) -> npt.NDArray[np.bool_]:
        """Channels under a tariff with dear prices, and those before them in the chain of their register."""
        assert self.image is not None
        assert self.book is not None
        tariff, following = self.image.channels["tariff"], self.cold["next"]
        found = (tariff >= 0) & np.append(self.book.dear(), False)[tariff]
        while found.any():
            before = (following >= 0) & found[following] & ~found
            if not before.any():
                break
            found |= before
        return np.asarray(found, np.bool_)

    def _open_accounts(self, first: int) -> None:
        assert self.image is not None
        assert self.book is not None
        facts = self.image.accounts
        fresh, new = self.account[first:], facts[first:]
        fresh["balance_fen"] = new["opening_balance_fen"]
        fresh["arrears_fen"] = new["opening_arrears_fen"]
        fresh["flags"] = AccountFlag.ALERT_ARMED | AccountFlag.TRIGGER_ARMED | AccountFlag.OPEN
        fresh["cycle"] = self.cycle_of(new["tariff"], self._opened_s()[first:])
        self.account["alert_fen"] = facts["alert_fen"]
        self.account["trigger_fen"] = facts["trigger_fen"]

    def _open_sheets(self, before: TariffBook | None) -> None:
        assert self.image is not None
        assert self.book is not None
        cycles = self.account["cycle"]
        given = (self.sheet, self.cell, self.image, self.book, before, cycles, self._sheet_cycles)
        self.sheet, self.cell = allotted(*given)
        self.dirty_sheet, self.dirty_cell = np.zeros(len(self.sheet), np.uint8), np.zeros(len(self.cell), np.uint8)
        self._find_sheets()
        tallied = self.sheet_of[self.channel["ladder"]] >= 0 if len(self.sheet_of) else np.zeros(0, bool)
        tallied &= self.channel["ladder"] >= 0
        self.channel["flags"][tallied] |= np.uint8(ChannelFlag.TALLY)

    def _opened_s(self) -> npt.NDArray[np.int64]:
        """When each account's first bill cycle has to hold: the opening of its first charged channel, or its own."""
        assert self.image is not None
        opened = np.full(len(self.image.accounts), 2**32, np.int64)
        facts = self.image.channels
        on = (facts["account"] >= 0) & (facts["bill"] == 1)
        np.minimum.at(opened, facts["account"][on], facts["opening_at_s"][on].astype(np.int64))
        return np.where(opened == 2**32, self.image.accounts["from_s"].astype(np.int64), opened)

    def cycle_of(self, tariff: Rows, at_s: Rows) -> npt.NDArray[np.int32]:
        """Bill cycle that holds the instant after at_s, by tariff; 0 for an account without a tariff."""
        assert self.book is not None
        segment = self.book.segment_at(tariff, at_s)
        return np.where(segment >= 0, self.book.seg_cycle[np.maximum(segment, 0)], 0).astype(np.int32)

    def bill_end_s(self) -> npt.NDArray[np.int64]:
        """End of each account's open bill cycle; INT64 max for accounts that have none."""
        assert self.image is not None
        tariff = self.image.accounts["tariff"]
        place = self.account["cycle"] - self.cycle_base
        out = np.full(len(self.account), 2**63 - 1, np.int64)
        ok = (tariff >= 0) & (place >= 0) & (place < self.cycle_end_s.shape[1])
        ok &= (self.account["flags"] & AccountFlag.OPEN) != 0
        out[ok] = self.cycle_end_s[tariff[ok], place[ok]]
        return out

    # -- sheets ----------------------------------------------------------------------------------------------
    def sheets_moved(self) -> None:
        """Bill cycles of sheets have closed: how far they have cells is another question now."""
        self._covered_s = None

    def cover(self, batch: Batch) -> None:
        """Before a batch is rated: sheets get cells for every bill cycle that one of its readings may reach."""
        if len(self.sheet) == 0 or len(batch.slots) == 0:
            return
        if self._covered_s is None:
            ends = self._sheet_ends_s()
            self._covered_s = int(ends.min())
        if int(batch.read_at_s.max()) < self._covered_s:
            return
        limits = np.repeat(batch.run_limit_s, np.diff(batch.run_end, prepend=0))
        far = (batch.read_at_s >= self._covered_s) & (batch.read_at_s <= limits) & (batch.slots >= 0)
        wanted = self._wanted(batch, np.flatnonzero(far))
        if not wanted:
            return
        old_sheet, old_cell = self.dirty_sheet, self.dirty_cell
        self.cell, left = longer_runs(self.sheet, self.cell, wanted)
        self.dirty_cell = np.ones(len(self.cell), np.uint8)
        self.dirty_cell[: len(old_cell)] = old_cell
        self.dirty_cell[left] = 1
        old_sheet[[place for place, _ in wanted]] = 1
        self._covered_s = None

    def _sheet_ends_s(self) -> npt.NDArray[np.int64]:
        """Up to where each sheet has cells; INT64 max where no bill is due any more."""
        assert self.image is not None
        tariff = self.image.ladders["tariff"][self.sheet["ladder"]]
        owner = self.image.ladders["account"][self.sheet["ladder"]]
        place = self.sheet["cycle"].astype(np.int64) + self.sheet["cycles"] - 1 - self.cycle_base
        last = self.cycle_end_s.shape[1] - 1
        ends = np.where(place <= last, self.cycle_end_s[tariff, np.clip(place, 0, last)], 2**63 - 1)
        due = (self.account["flags"][owner] & AccountFlag.OPEN != 0) & (self.sheet["cycle"] >= self.cycle_base)
        return np.where(due, ends, 2**63 - 1)

    def _wanted(self, batch: Batch, far: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
        """(sheet, bill cycles) for readings that go beyond, in their order; a register's later spans count, too."""
        assert self.image is not None
        assert self.book is not None
        tariffs, ends_s = self.image.ladders["tariff"], self._sheet_ends_s()
        rows, wanted = self.sheet.copy(), list[tuple[int, int]]()
        for i in far.tolist():
            slot, at_s = int(batch.slots[i]), int(batch.read_at_s[i])
            while slot >= 0:
                ladder = int(self.channel["ladder"][slot])
                place = int(self.sheet_of[ladder]) if ladder >= 0 else -1
                if place >= 0 and at_s >= ends_s[place]:
                    tariff = int(tariffs[ladder])
                    cycles = cycles_needed(self.book, tariff, rows[place], at_s)
                    if cycles:
                        rows["cycles"][place] = cycles
                        wanted.append((place, cycles))
                slot = int(self.cold["next"][slot])
        return wanted

    def sorted_list(self, concentrator: str) -> npt.NDArray[np.int64]:
        """Places of a concentrator's list in the order of meter addresses (made on its first miss)."""
        assert self.image is not None
        if concentrator not in self._sorted:
            start, end = self.image.lists[concentrator]
            self._sorted[concentrator] = start + np.argsort(self.image.list_meter[start:end], kind="stable")
        return self._sorted[concentrator]
