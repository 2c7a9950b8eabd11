"""Pure: a made-up city of channels in the kernel's own arrays, and rounds of readings with a known outcome.

Every channel is one home with a ladder of its own: 85 % Guangzhou tiers, 12 % with time of use, 3 % flat. Registers
step by 0.01 kWh; 0.01 to 0.25 kWh a quarter hour, and 4 % of the homes are empty and stand still. Rounds run from
09:15 to 10:30 on 15 July, over the start of peak at 10:00 and over no midnight. Use so far in the month, an
assumption: `typical` has a mean of 110 kWh and 5 % of the homes above the first bound; `spread` is even from 0 to 400
kWh, so that a third is above it, which is as hard as it gets to guess for a processor.
What must come out is computed here in numpy from the figures of the tariffs, by another way than the kernel's: the
use before and after, each priced as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from config.tariff_files import tariff_texts
from rating.book import TariffBook
from rating.compiled import Batch, Homes
from rating.kernel import CLOSE_ROWS_MIN, rate
from rating.register_rules import PARAMS
from rating.sheets import NO_SHEETS
from rating.spread import CLOSE
from rating.state import CHANNEL, COLD, LADDER, ChannelFlag
from rating.tariff.reading import parse_tariffs
from rating.verdicts import Verdict, Warn

ORDER: Final = ("guangzhou-residential", "guangzhou-residential-tou", "guangzhou-residential-flat")
START_S: Final = 1_784_077_200  # 2026-07-15 09:00 in Guangzhou
STEP_S: Final = 900
FRAME: Final = 1000
CHUNK: Final = 512 * FRAME  # readings given to the kernel at once
PEAK_S: Final = START_S + 3600
PRICES_E8: Final = np.array([[58_886_875] * 2, [58_886_875, 99_496_875], [62_586_875] * 2])  # [tariff, after 10:00]
Int64s = npt.NDArray[np.int64]


@dataclass(slots=True, eq=False)
class City:
    """State arrays, and the outcome expected of the rounds made so far."""

    book: TariffBook
    tariff: npt.NDArray[np.int32]
    channel: npt.NDArray[np.void]
    cold: npt.NDArray[np.void]
    ladder: npt.NDArray[np.void]
    value: Int64s  # what the meters show
    opening_used: Int64s
    charge_e11: Int64s  # expected, component energy
    rounds: int
    empty: npt.NDArray[np.bool_]  # homes
    random: np.random.Generator

    def expected_digest(self) -> str:
        used = self.opening_used + (self.value - self.channel_opening)
        adder = np.where(self.tariff == 2, 0, tiers_e11(used) - tiers_e11(self.opening_used))
        return _digest(self.value, used, self.charge_e11, adder)

    def digest(self) -> str:
        """Of what the kernel left in the arrays."""
        rows = self.channel
        return _digest(rows["value"], self.ladder["used"], rows["accrued_energy_e11"], rows["accrued_adder_e11"])

    @property
    def channel_opening(self) -> Int64s:
        return self.opening_used * 100 // 10 * 10  # a register's age goes with its use: any fixed relation does


def tiers_e11(used: Int64s) -> Int64s:
    """What the tiers add for `used` Wh from 0, in July."""
    return np.asarray(
        np.maximum(used - 260_000, 0) * 5_000_000 + np.maximum(used - 600_000, 0) * 25_000_000, dtype=np.int64
    )


def _digest(*columns: npt.NDArray[Any]) -> str:
    digest = sha256()
    for column in columns:
        digest.update(np.ascontiguousarray(column, dtype=np.int64).tobytes())
    return digest.hexdigest()


def make_city(channels: int, use: str = "typical", seed: int = 1) -> City:
    """`channels` homes as they stand at 09:00; `use` is "typical" or "spread"."""
    random = np.random.default_rng(seed)
    book = TariffBook.compile(
        parse_tariffs(tariff_texts()), ORDER, ((),), [(t, 0) for t in range(3)], from_year=2020, to_year=2040
    )
    tariff = random.choice(3, channels, p=(0.85, 0.12, 0.03)).astype(np.int32)
    at_s = np.full(channels, START_S, dtype=np.int64)
    slots = np.arange(channels, dtype=np.int32)
    channel, cold = np.zeros(channels, CHANNEL), np.zeros(channels, COLD)
    ladder = np.zeros(channels, LADDER)
    if use == "typical":
        ladder["used"] = random.gamma(2.0, 5_500.0, channels).astype(np.int64) * 10
    else:
        ladder["used"] = random.integers(0, 40_000, channels) * 10
    ladder["stage"] = book.stage_at(tariff, np.zeros_like(tariff), at_s)
    ladder["account"] = slots
    used = ladder["used"].copy()
    empty = random.random(channels) < 0.04
    city = City(book, tariff, channel, cold, ladder, used, used, np.zeros_like(used), 0, empty, random)
    city.value = city.channel_opening.copy()
    channel["value"] = city.value
    channel["at_s"] = START_S
    channel["segment"] = book.segment_at(tariff, at_s)
    channel["ladder"] = slots
    channel["until_s"] = 2**32 - 1
    channel["power_max_w"] = 13_200
    channel["multiplier"], channel["resolution"], channel["digits"], channel["quality"] = 1, 10, 6, 4
    channel["flags"] = ChannelFlag.BILL
    cold["next"] = -1
    cold["account"] = slots
    return city


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """One reading of every channel, in an order of arrival."""

    slots: npt.NDArray[np.int32]
    value: Int64s
    read_at_s: npt.NDArray[np.uint32]
    quality: npt.NDArray[np.uint8]
    not_after_s: int


def order_of(city: City, *, neighbours: bool) -> npt.NDArray[np.int32]:
    """Concentrators of 1,000 neighbours in random order, or every channel for itself in random order."""
    n = len(city.channel)
    if not neighbours:
        return city.random.permutation(n).astype(np.int32)
    assert n % FRAME == 0
    frames = city.random.permutation(n // FRAME)
    return (frames[:, None] * FRAME + np.arange(FRAME)).ravel().astype(np.int32)


def next_round(city: City, order: npt.NDArray[np.int32]) -> Round:
    """Let a quarter hour pass: every meter moves, and what that costs is noted as expected."""
    city.rounds += 1
    at_s = START_S + city.rounds * STEP_S
    energy = city.random.integers(1, 26, len(city.value)) * 10 * ~city.empty
    city.value = city.value + energy
    city.charge_e11 += energy * PRICES_E8[city.tariff, int(at_s > PEAK_S)]
    n = len(order)
    times = np.full(n, at_s, dtype=np.uint32)
    return Round(order, city.value[order], times, np.full(n, 4, dtype=np.uint8), at_s + 300)


class Runner:
    """Calls the kernel as the engine does: in chunks, with arrays that it owns."""

    def __init__(self, city: City) -> None:
        n = len(city.channel)
        self.city = city
        self.dirty_channel, self.dirty_ladder = np.zeros(n, np.uint8), np.zeros(n, np.uint8)
        self.verdict = np.zeros(CHUNK, np.uint8)
        self.warnings = np.zeros(len(Warn.NAMES), np.int64)
        self.closes = np.zeros(CLOSE_ROWS_MIN, CLOSE)
        self.params = np.array([10**9, 3 * 86_400, 30 * 86_400, 96], dtype=np.int64)
        self.accepted = 0
        assert len(self.params) == PARAMS

    def run(self, batch: Round) -> None:
        """Rate a round; counts what was accepted."""
        city = self.city
        homes = Homes(city.channel, city.cold, city.ladder, self.dirty_channel, self.dirty_ladder, *NO_SHEETS)
        for start in range(0, len(batch.slots), CHUNK):
            part = slice(start, start + CHUNK)
            n = len(batch.slots[part])
            frames = np.arange(FRAME, n + FRAME, FRAME).clip(max=n)
            readings = Batch(
                *(batch.slots[part], batch.value[part], batch.read_at_s[part], batch.quality[part]),
                *(frames, np.full(len(frames), batch.not_after_s)),
            )
            verdict = self.verdict[:n]
            verdict[:] = 0
            done, closed = rate(homes, readings, city.book.lines, self.params, 0, verdict, self.warnings, self.closes)
            assert (done, closed) == (n, 0)
            self.accepted += int(np.count_nonzero(verdict == Verdict.ACCEPTED))
