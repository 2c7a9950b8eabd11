"""Pure: what a release of the exceptions queue has come to, from its inbox rows: its attempts.

An attempt is the inbox rows `release:{exception}:{attempt}:{part}`, written in one transaction. The last one says
what is refused still; every one may have brought readings into effect.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from rating.releases import refused

IDS_MAX: Final = 500  # rows of the queue in one request: some seconds of work at most, and a body of 10 kB

Row = tuple[int, int, int, int, int]  # meter, register, read_at_s, value, quality: as the inbox has them


@dataclass(frozen=True, slots=True)
class Word:
    """What a person says beside the message, and who: `why` and `by` are kept with it when `trust` is said."""

    format: str = ""
    source: str = ""
    trust: bool = False
    why: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Released:
    """`applied` False: stored, not all of it applied in time. `refused`: verdict -> how many, of the last attempt."""

    inbox_ids: list[int]
    applied: bool
    state: str
    accepted: int
    refused: dict[str, int]

    @property
    def outcome(self) -> str | None:
        """ "" is good, other text says what was refused, None: not applied yet."""
        if not self.applied:
            return None
        told = ", ".join(f"{name} {count}" for name, count in self.refused.items())
        return f"judged again: {told} of {self.accepted + sum(self.refused.values())}" if told else ""


@dataclass(frozen=True, slots=True)
class InboxOf:
    """One inbox row of a release; `outcome` None: not applied yet."""

    id: int
    partition: int
    attempt: int
    body: dict[str, Any]
    outcome: str | None


@dataclass(slots=True)
class Attempts:
    """Every inbox row of one exception, in order."""

    rows: list[InboxOf] = field(default_factory=list)

    @property
    def last(self) -> int:
        return max((row.attempt for row in self.rows), default=0)

    @property
    def of_last(self) -> list[InboxOf]:
        last = self.last
        return [row for row in self.rows if row.attempt == last]

    @property
    def under_way(self) -> bool:
        return any(row.outcome is None for row in self.rows)

    @property
    def complete(self) -> bool:
        """There is an attempt, all of it was applied, and nothing of it refused."""
        last = self.of_last
        return bool(last) and all(row.outcome == "" for row in last)

    def in_effect(self) -> set[tuple[str, Row]]:
        """(concentrator, reading) that some attempt has brought into effect."""
        found = set()
        for row in self.rows:
            if row.outcome is not None:
                readings: list[Row] = [tuple(reading) for reading in row.body["readings"]]
                not_these = refused(row.outcome, len(readings))
                found |= {(row.body["concentrator"], one) for n, one in enumerate(readings) if n not in not_these}
        return found

    def told(self, state: str) -> Released:
        """Counts of readings: accepted by any attempt, refused by the last one."""
        accepted, against, last = 0, Counter[str](), self.last
        for row in self.rows:
            if row.outcome is not None:
                verdicts = refused(row.outcome, len(row.body["readings"]))
                accepted += len(row.body["readings"]) - len(verdicts)
                if row.attempt == last:
                    against.update(verdicts.values())
        ids = [row.id for row in self.of_last]
        return Released(ids, not self.under_way, state, accepted, dict(sorted(against.items())))

    def why(self) -> str:
        """What the exceptions queue keeps of a release: where it is, and on whose word."""
        told = "inbox " + ", ".join(str(row.id) for row in self.of_last)
        for body in {json.dumps(row.body.get("trusted")): row.body for row in self.rows}.values():
            if body.get("trusted"):
                told += f"; trusted by {body['trusted']['by']}: {body['trusted']['why']}"
        return told
