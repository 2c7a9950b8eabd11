"""I/O: `rate.file`: 10 million readings of a CSV file under time of use and tiers (`meterd rate`), file to bills.

1,000 metering points, 10,000 quarter hours each, from 1 May on in Guangzhou. The baseline is pyarrow.csv reading the
same file as text. What must come out is computed here in numpy, another way than the engine's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from benchmarks.harness import Benchmark, Result, repeated, result, timed
from config.tariff_files import tariff_texts
from meterd.rate.columns import columns_of
from meterd.rate.cycles import Rated, rate_columns
from meterd.rate.files import read_table
from rating.tariff.reading import parse_tariffs

POINTS: Final = 1_000
QUARTERS: Final = 10_000
START_S: Final = 1_777_564_800  # 2026-05-01 00:00 in Guangzhou
RUNS: Final = 3
TARIFF: Final = "guangzhou-residential-tou"
PEAK_E8, FLAT_E8, VALLEY_E8 = 99_496_875, 58_886_875, 22_916_875
MONTHS: Final = (31, 30, 31, 31)  # May to August; summer bounds
BOUNDS: Final = (260_000, 600_000)


def _energy() -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Wh of each point in each quarter hour."""
    point, quarter = np.arange(POINTS)[:, None], np.arange(QUARTERS - 1)[None, :]
    return np.asarray(50 + (point * 7 + quarter * 13) % 200, dtype=np.int64)


def _write(file: Path) -> None:
    value = np.concatenate([np.zeros((POINTS, 1), np.int64), np.cumsum(_energy(), axis=1)], axis=1)
    at = pc.strftime(
        pa.array(START_S + 900 * np.arange(QUARTERS), pa.timestamp("s", "UTC")), format="%Y-%m-%dT%H:%M:%SZ"
    )
    with csv.CSVWriter(file, _table(0, value, at).schema) as out:
        for point in range(POINTS):
            out.write_table(_table(point, value, at))


def _table(point: int, value: np.ndarray[tuple[int, int], np.dtype[np.int64]], at: pa.Array) -> pa.Table:
    def same(text: str) -> pa.Array:
        return pa.array([text] * QUARTERS)

    told = pc.cast(pa.array(value[point]), pa.string())
    return pa.table(
        {
            "metering_point": same(f"point-{point:04}"), "register": same("1.8.0"), "read_at": at, "value": told,
            "unit": same("Wh"), "quality": same("A"),
        }
    )  # fmt: skip


def expected_e11() -> int:
    """What all of it costs: first-tier prices by the hour, and what the tiers add to each month's use."""
    energy = _energy()
    hour = np.arange(QUARTERS - 1) // 4 % 24
    peak = ((hour >= 10) & (hour < 12)) | ((hour >= 14) & (hour < 19))
    price = np.where(peak, PEAK_E8, np.where(hour < 8, VALLEY_E8, FLAT_E8))
    month = np.repeat(np.arange(4), np.array(MONTHS) * 96)[: QUARTERS - 1]
    adders = 0
    for number in range(4):
        used = energy[:, month == number].sum(axis=1)
        second = np.clip(used - BOUNDS[0], 0, BOUNDS[1] - BOUNDS[0])
        third = np.maximum(used - BOUNDS[1], 0)
        adders += int((second * 5_000_000 + third * 30_000_000).sum())
    return int((energy.sum(axis=0) * price).sum()) + adders


def _rated(file: Path) -> Rated:
    tariff = next(t for t in parse_tariffs(tariff_texts()) if t.id == TARIFF)
    return rate_columns(columns_of(read_table(file), tariff.unit), tariff, {})


def file_of_readings() -> list[Result]:
    """Readings per second, from a CSV file to every line of every bill."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "readings.csv"
        _write(file)
        found = _rated(file)
        assert not found.refusals
        assert sum(cycle.exact_e11 for cycle in found.cycles) == expected_e11(), "what the tariff says"
        rows = POINTS * QUARTERS
        text = csv.ConvertOptions(column_types=dict.fromkeys(("read_at", "value"), pa.string()))
        both = repeated(
            RUNS,
            lambda: (
                rows / timed(lambda: _rated(file)),
                rows / timed(lambda: csv.read_csv(file, convert_options=text)),
            ),
        )
    return [
        result(
            "rate.file", "readings/s", "pyarrow.csv reading the file as text", *map(list, zip(*both, strict=True)),
            paired=True,
        )
    ]  # fmt: skip


WHY: Final = {
    "rate.file": "the file is parsed, checked row by row, sorted and rated; pyarrow only cuts it into cells"
}
BENCHMARKS: dict[str, Benchmark] = {"rate.file": file_of_readings}
