"""Pure: the kernel's arithmetic again in plain Python integers, slow and clear, for `explain` and for tests.

Three rules: energy is spread over time by cumulative floors, a piece of energy climbs (or comes back down) the
ladder with inclusive upper bounds, and a reading covers (previous time, its time]. Nothing here rates live;
the kernel and the auditor have their own code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from config.units import INT64_MAX, Quality
from rating.book import TariffBook


@dataclass(frozen=True, slots=True)
class Line:
    """One piece of energy at one price: what `explain` prints a row for. `amount_e11` = energy x price, exact.

    Of it, `energy_e11` is the first tier's price and `adder_e11` what the tier adds.
    """

    start_s: int
    end_s: int
    period: str
    tier: int  # 0 is the first
    energy_wh: int
    price_e8: int
    energy_e11: int
    adder_e11: int
    reading_at_s: int  # of the reading that covers it
    quality: Quality

    @property
    def amount_e11(self) -> int:
        return self.energy_e11 + self.adder_e11


def spread(energy: int, whole_s: int, boundaries_s: Sequence[int]) -> list[int]:
    """Split `energy` over `whole_s` seconds at rising `boundaries_s` (the last one is whole_s) by cumulative floors.

    Part k is floor(E*t_k/T) - floor(E*t_(k-1)/T): the parts sum to E, also for E < 0, and none is off by 1 or more.
    """
    assert whole_s > 0
    assert boundaries_s[-1] == whole_s
    parts, done, before = [], 0, 0
    for at in boundaries_s:
        assert before <= at
        upto = energy * at // whole_s
        parts.append(upto - done)
        done, before = upto, at
    return parts


def ladder(used_before: int, energy: int, bounds: Sequence[int]) -> list[tuple[int, int]]:
    """Pieces (tier, energy) of `energy` after `used_before`, in the order used; upper bounds are inclusive.

    Negative energy goes back down the way it came up; below 0 it is the first tier. A tier whose bound is
    INT64_MAX is the last one.
    """
    pieces: list[tuple[int, int]] = []
    at, to = used_before, used_before + energy
    while at != to:
        if to > at:  # the Wh after `at`: the tier whose bound it does not pass
            tier = next(i for i, bound in enumerate(bounds) if at < bound)
            stop = min(to, bounds[tier])
        else:  # the Wh that ends at `at`
            tier = next(i for i, bound in enumerate(bounds) if at <= bound)
            stop = max(to, bounds[tier - 1]) if tier else to
        pieces.append((tier, stop - at))
        at = stop
    return pieces


def explain_day(
    book: TariffBook,
    tariff_index: int,
    history: int,
    at_s: Sequence[int],
    value: Sequence[int],
    quality: Sequence[int],
    used_before_wh: int,
    day: int,
    multiplier: int = 1,
) -> list[Line]:
    """Re-rate one channel's local `day` from its accepted registers, in order of time.

    `at_s`, `value` (thousandths), `quality`: distinct rising times, from the last register at or before the
    day's start to the first at or after its end; what is missing at the ends is simply not charged yet.
    `used_before_wh` is the ladder's use in its cycle when the day starts. What a better
    reading of a time changed afterwards is no part of this: `explain_late`.
    """
    start_s, end_s = book.day_start_s(tariff_index, day), book.day_start_s(tariff_index, day + 1)
    used, lines = used_before_wh, []
    for i in range(1, len(at_s)):
        from_s, to_s = at_s[i - 1], at_s[i]
        assert from_s < to_s, "readings must be in order of time"
        if to_s <= start_s or from_s >= end_s:
            continue
        segments = _segments(book, tariff_index, from_s, to_s)
        ends = [min(int(book.seg_start[s + 1]), to_s) for s in segments]
        parts = spread((value[i] - value[i - 1]) * multiplier, to_s - from_s, [end - from_s for end in ends])
        for segment, piece_end_s, part in zip(segments, ends, parts, strict=True):
            if int(book.seg_day[segment]) != day:
                continue
            piece_start_s = max(from_s, int(book.seg_start[segment]))
            when = (piece_start_s, piece_end_s, to_s, Quality(quality[i]))
            lines += _priced(book, tariff_index, history, segment, used, part, when)
            used += part
    return lines


def explain_late(
    book: TariffBook, tariff_index: int, history: int, at_s: int, energy: int, used_before_wh: int, quality: int
) -> list[Line]:
    """The difference that a better reading of `at_s` made, in the segment that ends there, or else holds it."""
    segment = book.segment_of(tariff_index, at_s)
    if int(book.seg_start[segment]) == at_s and segment > 0 and int(book.seg_start[segment - 1]) < at_s:
        segment -= 1
    when = (at_s, at_s, at_s, Quality(quality))
    return _priced(book, tariff_index, history, segment, used_before_wh, energy, when)


def _priced(
    book: TariffBook,
    tariff_index: int,
    history: int,
    segment: int,
    used: int,
    energy: int,
    when: tuple[int, int, int, Quality],
) -> list[Line]:
    """A piece of energy of one segment up (or down) the ladder; `when`: start, end, time of the reading, quality."""
    start_s, end_s, reading_at_s, quality = when
    period = book.period_names(tariff_index)[int(book.seg_period[segment])]
    first = int(book.seg_price[segment, 0])
    lines = []
    for tier, piece in ladder(used, energy, _bounds(book, tariff_index, history, segment)):
        price = int(book.seg_price[segment, tier])
        money = (price, piece * first, piece * (price - first))
        lines.append(Line(start_s, end_s, period, tier, piece, *money, reading_at_s, quality))
    return lines


def _segments(book: TariffBook, tariff_index: int, from_s: int, to_s: int) -> list[int]:
    """Global indexes of the segments that (from_s, to_s] covers; one that ends at to_s is the last."""
    out = [book.segment_of(tariff_index, from_s)]
    assert out[0] >= 0, "nothing is priced at that time"
    while int(book.seg_start[out[-1] + 1]) < to_s:
        out.append(out[-1] + 1)
    return out


def _bounds(book: TariffBook, tariff_index: int, history: int, segment: int) -> list[int]:
    stage = book.stage_of(tariff_index, history, int(book.seg_start[segment]))
    bounds = [int(b) for b in book.bounds[book.stage_bounds[stage]]]
    assert stage >= 0
    assert bounds[-1] == INT64_MAX
    return bounds
