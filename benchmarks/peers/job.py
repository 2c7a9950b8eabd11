"""I/O (files of arrays): 10 million readings of 100,000 homes in the order of arrival, and what each must pay.

A hundred rounds, a minute apart, from 09:00 to 10:40 on 15 July over the start of peak at 10:00; every round comes by
concentrators of a thousand neighbours in another order. Homes: 85 % Guangzhou tiers, 12 % with time of use as well,
3 % flat; their use so far in the month lies evenly between 0 and 400 kWh, so that tiers' bounds are crossed. What
must come out is computed here with numpy, from the published figures.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

HOMES: Final = 100_000
ROUNDS: Final = 100
FRAME: Final = 1000
STEP_S: Final = 60
START_S: Final = 1_784_077_200  # 2026-07-15 09:00 in Guangzhou
PEAK_S: Final = START_S + 3600
PRICES_E8: Final = np.array([[58_886_875] * 2, [58_886_875, 99_496_875], [62_586_875] * 2])  # [tariff, after 10:00]
FLAT: Final = 2  # the tariff without tiers
BOUNDS_WH: Final = (260_000, 600_000)
ADDERS_E8: Final = (5_000_000, 25_000_000)  # what each further tier adds to the one before
Ints = npt.NDArray[np.int64]


def make(folder: Path, homes: int = HOMES, rounds: int = ROUNDS) -> str:
    """Write the input; returns the digest of what must come out."""
    random = np.random.default_rng(1)
    tariff = random.choice(3, homes, p=(0.85, 0.12, 0.03)).astype(np.int64)
    used = random.integers(0, 40_000, homes) * 10
    value = used * 10
    np.save(folder / "tariff.npy", tariff)
    np.save(folder / "used.npy", used)
    np.save(folder / "opening.npy", value)
    before, charge = used.copy(), np.zeros(homes, np.int64)
    frame = min(FRAME, homes)
    slots, values, times = [], [], []
    for number in range(1, rounds + 1):
        at_s = START_S + number * STEP_S
        energy = random.integers(1, 11, homes) * 10
        value, used = value + energy, used + energy
        charge += energy * PRICES_E8[tariff, int(at_s > PEAK_S)]
        order = (random.permutation(homes // frame)[:, None] * frame + np.arange(frame)).ravel()
        slots.append(order)
        values.append(value[order])
        times.append(np.full(homes, at_s))
    for name, columns in (("meter", slots), ("value", values), ("at_s", times)):
        np.save(folder / f"{name}.npy", np.concatenate(columns).astype(np.int64))
    adder = np.where(tariff == FLAT, 0, tiers_e11(used) - tiers_e11(before))
    return digest_of(charge, adder, used)


def load(folder: Path) -> dict[str, Ints]:
    """meter, value, at_s of every reading in the order of arrival; tariff, used, opening of every home."""
    return {name: np.load(folder / f"{name}.npy") for name in ("meter", "value", "at_s", "tariff", "used", "opening")}


def tiers_e11(used: Ints) -> Ints:
    """What the tiers add for `used` Wh since the first of the month, in 1e-11 yuan."""
    parts = [np.maximum(used - bound, 0) * adder for bound, adder in zip(BOUNDS_WH, ADDERS_E8, strict=True)]
    return np.asarray(sum(parts), dtype=np.int64)


def digest_of(charge: Any, adder: Any, used: Any) -> str:
    """Of what every home has been charged, by energy and by tiers, and of its use, in the order of the homes."""
    digest = sha256()
    for column in (charge, adder, used):
        digest.update(np.ascontiguousarray(column, dtype=np.int64).tobytes())
    return digest.hexdigest()


def work(prepare: Callable[[dict[str, Ints]], Callable[[], tuple[Any, Any, Any]]]) -> None:
    """A worker's main: load, prepare, then do the work so many times. Only the doing is timed."""
    folder, runs = Path(sys.argv[1]), int(sys.argv[2])
    columns, seconds, digest = load(folder), [], ""
    for _ in range(runs):
        do = prepare(columns)
        began = time.perf_counter()
        found = do()
        seconds.append(time.perf_counter() - began)
        digest = digest_of(*found)
    print(json.dumps({"seconds": seconds, "digest": digest}))
