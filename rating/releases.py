"""Pure: the outcome of a release in words, and read back: which of its readings were refused again, and why.

    ""                                            every reading stands
    judged again: accepted 3, late 2 (4-5)        the fourth and the fifth do not

A reading stands when it moved the register, or when the register stood there at that time already (`duplicate`).
The numbers count from 1 in the order of the inbox row's `readings`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from rating.verdicts import FIRST_REFUSED, Verdict

_HEAD: Final = "judged again: "
_PART: Final = re.compile(r"([a-z_]+) ([0-9]+)(?: \(([0-9 -]+)\))?")


def stands(verdict: int) -> bool:
    """True when nothing is left to do about a reading of this verdict."""
    return verdict < FIRST_REFUSED or verdict == Verdict.DUPLICATE


def told(verdicts: Sequence[int]) -> str:
    """The outcome of one inbox row."""
    if all(map(stands, verdicts)):
        return ""
    places: dict[Verdict, list[int]] = {}
    for place, code in enumerate(verdicts, start=1):
        places.setdefault(Verdict(code), []).append(place)
    parts = []
    for verdict in sorted(places):
        where = "" if stands(verdict) else f" ({_ranges(places[verdict])})"
        parts.append(f"{verdict.name.lower()} {len(places[verdict])}{where}")
    return _HEAD + ", ".join(parts)


def refused(outcome: str, count: int) -> dict[int, str]:
    """Place (from 0) -> verdict, of the readings that an outcome refuses; all of them if it cannot be read."""
    if not outcome:
        return {}
    pieces = outcome.removeprefix(_HEAD).split(", ")
    found: dict[int, str] = {}
    total = 0
    for piece in pieces:
        part = _PART.fullmatch(piece)
        if part is None or not outcome.startswith(_HEAD):
            return dict.fromkeys(range(count), outcome.removeprefix(_HEAD))
        total += int(part[2])
        for span in (part[3] or "").split():
            first, _, last = span.partition("-")
            found.update(dict.fromkeys(range(int(first) - 1, int(last or first)), part[1]))
    return found if total == count else dict.fromkeys(range(count), outcome.removeprefix(_HEAD))


def _ranges(places: Sequence[int]) -> str:
    """[1, 2, 3, 7] as "1-3 7"."""
    spans: list[list[int]] = []
    for place in places:
        if spans and spans[-1][1] == place - 1:
            spans[-1][1] = place
        else:
            spans.append([place, place])
    return " ".join(f"{a}-{b}" if a < b else str(a) for a, b in spans)
