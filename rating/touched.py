"""Pure: what moved since the last checkpoint, gathered by compiled loops that keep Python's lock.

A checkpoint asks sixteen partitions for a handful of rows each, a dozen times a second when readings come singly.
numpy gives the lock away for anything longer than some hundred elements, and whoever takes it has it for up to 5 ms:
ten milliseconds of work took a hundred. A mark is a byte, and eight of them are looked at at once, so that a
partition of 400,000 channels holds the lock for some 30 us.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rating.compiled import holding

Marks = npt.NDArray[np.uint8]
Slots = npt.NDArray[np.int32]


@holding
def _marked(words: Any, marks: Any, out: Any) -> int:
    count = 0
    for word in range(words.shape[0]):
        if words[word]:
            for i in range(8 * word, 8 * word + 8):
                if marks[i]:
                    out[count] = i
                    count += 1
    for i in range(8 * words.shape[0], marks.shape[0]):
        if marks[i]:
            out[count] = i
            count += 1
    return count


@holding
def _clear(marks: Any, slots: Any) -> None:
    for i in range(slots.shape[0]):
        marks[slots[i]] = 0


@holding
def _owned(dirty_account: Any, slots: Any, cold: Any, marks: Any) -> None:
    for i in range(marks.shape[0]):
        marks[i] = dirty_account[i]
    for i in range(slots.shape[0]):
        owner = cold[slots[i]].account
        if owner >= 0:
            marks[owner] = 1


@holding
def _moved(words: Any, slots: Any, seen: Any, out: Any) -> int:
    count = 0
    for i in range(slots.shape[0]):
        slot = slots[i]
        mixed = np.uint64(0x9E3779B97F4A7C15)
        for j in range(words.shape[1]):  # a bijection of each word: rows that differ in one never look alike
            mixed = (mixed ^ words[slot, j]) * np.uint64(0xBF58476D1CE4E5B9)
            mixed ^= mixed >> np.uint64(29)
        if mixed == np.uint64(0):
            mixed = np.uint64(1)
        if seen[slot] != mixed:
            seen[slot] = mixed
            out[count] = slot
            count += 1
    return count


def marked(marks: Marks) -> Slots:
    """The slots whose mark is set, ascending."""
    out = np.empty(len(marks), np.int32)
    words = marks[: len(marks) & ~7].view(np.uint64)
    return out[: _marked(words, marks, out)].copy()


def clear(marks: Marks, slots: Slots) -> None:
    """Take the marks of these slots away."""
    _clear(marks, slots)


def accounts_of(slots: Slots, cold: npt.NDArray[Any], dirty_account: Marks) -> Slots:
    """The accounts that are marked, or that own one of the channels `slots`; ascending."""
    marks = np.empty(len(dirty_account), np.uint8)
    _owned(dirty_account, slots, cold, marks)
    return marked(marks)


class Seen:
    """A digest of 64 bits of each row of an array as it was last asked for; 8 bytes a row."""

    def __init__(self) -> None:
        self._digest = np.zeros(0, np.uint64)  # 0: never asked for

    def moved(self, rows: npt.NDArray[Any], slots: Slots) -> Slots:
        """Those of `slots` whose rows are not as they were. Rows are multiples of 8 bytes."""
        if len(self._digest) < len(rows):
            longer = np.zeros(len(rows), np.uint64)
            longer[: len(self._digest)] = self._digest
            self._digest = longer
        words = rows.view(np.uint64).reshape(len(rows), rows.dtype.itemsize // 8)
        out = np.empty(len(slots), np.int32)
        return out[: _moved(words, slots, self._digest, out)].copy()
