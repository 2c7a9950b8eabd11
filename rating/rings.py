"""Pure: ladders that count as one after a switch of tariff (the word `on_switch`), tied to a ring at activation.

    tariff  |---- t1 ----|---- t2 -------->     both tier by the month, and carry over
    July    |  180 kWh   |  t2's ladder stands at 180, and goes on from there

Every ladder of the ring is moved by energy that any of them is charged with (rating.spread.share), up to the end of
the tier cycle that holds the last switch. So it does not matter which register passes the switch first. While that
lasts the ladder's channels carry a flag, by which the kernel's plain loop leaves them to the judge.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rating.book import TariffBook
from registry.image import PartitionImage

Rows = npt.NDArray[Any]
LONG_OVER_S: Final = 400 * 86_400  # after a switch, longer than any tier cycle: nothing is left to share


def groups(book: TariffBook) -> npt.NDArray[np.int64]:
    """For each tariff the number of those with which it carries over; its own, below 0, when with none."""
    found: dict[tuple[str | int | None, ...], int] = {}
    out = np.empty(len(book.tariffs), np.int64)
    for number, tariff in enumerate(book.tariffs):
        key = (tariff.commodity, tariff.unit, tariff.timezone, tariff.clock, tariff.cycle, tariff.cycle_begins)
        tiers = any(version.tiers is not None for version in tariff.version)
        carries = tariff.on_switch == "carry_over" and tiers
        out[number] = found.setdefault(key, len(found)) if carries else -1 - number
    return out


def tie(
    ladder: Rows, image: PartitionImage, book: TariffBook, old_channels: int, furthest_s: npt.NDArray[np.int64]
) -> None:
    """Tie rings, and give every member the place of the one that counts now. `furthest_s`: of the old ladders."""
    former_s = ladder["ring_until_s"].astype(np.int64)
    ladder["ring"], ladder["ring_until_s"] = 0, 0
    facts, channels = image.ladders, image.channels
    group = groups(book)[facts["tariff"]] if len(facts) else np.zeros(0, np.int64)
    key = np.where(group >= 0, facts["account"].astype(np.int64) << 20 | np.maximum(group, 0), -1)
    order = np.lexsort((np.arange(len(key)), key))
    order = order[key[order] >= 0]
    if len(order) < 2:
        return
    fresh = np.ones(len(order), bool)
    fresh[1:] = key[order][1:] != key[order][:-1]
    begins = np.flatnonzero(fresh)
    sizes = np.diff(np.append(begins, len(order)))
    on = np.flatnonzero(channels["ladder"] >= 0)
    opened_s, renewed = np.zeros(len(ladder), np.int64), np.zeros(len(ladder), bool)
    np.maximum.at(opened_s, channels["ladder"][on], channels["opening_at_s"][on].astype(np.int64))
    renewed[channels["ladder"][on[on >= old_channels]]] = True
    known_s = np.zeros(len(ladder), np.int64)
    known_s[: len(furthest_s)] = furthest_s
    latest_s, now_s, tied_s = (np.maximum.reduceat(t[order], begins) for t in (opened_s, known_s, former_s))
    new = np.maximum.reduceat(renewed[order].astype(np.uint8), begins) == 1
    alive = (sizes > 1) & (new | (np.maximum(latest_s + LONG_OVER_S, tied_s) > now_s))
    last_s = np.where(new, np.maximum(latest_s, now_s), latest_s)
    columns = (column[alive].tolist() for column in (begins, sizes, last_s, tied_s))
    for begin, size, *when in zip(*columns, strict=True):
        members = order[begin : begin + size]
        _tie_one(ladder, facts, book, members, when, known_s[members])


def _tie_one(
    ladder: Rows, facts: Rows, book: TariffBook, members: Rows, when: list[int], known_s: npt.NDArray[np.int64]
) -> None:
    last_s, tied_s = when  # the last switch; until when they are tied already, which a later version does not undo
    counts = int(np.argmax(known_s)) if known_s.any() else int(np.argmin(facts["opening_at_s"][members]))
    source = ladder[members[counts]]
    stage = int(source["stage"])
    last = book.stage_of(int(facts["tariff"][members[counts]]), int(facts["history"][members[counts]]), last_s)
    if stage < 0 or last < 0:
        return
    while book.stage_cycle[last + 1] == book.stage_cycle[last]:
        last += 1
    until_s = min(max(int(book.stage_end[last]), tied_s), 2**32 - 1)
    ladder["ring"][members] = np.roll(members, -1) + 1
    ladder["ring_until_s"][members] = until_s
    place_s = max(int(known_s[counts]), int(book.stage_start[stage]))
    place_s = min(place_s, int(book.stage_end[stage]) - 1)
    if place_s >= until_s:
        return
    for number in members.tolist():
        here = book.stage_of(int(facts["tariff"][number]), int(facts["history"][number]), place_s)
        if here >= 0 and number != members[counts]:
            row = ladder[number]
            row["stage"], row["used"], row["used_before"] = here, source["used"], source["used_before"]
