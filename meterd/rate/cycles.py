"""Pure: a file's readings through the engine: every bill cycle of every metering point, line by line.

Each metering point becomes an account with the attributes that were given, each register a channel of it, whose first
reading is where it opens. The engine rates the rest, as it does for the daemon; what it counted on its sheets by
bill cycle, period and tier (rating.sheets) are the lines of the energy, and their sum must be what it charged. What a
tariff charges beside its energy is reckoned by what reckons it for the daemon, too (rating.bills).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from config.reasons import Reason
from config.settings import AutopaySettings, RatingSettings
from config.units import ACCRUAL_PER_MINOR, REGISTER_CODE, Register
from ledger.effects import InboxRow
from meterd.rate.columns import Columns, Refusal, register_of
from meterd.rate.lines import Cycle, billed, charges_of, energy_of
from rating.bills import Due, due
from rating.book import TariffBook
from rating.calendar import months_of
from rating.compiled import Batch
from rating.engine import PartitionEngine
from rating.names import Names
from rating.readings import Frames
from rating.sheets import run_of
from rating.tariff.model import Tariff
from rating.verdicts import Verdict
from registry.image import (
    ACCOUNT_FACTS,
    CHANNEL_FACTS,
    FOREVER,
    LADDER_FACTS,
    NO_TRIGGER,
    NONE,
    AttributeChange,
    PartitionImage,
)

AT_ONCE: Final = 500_000  # readings
_TARIFF_REGISTERS: Final = (Register.IMPORT_T1, Register.IMPORT_T2, Register.IMPORT_T3, Register.IMPORT_T4)
_BILLED: Final = {"electricity": Register.IMPORT_TOTAL, "water": Register.VOLUME, "gas": Register.VOLUME}


@dataclass(frozen=True, slots=True)
class Rated:
    """What a file comes to under one tariff."""

    tariff: Tariff
    cycles: tuple[Cycle, ...]
    refusals: tuple[Refusal, ...]
    readings: int  # that were rated


def rate_columns(
    columns: Columns, tariff: Tariff, attributes: Mapping[str, int], told: Callable[[int], None] = lambda _: None
) -> Rated:
    """Rate the readings of a file under one tariff; see the module's head. `told`: how many more are rated."""
    if len(columns) == 0:
        return Rated(tariff, (), columns.refusals, 0)
    history = tuple(AttributeChange(name, 0, value) for name, value in sorted(attributes.items()))
    first_year, last_year = _years(columns)
    years = first_year - 1, last_year + 2
    book = TariffBook.compile((tariff,), (tariff.id,), ((), history), [(0, 1)], *years, tally_all=True)
    rating = _Rating(columns, tariff, book)
    verdicts = rating.run(told)
    refusals = sorted([*columns.refusals, *rating.refusals, *verdicts], key=lambda r: r.line)
    return Rated(tariff, tuple(rating.cycles()), tuple(refusals), len(rating.rows))


def _years(columns: Columns) -> tuple[int, int]:
    """First and last UTC year of the readings."""
    ends = np.array([columns.at_s.min(), columns.at_s.max()]).astype("datetime64[s]").astype("datetime64[Y]")
    first, last = (1970 + ends.astype(np.int64)).tolist()
    return int(first), int(last)


class _Rating:
    """One file under one tariff in one engine."""

    def __init__(self, columns: Columns, tariff: Tariff, book: TariffBook) -> None:
        self.columns, self.tariff, self.book = columns, tariff, book
        calendar = book.calendars[0]
        days = [calendar.day_of(int(at_s)) for at_s in (columns.at_s.min(), columns.at_s.max())]
        first, last = (int(month) for month in months_of(days))
        self.months = range(first, last + 1)
        self.refusals: list[Refusal] = []
        billed = self._roles()
        series = columns.point.astype(np.int64) * len(columns.registers) + columns.register
        self.opens = np.flatnonzero(np.diff(series, prepend=-1) != 0)
        role = billed[columns.point[self.opens], columns.register[self.opens]]
        kept = role >= 0
        slot_of_series = np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int32)
        slots = np.repeat(slot_of_series, np.diff(np.append(self.opens, len(series))))
        inside = slots >= 0
        inside[self.opens] = False  # where a register opens
        self.rows = np.flatnonzero(inside)
        self.slots = slots[self.rows]
        self.opens, self.role = self.opens[kept], role[kept]
        self.engine = PartitionEngine(
            0,
            rating=RatingSettings(),
            autopay=AutopaySettings(),
            currency=tariff.currency,
            decode=_no_frames,
            sheet_cycles=len(self.months),
        )
        points = columns.points
        names = Names(lambda slot: points[slot], {name: n for n, name in enumerate(points)}.get)
        self.image = self._image()
        row = InboxRow(1, None, "registry", "file", {"digest": "file"})
        self.engine.activate(row, self.image, book, names)

    def _roles(self) -> npt.NDArray[np.int8]:
        """Per point and register: 1 billed, 0 checked, -1 not rated (each with its row in `refusals`)."""
        columns, main = self.columns, _BILLED.get(self.tariff.commodity)
        kinds = [register_of(name)[0] for name in columns.registers]
        there = np.zeros((len(columns.points), len(kinds)), bool)
        there[columns.point, columns.register] = True
        role = np.full(there.shape, -1, np.int8)
        totals = np.zeros(len(columns.points), bool)
        for n, kind in enumerate(kinds):
            if kind is main or (main is None and kind is Register.VOLUME):
                totals |= there[:, n]
        one_price = len(self.tariff.period_names) == 1
        for n, kind in enumerate(kinds):
            if (
                kind is main
                or (main is None and kind in (Register.VOLUME, Register.IMPORT_TOTAL))
                or (kind is Register.EXPORT_TOTAL and self.tariff.netting is not None)
            ):
                role[there[:, n], n] = 1
            elif kind in _TARIFF_REGISTERS and main is Register.IMPORT_TOTAL:
                role[there[:, n] & totals, n] = 0
                role[there[:, n] & ~totals, n] = 1 if one_price else -1
        for n in range(len(kinds)):
            for point in np.flatnonzero(there[:, n] & (role[:, n] < 0)).tolist():
                self._refuse(point, n)
        return role

    def _refuse(self, point: int, register: int) -> None:
        columns = self.columns
        mine = np.flatnonzero((columns.point == point) & (columns.register == register) & (columns.line > 0))
        note = f"{self.tariff.id} does not bill this register"
        for row in mine.tolist():
            self.refusals.append(_refusal(columns, row, Reason.UNKNOWN_REGISTER, note))

    def _image(self) -> PartitionImage:
        columns, count = self.columns, len(self.opens)
        points = len(columns.points)
        channels = np.zeros(count, CHANNEL_FACTS)
        owners = columns.point[self.opens]
        channels["meter"] = np.arange(count) + 1
        channels["opening_value"], channels["opening_at_s"] = columns.value[self.opens], columns.at_s[self.opens]
        channels["opening_quality"], channels["until_s"] = columns.quality[self.opens], FOREVER
        channels["account"] = channels["ladder"] = owners
        channels["next"], channels["closing_value"], channels["multiplier"] = NONE, -1, 1
        codes = [REGISTER_CODE[kind] if kind else 0 for kind in (register_of(r)[0] for r in columns.registers)]
        channels["register"] = np.array(codes, np.uint8)[columns.register[self.opens]]
        channels["resolution"], channels["bill"] = 1, self.role
        opened_s = np.full(points, FOREVER, np.int64)
        np.minimum.at(opened_s, owners, columns.at_s[self.opens])
        ladders = np.zeros(points, LADDER_FACTS)
        ladders["account"], ladders["history"] = np.arange(points), 1
        ladders["opening_at_s"] = np.where(opened_s == FOREVER, int(columns.at_s.min()), opened_s)
        accounts = np.zeros(points, ACCOUNT_FACTS)
        accounts["trigger_fen"], accounts["until_s"] = NO_TRIGGER, FOREVER
        accounts["from_s"], accounts["alert_fen"] = ladders["opening_at_s"], -(2**62)
        order = np.argsort(owners, kind="stable").astype(np.int32)
        start = np.searchsorted(owners[order], np.arange(points + 1)).astype(np.int64)
        return PartitionImage(
            channels=channels,
            ladders=ladders,
            accounts=accounts,
            list_meter=channels["meter"].copy(),
            list_register=channels["register"].copy(),
            list_channel=np.arange(count, dtype=np.int32),
            lists={"file": (0, count)},
            account_start=start,
            account_channels=order,
        )

    def run(self, told: Callable[[int], None]) -> list[Refusal]:
        """Rate all rows; returns those whose verdict changed nothing."""
        found: list[Refusal] = []
        for begin in range(0, len(self.rows), AT_ONCE):
            place = slice(begin, begin + AT_ONCE)
            found += self._run(self.rows[place], self.slots[place])
            told(len(self.rows[place]))
        return found

    def _run(self, rows: npt.NDArray[np.int64], slots: npt.NDArray[np.int32]) -> list[Refusal]:
        columns = self.columns
        batch = Batch(
            slots,
            columns.value[rows],
            columns.at_s[rows].astype(np.uint32),
            columns.quality[rows],
            np.array([len(rows)], np.int64),
            np.array([FOREVER], np.int64),
        )
        verdict = self.engine.rate_batch(batch)
        changed_nothing = np.flatnonzero((verdict >= Verdict.REPLACED) & (columns.line[rows] > 0))
        return [
            _refusal(columns, int(rows[n]), Verdict(int(verdict[n])).name.lower(), "")
            for n in changed_nothing.tolist()
        ]

    def cycles(self) -> list[Cycle]:
        """Bill cycles in order of metering point and time; what their energy costs is what the engine charged."""
        layout, book = self.book.layouts[0], self.book
        assert layout is not None
        served = self._served()
        found = [(month, self._due(month, served)) for month in self.months if layout.reaches(month)]
        used_e11 = sum(int(one.used_e11.astype(object).sum()) for _, one in found)
        assert used_e11 == self._charged(), "the lines are not what the engine charged"
        tiered = any(version.tiers for version in self.tariff.version)
        ends = {month: (book.cycle_start_s(0, month), book.cycle_end_s(0, month)) for month, _ in found}
        cycles: list[Cycle] = []
        for point, name in enumerate(self.columns.points):
            for month, one in found:
                energy = energy_of(layout.cycle(month), one, point, tiered=tiered)
                if lines := (*energy, *charges_of(one, point)):
                    cycles.append(billed(name, ends[month], lines, self.tariff.rounding))
        return cycles

    def _due(self, month: int, served: npt.NDArray[np.int64]) -> Due:
        """One bill cycle of all points. The accounts of a file have a sheet each."""
        part, layout = self.engine.part, self.book.layouts[0]
        assert layout is not None
        cells = part.cell[run_of(part.sheet, month)[:, None] + np.arange(layout.width)]

        def between(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
            days = np.minimum(served[:, 1:], ends[None, :]) - np.maximum(served[:, :1], starts[None, :])
            return np.asarray(np.maximum(days, 0), np.int64)

        histories = np.ones(len(part.sheet), np.int32)
        return due(self.book, 0, month, cells, histories, between)

    def _served(self) -> npt.NDArray[np.int64]:
        """Local days of service, [first, end): a day counts for whoever is served when it ends, up to the last
        reading's."""
        columns, calendar = self.columns, self.book.calendars[0]
        ends = np.zeros((len(columns.points), 2), np.int64)
        ends[:, 0] = np.iinfo(np.int64).max
        np.minimum.at(ends[:, 0], columns.point, columns.at_s)
        np.maximum.at(ends[:, 1], columns.point, columns.at_s)
        return np.array([[calendar.day_of(at_s) for at_s in row] for row in ends.tolist()], np.int64)

    def _charged(self) -> int:
        """All money that the engine took: posted, carried and accrued."""
        part = self.engine.part
        accrued = part.channel["accrued_energy_e11"].astype(object) + part.channel["accrued_adder_e11"]
        carried = part.account["carry_energy_e11"].astype(object) + part.account["carry_adder_e11"]
        posted = -int(part.account["balance_fen"].astype(object).sum()) * ACCRUAL_PER_MINOR
        return int(sum(accrued) + sum(carried)) + posted


def _refusal(columns: Columns, row: int, reason: str, note: str) -> Refusal:
    at = np.datetime64(int(columns.at_s[row]), "s")
    return Refusal(
        int(columns.line[row]),
        columns.points[columns.point[row]],
        columns.registers[columns.register[row]],
        f"{at}Z",
        reason,
        note,
    )


def _no_frames(_bodies: Sequence[bytes]) -> Frames:
    raise AssertionError("a file has no frames")
