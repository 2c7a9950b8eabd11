"""Pure: what each stream has delivered: the highest contiguous sequence, what came ahead of it, and the gaps.

A stream is (shard, concentrator, stream). Its *mark* says that everything up to `contiguous` is durable;
`ahead` holds the ranges beyond it. Marks are written into the log in the transaction that writes the records,
so that neither a kill nor pruning makes one forget. A gap asks for a resend; after `resend_times` it is
declared lost, which is itself a record, and the mark goes past it.

Boot counts ride along: an unseen sequence with an older boot count than a lower sequence had is a replay.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

Key = tuple[str, str]  # concentrator, stream
AHEAD_MAX: Final = 256  # ranges; beyond it the first gap is declared lost at once


@dataclass(frozen=True, slots=True)
class Mark:
    """One stream's mark as stored."""

    source: str
    stream: str
    shard: str
    contiguous: int
    ahead: tuple[tuple[int, int], ...] = ()  # disjoint, ascending, all beyond contiguous + 1
    boot: int = -1  # highest boot count seen; -1: none
    boot_sequence: int = 0  # the first sequence that carried it

    def ahead_text(self) -> str:
        """The ranges as JSON, for the log's table."""
        return json.dumps(self.ahead, separators=(",", ":")) if self.ahead else ""


def ahead_of(text: str) -> tuple[tuple[int, int], ...]:
    """`Mark.ahead_text` read back."""
    return tuple((int(a), int(b)) for a, b in json.loads(text)) if text else ()


def taken(mark: Mark, sequence: int) -> bool:
    """True when `sequence` is already in the mark."""
    return sequence <= mark.contiguous or any(a <= sequence <= b for a, b in mark.ahead)


def delivered(mark: Mark, first: int, last: int) -> Mark:
    """The mark with [first, last] delivered (or declared lost)."""
    if not mark.ahead and first <= mark.contiguous + 1:  # nearly always
        contiguous = max(mark.contiguous, last)
        return Mark(mark.source, mark.stream, mark.shard, contiguous, (), mark.boot, mark.boot_sequence)
    ranges = sorted([*mark.ahead, (first, last)])
    contiguous = mark.contiguous
    ahead: list[tuple[int, int]] = []
    for a, b in ranges:
        if a <= contiguous + 1:
            contiguous = max(contiguous, b)
        elif ahead and a <= ahead[-1][1] + 1:
            ahead[-1] = (ahead[-1][0], max(ahead[-1][1], b))
        else:
            ahead.append((a, b))
    return Mark(mark.source, mark.stream, mark.shard, contiguous, tuple(ahead), mark.boot, mark.boot_sequence)


def gaps(mark: Mark) -> list[tuple[int, int]]:
    """Missing ranges, ascending, inclusive."""
    found = []
    after = mark.contiguous
    for a, b in mark.ahead:
        found.append((after + 1, a - 1))
        after = b
    return found


@dataclass(frozen=True, slots=True)
class Resend:
    """Ask the concentrator for [first, last] again."""

    mark: Mark
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Lost:
    """[first, last] was asked for often enough, or there are too many gaps."""

    mark: Mark
    first: int
    last: int


@dataclass(slots=True)
class _Gap:
    first: int
    last: int
    next_at_s: int
    asked: int = 0


@dataclass(slots=True)
class Sequences:
    """Marks of all streams in memory, and the timers of their gaps. `commit` only what is durable."""

    resend_after_s: int
    resend_times: int
    marks: dict[Key, Mark] = field(default_factory=dict)
    _gaps: dict[Key, list[_Gap]] = field(default_factory=dict)

    def load(self, marks: list[Mark], now_s: int) -> None:
        """Start from the marks of the log."""
        for mark in marks:
            self.commit(mark, now_s)

    def of(self, source: str, stream: str, shard: str) -> Mark:
        """The mark of a stream; a new stream has delivered nothing."""
        return self.marks.get((source, stream)) or Mark(source, stream, shard, 0)

    def commit(self, mark: Mark, now_s: int) -> None:
        """Take over a mark that is durable; start, shrink or drop its gap timers."""
        key = (mark.source, mark.stream)
        self.marks[key] = mark
        if not mark.ahead:
            self._gaps.pop(key, None)
            return
        before = self._gaps.get(key, [])
        now: list[_Gap] = []
        for first, last in gaps(mark):
            parent = next((g for g in before if g.first <= first and last <= g.last), None)
            timer = (parent.next_at_s, parent.asked) if parent else (now_s + self.resend_after_s, 0)
            now.append(_Gap(first, last, *timer))
        self._gaps[key] = now

    def due(self, now_s: int, reachable: Callable[[str], bool] = lambda _: True) -> list[Resend | Lost]:
        """Resends to ask and gaps to give up, now; asking counts, giving up waits for `commit`.

        Streams of a shard that is not `reachable` are left alone: nobody would hear the question.
        """
        found: list[Resend | Lost] = []
        for key, waiting in self._gaps.items():
            mark = self.marks[key]
            if not reachable(mark.shard):
                continue
            for gap in waiting:
                asked_enough = gap.asked >= self.resend_times and now_s >= gap.next_at_s
                too_many = len(waiting) > AHEAD_MAX and gap is waiting[0]
                if asked_enough or too_many:
                    found.append(Lost(mark, gap.first, gap.last))
                elif now_s >= gap.next_at_s:
                    gap.asked += 1
                    gap.next_at_s = now_s + self.resend_after_s
                    found.append(Resend(mark, gap.first, gap.last))
        return found

    def open_gaps(self) -> int:
        """How many gaps are waiting, for the metrics."""
        return sum(map(len, self._gaps.values()))
