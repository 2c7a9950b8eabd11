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

    Of it, `energy_e11` is the first tier's price and `adder_e11` what the tier adds. It is posted on the local day
    `day`, and counts in the tier cycle `cycle`, in which `used_wh` came before it on the ladder.
    """

    start_s: int
    end_s: int
    day: int
    cycle: int
    period: str
    tier: int  # 0 is the first
    used_wh: int
    energy_wh: int
    price_e8: int
    energy_e11: int
    adder_e11: int
    reading_at_s: int  # of the reading that covers it
    quality: Quality

    @property
    def amount_e11(self) -> int:
        return self.energy_e11 + self.adder_e11


@dataclass(slots=True)
class Ladder:
    """Where a ladder stands: the energy of the furthest tier cycle it has reached, and of the one before.

    What comes of a cycle that is older still counts in the one before. Ladders of `ring` count as one with this one
    for energy of segments that start before `ring_until_s`.
    """

    months: int  # of a tier cycle
    furthest: int  # months since 1970-01 of the cycle's first month, as in the book
    used: dict[int, int]
    ring: tuple[Ladder, ...] = ()
    ring_until_s: int = 0

    def place(self, cycle: int) -> int:
        return self.used.get(self._kept(cycle), 0)

    def count(self, cycle: int, energy: int, start_s: int) -> None:
        """Energy of a segment that starts at `start_s`."""
        self.add(cycle, energy)
        if start_s < self.ring_until_s:
            for one in self.ring:
                one.add(cycle, energy)

    def add(self, cycle: int, energy: int) -> None:
        self.furthest = max(self.furthest, cycle)
        self.used[self._kept(cycle)] = self.place(cycle) + energy

    def _kept(self, cycle: int) -> int:
        return max(cycle, self.furthest - self.months)


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


def rate_use(
    book: TariffBook,
    tariff_index: int,
    history: int,
    ladder: Ladder,
    from_s: int,
    to_s: int,
    energy: int,
    quality: int,
) -> list[Line]:
    """Rate `energy` that an accepted reading brought over (from_s, to_s], and move the ladder by it."""
    assert from_s < to_s, "readings must be in order of time"
    lines = []
    segments = _segments(book, tariff_index, from_s, to_s)
    ends = [min(int(book.seg_start[s + 1]), to_s) for s in segments]
    parts = spread(energy, to_s - from_s, [end - from_s for end in ends])
    for segment, piece_end_s, part in zip(segments, ends, parts, strict=True):
        when = (max(from_s, int(book.seg_start[segment])), piece_end_s, to_s, Quality(quality))
        lines += _priced(book, tariff_index, history, ladder, segment, part, int(book.seg_day[segment]), when)
    return lines


def rate_difference(
    book: TariffBook, tariff_index: int, history: int, ladder: Ladder, at_s: int, energy: int, quality: int
) -> list[Line]:
    """Rate what a better reading of `at_s` changed: in the segment that ends there, or else holds it.

    It is posted on the day that is open at `at_s`, which at midnight is the one that begins.
    """
    segment = book.segment_of(tariff_index, at_s)
    day = int(book.seg_day[segment])
    if int(book.seg_start[segment]) == at_s and segment > 0 and int(book.seg_start[segment - 1]) < at_s:
        segment -= 1
    when = (at_s, at_s, at_s, Quality(quality))
    return _priced(book, tariff_index, history, ladder, segment, energy, day, when)


def tier_cycle(book: TariffBook, tariff_index: int, history: int, at_s: int) -> tuple[int, int, int]:
    """The tier cycle of energy that flows just after `at_s`: (number, start, end), in UTC seconds."""
    first = last = book.stage_of(tariff_index, history, at_s)
    assert first >= 0, "no ladder at that time"
    run, cycle = int(book.stage_first[int(book.schedule_of[tariff_index, history])]), int(book.stage_cycle[first])
    while first > run and book.stage_cycle[first - 1] == cycle:
        first -= 1
    while book.stage_cycle[last + 1] == cycle:
        last += 1
    return cycle, int(book.stage_start[first]), int(book.stage_end[last])


def _priced(
    book: TariffBook,
    tariff_index: int,
    history: int,
    on: Ladder,
    segment: int,
    energy: int,
    day: int,
    when: tuple[int, int, int, Quality],
) -> list[Line]:
    """A piece of energy of one segment up (or down) the ladder; `when`: start, end, time of the reading, quality."""
    start_s, end_s, reading_at_s, quality = when
    segment_s = int(book.seg_start[segment])
    stage = book.stage_of(tariff_index, history, segment_s)
    assert stage >= 0, "nothing is priced at that time"
    bounds = [int(b) for b in book.bounds[book.stage_bounds[stage]]]
    assert bounds[-1] == INT64_MAX
    cycle, period = int(book.stage_cycle[stage]), book.period_names(tariff_index)[int(book.seg_period[segment])]
    first = int(book.seg_price[segment, 0])
    lines = []
    for tier, piece in ladder(on.place(cycle), energy, bounds):
        price = int(book.seg_price[segment, tier])
        figures = (period, tier, on.place(cycle), piece, price, piece * first, piece * (price - first))
        lines.append(Line(start_s, end_s, day, cycle, *figures, reading_at_s, quality))
        on.count(cycle, piece, segment_s)
    return lines


def _segments(book: TariffBook, tariff_index: int, from_s: int, to_s: int) -> list[int]:
    """Global indexes of the segments that (from_s, to_s] covers; one that ends at to_s is the last."""
    out = [book.segment_of(tariff_index, from_s)]
    assert out[0] >= 0, "nothing is priced at that time"
    while int(book.seg_start[out[-1] + 1]) < to_s:
        out.append(out[-1] + 1)
    return out
