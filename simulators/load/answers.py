"""Pure: latencies of balances, orders and notices, worked out while a run goes on from what is seen of it.

What was answered is counted and forgotten. What stays is what is in flight (records that no checkpoint has, orders
without their charge or message), and in whole numbers of fixed width: a byte for each message of the plan, so that a
second copy is known as one, and four bytes for each concentrator of a partition, its newest message.

A message's records lie in one transaction of the log, so whoever gives all that is new in one snapshot gives each
message whole: it is visible with the last of its partitions.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from simulators.load.histogram import Histogram

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Row = tuple[int, int, int]  # offset, number of the concentrator, sequence
_ANSWERED: Final = 1


def slots_of(sender: Ints, senders: int) -> Ints:
    """Where each concentrator's messages begin in an array of all: `slots[c] + sequence - 1`."""
    return np.concatenate([[0], np.cumsum(np.bincount(sender, minlength=senders))]).astype(np.int64)


def noted(due_s: float, *, good: bool) -> float:
    """How a due time is written down: 0 is none yet; below 0: a message that no balance shows.

    Such a one is no reading, or has only what is older than its meters' registers.
    """
    return 1.0 + due_s if good else -1.0 - due_s


def per_second(at_s: Floats, weight: Ints) -> Ints:
    """`weight` by whole second; NaN is never."""
    known = ~np.isnan(at_s)
    if not known.any():
        return np.zeros(0, np.int64)
    seconds = np.maximum(np.floor(at_s[known]), 0).astype(np.int64)
    return np.bincount(seconds, weight[known]).astype(np.int64)


def summed(counts: Sequence[Ints]) -> Ints:
    """Arrays of different lengths, added place by place."""
    total = np.zeros(max(map(len, counts), default=0), np.int64)
    for one in counts:
        total[: len(one)] += one
    return total


@dataclass(slots=True, eq=False)
class Answered:
    """What came of it. `good`: messages whose readings became visible; times in seconds of the run."""

    balance: Histogram = field(default_factory=Histogram)
    order: Histogram = field(default_factory=Histogram)
    notice: Histogram = field(default_factory=Histogram)
    good: int = 0
    over_time: Ints = field(default_factory=lambda: np.zeros(0, np.int64))  # readings visible, by second
    put_off: int = 0  # low balances that autopay decided to wait with, or to leave: no order to wait for
    orders_without: dict[str, int] = field(default_factory=lambda: {"order": 0, "notice": 0})


@dataclass(slots=True)
class _Flying:
    """A message in the log: partitions that have it, how many of them are not committed, and the last commit."""

    partitions: set[int]
    left: int = 0
    at_s: float = -math.inf


@dataclass(slots=True)
class _Order:
    due_s: float | None = None  # when the reading that caused it was due; None: not known yet
    charged_s: float | None = None
    told_s: float | None = None


@dataclass(slots=True)
class _Partition:
    newest: npt.NDArray[np.int32]  # by concentrator: highest sequence with readings that is in a checkpoint
    read_to: int = 0
    flying: deque[tuple[Row, bool]] = field(default_factory=deque)  # rising; False: a copy of what came before
    commits: deque[tuple[int, float]] = field(default_factory=deque)  # (offset, at), rising
    low: deque[tuple[int, int, tuple[str, int]]] = field(default_factory=deque)  # (offset, concentrator, order)


class Answers:
    """`due`: as `noted`, by `slots`; `readings`: meters by concentrator; `start_s`: run's, on the clock of `at_s`.

    Causes come before their effects: an event is given before its charge, a checkpoint before its events.
    """

    def __init__(self, due: Floats, slots: Ints, readings: Ints, start_s: float) -> None:
        self._due, self._slots, self._readings, self._start_s = due, slots, readings, start_s
        self._state = np.zeros(int(slots[-1]), np.uint8)
        self._partitions: dict[int, _Partition] = {}
        self._flying: dict[int, _Flying] = {}  # by slot
        self._orders: dict[tuple[str, int], _Order] = {}  # by account and number
        self._out = Answered()

    @property
    def in_flight(self) -> int:
        """Everything that is kept until it is answered."""
        waiting = sum(len(p.flying) + len(p.commits) + len(p.low) for p in self._partitions.values())
        return waiting + len(self._flying) + len(self._orders)

    # -- what is seen ------------------------------------------------------------------------------------------
    def checkpoint(self, at_s: float, partition: int, offset: int) -> None:
        self._of(partition).commits.append((offset, at_s - self._start_s))

    def low_balance(self, order: tuple[str, int], concentrator: int, partition: int, offset: int) -> None:
        """An event in the checkpoint that reaches to `offset`; `concentrator`: of the account's meter."""
        self._orders.setdefault(order, _Order())
        self._of(partition).low.append((offset, concentrator, order))

    def put_off(self, order: tuple[str, int]) -> None:
        """Autopay decided against it, or for later (a cool-down, a cap): nobody's latency."""
        found = self._orders.get(order)
        if found is not None and found.charged_s is None:
            self._out.put_off += 1
            del self._orders[order]

    def charge(self, at_s: float, order: tuple[str, int]) -> None:
        """The first one counts."""
        found = self._orders.get(order)
        if found is not None and found.charged_s is None:
            found.charged_s = at_s - self._start_s
            self._paid(order, found)

    def notice(self, at_s: float, order: tuple[str, int]) -> None:
        """Somebody was told of a charge; the first one counts."""
        found = self._orders.get(order)
        if found is not None and found.told_s is None:
            found.told_s = at_s - self._start_s
            self._paid(order, found)

    def records(self, found: Mapping[int, Sequence[Row]], read_to: Mapping[int, int]) -> None:
        """What is new in the log, in one snapshot, by partition in order; `read_to`: its last offset by partition."""
        for partition, rows in found.items():
            self._read(partition, rows)
        for partition, offset in read_to.items():
            of = self._of(partition)
            of.read_to = max(of.read_to, offset)
        self._answer()

    def end(self) -> Answered:
        """Nothing more will be seen."""
        self._answer()
        for of in self._partitions.values():
            while of.low:
                self._low(of, of.low[0][0])
        known = [one for one in self._orders.values() if one.due_s is not None]
        for one in known:
            self._out.order.add(_after(one.charged_s, one.due_s))
            self._out.notice.add(_after(one.told_s, one.due_s))
        self._out.orders_without = {
            "order": sum(one.charged_s is None for one in known),
            "notice": sum(one.told_s is None for one in known),
        }
        return self._out

    # -- inside ------------------------------------------------------------------------------------------------
    def _of(self, partition: int) -> _Partition:
        if partition not in self._partitions:
            self._partitions[partition] = _Partition(np.zeros(len(self._slots) - 1, np.int32))
        return self._partitions[partition]

    def _read(self, partition: int, rows: Sequence[Row]) -> None:
        of = self._of(partition)
        for row in rows:
            _, concentrator, sequence = row
            slot = self._slot(concentrator, sequence)
            if not self._slots[concentrator] <= slot < self._slots[concentrator + 1]:
                continue  # no message of the plan
            first = False
            if self._state[slot] != _ANSWERED:
                message = self._flying.setdefault(slot, _Flying(set()))
                first = partition not in message.partitions
                message.left += first
                message.partitions.add(partition)
            of.flying.append((row, first))

    def _slot(self, concentrator: int, sequence: int) -> int:
        return int(self._slots[concentrator]) + sequence - 1

    def _low(self, of: _Partition, upto: int) -> None:
        """Events whose checkpoints reach to `upto` at most: the newest message before that is what caused them."""
        while of.low and of.low[0][0] <= upto:
            _, concentrator, order = of.low.popleft()
            sequence = int(of.newest[concentrator])
            found = self._orders.get(order)
            if found is None:
                continue
            if not sequence:
                del self._orders[order]  # not caused by a message of this run
                continue
            found.due_s = float(self._due[self._slot(concentrator, sequence)]) - 1.0
            self._paid(order, found)

    def _paid(self, order: tuple[str, int], found: _Order) -> None:
        """Forget an order of which everything is known."""
        if None in (found.due_s, found.charged_s, found.told_s):
            return
        self._out.order.add(_after(found.charged_s, found.due_s))
        self._out.notice.add(_after(found.told_s, found.due_s))
        del self._orders[order]

    def _answer(self) -> None:
        """Give each message that is in a checkpoint the time of the first that has it."""
        done: list[tuple[int, int, float]] = []  # (slot, concentrator, at)
        for of in self._partitions.values():
            while of.flying and of.commits:
                (offset, concentrator, sequence), first = of.flying[0]
                upto, at_s = of.commits[0]
                if offset > upto:
                    of.commits.popleft()
                    continue
                of.flying.popleft()
                self._low(of, offset - 1)
                slot = self._slot(concentrator, sequence)
                if self._due[slot] > 0:  # a copy, no reading, or an old one makes no balance low
                    of.newest[concentrator] = max(of.newest[concentrator], sequence)
                if not first:
                    continue
                message = self._flying[slot]
                message.left -= 1
                message.at_s = max(message.at_s, at_s)
                if not message.left:
                    done.append((slot, concentrator, message.at_s))
                    del self._flying[slot]
            self._low(of, of.flying[0][0][0] - 1 if of.flying else of.read_to)
            while of.commits and of.commits[0][0] <= of.read_to:
                of.commits.popleft()
        if done:
            self._count(done)

    def _count(self, done: list[tuple[int, int, float]]) -> None:
        slot, concentrator = (np.array([one[place] for one in done], np.int64) for place in (0, 1))
        at_s = np.array([one[2] for one in done], np.float64)
        self._state[slot] = _ANSWERED
        note = self._due[slot]
        good = note > 0
        self._out.balance.add(at_s[good] - (note[good] - 1.0))
        self._out.good += int(good.sum())
        self._out.over_time = summed(
            [self._out.over_time, per_second(at_s[good], self._readings[concentrator[good]])]
        )


def _after(at_s: float | None, due_s: float | None) -> float:
    """NaN, which no histogram counts, when one of them is not known."""
    return math.nan if at_s is None or due_s is None else at_s - due_s
