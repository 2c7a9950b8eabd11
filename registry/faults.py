"""Pure: what is wrong with an import, collected whole: every fault with its file, line and reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from registry.columns import Lines

LISTED_MAX: Final = 1000


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault; `line` counts from 1, and 0 means the file as a whole."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}" if self.line else f"{self.file}: {self.what}"


class ImportFaults(Exception):
    """A directory that was refused; nothing of it was kept. `faults` has the first thousand, `count` all."""

    def __init__(self, faults: list[Fault], count: int) -> None:
        self.faults = faults
        self.count = count
        lines = [str(fault) for fault in faults[:10]]
        more = [f"... and {count - len(lines)} more"] if count > len(lines) else []
        super().__init__("\n".join([f"{count} faults", *lines, *more]))

    @property
    def unlisted(self) -> int:
        """How many more there are than are listed."""
        return self.count - len(self.faults)


@dataclass(slots=True)
class Faults:
    """Collects faults; keeps the first `LISTED_MAX` and counts the rest."""

    listed: list[Fault] = field(default_factory=list)
    count: int = 0
    files: set[str] = field(default_factory=set)  # that have one
    unread: set[str] = field(default_factory=set)  # could not be read at all: what they lack is not told again

    def add(self, file: str, line: int, what: str) -> None:
        """One fault."""
        self.count += 1
        self.files.add(file)
        if len(self.listed) < LISTED_MAX:
            self.listed.append(Fault(file, line, what))

    @property
    def room(self) -> int:
        """How many more are listed."""
        return max(0, LISTED_MAX - len(self.listed))

    def rows(
        self,
        file: str,
        lines: Lines | npt.NDArray[Any],
        bad: npt.NDArray[np.bool_],
        what: str | Callable[[int], str],
    ) -> None:
        """A fault for every row where `bad`; `what` may say it from the row's number."""
        places = np.flatnonzero(bad)
        if not len(places):
            return
        self.files.add(file)
        for place in places[: self.room].tolist():
            said = what if isinstance(what, str) else what(place)
            self.listed.append(Fault(file, int(lines[place]), said))
        self.count += len(places)

    def check(self) -> None:
        """Raise `ImportFaults` when there is one, in the order of files and lines."""
        if self.count:
            raise ImportFaults(sorted(self.listed), self.count)
