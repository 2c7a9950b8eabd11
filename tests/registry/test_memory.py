"""Mapped arrays leave the memory of the process, and are the same when they are looked at again."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from registry.memory import release, unload

ROWS = 1 << 20


def _resident_kb(where: np.ndarray[tuple[int], np.dtype[np.int64]]) -> int:
    """Of the mapping that holds the array's first row."""
    at = where.ctypes.data
    found = inside = 0
    for line in Path("/proc/self/smaps").read_text(encoding="ascii", errors="replace").splitlines():
        head = line.split(" ", 1)[0]
        if "-" in head and not head.endswith(":"):
            start, end = (int(part, 16) for part in head.split("-"))
            inside = start <= at < end
        elif inside and head == "Rss:":
            found += int(line.split()[1])
    return found


def test_what_is_mapped_leaves_and_comes_again(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.arange(ROWS))
    rows = np.load(tmp_path / "rows.npy", mmap_mode="c").view(np.ndarray)
    total = int(rows.sum())
    half = rows[ROWS // 2 :]
    before = _resident_kb(rows)
    assert before >= ROWS * 8 // 1024
    unload(half)
    after = _resident_kb(rows)
    assert abs(before - after - half.nbytes // 1024) <= 2 * mmap.PAGESIZE // 1024
    assert int(rows.sum()) == total


def test_what_is_not_mapped_stays() -> None:
    rows = np.arange(ROWS)
    unload(rows)
    unload(rows[::2])
    release()
    assert int(rows[-1]) == ROWS - 1
