"""I/O: writes the registry directory of a made-up city in the manner of Guangzhou, the same for a seed.

One household a point, one meter, one account; concentrators that read a thousand meters each (a hundred in
small cities); some households with many people, some with time of use, some with a mandate that a relative
pays. The last household is the story's: the parents, and the daughter who pays.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from registry import layout
from registry.layout import FileLayout

TARIFF: Final = "guangzhou-residential"
TARIFF_TOU: Final = "guangzhou-residential-tou"
TARIFF_FLAT: Final = "guangzhou-residential-flat"
TIMEZONE: Final = "Asia/Shanghai"
SMALL_CITY: Final = 20_000
POWER_MAX_W: Final = 13_200  # 60 A at 220 V
STORY_BALANCE: Final = "85.00"  # 8 kWh a day for 14 days is 66 yuan: then it is under 20
_CHUNK: Final = 500_000
_FAMILY: Final = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高梁郑谢宋唐许邓冯韩曹"
_GIVEN: Final = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华玉萍红建文辉志国梅婷浩宇欣怡梓涵子轩"
_WRITTEN: Final = (
    layout.PARTIES,
    layout.POINTS,
    layout.CONCENTRATORS,
    layout.METERS,
    layout.REGISTERS,
    layout.OPENING_REGISTERS,
    layout.ACCOUNTS,
    layout.TARIFFS,
    layout.OPENING_ACCOUNTS,
    layout.ATTRIBUTES,
    layout.MANDATES,
)


def generate(
    directory: Path,
    *,
    meters: int,
    seed: int,
    start: str = "2026-03-01",
    gateway: str = "simulated",
    shards: tuple[str, ...] = ("0",),
    concentrator_size: int | None = None,
) -> None:
    """Write the CSV files. `start` is the local date from which meters count and accounts live."""
    if meters < 1:
        raise ValueError("a city has at least one meter")
    first_day = date.fromisoformat(start)
    size = concentrator_size or (100 if meters < SMALL_CITY else 1000)
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        out = {file.name: stack.enter_context(_Csv(directory, file)) for file in _WRITTEN}
        count = -(-meters // size)
        which = np.arange(count)
        out["concentrators"].write(concentrator=_numbered("C", which, 6), shard=_chosen(shards, which % len(shards)))
        for number, low in enumerate(range(0, meters, _CHUNK)):
            rows = np.arange(low, min(low + _CHUNK, meters))
            city = _City(rows, meters, size, np.random.default_rng([seed, number]), first_day, gateway)
            for name, columns in city.files():
                out[name].write(**columns)


class _Csv:
    """One CSV file, written chunk by chunk; columns that are given as one text stand in every row."""

    def __init__(self, directory: Path, file: FileLayout) -> None:
        self._file = file
        schema = pa.schema([(name, pa.string()) for name in file.columns])
        options = pacsv.WriteOptions(quoting_style="none", batch_size=1 << 16)
        self._writer = pacsv.CSVWriter(directory / file.file, schema, write_options=options)

    def __enter__(self) -> _Csv:
        return self

    def write(self, **columns: Any) -> None:
        count = max(len(column) for column in columns.values() if not isinstance(column, str))
        whole = {
            name: pa.repeat(columns[name], count) if isinstance(columns[name], str) else columns[name]
            for name in self._file.columns
        }
        self._writer.write_table(pa.table(whole))

    def __exit__(self, *_: object) -> None:
        self._writer.close()


class _City:
    """One chunk of households; `rows` are their numbers in the city."""

    def __init__(
        self,
        rows: npt.NDArray[np.int64],
        meters: int,
        concentrator_size: int,
        random: np.random.Generator,
        first_day: date,
        gateway: str,
    ) -> None:
        self.rows = rows
        self.meters = meters
        self.size = concentrator_size
        self.random = random
        self.first_day = first_day
        self.gateway = gateway
        self.has_story = bool(rows[-1] == meters - 1)
        self.point = _numbered("P", rows, 8)
        self.meter = _numbered("4401", rows + 1, 8)
        self.account = self._with_story(_numbered("A", rows, 8))
        self.holder = self._with_story(_numbered("U", rows, 8))
        lot = random.random(len(rows))
        if self.has_story:
            lot[-1] = 1.0  # the parents: the plain tariff, two people
        self.flat = lot < 0.02
        self.time_of_use = (lot >= 0.02) & (lot < 0.10)
        self.crowded = self.flat | ((lot >= 0.10) & (lot < 0.18))

    def _with_story(self, ids: Any) -> Any:
        return pa.concat_arrays([ids[:-1], pa.array(["parents"])]) if self.has_story else ids

    def files(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(file, its columns) for this chunk."""
        start = self.first_day.isoformat()
        yield "parties", self._parties()
        yield "points", {"metering_point": self.point, "commodity": "electricity", "timezone": TIMEZONE}
        yield (
            "meters",
            {
                "meter": self.meter,
                "metering_point": self.point,
                "concentrator": _numbered("C", self.rows // self.size, 6),
                "position": _text(self.rows % self.size),
                "from": start,
                "to": "",
                "digits": "6",
                "multiplier": "1",
                "power_max_w": str(POWER_MAX_W),
            },
        )
        yield (
            "registers",
            {"meter": self.meter, "register": "1.8.0", "role": "bill", "resolution": "0.01", "unit": "kWh"},
        )
        value = self.random.integers(100_000, 6_000_000, len(self.rows))
        yield (
            "opening_registers",
            {"meter": self.meter, "register": "1.8.0", "value": _hundredths(value), "read_at": start, "quality": "A"},
        )
        whose = {"account": self.account}
        yield (
            "accounts",
            {**whose, "party": self.holder, "metering_point": self.point, "from": start, "to": ""},
        )
        tariff = _chosen((TARIFF, TARIFF_TOU, TARIFF_FLAT), self.time_of_use + 2 * self.flat)
        yield "tariffs", {**whose, "tariff": tariff, "from": start, "to": ""}
        yield "opening_accounts", {**whose, **self._opening()}
        crowded = np.flatnonzero(self.crowded)
        if len(crowded):
            people = np.where(self.flat[crowded], 7, 5) + self.random.integers(0, 2, len(crowded))
            owner = self.account.take(pa.array(crowded))
            yield "attributes", {"account": owner, "name": "household_size", "value": _text(people), "from": start}
        yield "mandates", self._mandates()

    def _parties(self) -> dict[str, Any]:
        count = len(self.rows)
        family = _chosen(tuple(_FAMILY), self.random.integers(0, len(_FAMILY), count))
        first = _chosen(tuple(_GIVEN), self.random.integers(0, len(_GIVEN), count))
        second = _chosen(("", *_GIVEN), self.random.integers(0, len(_GIVEN) + 1, count))
        name = pc.binary_join_element_wise(family, first, second, "")
        language = _chosen(("zh", "en"), (self.random.random(count) < 0.02).astype(np.int64))
        party = self.holder
        if self.has_story:  # ids stay in order: U..., daughter, parents
            party = pa.concat_arrays([party[:-1], pa.array(["daughter", "parents"])])
            name = pa.concat_arrays([name[:-1], pa.array(["陈静怡", "陈建国"])])
            language = pa.concat_arrays([language[:-1], pa.array(["zh", "zh"])])
        return {"party": party, "name": name, "language": language, "notify": ""}

    def _opening(self) -> dict[str, Any]:
        count = len(self.rows)
        fen = np.clip(self.random.normal(16_000, 7_000, count), 3_000, 40_000).astype(np.int64)
        balance = _hundredths(fen)
        if self.has_story:
            balance = pa.concat_arrays([balance[:-1], pa.array([STORY_BALANCE])])
        energy = self.random.integers(400, 1_200, count) * (self.first_day.day - 1)
        return {"balance": balance, "arrears": "0.00", "cycle_energy": _hundredths(energy)}

    def _mandates(self) -> dict[str, Any]:
        """One account in ten; the payer lives elsewhere in the city (the parents' is the daughter)."""
        chosen = self.random.random(len(self.rows)) < 0.10
        if self.has_story:
            chosen[-1] = True
        places = np.flatnonzero(chosen)
        away = self.random.integers(1, max(2, self.meters - 1), len(places))
        relative = (self.rows[places] + away) % max(1, self.meters - 1)  # never the parents
        same = relative == self.rows[places]
        relative[same] = (relative[same] + 1) % max(1, self.meters - 1)
        payer = _numbered("U", relative, 8)
        mandate = _numbered("M", self.rows[places], 8)
        if self.has_story:
            payer = pa.concat_arrays([payer[:-1], pa.array(["daughter"])])
            mandate = pa.concat_arrays([mandate[:-1], pa.array(["daughter-for-parents"])])
        return {
            "mandate": mandate,
            "payer": payer,
            "account": self.account.take(pa.array(places)),
            "gateway": self.gateway,
            "token": pc.binary_join_element_wise("tok", payer, "-"),
            "priority": "1",
            "trigger": "20.00",
            "amount": "100.00",
            "target": "",
            "cap_charge": "100.00",
            "cap_day": "",
            "cap_month": "500.00",
            "cap_day_count": "",
            "cooldown_s": "",
            "window_from": "",
            "window_to": "",
            "valid_from": self.first_day.isoformat(),
            "valid_to": "",
        }


def _text(numbers: npt.NDArray[Any]) -> Any:
    return pc.cast(pa.array(numbers), pa.string())


def _numbered(prefix: str, numbers: npt.NDArray[Any], width: int) -> Any:
    """prefix + zero-padded number."""
    return pc.binary_join_element_wise(prefix, pc.utf8_lpad(_text(numbers), width, "0"), "")


def _hundredths(numbers: npt.NDArray[np.int64]) -> Any:
    """12345 -> '123.45', exactly."""
    return pc.binary_join_element_wise(_text(numbers // 100), pc.utf8_lpad(_text(numbers % 100), 2, "0"), ".")


def _chosen(names: tuple[str, ...], which: npt.NDArray[Any]) -> Any:
    return pa.array(names, pa.string()).take(pa.array(which.astype(np.int64)))
