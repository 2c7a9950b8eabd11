"""Fixtures: shipped tariffs, and made-up ones that start from a small text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import pytest

from config.settings import AutopaySettings, RatingSettings
from config.tariff_files import tariff_texts
from ingest.wire import decode_frames, encode_readings
from ledger.effects import InboxRow, Recovered
from rating.book import TariffBook
from rating.engine import PartitionEngine
from rating.names import Names
from rating.readings import Readings, Record, RecordKind, StoredRecord
from rating.tariff.model import Tariff
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

MADE_UP = """
id = "made-up"
commodity = "electricity"
unit = "kWh"
currency = "CNY"
timezone = "ZONE"
clock = "daylight"
bill_cycle = "calendar_month"
cycle = "CYCLE"
tier_kind = "block"
allocation = "chronological"
on_change = "WORD"
on_open = "full_bounds"
on_switch = "SWITCH"

[rounding]
level = "bill"
mode = "half_up"
step = "0.01"

[[version]]
from = 2020-01-01
source = "made up"
dated = "2020-01-01"
PRICES
"""
TWO_PERIODS = """
[version.energy]
base = "1"
funds = "0"
ratio_step = "0.0001"
ratio_mode = "half_up"
[[version.period]]
name = "night"
ratio = "0.5"
at = ["00:00-06:00", "22:00-24:00"]
[[version.period]]
name = "day"
ratio = "1"
at = "rest"
"""
MakeTariff = Callable[..., Tariff]


@pytest.fixture(scope="session")
def shipped() -> dict[str, Tariff]:
    return {t.id: t for t in parse_tariffs(tariff_texts())}


@pytest.fixture(scope="session")
def make_text() -> Callable[..., str]:
    def make(
        zone: str = "Asia/Shanghai",
        cycle: str = "calendar_month",
        word: str = "next_cycle",
        prices: str = TWO_PERIODS,
        switch: str = "carry_over",
    ) -> str:
        begins = "" if cycle == "calendar_month" else "\ncycle_begins = 1"
        text = (
            MADE_UP.replace("ZONE", zone)
            .replace('"CYCLE"', f'"{cycle}"{begins}')
            .replace("WORD", word)
            .replace("SWITCH", switch)
        )
        return text.replace("PRICES", prices)

    return make


@pytest.fixture(scope="session")
def make_tariff(make_text: Callable[..., str]) -> MakeTariff:
    def make(**words: str) -> Tariff:
        return parse_tariffs({"made-up": make_text(**words)})[0]

    return make


class Home:
    """One partition with hand-made households: readings in, effects out. Slots of home i are i everywhere."""

    def __init__(self, tariffs: dict[str, Tariff], names: list[str], **changes: Any) -> None:
        options: dict[str, Any] = {
            "opened": "2026-07-01T00:00+08:00", "value": 0, "power_w": 0, "digits": 0, "resolution": 1,
            "trigger_fen": NO_TRIGGER, "balance_fen": 0, "histories": None, "tariff_ids": None, "settings": None,
        }  # fmt: skip
        assert not set(changes) - set(options), changes
        options.update(changes)
        count = len(names)
        self.opened_s = int(datetime.fromisoformat(options["opened"]).timestamp())
        order = tuple(options["tariff_ids"] or ("guangzhou-residential",))
        histories = options["histories"] or ((),)
        channels = np.zeros(count, CHANNEL_FACTS)
        channels["meter"] = np.arange(count) + 100
        channels["opening_value"], channels["opening_at_s"] = options["value"], self.opened_s
        channels["until_s"], channels["power_max_w"] = FOREVER, options["power_w"]
        channels["account"] = channels["ladder"] = np.arange(count)
        channels["next"], channels["closing_value"], channels["multiplier"] = NONE, -1, 1
        channels["resolution"], channels["register"], channels["digits"] = options["resolution"], 1, options["digits"]
        channels["bill"], channels["opening_quality"] = 1, 4
        channels["tariff"] = np.arange(count) % len(order)
        ladders = np.zeros(count, LADDER_FACTS)
        ladders["account"] = np.arange(count)
        ladders["tariff"], ladders["opening_at_s"] = channels["tariff"], self.opened_s
        ladders["history"] = np.arange(count) % len(histories)
        accounts = np.zeros(count, ACCOUNT_FACTS)
        accounts["opening_balance_fen"], accounts["alert_fen"] = options["balance_fen"], 3000
        accounts["trigger_fen"], accounts["until_s"] = options["trigger_fen"], FOREVER
        accounts["from_s"], accounts["tariff"] = self.opened_s, channels["tariff"]
        self.image = PartitionImage(
            channels=channels, ladders=ladders, accounts=accounts,
            list_meter=channels["meter"].copy(), list_register=channels["register"].copy(),
            list_channel=np.arange(count, dtype=np.int32), lists={"c1": (0, count)},
            account_start=np.arange(count + 1, dtype=np.int64), account_channels=np.arange(count, dtype=np.int32),
        )  # fmt: skip
        pairs = set(zip(ladders["tariff"].tolist(), ladders["history"].tolist(), strict=True))
        self.book = TariffBook.compile(list(tariffs.values()), order, histories, pairs, 2020, 2040)
        self.names = names
        self.settings = options["settings"] or RatingSettings()
        self.engine = self.fresh()
        self.offset = 0

    def fresh(self, recovered: Recovered | None = None) -> PartitionEngine:
        """An engine on this image: opened by its registry row, or going on from a recovered state."""
        engine = PartitionEngine(
            0, rating=self.settings, autopay=AutopaySettings(), currency="CNY",
            decode=decode_frames, recovered=recovered,
        )  # fmt: skip
        names = Names(lambda slot: self.names[slot], {n: i for i, n in enumerate(self.names)}.get)
        if recovered is None:
            engine.activate(InboxRow(1, None, "registry", "r1", {"digest": "d1"}), self.image, self.book, names)
        else:
            engine.attach(self.image, self.book, names)
        return engine

    def record(
        self, rows: list[tuple[int, int, str, int]], received: str | None = None, register: int = 1
    ) -> StoredRecord:
        """A frame of (home, value, ISO time or seconds, quality) as the next record of the log."""
        at = [self.seconds(row[2]) for row in rows]
        frame = Readings(
            np.array([r[0] + 100 for r in rows], np.uint64), np.array([r[1] for r in rows], np.int64),
            np.array(at, np.uint32), np.full(len(rows), register, np.uint8), np.array([r[3] for r in rows], np.uint8),
        )  # fmt: skip
        self.offset += 1
        received_s = self.seconds(received) if received else max(at)
        return StoredRecord(
            self.offset, Record(RecordKind.READINGS, 0, received_s, "c1", "s", self.offset, encode_readings(frame))
        )

    def tick(self, at: str | int) -> StoredRecord:
        self.offset += 1
        return StoredRecord(self.offset, Record(RecordKind.TICK, 0, self.seconds(at), "", "", -1, b""))

    def read(self, value: int, at: str | int, *, quality: int = 4, home: int = 0, received: str | None = None) -> str:
        """Rate one reading and name its verdict."""
        before = dict(self.engine.counters)
        self.engine.apply([self.record([(home, value, at, quality)], received)])
        moved = {k for k, n in self.engine.counters.items() if n != before.get(k, 0) and k.startswith("verdict.")}
        (name,) = moved
        return name.removeprefix("verdict.")

    def charge_e11(self, home: int = 0) -> int:
        """All money that left the account by use so far: posted, carried and accrued, exactly."""
        row, channel = self.engine.part.account[home], self.engine.part.channel[home]
        posted = int(self.image.accounts["opening_balance_fen"][home]) - int(row["balance_fen"])
        return posted * 10**9 + sum(
            int(x)
            for x in (
                row["carry_energy_e11"], row["carry_adder_e11"],
                channel["accrued_energy_e11"], channel["accrued_adder_e11"],
            )
        )  # fmt: skip

    @staticmethod
    def seconds(at: str | int) -> int:
        if isinstance(at, int):
            return at
        return int(datetime.fromisoformat(at if "+" in at or at.endswith("Z") else at + "+08:00").timestamp())


@pytest.fixture
def home(shipped: dict[str, Tariff]) -> Callable[..., Home]:
    """`home(names=["a"], value=..., ...)`: see Home."""
    return lambda names=("a",), **changes: Home(shipped, list(names), **changes)
