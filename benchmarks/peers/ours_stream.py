"""I/O (a worker): `stream.*` with meterd's kernel: a call for each frame of so many readings, as they arrive.

python -m benchmarks.peers.ours_stream FOLDER RUNS SIZE      1,000: a concentrator's message; 1: a reading
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks.peers.job import Ints, work
from benchmarks.peers.ours_batch import in_rounds


def prepare(of: dict[str, Ints]) -> Callable[[], tuple[Ints, Ints, Ints]]:
    """Frames of the size that was asked for."""
    return in_rounds(of, int(sys.argv[3]))


if __name__ == "__main__":
    work(prepare)
