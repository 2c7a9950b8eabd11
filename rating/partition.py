"""Pure: one partition's state arrays against one registry image: opening, growing, and what is derived from both.

The arrays (rating.state) are all that is stored. Everything else here can be computed again from the image and
the book: the channels of an account, the ends of bill cycles, the sorted concentrator lists.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from config.units import Quality
from rating.book import TariffBook
from rating.calendar import months_of
from rating.compiled import Homes
from rating.rings import tie
from rating.state import ACCOUNT, ARRAYS, CHANNEL, COLD, LADDER, AccountFlag, ChannelFlag
from rating.takeover import Activated, bounds_moved, moved_back, take_over
from rating.tally import NO_TALLY
from registry.image import PartitionImage

Rows = npt.NDArray[Any]


def empty_arrays() -> dict[str, Rows]:
    return {name: np.zeros(0, dtype=dtype) for name, dtype in ARRAYS.items()}


class Partition:
    """State arrays, dirty marks, and the look-ups that the engine needs. Rows are only ever added."""

    def __init__(self, arrays: dict[str, Rows]) -> None:
        self.channel, self.cold = arrays["channel"], arrays["cold"]
        self.ladder, self.account = arrays["ladder"], arrays["account"]
        self.dirty_channel = np.zeros(len(self.channel), np.uint8)  # of `cold`, too
        self.dirty_ladder = np.zeros(len(self.ladder), np.uint8)
        self.dirty_account = np.zeros(len(self.account), np.uint8)
        self.image: PartitionImage | None = None
        self.book: TariffBook | None = None
        self.cycle_end_s = np.zeros((0, 0), np.int64)  # [tariff, cycle - first cycle of the horizon]
        self.cycle_base = 0
        self.tally = NO_TALLY
        self._sorted: dict[str, npt.NDArray[np.int64]] = {}

    def homes(self) -> Homes:
        """The arrays for compiled code."""
        return Homes(self.channel, self.cold, self.ladder, self.dirty_channel, self.dirty_ladder, self.tally)

    def arrays(self) -> dict[str, Rows]:
        return {"channel": self.channel, "cold": self.cold, "ladder": self.ladder, "account": self.account}

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
        for marks in (self.dirty_channel, self.dirty_ladder, self.dirty_account):
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
        billed = (facts["bill"] == 1) & (facts["tariff"] >= 0)
        flags = rows["flags"] & ~np.uint8(ChannelFlag.BILL | ChannelFlag.SHARED)
        until_s = self.ladder["ring_until_s"][np.maximum(rows["ladder"], 0)] if len(self.ladder) else 0
        starts_s = self.book.seg_start[np.maximum(rows["segment"], 0)] if len(self.book.seg_start) else 0
        shared = (rows["ladder"] >= 0) & (rows["segment"] >= 0) & (starts_s < until_s)
        flags = np.where(billed, flags | ChannelFlag.BILL, flags)
        rows["flags"] = np.where(shared, flags | ChannelFlag.SHARED, flags)

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

    def sorted_list(self, concentrator: str) -> npt.NDArray[np.int64]:
        """Places of a concentrator's list in the order of meter addresses (made on its first miss)."""
        assert self.image is not None
        if concentrator not in self._sorted:
            start, end = self.image.lists[concentrator]
            self._sorted[concentrator] = start + np.argsort(self.image.list_meter[start:end], kind="stable")
        return self._sorted[concentrator]
