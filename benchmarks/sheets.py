"""I/O (it measures time): what it costs that a bill needs more than its energy's money (rating.sheets).

The same homes, tariff and readings through one engine each: the one counts on sheets, the other does not. And what
is pending against every home's balance, which an engine reckons once a day of all and else of those that moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np

from benchmarks.harness import Benchmark, Result, repeated, result, timed
from config.settings import AutopaySettings, RatingSettings
from config.tariff_files import tariff_texts
from ledger.effects import InboxRow
from rating.book import TariffBook
from rating.compiled import Batch
from rating.engine import PartitionEngine
from rating.names import Names
from rating.readings import Frames
from rating.settling import refresh_pending
from rating.tariff.reading import parse_tariffs
from registry.image import (
    ACCOUNT_FACTS,
    CHANNEL_FACTS,
    FOREVER,
    LADDER_FACTS,
    NO_TRIGGER,
    NONE,
    PartitionImage,
)

HOMES: Final = 400_000  # of a partition, in a city of six million
TARIFF: Final = "guangzhou-residential-tou"
OPENED_S: Final = 1_782_835_200  # 2026-07-01 00:00 +08:00
STEP_S: Final = 900
ROUNDS: Final = 12
RUNS: Final = 5


def _image() -> PartitionImage:
    numbers = np.arange(HOMES)
    channels = np.zeros(HOMES, CHANNEL_FACTS)
    channels["meter"], channels["account"], channels["ladder"] = numbers, numbers, numbers
    channels["opening_at_s"], channels["opening_quality"], channels["until_s"] = OPENED_S, 4, FOREVER
    channels["next"], channels["closing_value"], channels["multiplier"] = NONE, -1, 1
    channels["register"] = channels["resolution"] = channels["bill"] = 1
    channels["power_max_w"] = 13_200
    ladders = np.zeros(HOMES, LADDER_FACTS)
    ladders["account"], ladders["opening_at_s"] = numbers, OPENED_S
    accounts = np.zeros(HOMES, ACCOUNT_FACTS)
    accounts["trigger_fen"], accounts["until_s"], accounts["from_s"] = NO_TRIGGER, FOREVER, OPENED_S
    return PartitionImage(
        channels=channels,
        ladders=ladders,
        accounts=accounts,
        list_meter=channels["meter"].copy(),
        list_register=channels["register"].copy(),
        list_channel=numbers.astype(np.int32),
        lists={"c1": (0, HOMES)},
        account_start=np.arange(HOMES + 1, dtype=np.int64),
        account_channels=numbers.astype(np.int32),
    )


def _engine(image: PartitionImage, *, sheets: bool) -> PartitionEngine:
    tariffs = parse_tariffs(tariff_texts())
    book = TariffBook.compile(tariffs, (TARIFF,), ((),), [(0, 0)], 2025, 2028, tally_all=sheets)
    engine = PartitionEngine(0, rating=RatingSettings(), autopay=AutopaySettings(), currency="CNY", decode=_no_frames)
    row = InboxRow(1, None, "registry", "r", {"digest": "d"})
    engine.activate(row, image, book, Names(str, int))
    return engine


def _no_frames(_bodies: Sequence[bytes]) -> Frames:
    raise AssertionError("columns only")


def _round(number: int) -> Batch:
    slots = np.arange(HOMES, dtype=np.int32)
    at_s = np.full(HOMES, OPENED_S + number * STEP_S, np.uint32)
    value = (150 + slots.astype(np.int64) % 37) * number
    return Batch(slots, value, at_s, np.full(HOMES, 4, np.uint8), np.array([HOMES]), np.array([FOREVER]))


def _rates(image: PartitionImage) -> tuple[float, float]:
    """Readings per second with sheets and without, medians of interleaved rounds."""
    engines = _engine(image, sheets=True), _engine(image, sheets=False)
    spent: tuple[list[float], list[float]] = ([], [])
    for number in range(1, ROUNDS + 1):
        batch = _round(number)
        for engine, seconds in zip(engines, spent, strict=True):
            seconds.append(timed(partial(engine.rate_batch, batch)))
    with_sheets, without = engines
    for name in ("accrued_energy_e11", "accrued_adder_e11"):
        assert (with_sheets.part.channel[name] == without.part.channel[name]).all(), "the same charges"
    assert int(with_sheets.part.cell["wh"].sum()) == int(_round(ROUNDS).value.sum()), "all energy is on the sheets"
    return HOMES / float(np.median(spent[0])), HOMES / float(np.median(spent[1]))


def sheets() -> list[Result]:
    """One core, neighbours: readings of registers with a sheet against the same without."""
    image = _image()
    _rates(image)  # compiles
    both = repeated(RUNS, lambda: _rates(image))
    ours, theirs = map(list, zip(*both, strict=True))
    return [result("kernel.sheets", "readings/s", "the same homes without sheets", ours, theirs, paired=True)]


def pending() -> list[Result]:
    """What every home's open bill would charge, against reading and writing as many rows."""
    engine = _engine(_image(), sheets=True)
    engine.rate_batch(_round(1))
    part, accounts = engine.part, np.arange(HOMES)

    def reckon() -> None:
        refresh_pending(part, accounts, OPENED_S + 20 * 86_400)

    def touch() -> None:
        part.account["pending_e11"] = part.account["pending_e11"] + part.cell["energy_e11"][:HOMES]

    reckon()
    ours = repeated(RUNS, lambda: HOMES / timed(reckon))
    theirs = repeated(RUNS, lambda: HOMES / timed(touch))
    return [result("rating.pending", "homes/s", "one column read and written", ours, theirs)]


WHY: Final = {
    "kernel.sheets": "a reading of a register with a sheet is never plain: it is judged, walked and tallied",
    "rating.pending": "a handful of numpy columns for each home, against one: the least that any reckoning touches",
}
BENCHMARKS: Final[dict[str, Benchmark]] = {"kernel.sheets": sheets, "rating.pending": pending}
