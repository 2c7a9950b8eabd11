"""Pure (but for what it is given to run): a shorter history in which the same rule breaks.

    days    the history is cut right after the rule broke, then by halves, as long as it still breaks
    rates   whole groups of what goes wrong are left out, then smaller ones, down to one by one

Every try is a history of its own: the dice fall otherwise when a day or a fault is missing. What is kept is what
breaks the same rule; it is shorter, and less happens in it, but it need not be the shortest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from simulators.world.history import Outcome
from simulators.world.seeds import Ask
from simulators.world.weather import RATES

TRIES_MAX: Final = 80
DAYS_MIN: Final = 2


@dataclass(slots=True)
class Shrinker:
    """`shrunk` once. `told` hears of every try."""

    play: Callable[[Ask], Outcome]
    told: Callable[[Ask, Outcome, bool], None] = lambda _ask, _outcome, _kept: None
    tries: int = 0

    def shrunk(self, ask: Ask, broken: Outcome) -> tuple[Ask, Outcome]:
        """The smallest history that was found, and what became of it."""
        assert broken.rule, "nothing is broken"
        best, outcome = self._by_days(ask, broken)
        best, outcome = self._by_rates(best, outcome)
        return self._by_days(best, outcome)

    def _by_days(self, best: Ask, outcome: Outcome) -> tuple[Ask, Outcome]:
        low, high = DAYS_MIN - 1, min(outcome.days, best.cut.days or outcome.days)  # it does not break, it does
        while high - low > 1 and self.tries < TRIES_MAX:
            middle = (low + high) // 2
            ask = replace(best, cut=replace(best.cut, days=middle))
            found = self._tried(ask, outcome.rule)
            if found is None:
                low = middle
            else:
                best, outcome, high = ask, found, middle
        return best, outcome

    def _by_rates(self, best: Ask, outcome: Outcome) -> tuple[Ask, Outcome]:
        size = len(RATES)
        while size >= 1:
            for group in _groups([name for name in RATES if name not in best.cut.without], size):
                if self.tries >= TRIES_MAX:
                    return best, outcome
                ask = replace(best, cut=replace(best.cut, without=best.cut.without | set(group)))
                found = self._tried(ask, outcome.rule)
                if found is not None:
                    best, outcome = ask, found
            size //= 2
        return best, outcome

    def _tried(self, ask: Ask, rule: str) -> Outcome | None:
        self.tries += 1
        found = self.play(ask)
        kept = found.rule == rule
        self.told(ask, found, kept)
        return found if kept else None


def _groups(names: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]
