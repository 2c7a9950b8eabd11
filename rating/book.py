"""Pure: all timelines and schedules in use, as one set of flat arrays that the kernel walks.

Each tariff's segments are one run, each schedule's stages are one run; every run ends with a sentinel row whose
start is INT64_MAX, so a walk never needs to know where its run ends. Runs are found by one binary search over
composite keys (run number, instant), for whole columns at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from config.units import CURRENCIES, ENERGY_SCALE, INT64_MAX
from rating.bins import Layout, layout_of
from rating.calendar import Int64s, LocalCalendar, first_day_of, local_calendar
from rating.compiled import Lines
from rating.schedule import Bounds, Schedule, changes_of, compile_schedule, relevant
from rating.spread import CHEAP_E8
from rating.tariff.fields import TIERS_MAX
from rating.tariff.model import Tariff
from rating.timeline import Timeline, compile_timeline
from registry.image import AttributeChange

INSTANT_BITS: Final = 34  # 2**34 s is the year 2514
# What the plain reading asks of its segment and of its ladder's stage, each in one half of a cache line.
SEGMENT_PLAIN: Final = np.dtype(
    [("start_s", np.int64), ("end_s", np.int64), ("first_price_e8", np.int64), ("pad", np.int64)]
)
STAGE_PLAIN: Final = np.dtype(
    [("start_s", np.int64), ("end_s", np.int64), ("first_bound", np.int64), ("pad", np.int64)]
)
Int32s = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class BillRounding:
    """How a closed bill becomes money: to multiples of `step_e11` by the named mode (config.units.ROUNDING)."""

    mode: str
    step_e11: int


class UnknownTariff(KeyError):
    """The registry names a tariff that no file defines."""


@dataclass(frozen=True, slots=True, eq=False)
class TariffBook:
    """Indexed by tariff (place in RegistryImage.tariffs) and history (RegistryImage.histories). See `compile`."""

    tariffs: tuple[Tariff, ...]  # in the registry's order
    calendars: tuple[LocalCalendar, ...]
    seg_start: Int64s
    seg_day: Int32s
    seg_cycle: Int32s
    seg_period: npt.NDArray[np.uint8]
    seg_price: Int64s  # [n, TIERS_MAX], e8 per unit
    seg_first: Int32s  # first segment of each tariff's run, and the length of all
    stage_start: Int64s
    stage_end: Int64s
    stage_cycle: Int32s
    stage_bounds: Int32s  # index into `bounds`
    stage_first: Int32s  # first stage of each schedule's run, and the length of all
    bounds: Int64s  # [k, TIERS_MAX], inclusive upper bounds in thousandths; INT64_MAX from the last tier on
    schedule_of: Int32s  # [tariffs, histories]; -1: not compiled
    horizon_end_s: Int64s  # per tariff; nothing is priced from here on
    histories: tuple[tuple[AttributeChange, ...], ...]
    layouts: tuple[Layout | None, ...]  # per tariff; None: its bills need no more than the energy's money
    digest: str
    seg_key: Int64s  # of `_find`
    stage_key: Int64s
    lines: Lines  # the same arrays for compiled code

    @staticmethod
    def compile(
        tariffs: Sequence[Tariff],
        order: Sequence[str],
        histories: Sequence[Sequence[AttributeChange]],
        pairs: Iterable[tuple[int, int]],
        from_year: int,
        to_year: int,
        *,
        tally_all: bool = False,
    ) -> TariffBook:
        """Compile the tariffs that `order` names and the schedules of the (tariff, history) pairs in use.

        Horizon: local [from_year, to_year). `tally_all`: also tariffs whose bills are linear have a layout. Raises
        `UnknownTariff` for an id without a file.
        """
        by_id = {t.id: t for t in tariffs}
        missing = [name for name in order if name not in by_id]
        if missing:
            raise UnknownTariff(f"no tariff file defines {', '.join(missing)}; there are {', '.join(by_id)}")
        used = tuple(by_id[name] for name in order)
        calendars = tuple(local_calendar(t.timezone, from_year, to_year, t.clock == "standing") for t in used)
        timelines = [compile_timeline(t, c) for t, c in zip(used, calendars, strict=True)]
        schedules: dict[tuple[int, tuple[tuple[int, str, int], ...]], int] = {}
        compiled: list[Schedule] = []
        schedule_of = np.full((len(used), len(histories)), -1, dtype=np.int32)
        for history, tariff in sorted({(history, tariff) for tariff, history in pairs}):
            key = (tariff, relevant(used[tariff], calendars[tariff], histories[history]))
            if key not in schedules:
                schedules[key] = len(compiled)
                compiled.append(compile_schedule(used[tariff], calendars[tariff], key[1]))
            schedule_of[tariff, history] = schedules[key]
        segments = _segments(timelines)
        stages = _stages(compiled)
        layouts = tuple(
            None if t.linear and not tally_all else layout_of(t, line)
            for t, line in zip(used, timelines, strict=True)
        )
        return TariffBook(
            used,
            calendars,
            *segments,
            *stages,
            schedule_of=schedule_of,
            horizon_end_s=np.array([t.end_s for t in timelines], dtype=np.int64),
            histories=tuple(map(tuple, histories)),
            layouts=layouts,
            digest=_digest(used, [*segments, *stages, schedule_of]),
            seg_key=_keys(segments[0], segments[-1]),
            stage_key=_keys(stages[0], stages[-2]),
            lines=_lines(segments, stages, layouts),
        )

    def segment_at(self, tariff: npt.NDArray[np.integer], at_s: npt.NDArray[np.integer]) -> Int32s:
        """Global index of the segment that holds the instant after `at_s`: the last with start <= at_s.

        -1 where nothing is priced: before the tariff's first version, outside the horizon, or tariff < 0.
        """
        run = np.asarray(tariff, dtype=np.int64)
        at = np.asarray(at_s, dtype=np.int64)
        found = _find(self.seg_key, self.seg_first, run, at)
        if len(self.tariffs) == 0:
            return found
        return np.where(at < self.horizon_end_s[np.maximum(run, 0)], found, np.int32(-1)).astype(np.int32)

    def stage_at(
        self,
        tariff: npt.NDArray[np.integer],
        history: npt.NDArray[np.integer],
        at_s: npt.NDArray[np.integer],
    ) -> Int32s:
        """Global index of the ladder's stage that holds the instant after `at_s`; -1 outside, or not compiled.

        Only pairs given to `compile` have stages.
        """
        run = np.full(np.shape(tariff), -1, dtype=np.int64)
        ok = (np.asarray(tariff) >= 0) & (np.asarray(history) >= 0)
        run[ok] = self.schedule_of[np.asarray(tariff)[ok], np.asarray(history)[ok]]
        at = np.asarray(at_s, dtype=np.int64)
        found = _find(self.stage_key, self.stage_first, run, at)
        if len(self.tariffs) == 0:
            return found
        ends = self.horizon_end_s[np.where(ok, tariff, 0)]
        return np.where(at < ends, found, np.int32(-1)).astype(np.int32)

    def segment_of(self, tariff_index: int, at_s: int) -> int:
        """`segment_at` for one instant."""
        return int(self.segment_at(np.array([tariff_index], dtype=np.int32), np.array([at_s], dtype=np.int64))[0])

    def stage_of(self, tariff_index: int, history: int, at_s: int) -> int:
        """`stage_at` for one instant."""
        tariff, past = np.array([[tariff_index], [history]], dtype=np.int32)
        return int(self.stage_at(tariff, past, np.array([at_s], dtype=np.int64))[0])

    def cycle_end_s(self, tariff_index: int, cycle: int) -> int:
        """End of a bill cycle: the first instant of the local month after it."""
        return self.calendars[tariff_index].day_start_s(first_day_of(cycle + 1))

    def cycle_start_s(self, tariff_index: int, cycle: int) -> int:
        return self.calendars[tariff_index].day_start_s(first_day_of(cycle))

    def day_start_s(self, tariff_index: int, day: int) -> int:
        """First instant of a local day; `day + 1` gives its end."""
        return self.calendars[tariff_index].day_start_s(day)

    def attribute_days(self, tariff_index: int, history: int, name: str) -> list[tuple[int, int, int]]:
        """(first local day, end, value) of an attribute in a history; before its first change it is 0."""
        calendar = self.calendars[tariff_index]
        changes = changes_of(calendar, self.histories[history], (name,))
        ends = [*(day for day, _, _ in changes[1:]), calendar.end_day]
        return [(day, end, value) for (day, _, value), end in zip(changes, ends, strict=False)]

    def rounding(self, tariff_index: int) -> BillRounding:
        tariff = self.tariffs[tariff_index]
        step_e11 = tariff.rounding.step_e8 * ENERGY_SCALE
        assert step_e11 == CURRENCIES[tariff.currency].accrual_per_minor
        return BillRounding(tariff.rounding.mode, step_e11)

    def dear(self) -> npt.NDArray[np.bool_]:
        """Tariffs with a price under which a reading's energy has a lower bound (rating.spread)."""
        runs = [self.seg_price[a:b] for a, b in pairwise(self.seg_first.tolist())]
        return np.array([bool((np.abs(run) >= CHEAP_E8).any()) for run in runs], np.bool_)

    def fed_in(self) -> npt.NDArray[np.bool_]:
        """Tariffs that say what becomes of energy that is fed in."""
        return np.array([tariff.netting is not None for tariff in self.tariffs], np.bool_)

    def steps(self) -> npt.NDArray[np.uint8]:
        """For each tariff the power of ten, in thousandths, in whose steps a register counts; 0: in thousandths."""
        return np.array([len(str(t.quantity_step or 1)) - 1 for t in self.tariffs], np.uint8)

    def period_names(self, tariff_index: int) -> tuple[str, ...]:
        """What seg_period counts, for one tariff."""
        return self.tariffs[tariff_index].period_names


Segments = tuple[Int64s, Int32s, Int32s, npt.NDArray[np.uint8], Int64s, Int32s]
Stages = tuple[Int64s, Int64s, Int32s, Int32s, Int32s, Int64s]


def _firsts(lengths: Sequence[int]) -> Int32s:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def _segments(timelines: Sequence[Timeline]) -> Segments:
    """Columns of all runs; a sentinel repeats the last row under start INT64_MAX."""

    firsts = _firsts([len(t) + 1 for t in timelines])
    rows = _firsts([len(t) for t in timelines])
    take = np.concatenate(
        [np.append(np.arange(rows[i], rows[i + 1]), rows[i + 1] - 1) for i in range(len(timelines))]
        or [np.zeros(0, dtype=np.int64)]
    )
    start = np.concatenate([np.zeros(0, dtype=np.int64), *(t.start_s for t in timelines)])[take]
    start[firsts[1:] - 1] = INT64_MAX
    return (
        start,
        np.concatenate([np.zeros(0, dtype=np.int32), *(t.day for t in timelines)])[take],
        np.concatenate([np.zeros(0, dtype=np.int32), *(t.cycle for t in timelines)])[take],
        np.concatenate([np.zeros(0, dtype=np.uint8), *(t.period for t in timelines)])[take],
        np.concatenate([np.zeros((0, TIERS_MAX), dtype=np.int64), *(t.price_e8 for t in timelines)])[take],
        firsts,
    )


def _stages(schedules: Sequence[Schedule]) -> Stages:
    """Columns of all runs with their sentinels, and the distinct bounds they point to."""
    places: dict[Bounds, int] = {}
    start: list[int] = []
    end: list[int] = []
    cycle: list[int] = []
    rule: list[int] = []
    for schedule in schedules:
        start += [*schedule.start_s, INT64_MAX]
        end += [*schedule.end_s, INT64_MAX]
        cycle += [*schedule.cycle, schedule.cycle[-1] + 1]
        rule += [places.setdefault(b, len(places)) for b in schedule.bounds]
        rule.append(rule[-1])
    return (
        np.array(start, dtype=np.int64),
        np.array(end, dtype=np.int64),
        np.array(cycle, dtype=np.int32),
        np.array(rule, dtype=np.int32),
        _firsts([len(s.start_s) + 1 for s in schedules]),
        np.array(list(places), dtype=np.int64).reshape(-1, TIERS_MAX),
    )


def _lines(segments: Segments, stages: Stages, layouts: Sequence[Layout | None]) -> Lines:
    """For compiled code; the sentinels' rows have no end, and nothing plain is found in them."""
    start, day, cycle, _, price, firsts = segments
    cells, fed_in = np.zeros(len(start), np.int32), np.zeros(len(start), np.int32)
    for layout, first in zip(layouts, firsts.tolist(), strict=False):
        if layout is not None:
            cells[first : first + len(layout.seg_cell)] = layout.seg_cell
            fed_in[first : first + len(layout.seg_cell)] = layout.seg_fed_in
    stage_start, stage_end, stage_cycle, stage_bounds, _, bounds = stages
    seg_plain = np.zeros(len(start), SEGMENT_PLAIN)
    seg_plain["start_s"], seg_plain["end_s"][:-1], seg_plain["end_s"][-1:] = start, start[1:], INT64_MAX
    seg_plain["first_price_e8"] = price[:, 0]
    stage_plain = np.zeros(len(stage_start), STAGE_PLAIN)
    stage_plain["start_s"], stage_plain["end_s"] = stage_start, stage_end
    stage_plain["first_bound"] = bounds[stage_bounds, 0]
    return Lines(
        start,
        day,
        cycle,
        price,
        cells,
        fed_in,
        stage_start,
        stage_end,
        stage_cycle,
        stage_bounds,
        bounds,
        seg_plain,
        stage_plain,
    )


def _keys(start: Int64s, firsts: Int32s) -> Int64s:
    run = np.repeat(np.arange(len(firsts) - 1, dtype=np.int64), np.diff(firsts))
    return (run << INSTANT_BITS) | np.minimum(start, (1 << INSTANT_BITS) - 1)


def _find(keys: Int64s, firsts: Int32s, run: Int64s, at_s: Int64s) -> Int32s:
    """Last row of each run with start <= at_s; -1 before its first."""
    at = np.clip(at_s, 0, (1 << INSTANT_BITS) - 2)
    found = np.searchsorted(keys, (np.maximum(run, 0) << INSTANT_BITS) | at, side="right") - 1
    if len(firsts) < 2:
        return np.full(run.shape, -1, dtype=np.int32)
    ok = (run >= 0) & (found >= firsts[np.maximum(run, 0)])
    return np.where(ok, found, -1).astype(np.int32)


def _digest(tariffs: Sequence[Tariff], arrays: Sequence[npt.NDArray[np.generic]]) -> str:
    digest = sha256()
    for tariff in tariffs:
        digest.update(repr((tariff.id, tariff.period_names, tariff.rounding)).encode())
        charges = [version.charge for version in tariff.version]
        digest.update(
            repr((tariff.tier_kind, tariff.allocation, tariff.quantity_step, tariff.netting, charges)).encode()
        )
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
