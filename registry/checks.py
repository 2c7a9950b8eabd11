"""Pure: one file's table under the checks that all files share; each check turns bad rows into faults."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from registry import columns, lookup
from registry.columns import Ints, Mask, Times
from registry.faults import Faults
from registry.image import FOREVER
from registry.tables import Table


class Checked:
    """A table and where its faults go. Methods return parsed columns; bad rows hold 0 or -1 and are told."""

    def __init__(self, table: Table, faults: Faults) -> None:
        self.table = table
        self.faults = faults
        self.lines = table.lines

    def __len__(self) -> int:
        return len(self.table)

    def bad(self, mask: Mask, words: str, *shown: str) -> None:
        """A fault for each row of `mask`; each `{}` in `words` is filled with that row's cell of a column."""
        if not mask.any():
            return
        rows = np.flatnonzero(mask)[: self.faults.room]
        cells = [[cell[:80] for cell in self.table.texts(name, rows)] for name in shown]
        told = {row: words.format(*(column[place] for column in cells)) for place, row in enumerate(rows.tolist())}
        self.faults.rows(self.table.file, self.lines, mask, told.__getitem__)

    def ids(self, name: str, pattern: str = columns.ID) -> Mask:
        """Which rows hold a proper id."""
        good = columns.matches(self.table[name], pattern)
        longest = 32 if pattern == columns.SERIAL else 64
        self.bad(~good, f"{name} {{!r}} is no id: 1 to {longest} of A-Z a-z 0-9 . _ -", name)
        return good

    def unique(self, name: str) -> None:
        """A key may stand only once."""
        self.bad(lookup.repeated(self.table[name]), f"{name} {{!r}} stands more than once", name)

    def places(self, name: str, ids: Any, file: str) -> npt.NDArray[np.int32]:
        """Row of a referenced id; -1 and a fault when there is none."""
        found = lookup.places(self.table[name], ids)
        if file not in self.faults.unread:
            self.bad(found < 0, f"{name} {{!r}} is not in {file}", name)
        return found

    def choice(self, name: str, known: dict[str, int]) -> npt.NDArray[np.int16]:
        """The number of a word."""
        found, bad = columns.choices(self.table[name], known)
        self.bad(bad, f"{name} {{!r}} is none of {', '.join(known)}", name)
        return found

    def integer(self, name: str, low: int, high: int, *, default: int | None = None) -> Ints:
        """A whole number within [low, high]."""
        found, bad = columns.integers(self.table[name], low, high, default=default)
        self.bad(bad, f"{name} {{!r}} is no whole number from {low} to {high}", name)
        return found

    def decimal(self, name: str, digits: int, *, signed: bool = False, default: int | None = None) -> Ints:
        """A decimal as an integer of 10**-digits, exactly."""
        found, bad, finer = columns.decimals(self.table[name], digits, signed=signed)
        if default is not None:
            blank = columns.empty(self.table[name])
            found[blank] = default
            bad &= ~blank
        kind = "decimal" if signed else "decimal of 0 or more"
        self.bad(bad, f"{name} {{!r}} is no plain {kind}", name)
        self.bad(finer, f"{name} {{!r}} is finer than {digits} decimals", name)
        return found

    def instant(
        self, name: str, zone: npt.NDArray[np.int16], zones: list[ZoneInfo], *, open_s: int | None = None
    ) -> Times:
        """UTC seconds of a local date or an instant with offset; the empty text is `open_s`, if given."""
        found, bad = columns.instants(self.table[name], zone, zones, open_s=open_s)
        self.bad(bad, f"{name} {{!r}} is neither a date like 2026-03-01 nor an instant with offset", name)
        return found

    def span(
        self, zone: npt.NDArray[np.int16], zones: list[ZoneInfo], begin: str = "from", end: str = "to"
    ) -> tuple[Times, Times]:
        """A dated span [from, to), open when `to` is empty."""
        from_s = self.instant(begin, zone, zones)
        to_s = self.instant(end, zone, zones, open_s=FOREVER)
        # a `to` that could not be read was told already
        self.bad((to_s <= from_s) & (to_s > 0), f"{end} {{}} is not after {begin} {{}}", end, begin)
        return from_s, to_s


def at(values: npt.NDArray[Any], rows: npt.NDArray[Any], default: int) -> npt.NDArray[Any]:
    """values[rows], and `default` where the row is -1."""
    if len(values) == 0:
        return np.full(len(rows), default, values.dtype)
    found: npt.NDArray[Any] = values[rows]  # -1 reads the last one, replaced below
    missing = rows < 0
    if missing.any():
        found[missing] = default
    return found
