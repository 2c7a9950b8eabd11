"""Pure: sheets: what a ladder has used by bill cycle, bin and tier, where bills are not linear in energy.

The kernel counts a piece of energy into its cell (rating.spread.tally) for channels under the flag TALLY, which its
plain loop leaves to the judge: whoever needs no sheet pays nothing for it. A sheet has cells for the open bill cycle
and for those that registers have reached before it closed:

    cycles = 2      | July (open)                   | August                        |
    cells           | posted, bin 0, bin 1 ...      | posted, bin 0, bin 1 ...      |

When July closes its cells are emptied for September. A register that comes back from a long silence may reach
further: then the sheet gets a longer run of cells before it is rated (`cover`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rating.bins import POSTED, CycleBins, Layout
from rating.book import TariffBook
from rating.calendar import months_of
from rating.state import CELL, SHEET
from registry.image import PartitionImage

Rows = npt.NDArray[Any]
Int64s = npt.NDArray[np.int64]
CYCLES: Final = 2  # that a new sheet has
NO_SHEETS: Final = (np.zeros(0, np.int32), np.zeros(0, SHEET), np.zeros(0, CELL), np.zeros(0, np.uint8))  # for Homes


def places(sheet: Rows, ladders: int) -> npt.NDArray[np.int32]:
    """The sheet of each ladder; -1: it has none."""
    found = np.full(ladders, -1, np.int32)
    found[sheet["ladder"]] = np.arange(len(sheet), dtype=np.int32)
    return found


def run_of(sheet: Rows, cycle: npt.ArrayLike) -> Int64s:
    """The first cell of a bill cycle in each sheet."""
    place = np.asarray(cycle, np.int64) % np.maximum(sheet["cycles"], 1)
    return np.asarray(sheet["first"] + place * sheet["width"], np.int64)


def with_sheets(ladders: Rows, book: TariffBook) -> Int64s:
    """Ladders whose tariff has a layout."""
    tallied = np.array([*(layout is not None for layout in book.layouts), False])
    return np.flatnonzero(tallied[ladders["tariff"]])


def allotted(
    sheet: Rows,
    cell: Rows,
    image: PartitionImage,
    book: TariffBook,
    before: TariffBook | None,
    cycle: Rows,
    least: int,
) -> tuple[Rows, Rows]:
    """Sheets for all ladders that need one, and their cells; `cycle`: the open one of each account.

    What is counted already stays in its bins, also where a new version of a tariff has others.
    """
    need = with_sheets(image.ladders, book)
    new = need[~np.isin(need, sheet["ladder"])]
    grown = np.zeros(len(sheet) + len(new), SHEET)
    grown[: len(sheet)] = sheet
    fresh = grown[len(sheet) :]
    fresh["ladder"], fresh["cycles"], fresh["cycle"] = new, least, cycle[image.ladders["account"][new]]
    tariff = image.ladders["tariff"][grown["ladder"]]
    width = np.array([0 if one is None else one.width for one in book.layouts], np.int32)[tariff]
    if before is None or not _moved(before, book, sheet, tariff):
        grown["width"][len(sheet) :] = width[len(sheet) :]
        ends = len(cell) + np.cumsum(fresh["width"].astype(np.int64) * fresh["cycles"])
        fresh["first"] = ends - fresh["width"].astype(np.int64) * fresh["cycles"]
        longer = np.zeros(int(ends[-1]) if len(ends) else len(cell), CELL)
        longer[: len(cell)] = cell
        return grown, longer
    grown["width"] = width
    ends = np.cumsum(grown["width"].astype(np.int64) * grown["cycles"])
    grown["first"] = ends - grown["width"].astype(np.int64) * grown["cycles"]
    moved = np.zeros(max(int(ends[-1]), len(cell)), CELL)  # a stored array never shrinks
    for number in np.unique(tariff[: len(sheet)]).tolist():
        mine = np.flatnonzero(tariff[: len(sheet)] == number)
        old, now = before.layouts[number], book.layouts[number]
        assert old is not None
        assert now is not None
        for counted in _open_cycles(sheet[mine]):
            rows = mine[(sheet["cycle"][mine] <= counted) & (counted < sheet["cycle"][mine] + sheet["cycles"][mine])]
            for a, b in _cells_to_cells(old, now, counted):
                source, target = run_of(sheet[rows], counted) + a, run_of(grown[rows], counted) + b
                for name in CELL.names or ():
                    moved[name][target] += cell[name][source]
    return grown, moved


def _open_cycles(sheet: Rows) -> range:
    return range(int(sheet["cycle"].min()), int((sheet["cycle"] + sheet["cycles"]).max()))


def _moved(before: TariffBook, book: TariffBook, sheet: Rows, tariff: Rows) -> bool:
    """Have bins of open cycles other cells than before?"""
    for number in np.unique(tariff[: len(sheet)]).tolist():
        mine = sheet[tariff[: len(sheet)] == number]
        old, now = before.layouts[number], book.layouts[number]
        if old is None or now is None or (old.width, old.tiers) != (now.width, now.tiers):
            return True
        for cycle in _open_cycles(mine):
            if old.reaches(cycle) != now.reaches(cycle):
                return True
            if old.reaches(cycle) and old.cycle(cycle) != now.cycle(cycle):
                return True
    return False


def _cells_to_cells(old: Layout, now: Layout, cycle: int) -> Iterator[tuple[int, int]]:
    """Which cell of a cycle becomes which."""
    yield POSTED, POSTED
    if not (old.reaches(cycle) and now.reaches(cycle)):
        return
    there = now.cycle(cycle)
    for number, one in enumerate(old.cycle(cycle).bins):
        first_day = old.cycle(cycle).stretches[one.stretch].first_day
        to = _bin_like(there, first_day, one.period, one.price_e8)
        for tier in range(old.tiers):
            yield 1 + number * old.tiers + tier, 1 + to * now.tiers + min(tier, now.tiers - 1)


def _bin_like(cycle: CycleBins, first_day: int, period: str, price_e8: tuple[int, ...]) -> int:
    """The bin for what was counted from a day on in a period, at a price: it is there, or it is the most alike."""

    def unlike(number: int) -> tuple[bool, bool, bool, int]:
        one = cycle.bins[number]
        stretch = cycle.stretches[one.stretch]
        inside = stretch.first_day <= first_day < stretch.end_day
        return not inside, one.period != period, one.price_e8 != price_e8, number

    return min(range(len(cycle.bins)), key=unlike)


def longer_runs(sheet: Rows, cell: Rows, wanted: list[tuple[int, int]]) -> tuple[Rows, npt.NDArray[np.int64]]:
    """Give sheets more cycles: (sheet, cycles) in the order of the readings that need them; changes `sheet`.

    Returns the cells and which of the old ones are empty now. A run that is left behind is emptied and not used
    again, so that the state does not depend on how readings come together in batches.
    """
    size = len(cell) + sum(int(sheet["width"][place]) * cycles for place, cycles in wanted)
    longer = np.zeros(size, CELL)
    longer[: len(cell)] = cell
    end = len(cell)
    left: list[npt.NDArray[np.int64]] = []
    for place, cycles in wanted:
        row = sheet[place : place + 1].copy()
        width, first = int(row["width"][0]), int(row["first"][0])
        old = np.arange(first, first + width * int(row["cycles"][0]))
        sheet["first"][place], sheet["cycles"][place] = end, cycles
        for cycle in range(int(row["cycle"][0]), int(row["cycle"][0]) + int(row["cycles"][0])):
            source, target = int(run_of(row, cycle)[0]), int(run_of(sheet[place : place + 1], cycle)[0])
            longer[target : target + width] = longer[source : source + width]
        longer[old] = 0
        left.append(old)
        end += width * cycles
    return longer, np.concatenate(left)


def cycles_needed(book: TariffBook, tariff: int, row: np.void, at_s: int) -> int:
    """Bill cycles that a sheet must have for a register that reaches `at_s`; 0: it has them."""
    calendar, layout = book.calendars[tariff], book.layouts[tariff]
    assert layout is not None
    last = min(int(months_of([calendar.day_of(at_s)])[0]), layout.first_cycle + len(layout.of) - 1)
    need = last - int(row["cycle"]) + 1
    return 0 if need <= row["cycles"] else 1 << (need - 1).bit_length()
