"""Pure: what each stream has delivered: the highest contiguous sequence, what came ahead of it, and the gaps.

A stream is (shard, concentrator, stream). Its *mark* says that everything up to `contiguous` is durable;
`ahead` holds the ranges beyond it. Marks are written into the log in the transaction that writes the records,
so that neither a kill nor pruning makes one forget. A gap asks for a resend; after `resend_times` it is
declared lost, which is itself a record, and the mark goes past it.

    contiguous     gap      ahead      gap       ahead
    1 2 3 4 5  |  . .  |  8 9 10  |  . . .  |  14          held is 5

Nobody may be told that something is held which no stream plausibly sent, so three things bound what one message
can do (ingest.admission has a fourth, the leap): a range beyond AHEAD_MAX gives up the oldest gap in the same step;
a long gap is declared lost only when more than one number beyond it came; and whoever fills a gap from below, in
order, is given the time for the rest. Costs: a message that is next costs two comparisons, one that is not costs a
search in, and a copy of, at most AHEAD_MAX ranges; timers are brought up to date when they are looked at, not with
each message.

Boot counts ride along: an unseen sequence with an older boot count than a lower sequence had is a replay.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

Key = tuple[str, str]  # concentrator, stream
AHEAD_MAX: Final = 256  # ranges; beyond it the first gap is declared lost at once
LONE_GAP_MAX: Final = 256  # numbers: a gap that is longer, with a lone number behind it, is no evidence of a loss
DUE_MAX: Final = 1024  # resends and losses in one look; the others come with the next


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may be numbered (config.settings.IngestSettings says why so much)."""

    leap_max: int = 100_000
    streams_per_concentrator_max: int = 16
    streams_max: int = 65_536
    gaps_max: int = 65_536


class Mark(NamedTuple):
    """One stream's mark as stored. Each message makes one or two: a tuple takes a third of a dataclass's time."""

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
    return sequence <= mark.contiguous or (bool(mark.ahead) and not missing(mark, sequence, sequence))


def missing(mark: Mark, first: int, last: int) -> bool:
    """True when nothing of [first, last] is in the mark."""
    after = bisect_left(mark.ahead, first, key=_last)
    return first > mark.contiguous and (after == len(mark.ahead) or mark.ahead[after][0] > last)


def delivered(mark: Mark, first: int, last: int, given_up: list[Lost]) -> Mark:
    """The mark with [first, last] delivered (or declared lost); a gap too many is appended to `given_up`."""
    if not mark.ahead and first <= mark.contiguous + 1:  # nearly always
        contiguous = max(mark.contiguous, last)
        return Mark(mark.source, mark.stream, mark.shard, contiguous, (), mark.boot, mark.boot_sequence)
    ahead, contiguous = mark.ahead, mark.contiguous
    low, high = bisect_left(ahead, first - 1, key=_last), bisect_right(ahead, last + 1, key=_first)
    if low < high:  # it touches, or covers, these
        first, last = min(first, ahead[low][0]), max(last, ahead[high - 1][1])
    ahead = (*ahead[:low], (first, last), *ahead[high:])
    if ahead[0][0] > contiguous + 1 and len(ahead) > AHEAD_MAX:
        given_up.append(Lost(mark, contiguous + 1, ahead[0][0] - 1))
        contiguous = ahead[0][0] - 1
    if ahead[0][0] <= contiguous + 1:
        contiguous, ahead = max(contiguous, ahead[0][1]), ahead[1:]
    return Mark(mark.source, mark.stream, mark.shard, contiguous, ahead, mark.boot, mark.boot_sequence)


def _first(piece: tuple[int, int]) -> int:
    return piece[0]


def _last(piece: tuple[int, int]) -> int:
    return piece[1]


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
    heard: bool = True  # the stream spoke since it was asked last


def _passed(mark: Mark, place: int) -> bool:
    """Whether the stream itself seems to have gone past its gap number `place`.

    One number far ahead is as likely a garbled or a forged one: to declare lost what lies before it would confirm
    messages that the concentrator has yet to send. A second number close to it, or a short gap, is evidence.
    """
    before = mark.ahead[place - 1][1] if place else mark.contiguous
    first, last = mark.ahead[place]
    if first - before - 1 <= LONE_GAP_MAX or last > first:
        return True
    return place + 1 < len(mark.ahead) and mark.ahead[place + 1][0] - last - 1 <= LONE_GAP_MAX


@dataclass(slots=True)
class Sequences:
    """Marks of all streams in memory, and the timers of their gaps. `commit` only what is durable."""

    resend_after_s: int
    resend_times: int
    bounds: Bounds = Bounds()
    marks: dict[Key, Mark] = field(default_factory=dict)
    streams: Counter[str] = field(default_factory=Counter)  # of each concentrator
    _gaps: dict[Key, list[_Gap]] = field(default_factory=dict)  # as of the last look
    _open: dict[Key, int] = field(default_factory=dict)  # how many gaps a stream has, where it has any
    _open_total: int = 0
    _moved: dict[Key, int] = field(default_factory=dict)  # whose gaps changed since the last look, and when first

    def load(self, marks: list[Mark], now_s: int) -> None:
        """Start from the marks of the log."""
        for mark in marks:
            self.commit(mark, now_s)

    def of(self, source: str, stream: str, shard: str) -> Mark:
        """The mark of a stream; a new stream has delivered nothing."""
        return self.marks.get((source, stream)) or Mark(source, stream, shard, 0)

    def commit(self, mark: Mark, now_s: int) -> None:
        """Take over a mark that is durable; its gap timers follow with the next look."""
        key = (mark.source, mark.stream)
        if key not in self.marks:
            self.streams[mark.source] += 1
        self.marks[key] = mark
        if mark.ahead or key in self._open:
            self._moved.setdefault(key, now_s)
            self._open_total += len(mark.ahead) - self._open.pop(key, 0)
            if mark.ahead:
                self._open[key] = len(mark.ahead)

    def _look(self) -> None:
        """Start, keep or drop timers. The rest of a gap that is being filled from below starts afresh."""
        for key, since_s in self._moved.items():
            mark = self.marks[key]
            if not mark.ahead:
                self._gaps.pop(key, None)
                continue
            before = {gap.first: gap for gap in self._gaps.get(key, ())}
            now = []
            for first, last in gaps(mark):
                same = before.get(first)
                timer = (same.next_at_s, same.asked) if same else (since_s + self.resend_after_s, 0)
                now.append(_Gap(first, last, *timer))
            self._gaps[key] = now
        self._moved.clear()

    def due(self, now_s: int, reachable: Callable[[str], bool] = lambda _: True) -> list[Resend | Lost]:
        """Resends to ask and gaps to give up, now; giving up waits for `commit`.

        Nothing is given up before the stream has spoken after the last ask: a concentrator that is away, or whose
        broker is, still has what is missing, is asked until it is back, and then sends the oldest first.

        Streams of a shard that is not `reachable` are left alone: nobody would hear the question.
        """
        self._look()
        found: list[Resend | Lost] = []
        for key, waiting in self._gaps.items():
            mark = self.marks[key]
            if not reachable(mark.shard):
                continue
            for place, gap in enumerate(waiting):
                if now_s < gap.next_at_s:
                    continue
                if gap.asked < self.resend_times or not gap.heard:
                    gap.asked += 1
                    gap.heard = False
                    gap.next_at_s = now_s + self.resend_after_s
                    found.append(Resend(mark, gap.first, gap.last))
                elif _passed(mark, place):
                    found.append(Lost(mark, gap.first, gap.last))
                if len(found) == DUE_MAX:
                    return found
        return found

    def open_gaps(self) -> int:
        """How many gaps are waiting, for the limit and the metrics."""
        return self._open_total
