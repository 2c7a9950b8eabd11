"""A small world that the tests write by hand in the formats on disk: registry, log, archive, ledger."""

import json
import sqlite3
import struct
import zlib
from collections.abc import Iterable
from datetime import date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger.effects import STATE_FORMAT
from ledger.pages import checksum, row_checksum
from rating.calendar import months_of
from rating.state import ARRAYS

ZONE = ZoneInfo("Asia/Shanghai")
SCHEMA = pa.schema(
    [
        ("meter", pa.uint64()),
        ("value", pa.int64()),
        ("read_at_s", pa.uint32()),
        ("register", pa.uint8()),
        ("quality", pa.uint8()),
    ]
)
LEDGER = """
CREATE TABLE checkpoint (
    id INTEGER PRIMARY KEY, partition INTEGER, epoch INTEGER, log_id TEXT, "offset" INTEGER, as_of_s INTEGER,
    engine_version INTEGER, registry_digest TEXT, timeline_digest TEXT, counters TEXT, slots TEXT, crc INTEGER
);
CREATE TABLE state_page (
    partition INTEGER, array TEXT, page INTEGER, version INTEGER, format INTEGER, body BLOB, crc INTEGER,
    PRIMARY KEY (partition, array, page)
);
CREATE TABLE state_delta (
    id INTEGER PRIMARY KEY, partition INTEGER, array TEXT, version INTEGER, format INTEGER, count INTEGER, body BLOB,
    crc INTEGER
);
CREATE TABLE inbox (
    id INTEGER PRIMARY KEY, partition INTEGER, kind TEXT, key TEXT, body TEXT, created_at_s INTEGER DEFAULT 0
);
CREATE TABLE inbox_applied (
    inbox_id INTEGER, partition INTEGER, "offset" INTEGER, checkpoint_id INTEGER, outcome TEXT
);
CREATE TABLE entry (id INTEGER PRIMARY KEY, partition INTEGER, kind TEXT, "offset" INTEGER, reference TEXT);
CREATE TABLE posting (entry_id INTEGER, line INTEGER, account_name TEXT, amount_fen INTEGER);
CREATE TABLE subledger (partition INTEGER, page INTEGER, entry_id INTEGER, body BLOB, crc INTEGER);
CREATE TABLE exception (
    reason TEXT, partition INTEGER, "offset" INTEGER, source TEXT, stream TEXT, sequence INTEGER, meter TEXT,
    register TEXT, read_at_s INTEGER, value INTEGER, quality TEXT, bytes BLOB, repeats INTEGER
);
CREATE TABLE bill_page (partition INTEGER, page INTEGER, entry_id INTEGER, body BLOB, crc INTEGER);
CREATE TABLE late_page (id INTEGER PRIMARY KEY, partition INTEGER, "offset" INTEGER, body BLOB, crc INTEGER);
CREATE TABLE archive_file (
    partition INTEGER, first_offset INTEGER, last_offset INTEGER, path TEXT, digest TEXT
);
CREATE TABLE order_ (
    id INTEGER, account TEXT, arm INTEGER, attempt INTEGER, key TEXT, amount_fen INTEGER, state TEXT,
    created_at_s INTEGER DEFAULT 1000, caps_at_s INTEGER, mandate TEXT DEFAULT 'M', payer TEXT DEFAULT 'P',
    gateway TEXT DEFAULT 'demo', gateway_txn TEXT
);
CREATE TABLE order_step (
    id INTEGER PRIMARY KEY, order_id INTEGER, at_s INTEGER, from_state TEXT, to_state TEXT, evidence TEXT
);
CREATE TABLE cap_use (scope TEXT, amount_fen INTEGER, count INTEGER);
CREATE TABLE mandate (
    id TEXT, cap_charge_fen INTEGER, cap_day_fen INTEGER, cap_month_fen INTEGER, cap_day_count INTEGER
);
CREATE TABLE registry_version (digest TEXT, activated_at_s INTEGER);
CREATE TABLE event (id INTEGER PRIMARY KEY, kind TEXT, account TEXT, arm INTEGER, as_of_s INTEGER);
CREATE TABLE notice (key TEXT, template TEXT);
"""
LOG = """CREATE TABLE record (id INTEGER PRIMARY KEY, kind INTEGER, received_at_s INTEGER, source TEXT,
stream TEXT, sequence INTEGER, detail TEXT, crc INTEGER, body BLOB)"""
COMPONENT = {"energy": 1, "tier_adder": 2, "rounding": 3, "credit": 4, "opening": 5, "reversal": 7}


def local_s(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp())


def day_number(text: str) -> int:
    return date.fromisoformat(text).toordinal() - date(1970, 1, 1).toordinal()


def tables(**more: list[dict[str, str]]) -> dict[str, list[dict[str, Any]]]:
    """One account at one point with one meter, from 1 July 2026 on, opening register 0."""
    start = "2026-07-01"
    found: dict[str, list[dict[str, Any]]] = {
        "points": [{"metering_point": "P", "commodity": "electricity", "timezone": ""}],
        "accounts": [
            {
                "account": "A", "party": "x", "metering_point": "P", "from": start, "to": "", "partition": 0,
                "slot": 0,
            }
        ],
        "meters": [
            {
                "meter": "000000000001", "metering_point": "P", "concentrator": "c1", "position": "0", "from": start,
                "to": "", "digits": "5", "multiplier": "1", "power_max_w": "13200",
            }
        ],
        "registers": [
            {"meter": "000000000001", "register": "1.8.0", "role": "bill", "resolution": "0.001", "unit": "kWh"}
        ],
        "tariffs": [{"account": "A", "tariff": "guangzhou-residential", "from": start, "to": ""}],
        "attributes": [],
        "changeouts": [],
        "opening_registers": [
            {"meter": "000000000001", "register": "1.8.0", "value": "0", "read_at": start, "quality": "A"}
        ],
        "opening_accounts": [{"account": "A", "balance": "500.00", "arrears": "", "cycle_energy": ""}],
    }  # fmt: skip
    return found | more


class Disk:
    """Writes a data directory piece by piece; `home` is the state of the one meter, ladder and account."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ledger = sqlite3.connect(root / "ledger.db", isolation_level=None)
        self.ledger.executescript(LEDGER)
        self.log = sqlite3.connect(root / "log.db", isolation_level=None)
        self.log.execute(LOG)
        self.records: list[tuple[int, int, str, bytes]] = []
        self.inbox = self.entries = self.checkpoints = 0
        self.digest = ""
        self.detail: dict[int, str] = {}  # of records, by offset
        self.counters: dict[str, int] = {}  # of the next checkpoint; else every reading was accepted
        self.home: dict[str, dict[str, int]] = {
            "channel": {"until_s": 2**32 - 1, "power_max_w": 13_200, "multiplier": 1, "resolution": 1, "digits": 5,
                        "quality": 4, "flags": 1},
            "cold": {"next": -1},
            "ladder": {},
            "account": {"flags": 7},
        }  # fmt: skip

    def registry(self, digest: str, found: dict[str, list[dict[str, Any]]], at: int = 0) -> None:
        folder = self.root / "registry" / digest
        folder.mkdir(parents=True)
        (folder / "version.json").write_text(json.dumps({"partitions": 1, "timezone": "Asia/Shanghai"}))
        slots: dict[str, list[dict[str, Any]]] = {
            "channels": [
                {
                    "meter": "000000000001",
                    "register_code": 1,
                    "from_s": local_s("2026-07-01"),
                    "partition": 0,
                    "slot": 0,
                }
            ],
            "ladders": [{"account": "A", "tariff": "guangzhou-residential", "partition": 0, "slot": 0}],
        }
        for name, rows in (found | slots).items():
            if rows:
                pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
        self.digest = digest
        self.command("registry", f"registry:{digest}", {"digest": digest}, at)

    def command(self, kind: str, key: str, body: dict[str, Any], at: int) -> None:
        self.inbox += 1
        self.ledger.execute(
            "INSERT INTO inbox VALUES (?, NULL, ?, ?, ?, 0)", (self.inbox, kind, key, json.dumps(body))
        )
        self.ledger.execute("INSERT INTO inbox_applied VALUES (?, 0, ?, ?, '')", (self.inbox, at, self.inbox))

    def read(self, at: str, value_wh: int, meter: int = 1, quality: int = 4) -> None:
        """One record with one reading, received a minute after."""
        columns = [[meter], [value_wh], [local_s(at)], [1], [quality]]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
        body = pa.record_batch(arrays, schema=SCHEMA).serialize().to_pybytes()
        self.records.append((1, local_s(at) + 60, "c1", body))

    def tick(self, at: str) -> None:
        self.records.append((3, local_s(at), "", b""))

    def entry(
        self, kind: str, rows: Iterable[tuple[str, str, int, int]], other: str, reference: str | None = None
    ) -> None:
        """rows: (component, local day, amount_fen, Wh) of account slot 0; balanced by one posting on `other`."""
        self.entries += 1
        kept = list(rows)
        total = sum(row[2] for row in kept)
        body = b"".join(
            struct.pack("<qqiiiB3x", amount, wh, 0, -1, day_number(day), COMPONENT[name])
            for name, day, amount, wh in kept
        )
        head = (self.entries, kind, len(self.records), reference)
        self.ledger.execute("INSERT INTO entry VALUES (?, 0, ?, ?, ?)", head)
        crc = checksum(0, "subledger", 0, self.entries, body)
        self.ledger.execute("INSERT INTO subledger VALUES (0, 0, ?, ?, ?)", (self.entries, body, crc))
        for line, (name, amount) in enumerate((("customer", total), (other, -total))):
            self.ledger.execute("INSERT INTO posting VALUES (?, ?, ?, ?)", (self.entries, line, name, amount))

    def store(self, archived: int = 0) -> None:
        """The first `archived` records go to the archive, the others to the log; the cursor is the last one."""
        if archived:
            names = ("offset", "kind", "received_at_s", "source", "stream", "sequence", "detail", "body")
            rows = [(i + 1, k, t, s, "", 1, "", b) for i, (k, t, s, b) in enumerate(self.records[:archived])]
            path = self.root / "archive" / "0" / f"1-{archived}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table({n: [row[i] for row in rows] for i, n in enumerate(names)}), path)
            digest = sha256(path.read_bytes()).hexdigest()
            self.ledger.execute("DELETE FROM archive_file")
            named = (archived, f"0/1-{archived}.parquet", digest)
            self.ledger.execute("INSERT INTO archive_file VALUES (0, 1, ?, ?, ?)", named)
        for offset, (kind, at_s, source, body) in enumerate(self.records[archived:], archived + 1):
            detail = self.detail.get(offset, "")
            crc = zlib.crc32(body, zlib.crc32(f"{kind} {at_s} {source}  1 {detail}".encode()))
            row = (offset, kind, at_s, source, detail, crc, body)
            self.log.execute("INSERT OR IGNORE INTO record VALUES (?,?,?,?,'',1,?,?,?)", row)
        self.checkpoint()
        self.state()

    def checkpoint(self, partition: int = 0, slots: int = 1) -> None:
        self.checkpoints += 1
        lengths = json.dumps({name: slots if name in self.home else 0 for name in ARRAYS})
        digest, offset = (self.digest, len(self.records)) if slots else ("", 0)
        readings = sum(kind == 1 for kind, *_ in self.records) if slots else 0
        counters = json.dumps(self.counters or {"verdict.accepted": readings, "readings": readings, "ticks": 1})
        row = (partition, 1, "log", offset, 0, 1, digest, "t", counters, lengths)
        self.ledger.execute(
            f"INSERT INTO checkpoint VALUES (?, {', '.join('?' * 11)})", (self.checkpoints, *row, row_checksum(*row))
        )

    def state(self, **arrays: dict[str, int]) -> None:
        """Change fields of the home's arrays, and write them as pages of the newest checkpoint."""
        for array in self.home:
            dtype = ARRAYS[array]
            self.home[array] |= arrays.get(array, {})
            rows = np.zeros(1, dtype)
            for name, value in self.home[array].items():
                rows[name] = value
            page = (0, array, 0, self.checkpoints, STATE_FORMAT, rows.tobytes())
            crc = checksum(0, array, 0, self.checkpoints, rows.tobytes())
            self.ledger.execute("INSERT OR REPLACE INTO state_page VALUES (?, ?, ?, ?, ?, ?, ?)", (*page, crc))


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


class Summer:
    """The published example: 600 kWh in July, 20 kWh on each of 30 days, and none on the 31st."""

    opening = ("opening", "2026-07-01", 50_000, 0)

    @staticmethod
    def days() -> list[tuple[str, str, int, int]]:
        """11.777375 yuan a day, whole fen of what has added up; 1.00 more from the 14th day on (above 260 kWh)."""
        rows = []
        for n in range(1, 31):
            day = f"2026-07-{n:02}"
            rows.append(("energy", day, -(11_777_375 * n // 10_000 - 11_777_375 * (n - 1) // 10_000), 20_000))
            if n > 13:
                rows.append(("tier_adder", day, -100, 0))
        return rows

    @classmethod
    def write(cls, disk: Disk, rows: list[tuple[str, str, int, int]] | None = None, archived: int = 10) -> None:
        disk.registry("v1", tables())
        for n in range(1, 31):
            disk.read(f"2026-07-{n + 1:02}T00:00", 20_000 * n)
        disk.read("2026-08-01T00:00", 600_000)
        disk.tick("2026-08-01T00:05")
        disk.entry("opening", [cls.opening], "opening")
        disk.entry("usage", cls.days() if rows is None else rows, "revenue:energy")
        disk.home["channel"] |= {"value": 600_000, "at_s": local_s("2026-08-01")}
        disk.home["ladder"] |= {"used": 600_000}
        disk.home["account"] |= {"balance_fen": 50_000 - 37_032, "cycle": 56 * 12 + 7}
        disk.store(archived)


@pytest.fixture
def summer() -> type[Summer]:
    return Summer


@pytest.fixture
def plain_tables() -> Any:
    return tables


@pytest.fixture
def same_bounds():
    """Of one tariff: the auditor's bounds of every day, and its tier cycles, are those of the engine's schedule."""

    def check(audited, calendar, schedule, history):
        told = tuple((change.name, change.from_s, change.value) for change in history)
        stage = 0
        for day in range(audited.first_day, audited.end_day):
            while schedule.end_s[stage] <= calendar.day_start_s(day):
                stage += 1
            bounds = audited.bounds_on(day, told)
            assert schedule.bounds[stage][: len(bounds)] == bounds, day
            assert audited.tier_cycle(int(months_of([day])[0])) == schedule.cycle[stage]

    return check
