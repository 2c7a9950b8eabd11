"""I/O: the job of `year.pysam`: a year of hours of 400 homes under two tariffs, and every home's twelve bills.

Half have Guangzhou's seasonal monthly tiers (blocks; with one price period, so that filling them in the order of time
and filling them period by period is the same), half its time of use of 2017 without tiers. Tiers and time of use
together are left out: PySAM fills tiers within each period, the tariff in the order of time.
"""

from __future__ import annotations

import json
import sys
import time
import tomllib
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

HOMES: Final = 400
HOURS: Final = 8760
YEAR: Final = 2027
TIERS: Final = "guangzhou-residential"
TIMES: Final = "time-of-use-alone"
SHIPPED: Final = Path(__file__).parents[2] / "config" / "tariffs"
Ints = npt.NDArray[np.int64]


def hours() -> Ints:
    """Wh of every home in every hour, in steps of 10: up to 2.5 kWh, and nothing in a tenth of the hours."""
    random = np.random.default_rng(1)
    return np.asarray(random.integers(1, 251, (HOMES, HOURS)) * 10 * (random.random((HOMES, HOURS)) < 0.9))


def with_tiers(home: int) -> bool:
    return home % 2 == 0


def texts() -> dict[str, str]:
    """Both tariff files by id: one as it is shipped, one made of another by leaving its tiers out."""
    shipped = (SHIPPED / "guangzhou-residential-tou.toml").read_text(encoding="utf-8")
    alone = shipped[: shipped.index("[version.tiers]")].replace("guangzhou-residential-tou", TIMES)
    return {TIERS: (SHIPPED / f"{TIERS}.toml").read_text(encoding="utf-8"), TIMES: alone}


def prices(text: str) -> tuple[list[tuple[list[int], Any, Decimal]], dict[str, Any] | None]:
    """(months, spans or "rest", yuan a kWh) of every period, and the tiers, of a tariff file's newest version."""
    version = tomllib.loads(text)["version"][-1]
    energy = version["energy"]
    found = []
    for period in version["period"]:
        steps = Decimal(energy["base"]) * Decimal(period["ratio"]) / Decimal(energy["ratio_step"])
        price = steps.quantize(Decimal(1), ROUND_HALF_UP) * Decimal(energy["ratio_step"]) + Decimal(energy["funds"])
        found.append((period.get("months") or list(range(1, 13)), period["at"], price))
    return found, version.get("tiers")


def work(run: Callable[[Ints], tuple[float, Ints]]) -> None:
    """A worker's main: `run` gives seconds and fen by home and month."""
    told, seconds, digest = hours(), [], ""
    for _ in range(int(sys.argv[2])):
        took, bills = run(told)
        seconds.append(took)
        digest = sha256(np.ascontiguousarray(bills, dtype=np.int64).tobytes()).hexdigest()
    print(json.dumps({"seconds": seconds, "digest": digest}))


def since(began: float) -> float:
    return time.perf_counter() - began


def now() -> float:
    return time.perf_counter()
