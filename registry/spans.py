"""Pure: which register counts for which account under which tariff, and from which register value on.

A meter's rows, the accounts at its point and their tariffs are three dated lists. A channel is one piece of
their intersection; pieces that touch form a run, and a run needs one first register:

    meter    |--------------------------------->
    account  |---- A ----|   vacant  |--- B --->
    tariff   |--t1-|--t2-|           |---t1--->
    channel   1      2                3
    run       `------'                `-- needs an opening of its own: what was used in between is nobody's

What of a run lies before its opening is history: it is not charged, and has no channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from registry import columns
from registry.columns import Ints, Times
from registry.devices import Meters, Openings, Registers
from registry.faults import Faults
from registry.image import NONE
from registry.people import Accounts, TariffSpans


@dataclass(slots=True)
class Channels:
    """Channels in order of (register row, from); `next` is a row of this table, `row` one of meters.csv."""

    register: npt.NDArray[np.int32]
    row: npt.NDArray[np.int32]
    account: npt.NDArray[np.int32]
    tariff: npt.NDArray[np.int32]
    from_s: npt.NDArray[np.uint32]
    until_s: npt.NDArray[np.uint32]
    opening_value: npt.NDArray[np.int64]
    opening_at_s: npt.NDArray[np.uint32]
    opening_quality: npt.NDArray[np.uint8]
    closing_value: npt.NDArray[np.int64]
    next: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.register)


@dataclass(slots=True)
class _Pieces:
    register: npt.NDArray[np.int32]
    row: npt.NDArray[np.int32]
    account: npt.NDArray[np.int32]
    tariff: npt.NDArray[np.int32]
    from_s: Times
    until_s: Times

    def take(self, chosen: Any) -> _Pieces:
        return _Pieces(
            self.register[chosen],
            self.row[chosen],
            self.account[chosen],
            self.tariff[chosen],
            self.from_s[chosen],
            self.until_s[chosen],
        )


def channels(
    meters: Meters,
    registers: Registers,
    openings: Openings,
    accounts: Accounts,
    tariffs: TariffSpans,
    now_s: int,
    faults: Faults,
) -> Channels:
    """Intersect, find the runs and their openings; a run that is open now and has no opening is a fault."""
    pieces = _intersect(meters, registers, accounts, tariffs)
    count = len(pieces.register)
    touches = np.zeros(count, bool)
    touches[1:] = (pieces.register[1:] == pieces.register[:-1]) & (pieces.from_s[1:] == pieces.until_s[:-1])
    run = (np.cumsum(~touches) - 1).astype(np.int32)
    runs = int(run[-1]) + 1 if count else 0
    first_piece, opening = _first_openings(pieces, run, runs, openings, faults)
    last_until_s = np.zeros(runs, np.int64)
    last_until_s[run] = pieces.until_s  # the last piece of a run is written last
    run_register = np.zeros(runs, np.int32)
    run_register[run] = pieces.register
    unopened = (first_piece == NONE) & (last_until_s > now_s)
    faults.rows(
        "registers.csv",
        registers.lines[run_register],
        unopened,
        lambda place: _unopened_words(meters, registers, int(run_register[place])),
    )
    begin = first_piece[run]
    kept = (begin != NONE) & (np.arange(count) >= begin)
    is_first = kept & (np.arange(count) == begin)
    source = opening[run]
    value = np.full(count, NONE, np.int64)
    at_s = pieces.from_s.copy()
    quality = np.zeros(count, np.uint8)
    value[is_first] = openings.value[source[is_first]]
    at_s[is_first] = openings.at_s[source[is_first]]
    quality[is_first] = openings.quality[source[is_first]]
    pieces = pieces.take(kept)
    follows = np.full(len(pieces.register), NONE, np.int32)
    same = np.flatnonzero(pieces.register[1:] == pieces.register[:-1])
    follows[same] = same + 1
    ends_with_meter = (follows == NONE) & (pieces.until_s == meters.row_to_s[pieces.row])
    closing = np.where(ends_with_meter, registers.closing[pieces.register], NONE)
    return Channels(
        pieces.register,
        pieces.row,
        pieces.account,
        pieces.tariff,
        pieces.from_s.astype(np.uint32),
        pieces.until_s.astype(np.uint32),
        value[kept],
        at_s[kept].astype(np.uint32),
        quality[kept],
        closing,
        follows,
    )


def _intersect(meters: Meters, registers: Registers, accounts: Accounts, tariffs: TariffSpans) -> _Pieces:
    """Every (register, row of its meter, account at the point, tariff of the account) with time in common."""
    left, right = columns.joined(registers.meter, *columns.grouped(meters.row_meter, len(meters.ids)))
    register, row = left.astype(np.int32), right.astype(np.int32)
    point = meters.point[meters.row_meter[row]]
    points = int(max(point.max(initial=-1), accounts.point.max(initial=-1))) + 1
    left, account = columns.joined(point, *columns.grouped(accounts.point, points))
    register, row = register[left], row[left]
    left, span = columns.joined(account, *columns.grouped(tariffs.account, len(accounts.lines)))
    register, row, owner = register[left], row[left], account[left].astype(np.int32)
    from_s = np.maximum(np.maximum(meters.row_from_s[row], accounts.from_s[owner]), tariffs.from_s[span])
    until_s = np.minimum(np.minimum(meters.row_to_s[row], accounts.to_s[owner]), tariffs.to_s[span])
    pieces = _Pieces(register, row, owner, tariffs.tariff[span], from_s, until_s)
    alive = from_s < until_s
    if not alive.all():
        pieces = pieces.take(alive)
    keys = _keys(pieces.register, pieces.from_s)
    return pieces if bool(np.all(keys[:-1] < keys[1:])) else pieces.take(np.argsort(keys, kind="stable"))


def _keys(register: npt.NDArray[np.int32], instant_s: Times) -> Ints:
    return register.astype(np.int64) << 32 | instant_s


def _first_openings(
    pieces: _Pieces, run: npt.NDArray[np.int32], runs: int, openings: Openings, faults: Faults
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Per run (the piece it opens in, the row of `openings`), -1 where there is none.

    A row of opening_registers.csv outranks a change-out of the same run: it says from where this house counts,
    and the change-out before it is history.
    """
    first_piece, opening = np.full(runs, NONE, np.int32), np.full(runs, NONE, np.int32)
    if not len(openings.register):
        return first_piece, opening
    place = (
        np.searchsorted(_keys(pieces.register, pieces.from_s), _keys(openings.register, openings.at_s), "right") - 1
    )
    held = (place >= 0) & (openings.register >= 0)
    place = np.maximum(place, 0)
    if len(pieces.register):
        held &= (pieces.register[place] == openings.register) & (openings.at_s < pieces.until_s[place])
    stray = openings.given & ~held & (openings.register >= 0)
    faults.rows(
        "opening_registers.csv", openings.lines, stray, "no account with a tariff at that meter's point at read_at"
    )
    rows = np.flatnonzero(held)
    if not len(rows):
        return first_piece, opening
    of_run = run[place[rows]]
    unsorted = len(rows) > 1 and not bool(np.all(of_run[:-1] < of_run[1:]))
    if unsorted:
        order = np.lexsort((openings.at_s[rows], ~openings.given[rows], of_run))
        rows, of_run = rows[order], of_run[order]
    again = np.zeros(len(rows), bool)
    again[1:] = of_run[1:] == of_run[:-1]
    second = again & openings.given[rows]
    faults.rows("opening_registers.csv", openings.lines[rows], second, "the register is counted already at read_at")
    first_piece[of_run[~again]] = place[rows[~again]]
    opening[of_run[~again]] = rows[~again]
    return first_piece, opening


def _unopened_words(meters: Meters, registers: Registers, row: int) -> str:
    serial = meters.ids[int(registers.meter[row])]
    return f"meter {serial} has an account but no opening register (opening_registers.csv or a change-out)"
