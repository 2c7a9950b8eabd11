"""The auditor against the engine: made-up homes, faults and all, through log, engine and ledger; no difference."""

import csv
import random
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from audit.run import audit
from config.clock import ManualClock
from config.settings import AutopaySettings, LedgerSettings, Paths, RatingSettings, Settings
from config.tariff_files import kept_texts, tariff_texts
from ingest.log_sqlite import SqliteLog
from ingest.wire import decode_frames, encode_readings
from ledger.effects import SUBLEDGER, Component, InboxRow
from ledger.inbox import pending, submit
from ledger.pages import checksum
from ledger.store import LedgerStore
from meterd.city import past_rewritten
from rating.book import TariffBook
from rating.engine import PartitionEngine
from rating.names import Names
from rating.readings import Readings, Record, RecordKind
from rating.state import ARRAYS
from rating.tariff.reading import parse_tariffs
from registry.importer import stage
from registry.layout import FILES
from registry.store import RegistryReader

ZONE = ZoneInfo("Asia/Shanghai")
START = "2026-06-20"


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp())


NOW_S = at("2026-12-01")
HOMES = {  # account: tariff spans
    "A0": [("guangzhou-residential", START, "")],
    "A1": [("guangzhou-residential-tou", START, "")],
    "A2": [("guangzhou-residential-flat", START, "")],
    "A3": [("guangzhou-residential", START, "2026-07-20"), ("guangzhou-residential-tou", "2026-07-20", "")],
    "A4": [("guangzhou-residential", START, "")],
    "A5": [("guangzhou-residential-tou", START, "")],
}


def write_csv(folder: Path, changed: bool, *, backdated: bool = False) -> Path:
    """Six homes on one concentrator; `changed`: home 4 has got another meter on 15 July.

    `backdated`, told in September: home 1 counts double since 25 August, home 2 has another tariff since the 20th,
    B3 has moved in behind meter 3 on the 10th, and home 0 has been five since 20 July and under time of use since
    28 August.
    """
    meters = [[f"{i:012}", f"P{i}", "c1", i, START, "", "5", "1", "13200"] for i in range(6)]
    if changed:
        meters[4][5] = "2026-07-15"
        meters.append(["000000000099", "P4", "c1", 4, "2026-07-15", "", "5", "1", "13200"])
    rows: dict[str, list[list[Any]]] = {
        "parties": [["x", "X", "zh", ""]],
        "points": [[f"P{i}", "electricity", ""] for i in range(6)],
        "concentrators": [["c1", "0"]],
        "meters": meters,
        "registers": [[name, "1.8.0", "bill", "0.001", "kWh"] for name in dict.fromkeys(m[0] for m in meters)],
        "opening_registers": [[f"{i:012}", "1.8.0", f"{99_700 if i == 0 else 10 * i}", START, "A"] for i in range(6)],
        "changeouts": [["P4", "2026-07-15", "000000000004", "380.5", "000000000099", "0.0"]] if changed else [],
        "accounts": [[f"A{i}", "x", f"P{i}", START, ""] for i in range(6)],
        "tariffs": [[name, *span] for name, spans in HOMES.items() for span in spans],
        "opening_accounts": [["A0", "100.00", "0", "0"], ["A5", "-3.21", "12.34", "250.5"]],
        "attributes": [["A5", "household_size", "5", "2026-07-10"]],
        "mandates": [],
    }
    if backdated:
        meters[1][5] = "2026-08-25"
        meters.append(["000000000001", "P1", "c1", 1, "2026-08-25", "", "5", "2", "13200"])
        rows["accounts"][3][4] = "2026-08-10"
        rows["accounts"].append(["B3", "x", "P3", "2026-08-10", ""])
        rows["tariffs"] = [row for row in rows["tariffs"] if row[0] not in ("A0", "A2")]
        rows["tariffs"] += [
            ["A0", "guangzhou-residential", START, "2026-08-28"],
            ["A0", "guangzhou-residential-tou", "2026-08-28", ""],
            ["A2", "guangzhou-residential-flat", START, "2026-08-20"],
            ["A2", "guangzhou-residential", "2026-08-20", ""],
            ["B3", "guangzhou-residential", "2026-08-10", ""],
        ]
        rows["attributes"].append(["A0", "household_size", "5", "2026-07-20"])
    for layout in FILES:
        with (folder / layout.file).open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(layout.columns)
            out.writerows(rows[layout.name])
    return folder


class House:
    """One partition's engine over a real log, ledger and registry."""

    def __init__(self, root: Path, tariffs: Path | None = None) -> None:
        self.root, self.paths, self.rating = root, Paths(root), RatingSettings(tariffs_dir=tariffs)
        self.log = SqliteLog(self.paths.log)
        self.store = LedgerStore.open(
            self.paths.ledger,
            settings=LedgerSettings(),
            clock=ManualClock(NOW_S),
            log_id=self.log.log_id,
            partitions=1,
            arrays=ARRAYS,
        )
        self.engine = PartitionEngine(
            0, rating=self.rating, autopay=AutopaySettings(), currency="CNY", decode=decode_frames
        )
        self.epoch = self.store.take_over("partition:0", "test")
        self.digest: str | None = None

    def register(self, folder: Path) -> None:
        staged = stage(
            folder, self.paths.registry, partitions=1, timezone="Asia/Shanghai", previous_digest=self.digest,
            tariffs_known=None, now_s=NOW_S, alert_fen=3000, trigger_fen_default=2000,
            tariffs=tariff_texts(self.rating.tariffs_dir),
        )  # fmt: skip
        self.digest = staged.digest
        self.submit("registry", staged.digest, {"digest": staged.digest})

    def submit(self, kind: str, key: str, body: dict[str, Any]) -> None:
        home = None if kind == "registry" else 0  # a version is for every partition
        self.store.write(lambda c: submit(c, kind=kind, key=key, body=body, partition=home, now_s=NOW_S))
        with self.store.reader() as connection:
            rows = pending(connection, 0, 10)
        for row in rows:
            if row.kind != "registry":
                self.engine.apply_inbox(row)
                continue
            self._activate(row)
        self.checkpoint()

    def _activate(self, row: InboxRow) -> None:
        reader = RegistryReader(self.paths.registry, row.body["digest"])
        image = reader.image
        part = image.partitions[0]
        pairs = set(zip(part.ladders["tariff"].tolist(), part.ladders["history"].tolist(), strict=True))
        tariffs = parse_tariffs(kept_texts(reader.folder, None))
        book = TariffBook.compile(tariffs, image.tariffs, image.histories, pairs, 2020, 2040)
        slots = {reader.account_id(0, slot): slot for slot in range(len(part.accounts))}
        names = Names(lambda slot: reader.account_id(0, slot), slots.get)
        self.engine.activate(row, part, book, names)

    def checkpoint(self) -> None:
        self.store.commit([self.engine.checkpoint(epoch=self.epoch, log_id=self.log.log_id)])

    def send(self, rows: list[tuple[int, int, int, int]], received_s: int, code: int = 1) -> None:
        """(meter, value, at_s, quality) as one record, applied; all of the same register."""
        frame = Readings(
            np.array([r[0] for r in rows], np.uint64), np.array([r[1] for r in rows], np.int64),
            np.array([r[2] for r in rows], np.uint32), np.full(len(rows), code, np.uint8),
            np.array([r[3] for r in rows], np.uint8),
        )  # fmt: skip
        record = Record(RecordKind.READINGS, 0, received_s, "c1", "s", 1, encode_readings(frame))
        self.engine.apply(self.log.append([record]))

    def one(self, code: int, value: int, at_s: int, received_s: int) -> None:
        """A reading of one register of meter 0."""
        frame = Readings(
            np.zeros(1, np.uint64), np.array([value], np.int64), np.array([at_s], np.uint32),
            np.array([code], np.uint8), np.array([4], np.uint8),
        )  # fmt: skip
        record = Record(RecordKind.READINGS, 0, received_s, "c1", "s", 1, encode_readings(frame))
        self.engine.apply(self.log.append([record]))

    def tick(self, as_of_s: int) -> None:
        self.engine.apply(self.log.append([Record(RecordKind.TICK, 0, as_of_s, "", "", -1, b"")]))

    def audited(self, since: str | None = None) -> Any:
        return audit(self.root, settings=Settings(data_dir=self.root, rating=self.rating), since=since)

    def rows(self) -> list[Any]:
        """Everything posted on accounts so far."""
        with closing(sqlite3.connect(self.paths.ledger)) as db:
            bodies = db.execute("SELECT body FROM subledger ORDER BY rowid").fetchall()
        return [row for (body,) in bodies for row in np.frombuffer(body, SUBLEDGER)]

    def close(self) -> None:
        self.store.close()
        self.log.close()


def month(house: House, seed: int, first: str, last: str, registers: dict[int, int]) -> None:
    """Readings every 3 to 9 hours with every fault of a register, in order of time; ticks and checkpoints between."""
    draw = random.Random(seed)
    now_s, end_s = at(first), at(last)
    while now_s < end_s:
        now_s = min(end_s, now_s + draw.randrange(3, 10) * 3600 + draw.choice((0, 0, 450)))
        rows: list[tuple[int, int, int, int]] = []
        for meter, value in registers.items():
            if draw.random() < 0.1:
                continue  # a gap: the next one covers it
            value = (value + draw.randrange(0, 8000)) % 100_000_000
            quality = draw.choice((4, 4, 4, 4, 3, 1))
            rows.append((meter, value, now_s, quality))
            registers[meter] = value
            match draw.randrange(12):
                case 0:
                    rows.append((meter, value, now_s, quality))  # duplicate
                case 1:
                    rows.append((meter, value + 100, now_s, 4))  # conflict, or replaces an estimate
                    registers[meter] = value + 100
                case 2:
                    rows.append((meter, value + 10**7, now_s + 60, 4))  # implausible
                case 3:
                    rows.append((meter, 0, now_s + 120, 4))  # reset
                case 4:
                    rows.append((meter, value, now_s - 7200, 4))  # late
                case 5:
                    rows.append((meter + 1000, value, now_s, 4))  # unknown
        house.send(rows, now_s)
        house.tick(now_s + 60)
        if draw.random() < 0.3:
            house.checkpoint()
    house.checkpoint()


CHARGES = """
[[version.charge]]
name = "service"
kind = "standing"
amount = "0.3333"
per = "day"
[[version.charge]]
name = "by-head"
kind = "standing"
amount = "0.07"
per = "day"
times = "household_size"
[[version.charge]]
name = "summer"
kind = "standing"
amount = "31.25"
per = "season"
season = ["hot"]
step = "0.01"
mode = "half_even"
[[version.charge]]
name = "first-kwh"
kind = "credit"
price = "0.0814"
parts = "pooled"
allowance = [{months = [1, 2, 3, 4, 5, 6, 7], upto = "3.5"}, {months = [8, 9, 10, 11, 12], upto = "2"}]
[[version.charge]]
name = "tax"
kind = "percent"
rate = "13"
base = ["energy", "service", "by-head", "first-kwh"]
included = false
step = "0.01"
mode = "half_up"
[[version.charge]]
name = "contained"
kind = "percent"
rate = "6"
base = ["energy"]
included = true
step = "0.001"
mode = "half_even"
[[version.charge]]
name = "least"
kind = "minimum"
amount = "31"
per = "month"
base = ["energy", "tax"]
step = "0.01"
mode = "half_up"
"""

HOT = """
[[season]]
name = "hot"
from = "07-20"
to = "08-25"

"""  # begins and ends within a month: so do stretches of days

FED_IN = """
[[version.charge]]
name = "fed-in"
kind = "export"
price = "0.453"
"""


def tariffs_of(folder: Path, shapes: dict[str, str]) -> Path:
    """The shipped tariffs, some of which have charges in every version and other words."""
    folder.mkdir()
    for name, text in tariff_texts().items():
        words = shapes.get(name.removeprefix("guangzhou-residential"), "").split()
        if "charges" in words:
            head, *versions = text.split("[[version]]")
            text = head + HOT + "".join(f"[[version]]{version}{CHARGES}" for version in versions)
        if netting := {"none", "cycle_total", "cycle_by_period"}.intersection(words):
            (word,) = netting
            text = text.replace("[rounding]", f'netting = "{word}"\n[rounding]', 1) + FED_IN
            text = text.replace('"carry_over"', '"start_anew"')
        if "whole" in words:
            text = text.replace("[rounding]", 'quantity_step = "1"\n[rounding]', 1)
        if "line" in words:
            text = text.replace('level = "bill"', 'level = "line"')
        if at_close := {"slab", "proportional", "per_period"}.intersection(words):
            (word,) = at_close
            text = (
                text.replace('"block"', '"slab"') if word == "slab" else text.replace('"chronological"', f'"{word}"')
            )
            text = text.replace('"carry_over"', '"start_anew"')
        (folder / (name if name.endswith(".csv") else f"{name}.toml")).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("seed", "shapes"),
    [
        (0, {}),
        (1, {}),
        (2, {}),
        (0, {"": "charges whole", "-tou": "charges line", "-flat": "charges"}),
        (1, {"": "slab line", "-tou": "proportional charges"}),
        (2, {"": "charges", "-tou": "per_period line charges whole", "-flat": "whole"}),
        (0, {"": "", "-tou": "charges", "-flat": "line"}),
    ],
)
def test_the_engine_agrees_with_the_auditor_over_faults_and_changes(
    tmp_path: Path, seed: int, shapes: dict[str, str]
) -> None:
    for name in ("v1", "v2", "v3", "data"):
        (tmp_path / name).mkdir()
    house = House(tmp_path / "data", tariffs_of(tmp_path / "tariffs", shapes))
    try:
        house.register(write_csv(tmp_path / "v1", changed=False))
        registers = {i: (99_700_000 if i == 0 else 10_000 * i) for i in range(6)}
        month(house, seed, START, "2026-07-14", registers)
        house.submit("credit", "cash:1", {"account": "A1", "amount_fen": 5000})
        house.register(write_csv(tmp_path / "v2", changed=True))
        del registers[4]
        registers[99] = 0
        alive = {meter: value for meter, value in registers.items() if meter != 5}
        month(house, seed + 100, "2026-07-15", "2026-08-29", alive)  # meter 5 is dead: July is estimated
        assert house.audited().differences == []  # while August's bill is pending
        month(house, seed + 300, "2026-08-29", "2026-09-02", alive)
        assert house.engine.counters["estimate.accepted"] == 1
        registers |= alive
        house.submit("reversal", "cash:1:back", {"account": "A1", "amount_fen": 5000})
        house.register(write_csv(tmp_path / "v3", changed=True, backdated=True))
        assert house.engine.counters["exception.backdated"] == 5
        house.submit("rebaseline", "base:5", {
            "concentrator": "c1", "meter": 5, "register": "1.8.0", "value": 10_000, "at_s": at("2026-09-02T10:00"),
        })  # fmt: skip
        registers[5] = 10_000
        house.submit("release", "release:1", {"concentrator": "c1", "readings": [[5, 1, 1, "x", 4]]})
        month(house, seed + 200, "2026-09-03", "2026-10-03", registers)
        house.tick(at("2026-10-10"))
        house.checkpoint()
        report = house.audited()
        assert report.differences == []
        assert report.counts["amounts"] > 500
        verdicts = house.engine.counters
        assert {k: v for k, v in report.counts.items() if k.startswith("verdict.") and k != "verdict.accepted"} == {
            k: v for k, v in verdicts.items() if k.startswith("verdict.") and k != "verdict.accepted"
        }
    finally:
        house.close()


def test_rows_that_commands_and_versions_make_are_looked_for(tmp_path: Path) -> None:
    """A final read below the register, twice; money for nobody; a tariff dated back behind two readings."""
    for name in ("v1", "v2", "v3", "data"):
        (tmp_path / name).mkdir()
    house = House(tmp_path / "data")
    try:
        house.register(write_csv(tmp_path / "v1", changed=False))
        house.send([(4, 400_000, at("2026-07-14"), 4)], at("2026-07-14"))
        house.register(write_csv(tmp_path / "v2", changed=True))
        house.submit("credit", "cash:nobody", {"account": "nobody", "amount_fen": 5})
        house.submit("release", "release:nothing", {"concentrator": "c1", "readings": []})
        house.send([(0, 99_900_000, at("2026-09-01"), 4), (2, 300_000, at("2026-09-01"), 4)], at("2026-09-01"))
        house.register(write_csv(tmp_path / "v3", changed=True, backdated=True))
        counters = house.engine.counters
        found = {reason: counters[f"exception.{reason}"] for reason in ("negative", "command", "backdated")}
        assert found == {"negative": 2, "command": 2, "backdated": 3}
    finally:
        house.close()
    assert audit(house.root).differences == []
    with closing(sqlite3.connect(house.paths.ledger, isolation_level=None)) as ledger:
        for reason, rows in (("negative", 1), ("command", 2), ("backdated", 3)):
            ledger.execute("UPDATE exception SET partition = 9 WHERE reason = ?", (reason,))
            assert [d.component for d in audit(house.root).differences] == ["exception"] * rows, reason
            ledger.execute("UPDATE exception SET partition = 0")
        ledger.execute("UPDATE exception SET bytes = ? WHERE reason = 'backdated'", (b'{"since_s": 1}',))
        assert len(audit(house.root).differences) > 3


def test_a_bit_that_turned_in_the_engines_own_pages_is_named(tmp_path: Path) -> None:
    """Real pages and deltas in the middle of a day; each array's bytes changed, with and without its checksum."""
    for name in ("v1", "data"):
        (tmp_path / name).mkdir()
    house = House(tmp_path / "data")
    try:
        house.register(write_csv(tmp_path / "v1", changed=False))
        month(house, 7, START, "2026-07-05T13:00", {i: (99_700_000 if i == 0 else 10_000 * i) for i in range(6)})
    finally:
        house.close()
    assert audit(house.root).differences == []
    with closing(sqlite3.connect(house.paths.ledger, isolation_level=None)) as ledger:
        for table, array, page, crc_right in (
            ("state_page", "account", 0, True),
            ("state_page", "channel", 0, False),
            ("state_delta", "channel", -1, True),
            ("state_delta", "ladder", -1, False),
        ):
            last = f"SELECT rowid, version, body, crc FROM {table} WHERE array = ? ORDER BY version DESC LIMIT 1"
            found = ledger.execute(last, (array,)).fetchone()
            if found is None:
                continue
            row, version, body, crc = found
            slots = 4 * (len(body) // (4 + ARRAYS[array].itemsize)) if page < 0 else 0
            wrong = bytearray(body)
            wrong[slots] ^= 1  # the first field of the first row: a register, a use, a balance
            new = checksum(0, array, page, version, bytes(wrong)) if crc_right else crc
            change = f"UPDATE {table} SET body = ?, crc = ? WHERE rowid = ?"
            ledger.execute(change, (bytes(wrong), new, row))
            report = audit(house.root)
            assert not report.ok, (table, array)
            assert any(d.component == "state" for d in report.differences) == (not crc_right), (table, array)
            ledger.execute(change, (body, crc, row))
    assert audit(house.root).differences == []


def one_meter(
    folder: Path,
    power_w: str,
    registers: list[str],
    tariffs: list[list[str]] | None = None,
    attributes: list[list[str]] | None = None,
) -> Path:
    """Account A0 at one meter, from 20 June on, with registers that start at 0."""
    write_csv(folder, changed=False)
    rows: dict[str, list[list[Any]]] = {
        "points": [["P0", "electricity", ""]],
        "meters": [["000000000000", "P0", "c1", 0, START, "", "6", "1", power_w]],
        "registers": [["000000000000", name, "bill", "0.001", "kWh"] for name in registers],
        "opening_registers": [["000000000000", name, "0", START, "A"] for name in registers],
        "accounts": [["A0", "x", "P0", START, ""]],
        "tariffs": tariffs or [["A0", "guangzhou-residential", START, ""]],
        "opening_accounts": [["A0", "1000.00", "0", "0"]],
        "attributes": attributes or [],
    }
    for layout in FILES:
        if layout.name in rows:
            with (folder / layout.file).open("w", newline="") as file:
                out = csv.writer(file)
                out.writerow(layout.columns)
                out.writerows(rows[layout.name])
    return folder


def after(root: Path, registers: list[str], power_w: str, readings: list[tuple[int, str, int]]) -> Any:
    """The audit's report after these readings (register code, time, value), each received when it is the latest."""
    for name in ("v1", "data"):
        (root / name).mkdir()
    house = House(root / "data")
    try:
        house.register(one_meter(root / "v1", power_w, registers))
        for code, when, value in readings:
            received_s = max(at(when), house.engine.as_of_s if house.log.bounds(0)[1] else 0)
            house.one(code, value, at(when), received_s)
        house.checkpoint()
    finally:
        house.close()
    return audit(house.root)


@pytest.mark.parametrize("backfill", ["2026-07-01T12:00", "2026-07-02T12:00", "2026-07-08T00:20"])
def test_a_backfill_does_not_take_a_waiting_jump_away(tmp_path: Path, backfill: str) -> None:
    """1 kW, a week's gap: 99.9 kWh wait, a backfilled reading is accepted, the next one must confirm the jump; one
    that is accepted behind the jump ends its wait."""
    readings = [
        (1, "2026-07-01T00:00", 10_000),
        (1, "2026-07-01T01:00", 10_100),
        (1, "2026-07-08T00:15", 110_000),
        (1, backfill, 11_000),
        (1, "2026-07-08T00:30", 110_100),
    ]
    assert after(tmp_path, ["1.8.0"], "1000", readings).differences == []


def test_a_sibling_that_lags_by_two_cycles_counts_on_the_oldest_one_kept(tmp_path: Path) -> None:
    """July to September by one register, then the other one's, day by day from June on, and both in October."""
    readings = [
        (2, "2026-07-15T00:00", 100_000),
        (2, "2026-08-20T00:00", 350_000),
        (3, "2026-06-25T00:00", 150_000),
        (3, "2026-06-25T12:00", 160_000),
        (3, "2026-07-20T00:00", 400_000),
        (2, "2026-09-20T00:00", 700_000),
        (3, "2026-07-20T06:00", 430_000),
        (3, "2026-07-20T12:00", 460_000),
        (2, "2026-10-02T00:00", 800_000),
        (3, "2026-07-21T12:00", 520_000),
        (3, "2026-09-10T12:00", 900_000),
        (3, "2026-10-02T12:00", 1_000_000),
        (3, "2026-10-02T18:00", 1_200_000),
    ]
    assert after(tmp_path, ["1.8.1", "1.8.2"], "13200", readings).differences == []


SWITCHED = [
    ["A0", "guangzhou-residential", START, "2026-07-10"],
    ["A0", "guangzhou-residential-tou", "2026-07-10", "2026-08-12"],
    ["A0", "guangzhou-residential", "2026-08-12", ""],
]

FIVE = [["A0", "household_size", "5", "2026-09-20"]]


@pytest.mark.parametrize(
    ("seed", "shapes"),
    [
        *((seed, {}) for seed in range(6)),
        (0, {"": "charges", "-tou": "charges line whole"}),
        (1, {"": "charges line whole"}),
        (2, {"": "proportional", "-tou": "per_period charges"}),
        (3, {"-tou": "slab charges"}),
    ],
)
def test_registers_that_lag_behind_switches_of_tariff(tmp_path: Path, seed: int, shapes: dict[str, str]) -> None:
    """Three registers of one account, each with a pace of its own, over switches that carry over; a second audit goes
    on from the first."""
    for name in ("v1", "v2", "v3", "data"):
        (tmp_path / name).mkdir()
    draw = random.Random(seed)
    registers = ["1.8.1", "1.8.2", "1.8.3"]
    house = House(tmp_path / "data", tariffs_of(tmp_path / "tariffs", shapes))
    try:
        early = [[*SWITCHED[0][:3], ""]] if seed % 2 else SWITCHED  # dated back, or known before
        house.register(one_meter(tmp_path / "v1", "13200", registers, early))
        stands = {code: (at(START), 0) for code in (2, 3, 4)}
        received_s, told, larger, audited = at(START), False, False, False
        while min(at_s for at_s, _ in stands.values()) < at("2026-11-01"):
            code = draw.choice([c for c, (at_s, _) in stands.items() if at_s < at("2026-11-01")])
            for _ in range(draw.randrange(1, 12)):
                at_s, value = stands[code]
                lasted_s = draw.choice((900, 7200, 86_400, 86_400 * 9))
                stands[code] = at_s + lasted_s, value + draw.randrange(0, 3 * lasted_s)
                received_s = max(received_s, stands[code][0])
                house.one(code, stands[code][1], stands[code][0], received_s)
            if draw.random() < 0.15:
                house.checkpoint()
                if not told and seed % 2 and received_s > at("2026-09-01"):
                    house.register(one_meter(tmp_path / "v2", "13200", registers, SWITCHED))
                    told = True
                elif told and not larger and received_s > at("2026-10-05"):
                    house.register(one_meter(tmp_path / "v3", "13200", registers, SWITCHED, FIVE))
                    larger = True
                elif draw.random() < 0.3:
                    assert house.audited("last" if audited else None).differences == []
                    audited = True
        house.checkpoint()
        if audited:
            assert house.audited("last").differences == []
        assert house.audited().differences == []
    finally:
        house.close()


@pytest.mark.parametrize(
    ("seed", "shapes"),
    [
        (0, {"": "cycle_total", "-tou": "cycle_by_period proportional"}),
        (1, {"": "none charges", "-tou": "cycle_by_period per_period charges line"}),
        (2, {"": "slab charges cycle_total whole", "-tou": "none"}),
        (3, {"": "", "-tou": "cycle_by_period charges"}),  # the first does not count what is fed in
        *((seed, {"": "none", "-tou": "cycle_by_period charges line"}) for seed in (8, 9)),
    ],
)
def test_what_is_fed_in(tmp_path: Path, seed: int, shapes: dict[str, str]) -> None:
    """A roof: two registers, each with a pace of its own, one of them silent at times; tariffs change under it."""
    for name in ("v1", "data"):
        (tmp_path / name).mkdir()
    draw = random.Random(seed)
    house = House(tmp_path / "data", tariffs_of(tmp_path / "tariffs", shapes))
    try:
        house.register(one_meter(tmp_path / "v1", "13200", ["1.8.0", "2.8.0"], SWITCHED))
        stands = {1: (at(START), 0), 11: (at(START), 0)}
        received_s, audited = at(START), False
        while min(at_s for at_s, _ in stands.values()) < at("2026-11-02"):
            code = draw.choice([c for c, (at_s, _) in stands.items() if at_s < at("2026-11-02")])
            for _ in range(draw.randrange(1, 12)):
                at_s, value = stands[code]
                lasted_s = draw.choice((900, 7200, 86_400, 86_400 * 9))
                stands[code] = at_s + lasted_s, value + draw.randrange(0, 2 * lasted_s)
                received_s = max(received_s, stands[code][0])
                house.one(code, stands[code][1], stands[code][0], received_s)
                if draw.random() < 0.2:
                    house.tick(received_s)
            if draw.random() < 0.3:
                house.checkpoint()
                assert house.audited("last" if audited else None).differences == []
                audited = True
        house.tick(at("2026-11-09"))
        house.checkpoint()
        assert house.audited("last").differences == []
        assert house.audited().differences == []
        fed_in = sum(1 for row in house.rows() if row["component"] == Component.EXPORT and row["quantity"] > 0)
        assert fed_in >= (1 if shapes[""] == "" or "cycle" in shapes[""] else 3)
    finally:
        house.close()


def later(text: str, day: str, more: str = "") -> str:
    """A tariff file with one more version: another base price, another middle of the day, a new charge."""
    head, last = text.rsplit("[[version]]", 1)
    begins = next(line for line in last.splitlines() if line.startswith("from = "))
    new = (
        last.replace(begins, f"from = {day}")
        .replace('"0.5802"', '"0.6102"')
        .replace('"14:00-19:00"', '"15:00-18:30"')
    )
    return f"{head}[[version]]{last.rstrip()}\n\n[[version]]{new.rstrip()}\n{more}"


@pytest.mark.parametrize("shapes", [{}, {"-tou": "charges"}, {"-tou": "proportional charges line"}])
def test_a_new_version_of_a_tariff_comes_with_a_registry_version(tmp_path: Path, shapes: dict[str, str]) -> None:
    """Energy counted so far stays in its bins, what comes is under the new version; the past is not written anew."""
    for name in ("v1", "data"):
        (tmp_path / name).mkdir()
    folder = tariffs_of(tmp_path / "tariffs", shapes)
    file = folder / "guangzhou-residential-tou.toml"
    house = House(tmp_path / "data", folder)
    try:
        cities = one_meter(tmp_path / "v1", "13200", ["1.8.0"], [["A0", "guangzhou-residential-tou", START, ""]])
        house.register(cities)
        first = house.digest
        value = 0
        for day, wh in (("2026-11-30", 4_000), ("2026-12-08T13:00", 9_111), ("2026-12-09", 300_000)):
            value += wh
            house.one(1, value, at(day), at(day))
        house.tick(at("2026-12-09"))
        house.checkpoint()
        told = file.read_text()
        levy = '\n[[version.charge]]\nname = "fund"\nkind = "levy"\nprice = "0.0211"\n'
        file.write_text(later(told, "2026-12-15", levy))
        house.register(cities)
        assert house.digest != first
        assert house.engine.registry_digest == house.digest
        for day, wh in (("2026-12-14T16:00", 80_000), ("2026-12-15T16:20", 7_000), ("2027-01-02", 150_000)):
            value += wh
            house.one(1, value, at(day), at(day))
        house.tick(at("2027-01-02"))
        house.checkpoint()
        assert house.audited().differences == []
        levied = [row for row in house.rows() if row["component"] == Component.LEVY]
        assert len(levied) == 1
        file.write_text(file.read_text().replace('"0.5802"', '"0.5803"'))
        second = house.digest
        house.register(cities)
        assert house.engine.registry_digest == second, "the running version stays"
        with closing(sqlite3.connect(house.paths.ledger)) as db:
            (why,) = db.execute("SELECT outcome FROM inbox_applied ORDER BY inbox_id DESC LIMIT 1").fetchone()
        assert "is not what it was before now: a change is a new dated version" in why
        tariffs = parse_tariffs(tariff_texts(folder))
        told = past_rewritten(house.paths.registry / second, tariffs, house.rating, NOW_S)
        assert told == why, "whoever imports it hears the same"
        assert house.audited().differences == [], "the version that runs keeps its own texts"
    finally:
        house.close()
