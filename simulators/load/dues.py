"""I/O (a memory-mapped file of eight bytes a message): when each message is due, from generators to the observer.

A generator writes a message's due time before it sends it, so it is there when the message is seen in the log. The
file is a sparse one: what is not due yet takes no room.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simulators.load.answers import Floats, Ints, noted


class Dues:
    """`slots`: where each concentrator's messages begin (`answers.slots_of`)."""

    def __init__(self, path: Path, slots: Ints) -> None:
        self.slots = slots
        with path.open("ab") as file:
            file.truncate(8 * int(slots[-1]))
        self.due: Floats = np.memmap(path, np.float64, "r+")

    def note(self, concentrator: int, sequence: int, due_s: float, *, good: bool) -> None:
        """`good`: it has readings that a balance can show."""
        self.due[self.slots[concentrator] + sequence - 1] = noted(due_s, good=good)
