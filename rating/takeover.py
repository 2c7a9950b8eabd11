"""Pure: what a registry version that is dated back does to registers that have gone on meanwhile.

    charged so far   a ------------------------x last accepted reading
    now imported     a --------| move, tariff, multiplier: b from here on
                               |<- stays ->|   b takes register and time over at the reading

Nothing is charged again and nothing is lost: the span that now ends before its register keeps what it has
charged, the span that follows goes on from the reading, and the operator is told that a correction is due.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rating.book import TariffBook
from rating.state import ChannelFlag
from rating.tariff.model import Tariff, Version
from rating.timeline import day_number
from registry.image import PartitionImage

Slots = npt.NDArray[np.int32]
Rows = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Activated:
    """What an activation found: new account slots, and what was charged already under facts that have changed."""

    accounts: range
    spans: Slots  # channels that now end before their last accepted reading
    ladders: Slots  # ladders whose bounds changed behind energy that is counted
    ladders_since_s: tuple[int, ...]  # from when on, for each of `ladders`


def misfit(image: PartitionImage, before: PartitionImage | None) -> str:
    """Why `image` cannot follow the version that runs; "" when it can. It may add, it may not lose or alter slots."""
    if before is None:
        return ""
    for name, fixed in (
        ("channels", ("meter", "register", "opening_at_s", "opening_value", "bill", "account", "multiplier")),
        ("ladders", ("account", "tariff", "opening_used", "opening_at_s")),
        ("accounts", ()),
    ):
        old, new = getattr(before, name), getattr(image, name)
        if len(new) < len(old) or any(not np.array_equal(old[f], new[f][: len(old)]) for f in fixed):
            return f"its {name} do not continue those of the active version: import the directory again"
    return ""


def take_over(channel: Rows, cold: Rows) -> None:
    """Spans without a register of their own, behind one that ends at or before its register, go on from there."""
    following = cold["next"]
    while True:
        ended = (following >= 0) & (channel["value"] >= 0) & (channel["at_s"] >= channel["until_s"])
        slots = np.flatnonzero(ended)
        slots = slots[channel["value"][following[slots]] < 0]
        if len(slots) == 0:
            return
        heirs = following[slots]
        for name in ("value", "at_s", "quality", "estimate_excess"):
            channel[name][heirs] = channel[name][slots]
        channel["flags"][heirs] |= channel["flags"][slots] & ChannelFlag.DISCONNECTED
        same = cold["account"][heirs] == cold["account"][slots]
        for name in ("mean_day", "days"):
            cold[name][heirs[same]] = cold[name][slots[same]]


def moved_back(channel: Rows, until_s: Rows) -> Slots:
    """Channels with a register later than their end, whose end was another (`until_s`) in the version before."""
    here = channel[: len(until_s)]
    behind = (here["value"] >= 0) & (here["at_s"] > here["until_s"]) & (here["until_s"] < until_s)
    return np.flatnonzero(behind).astype(np.int32)


def bounds_moved(
    old_book: TariffBook, book: TariffBook, old: Rows, new: Rows, furthest_s: npt.NDArray[np.int64]
) -> tuple[Slots, tuple[int, ...]]:
    """Ladders (LADDER_FACTS `old`, `new`) whose bounds differ before `furthest_s`, and from when on each."""
    runs = np.stack(
        [
            old_book.schedule_of[old["tariff"], old["history"]],
            book.schedule_of[new["tariff"], new["history"]],
        ]
    )
    distinct, which = np.unique(runs, axis=1, return_inverse=True)
    since = np.array([_parted_s(old_book, book, int(a), int(b)) for a, b in distinct.T], np.int64)
    first_s = since[which.reshape(-1)] if len(since) else np.zeros(0, np.int64)
    slots = np.flatnonzero(first_s < furthest_s).astype(np.int32)
    return slots, tuple(first_s[slots].tolist())


def _parted_s(old_book: TariffBook, book: TariffBook, old_run: int, run: int) -> int:
    """First instant at which two schedules have different bounds; INT64 maximum when they agree."""
    never = 2**63 - 1
    if old_run < 0 or run < 0:
        return never
    parts = []
    for of, number in ((old_book, old_run), (book, run)):
        first, end = int(of.stage_first[number]), int(of.stage_first[number + 1]) - 1  # without the sentinel
        parts.append((of.stage_start[first:end], of.bounds[of.stage_bounds[first:end]]))
    starts = np.unique(np.concatenate([start for start, _ in parts]))
    starts = starts[starts >= max(int(start[0]) for start, _ in parts)]
    here, there = (bounds[np.searchsorted(start, starts, side="right") - 1] for start, bounds in parts)
    differ = np.flatnonzero((here != there).any(axis=1))
    return int(starts[differ[0]]) if len(differ) else never


_WORDS: Final = (
    "commodity", "unit", "currency", "timezone", "clock", "bill_cycle", "cycle", "cycle_begins", "tier_kind",
    "allocation", "on_change", "on_open", "on_switch", "netting", "quantity_step", "rounding",
)  # fmt: skip


def rewritten(old: TariffBook, new: TariffBook, now_s: int) -> str:
    """Why the tariffs of `new` cannot follow those that run; "" when they can: what is in force already stays.

    A word that rules a whole bill, a version in force and every price up to now must be what they were.
    """
    names = {tariff.id: number for number, tariff in enumerate(new.tariffs)}
    for number, was in enumerate(old.tariffs):
        other = names.get(was.id)
        if other is None:
            continue
        now = new.tariffs[other]
        changed = [word for word in _WORDS if getattr(was, word) != getattr(now, word)]
        if changed:
            return f"tariff {was.id} has another {changed[0]} than the one that runs: give it another id"
        today = old.calendars[number].day_of(now_s)
        begun = _in_force(was, today) == _in_force(now, today)
        both = zip(_priced(old, number, now_s), _priced(new, other, now_s), strict=True)
        if not begun or not all(np.array_equal(a, b) for a, b in both):
            return f"tariff {was.id} is not what it was before now: a change is a new dated version in its file"
    return ""


def _in_force(tariff: Tariff, today: int) -> list[Version]:
    """Versions that have begun, whatever their sources are said to be."""
    begun = [one for number, one in enumerate(tariff.version) if day_number(tariff, number) <= today]
    return [one.model_copy(update={"source": "", "dated": ""}) for one in begun]


def _priced(book: TariffBook, tariff: int, now_s: int) -> tuple[Rows, Rows, Rows]:
    """Starts, names of the periods and prices of the segments that have begun."""
    first, end = int(book.seg_first[tariff]), int(book.seg_first[tariff + 1]) - 1  # without the sentinel
    end = first + int(np.searchsorted(book.seg_start[first:end], now_s, side="right"))
    run = slice(first, end)
    return book.seg_start[run], np.array(book.period_names(tariff))[book.seg_period[run]], book.seg_price[run]
