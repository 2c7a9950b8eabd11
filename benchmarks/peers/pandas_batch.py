"""I/O (a worker): `batch.*` with pandas: a stable sort, shifts and running sums within each home."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.peers.job import FLAT, PEAK_S, PRICES_E8, Ints, tiers_e11, work


def prepare(of: dict[str, Ints]) -> Callable[[], tuple[Any, Any, Any]]:
    """The readings as a frame."""
    frame = pd.DataFrame({name: of[name] for name in ("meter", "value", "at_s")})

    def do() -> tuple[Any, Any, Any]:
        rows = frame.sort_values("meter", kind="stable")
        meter = rows["meter"].to_numpy()
        before = rows.groupby("meter", sort=False)["value"].shift()
        opening = of["opening"][meter]
        rows["energy"] = rows["value"] - before.fillna(pd.Series(opening, index=rows.index)).astype(np.int64)
        after = rows.groupby("meter", sort=False)["energy"].cumsum().to_numpy() + of["used"][meter]
        tariff, energy = of["tariff"][meter], rows["energy"].to_numpy()
        rows["charge"] = energy * PRICES_E8[tariff, (rows["at_s"].to_numpy() > PEAK_S).astype(np.int64)]
        rows["adder"] = np.where(tariff == FLAT, 0, tiers_e11(after) - tiers_e11(after - energy))
        rows["after"] = after
        found = rows.groupby("meter", sort=True).agg({"charge": "sum", "adder": "sum", "after": "last"})
        return found["charge"].to_numpy(), found["adder"].to_numpy(), found["after"].to_numpy()

    return do


if __name__ == "__main__":
    work(prepare)
