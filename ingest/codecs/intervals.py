"""Pure: intervals of a message, made registers by the register reads that stand at their ends.

What is billed is the register. An interval says how much one rose in `(end - period, end]`, so a gapless chain of
intervals with a register read at one of its ends says what the register was at all of them: nothing is guessed, and
behind the codec there are registers alone. A chain between two register reads must add up to their difference
exactly (the *sum check*). A chain that hangs on one has nothing to check it, so what follows from it is of quality
E until a read confirms it. A chain that touches none is refused: a sum without a register would be a second count of
the same energy.

    register 00:00 = 100.0    intervals to 00:15, 00:30, 00:45 = 0.1, 0.2, 0.1    register 00:45 = 100.4
    -> 100.1 at 00:15, 100.3 at 00:30
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from config.reasons import Reason
from config.units import Quality
from ingest.decoded import VALUE_MAX, Rejected, time_in_range

PERIOD_MAX_S: Final = 90_000  # the day of 25 hours


class Row(NamedTuple):
    """A register read: address, register code, UTC seconds, thousandths, quality code."""

    meter: int
    register: int
    read_at_s: int
    value: int
    quality: int


class Interval(NamedTuple):
    """What a register rose by (thousandths) in the `period_s` seconds up to `end_s`."""

    meter: int
    register: int
    end_s: int
    value: int
    quality: int
    period_s: int

    @property
    def start_s(self) -> int:
        return self.end_s - self.period_s


Reads = Sequence[Row | Interval]
_Known = dict[int, Row]  # register reads of one channel by their time, the first of equal ones


def registers(reads: Reads) -> list[Row]:
    """`reads` as register reads alone; those of a meter with intervals together, in the order of time.

    Raises:
        Rejected: `interval_size` (two intervals of a register overlap), `kind` (no register read at an end of a
            chain), `sum_check` (two reads and the intervals between them disagree), `overflow`, `time_range`.
    """
    chained = {read.meter for read in reads if isinstance(read, Interval)}
    if not chained:
        return [read for read in reads if isinstance(read, Row)]
    of_meter: dict[int, list[Row | Interval]] = {}
    for read in reads:
        if read.meter in chained:
            of_meter.setdefault(read.meter, []).append(read)
    rows: list[Row] = []
    for read in reads:
        if isinstance(read, Row) and read.meter not in chained:
            rows.append(read)
        elif read.meter in of_meter:
            rows += _meter(of_meter.pop(read.meter))
    return rows


def _meter(reads: Reads) -> list[Row]:
    """All reads of one meter; registers of one time stay in the order in which the message first names them."""
    rows = [read for read in reads if isinstance(read, Row)]
    order = {register: at for at, register in enumerate(dict.fromkeys(read.register for read in reads))}
    for register in order:
        intervals = sorted(
            (read for read in reads if isinstance(read, Interval) and read.register == register),
            key=lambda interval: interval.end_s,
        )
        known: _Known = {}
        for row in rows:
            if row.register == register:
                known.setdefault(row.read_at_s, row)
        for chain in _chains(intervals):
            rows += _derived(chain, known)
    return sorted(rows, key=lambda row: (row.read_at_s, order[row.register]))


def _chains(intervals: Sequence[Interval]) -> Iterator[list[Interval]]:
    """Runs without a gap."""
    chain: list[Interval] = []
    for interval in intervals:
        if chain and interval.start_s < chain[-1].end_s:
            raise Rejected(Reason.INTERVAL_SIZE, f"intervals overlap at {interval.end_s}")
        if chain and interval.start_s > chain[-1].end_s:
            yield chain
            chain = []
        chain.append(interval)
    if chain:
        yield chain


def _derived(chain: Sequence[Interval], known: _Known) -> Iterator[Row]:
    """The registers at those ends of a chain where none was read."""
    ends = [chain[0].start_s, *(interval.end_s for interval in chain)]
    sums = [0, *accumulate(interval.value for interval in chain)]
    anchors = [at for at, end_s in enumerate(ends) if end_s in known]
    if not anchors:
        raise Rejected(Reason.KIND, "intervals without a register read at an end of theirs")

    def register(at: int, anchor: int, quality: int) -> Row:
        value = known[ends[anchor]].value + sums[at] - sums[anchor]
        if not -VALUE_MAX < value < VALUE_MAX:
            raise Rejected(Reason.OVERFLOW, "a sum of intervals does not fit")
        return Row(chain[0].meter, chain[0].register, time_in_range(ends[at]), value, quality)

    for at in range(anchors[0]):
        yield register(at, anchors[0], Quality.E)
    for left, right in pairwise(anchors):
        between = _agreed(known[ends[left]], known[ends[right]], chain[left:right])
        for at, quality in enumerate(between, start=left + 1):
            yield register(at, left, quality)
    for at in range(anchors[-1] + 1, len(ends)):
        yield register(at, anchors[-1], Quality.E)


def _agreed(first: Row, last: Row, chain: Sequence[Interval]) -> Iterator[int]:
    """Qualities of the ends within a chain between two register reads, which must rise by its sum.

    A register within follows from either side; it is as good as the better side's worst part.
    """
    total = sum(interval.value for interval in chain)
    if last.value - first.value != total:
        risen = f"the register rose by {last.value - first.value}"
        raise Rejected(Reason.SUM_CHECK, f"{risen} up to {last.read_at_s}, its intervals say {total} (thousandths)")
    up = accumulate((interval.quality for interval in chain[:-1]), min, initial=first.quality)
    down = accumulate((interval.quality for interval in reversed(chain[1:])), min, initial=last.quality)
    next(up)
    return map(max, up, list(down)[:0:-1])
