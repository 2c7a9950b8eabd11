"""One channel's day by the plain arithmetic of `rating.walk`, for tests that know where the ladder stands."""

from __future__ import annotations

from collections.abc import Sequence

from rating.book import TariffBook
from rating.walk import Ladder, Line, rate_use, tier_cycle


def explain_day(
    book: TariffBook,
    tariff: int,
    history: int,
    at_s: Sequence[int],
    value: Sequence[int],
    quality: Sequence[int],
    used_before_wh: int,
    day: int,
) -> list[Line]:
    """Lines of the local `day` from registers in order of time; `used_before_wh`: on the ladder when it starts."""
    cycle = tier_cycle(book, tariff, history, book.day_start_s(tariff, day))[0]

    def lines(used_wh: int) -> list[Line]:
        ladder, found = Ladder(1, cycle, {cycle: used_wh}), []
        for i in range(1, len(at_s)):
            step = (at_s[i - 1], at_s[i], value[i] - value[i - 1], quality[i])
            found += rate_use(book, tariff, history, ladder, *step)
        return found

    before = sum(line.energy_wh for line in lines(0) if line.day < day and line.cycle == cycle)
    return [line for line in lines(used_before_wh - before) if line.day == day]
