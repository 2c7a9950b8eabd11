"""I/O (reads a registry directory): the meters of a city by concentrator, and what their registers show when.

Registers move by the meter's mean power and never faster than its connection allows, whatever the time between two
readings, so that nothing that a generator sends is implausible unless it is meant to be.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from registry.address import addresses
from registry.generate import TIMEZONE

STEP: Final = 10  # thousandths of a kWh: what a register's last digit is worth
POWER_W: Final = (200, 1500)  # mean power of a home, evenly between
THIRSTY_W: Final = 6000  # of a meter that is to use up what its account has
SAFE_POWER_W: Final = 11_000  # below the connection of every generated home
Ints = npt.NDArray[np.int64]


class NoPopulation(ValueError):
    """The directory is not one that can be sent for; the message says why."""


@dataclass(slots=True, eq=False)
class Population:
    """Meters in the order of their concentrators; `first[c] : first[c + 1]` are those of concentrator c."""

    concentrators: list[str]
    shards: list[str]
    first: Ints
    serials: Any  # pyarrow strings
    address: npt.NDArray[np.uint64]
    value: Ints  # thousandths, as last shown
    read_s: Ints  # when, in seconds of the run
    power_w: Ints
    opening: Ints  # thousandths, at the second `begin_s`
    begin_s: int

    def __len__(self) -> int:
        return len(self.address)

    def meters_of(self, concentrator: int) -> slice:
        return slice(int(self.first[concentrator]), int(self.first[concentrator + 1]))

    def read(self, concentrator: int, at_s: int) -> tuple[npt.NDArray[np.uint64], Ints]:
        """(addresses, values) of a concentrator's meters at that second of the run, later than the last time."""
        mine = self.meters_of(concentrator)
        if mine.stop - mine.start == 1:
            self._read_one(mine.start, at_s)
            return self.address[mine], self.value[mine]
        before, since_s = self.value[mine], at_s - self.read_s[mine]
        if len(since_s) and int(since_s.min()) < 0:
            raise AssertionError("a meter is read backwards")
        used = self._shown(mine, at_s) - self._shown(mine, self.read_s[mine])
        most = SAFE_POWER_W * since_s // 3600 // STEP * STEP
        self.value[mine] = before + np.minimum(np.maximum(used, 0), most)
        self.read_s[mine] = at_s
        return self.address[mine], self.value[mine]

    def earlier(self, concentrator: int, at_s: int) -> tuple[npt.NDArray[np.uint64], Ints]:
        """(addresses, values) that its meters showed at a second at or before the last time; they stay as they are.

        True of meters that were not read between quarter hours by then: those no connection has held up.
        """
        mine = self.meters_of(concentrator)
        return self.address[mine], self.opening[mine] + self._shown(mine, at_s) - self._shown(mine, self.begin_s)

    def _read_one(self, meter: int, at_s: int) -> None:
        """The same for a lone meter: arrays of one cost five times as much as numbers."""
        power_w, last_s = int(self.power_w[meter]), int(self.read_s[meter])
        if at_s < last_s:
            raise AssertionError("a meter is read backwards")
        used = power_w * at_s // 3600 // STEP * STEP - power_w * last_s // 3600 // STEP * STEP
        most = SAFE_POWER_W * (at_s - last_s) // 3600 // STEP * STEP
        self.value[meter] += min(max(used, 0), most)
        self.read_s[meter] = at_s

    def _shown(self, mine: slice, at_s: int | Ints) -> Ints:
        """What evenly flowing power has moved a register by then, in whole steps."""
        return np.asarray(self.power_w[mine] * at_s // 3600 // STEP * STEP, dtype=np.int64)


def read_population(directory: Path, *, begin_s: int, seed: int, thirsty: frozenset[str] = frozenset()) -> Population:
    """Of a registry directory. `begin_s`: second of the run at which the opening registers were read, at most 0.

    `thirsty`: metering points whose meters use much. Raises `NoPopulation`.
    """
    meters = csv_table(directory / "meters.csv")
    known = csv_table(directory / "concentrators.csv")
    shard_of = dict(zip(known["concentrator"].to_pylist(), known["shard"].to_pylist(), strict=True))
    if not len(meters):
        raise NoPopulation(f"{directory} has no meters")
    meters = meters.sort_by([("concentrator", "ascending"), ("meter", "ascending")])
    opening = csv_table(directory / "opening_registers.csv")
    place = pc.index_in(meters["meter"], value_set=opening["meter"].combine_chunks())
    if place.null_count:
        raise NoPopulation(f"{directory}/opening_registers.csv does not have every meter")
    names = meters["concentrator"].combine_chunks().dictionary_encode()
    codes = names.indices.to_numpy(zero_copy_only=False)
    power = np.random.default_rng([seed, 2]).integers(*POWER_W, len(meters))
    if thirsty:
        thirst = np.asarray(pc.is_in(meters["metering_point"], value_set=pa.array(sorted(thirsty))))
        power = np.where(thirst, THIRSTY_W, power)
    concentrators = names.dictionary.to_pylist()
    value = _thousandths(opening["value"].take(place))
    serials = meters["meter"].combine_chunks()
    return Population(
        concentrators,
        [shard_of[name] for name in concentrators],
        np.searchsorted(codes, np.arange(len(concentrators) + 1)).astype(np.int64),
        serials,
        addresses(serials),
        value,
        np.full(len(meters), begin_s, np.int64),
        power.astype(np.int64),
        value.copy(),
        begin_s,
    )


def zone_of(directory: Path) -> ZoneInfo:
    """Of the first metering point; where none is stated, the one of a made-up city."""
    table = csv_table(directory / "points.csv")
    named = table["timezone"][0].as_py() if len(table) and "timezone" in table.column_names else ""
    return ZoneInfo(named or TIMEZONE)


def csv_table(path: Path) -> Any:
    """A file of a registry directory, all of it text in columns: rows as dicts would be a city's size many times."""
    if not path.exists():
        raise NoPopulation(f"there is no {path}")
    head = path.open(encoding="utf-8").readline().strip().replace('"', "").split(",")
    options = pacsv.ConvertOptions(column_types=dict.fromkeys(head, pa.string()), strings_can_be_null=False)
    return pacsv.read_csv(path, pacsv.ReadOptions(block_size=1 << 24), convert_options=options)


def _thousandths(column: Any) -> Ints:
    """Decimal text in thousandths, exactly."""
    exact = pc.cast(pc.multiply(pc.cast(column, pa.decimal128(18, 3)), 1000), pa.int64())
    return np.asarray(exact, dtype=np.int64).copy()
