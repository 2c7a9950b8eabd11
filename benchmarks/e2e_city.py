"""I/O: a city in a registry directory, the frames that its meters send, and what all of it must cost.

The city is that of `meterd registry generate`, from 30 July on, with 500 yuan on every account: a third of the
homes come over the tiers' first bound and none runs out of money. Every round is 75 minutes long and starts where
the one before ended, from midnight on: rounds begin and end inside periods, on their boundaries, and span them.
What must come out is computed here from the published prices by numpy, by another way than the kernel's: the
month's use before and after, each priced as a whole, and every interval cut at the clock's boundaries.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from config.settings import Paths, Settings
from config.units import scaled
from ingest.wire import encode_readings
from ledger.database import reading
from ledger.recover import recover
from rating.readings import Readings
from rating.state import ARRAYS
from registry.generate import TARIFF_FLAT, TARIFF_TOU, generate
from registry.importer import stage_with
from registry.staged import mark_staged
from registry.store import load_image

Int64s = npt.NDArray[np.int64]
START: Final = "2026-07-30"
MIDNIGHT_S: Final = 1_785_340_800  # 2026-07-30 00:00 in Guangzhou
NOW_S: Final = MIDNIGHT_S + 22 * 3600  # when the daemon's clock starts: no round is in its future, no day closes
STEP_S: Final = 4500
ROUNDS_MAX: Final = 17
BALANCE_FEN: Final = 50_000
# Published prices in 1e-8 yuan a kWh, base 0.5802 and funds 0.00866875; time of use 1.7 : 1 : 0.38 (facts 1).
PLAIN_E8: Final = 58_886_875
FLAT_E8: Final = 62_586_875
PEAK_E8, VALLEY_E8 = 99_496_875, 22_916_875
CUTS: Final = tuple((hour * 3600, price) for hour, price in ((8, VALLEY_E8), (10, PLAIN_E8), (12, PEAK_E8),
                    (14, PLAIN_E8), (19, PEAK_E8), (24, PLAIN_E8)))  # fmt: skip
SECOND_E8, THIRD_E8 = 5_000_000, 30_000_000
FIRST_WH, SECOND_WH, MANY_WH = 260_000, 600_000, 100_000  # households of 5 and more: 100 kWh more on both


@dataclass(slots=True, eq=False)
class Homes:
    """Meters in the order of their addresses, and what they must have been charged so far."""

    concentrator_size: int
    address: npt.NDArray[np.uint64]
    value: Int64s
    used: Int64s  # Wh since the first of the month
    time_of_use: npt.NDArray[np.bool_]
    flat: npt.NDArray[np.bool_]
    more_wh: Int64s  # what a large household has on both bounds
    energy_e11: Int64s
    adder_e11: Int64s
    random: np.random.Generator
    rounds: int = 0

    def expected_digest(self) -> str:
        balance = np.full(len(self.value), BALANCE_FEN)
        return digest_of(self.address, self.value, self.energy_e11, self.adder_e11, balance)

    def concentrator(self, number: int) -> str:
        return f"C{number:06d}"

    @property
    def concentrators(self) -> int:
        return -(-len(self.value) // self.concentrator_size)

    def next_round(self) -> int:
        """Every meter moves by 0.05 to 2.5 kWh; returns the instant of the readings."""
        assert self.rounds < ROUNDS_MAX, "the day is over"
        begin_s = self.rounds * STEP_S
        self.rounds += 1
        energy = self.random.integers(5, 251, len(self.value)) * 10
        self.value = self.value + energy
        plain = np.where(self.flat, FLAT_E8, PLAIN_E8) * energy
        self.energy_e11 += np.where(self.time_of_use, _by_period(energy, begin_s, begin_s + STEP_S), plain)
        before = self.tiers_e11(self.used)
        self.used = self.used + energy
        self.adder_e11 += self.tiers_e11(self.used) - before
        return MIDNIGHT_S + begin_s + STEP_S

    def tiers_e11(self, used: Int64s) -> Int64s:
        """What the tiers add for `used` Wh of each home from the month's first on."""
        first = FIRST_WH + self.more_wh
        second = np.clip(used - first, 0, SECOND_WH - FIRST_WH) * SECOND_E8
        third = np.maximum(used - self.more_wh - SECOND_WH, 0) * THIRD_E8
        return np.where(self.flat, 0, second + third)

    def frames(self, at_s: int) -> list[bytes]:
        """One Arrow frame a concentrator."""
        out = []
        for low in range(0, len(self.value), self.concentrator_size):
            part = slice(low, low + self.concentrator_size)
            n = len(self.value[part])
            times, ones = np.full(n, at_s, np.uint32), np.ones(n, np.uint8)
            out.append(encode_readings(Readings(self.address[part], self.value[part], times, ones, ones * 4)))
        return out


def _by_period(energy: Int64s, begin_s: int, end_s: int) -> Int64s:
    """Time of use: each period has the floor of its share so far, less what came before it."""
    total = np.zeros_like(energy)
    given = np.zeros_like(energy)
    for cut_s, price in CUTS:
        if cut_s <= begin_s:
            continue
        upto = energy * (min(cut_s, end_s) - begin_s) // (end_s - begin_s)
        total += (upto - given) * price
        given = upto
        if cut_s >= end_s:
            return total
    raise AssertionError("a round ends with its day")


def digest_of(*columns: npt.NDArray[Any]) -> str:
    digest = sha256()
    for column in columns:
        digest.update(np.ascontiguousarray(column, dtype=np.int64).tobytes())
    return digest.hexdigest()


def build(settings: Settings, folder: Path, meters: int, seed: int = 1) -> Homes:
    """Generate, import and stage the city for `settings`; the daemon activates it at its start.

    Concentrators are spread over the settings' shards by their number.
    """
    source = folder / "city"
    size = 1000 if meters >= 20_000 else 100
    generate(source, meters=meters, seed=seed, start=START, concentrator_size=size, shards=settings.mqtt.shards)
    accounts = _column(source, "opening_accounts")
    rich = pa.repeat(f"{BALANCE_FEN // 100}.00", meters)
    accounts = accounts.set_column(accounts.column_names.index("balance"), "balance", rich)
    pacsv.write_csv(accounts, source / "opening_accounts.csv", pacsv.WriteOptions(quoting_style="none"))
    paths = Paths(settings.data_dir)
    staged = stage_with(settings, source, previous_digest=None, now_s=NOW_S)
    mark_staged(paths.registry, staged.digest)
    return _homes(source, accounts, size, seed)


def _column(source: Path, name: str) -> Any:
    table = pacsv.read_csv(source / f"{name}.csv", pacsv.ReadOptions(block_size=1 << 24))
    strings = pacsv.ConvertOptions(
        column_types=dict.fromkeys(table.column_names, pa.string()), strings_can_be_null=False
    )
    return pacsv.read_csv(source / f"{name}.csv", convert_options=strings)


def _thousandths(column: Any) -> Int64s:
    """Exact: the generator writes two decimals."""
    whole = pc.cast(pc.replace_substring(column, ".", ""), pa.int64())
    assert scaled(column[0].as_py(), 3) == whole[0].as_py() * 10, "two decimals"
    return np.asarray(whole, dtype=np.int64) * 10


def _more_wh(source: Path, accounts: Any) -> Int64s:
    """By account: 100 kWh on both bounds where five or more people are registered."""
    people = _column(source, "attributes")
    many = pc.greater_equal(pc.cast(people["value"], pa.int64()), 5)
    large = people["account"].filter(many)
    return np.asarray(pc.is_in(accounts, value_set=large)).astype(np.int64) * MANY_WH


def _homes(source: Path, accounts: Any, size: int, seed: int) -> Homes:
    registers, tariffs = _column(source, "opening_registers"), _column(source, "tariffs")
    count = len(registers)
    tariff = tariffs["tariff"]
    zero = np.zeros(count, np.int64)
    return Homes(
        size,
        np.asarray(pc.cast(registers["meter"], pa.uint64())),
        _thousandths(registers["value"]),
        _thousandths(accounts["cycle_energy"]),
        np.asarray(pc.equal(tariff, TARIFF_TOU)),
        np.asarray(pc.equal(tariff, TARIFF_FLAT)),
        _more_wh(source, accounts["account"]),
        zero.copy(),
        zero.copy(),
        np.random.default_rng(seed),
    )


def found_digest(settings: Settings) -> str:
    """Of what a daemon that has ended left in its ledger."""
    paths = Paths(settings.data_dir)
    parts: list[list[npt.NDArray[Any]]] = []
    with reading(paths.ledger) as connection:
        for partition in range(settings.partitions):
            kept = recover(connection, partition, ARRAYS)
            image = load_image(paths.registry, kept.registry_digest).partitions[partition]
            slot = image.list_channel
            channel, account = kept.arrays["channel"][slot], kept.arrays["cold"]["account"][slot]
            money = kept.arrays["account"]["balance_fen"][account]
            parts.append(
                [
                    image.list_meter,
                    channel["value"],
                    channel["accrued_energy_e11"],
                    channel["accrued_adder_e11"],
                    money,
                ]
            )
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[0])
    return digest_of(*(column[order] for column in columns))
