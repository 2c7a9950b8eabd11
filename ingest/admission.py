"""Pure: whether a number that is not its stream's next one may move the mark: leaps, and limits on streams and gaps.

A number too far ahead is refused (`sequence_leap`): nothing between is missing, so there is no gap and no mark. A
limit that is reached refuses nothing: the message is taken like one without a number, and is not confirmed as held,
so a sender that numbers keeps it. Concentrators that the registry names may begin streams when `streams_max` is
reached, too: whoever invents names cannot keep them out. docs/adr/0006 has the reasons.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from config.reasons import Reason
from ingest.decoded import Rejected
from ingest.routing import Routes
from ingest.sequences import Mark, Sequences
from ingest.topics import Topic

UNMARKED: Final = frozenset({Reason.AUTH, Reason.SPOOF, Reason.SEQUENCE_LEAP})  # who sent it, and what, is not known


@dataclass(slots=True)
class Begun:
    """The streams that the messages of a group have begun so far: no mark of them is durable yet."""

    total: int = 0
    of: Counter[str] = field(default_factory=Counter)  # by concentrator

    def add(self, concentrator: str) -> None:
        self.total += 1
        self.of[concentrator] += 1


def admit(mark: Mark | None, topic: Topic, sequences: Sequences, begun: Begun, routes: Routes) -> Mark | None:
    """The mark to move (a new one for a new stream), or None when a limit is reached; raises Rejected for a leap."""
    bounds = sequences.bounds
    known = mark
    mark = known or Mark(topic.concentrator, topic.stream, topic.shard, 0)
    seen = mark.ahead[-1][1] if mark.ahead else mark.contiguous
    if topic.sequence - seen > bounds.leap_max:
        note = f"number {topic.sequence}, and the stream stood at {seen}: more than {bounds.leap_max} further"
        raise Rejected(Reason.SEQUENCE_LEAP, note)
    if known is None and not _room(topic.concentrator, sequences, begun, routes):
        return None
    if topic.sequence > mark.contiguous + 1 and sequences.open_gaps() >= bounds.gaps_max:
        return None
    return mark


def _room(concentrator: str, sequences: Sequences, begun: Begun, routes: Routes) -> bool:
    """Whether a concentrator may begin one stream more."""
    if sequences.streams[concentrator] + begun.of[concentrator] >= sequences.bounds.streams_per_concentrator_max:
        return False
    if len(sequences.marks) + begun.total < sequences.bounds.streams_max:
        return True
    return routes.shard_of(concentrator) is not None
