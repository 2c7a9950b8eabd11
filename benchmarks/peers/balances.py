"""I/O: the job of `state.*`: a million balances, and batches of charges, each durable before the next."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

ACCOUNTS: Final = 1_000_000
BATCHES: Final = 40
TOUCHED: Final = 10_000  # accounts of a batch
Ints = npt.NDArray[np.int64]


def batches(accounts: int = ACCOUNTS, count: int = BATCHES, touched: int = TOUCHED) -> list[tuple[Ints, Ints]]:
    """(accounts, charges in fen) of every batch; no account twice in one."""
    random = np.random.default_rng(1)
    size = min(touched, accounts)
    return [
        (np.sort(random.choice(accounts, size, replace=False)), random.integers(1, 500, size)) for _ in range(count)
    ]


def opening(accounts: int = ACCOUNTS) -> Ints:
    """Balances before."""
    return np.arange(accounts, dtype=np.int64) % 20_011 + 10_000


def digest_of(balances: Any) -> str:
    return sha256(np.ascontiguousarray(balances, dtype=np.int64).tobytes()).hexdigest()


def work(run: Callable[[Path, list[tuple[Ints, Ints]]], tuple[float, Ints]]) -> None:
    """A worker's main: `run` makes a store in a folder, applies every batch, and gives seconds and balances."""
    place, runs = Path(sys.argv[1]), int(sys.argv[2])
    seconds, digest = [], ""
    for _ in range(runs):
        with tempfile.TemporaryDirectory(dir=place) as folder:
            took, balances = run(Path(folder), batches())
        seconds.append(took)
        digest = digest_of(balances)
    print(json.dumps({"seconds": seconds, "digest": digest}))


def timed(apply: Callable[[Ints, Ints], None], told: list[tuple[Ints, Ints]]) -> float:
    """Seconds for all batches."""
    began = time.perf_counter()
    for accounts, charges in told:
        apply(accounts, charges)
    return time.perf_counter() - began
