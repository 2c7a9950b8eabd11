"""A small city in which money is always short, run as real processes; and what its files say at one moment."""

import csv
import json
import os
import sqlite3
import subprocess
import tempfile
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ingest.mark_journal import newest
from simulators.rig import Rig, RigFailed, Story

STOPS_MAX = 5
WAITS_MAX = 8
IN_FLIGHT = ("created", "submitted", "unknown", "succeeded", "succeeded_late")


class ShortOfMoney(Rig):
    """Every household has a mandate for small amounts, and begins below its trigger or little above it."""

    def furnish(self, source: Path) -> None:
        with (source / "opening_accounts.csv").open(newline="") as file:
            accounts = list(csv.DictReader(file))
        for number, account in enumerate(accounts):
            account["balance"] = f"{18 + number % 9}.00"
        _write(source / "opening_accounts.csv", accounts)
        with (source / "mandates.csv").open(newline="") as file:
            pattern = next(csv.DictReader(file))
        names = [account["account"] for account in accounts]
        payer = {"payer": "daughter", "token": "tok-daughter", "amount": "20.00", "cap_month": ""}
        mandates = [pattern | payer | {"mandate": f"M-{name}", "account": name} for name in names]
        _write(source / "mandates.csv", mandates)


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@dataclass
class Moment:
    """What the files of all parts say at once, taken while the daemon is dead."""

    logged: set[tuple[str, int]] = field(default_factory=set)  # (stream, sequence): in the log
    waiting: set[tuple[str, int]] = field(default_factory=set)  # in the fleet's outbox
    held: dict[str, int] = field(default_factory=dict)  # as the fleet was told
    marks: dict[str, int] = field(default_factory=dict)  # as the log has it
    log_first: dict[int, int] = field(default_factory=dict)
    log_last: dict[int, int] = field(default_factory=dict)
    rated: dict[int, int] = field(default_factory=dict)  # cursor by partition
    checkpoints: int = 0
    archived: dict[int, int] = field(default_factory=dict)  # last named offset
    files: set[str] = field(default_factory=set)  # on disk
    named: set[str] = field(default_factory=set)  # in the ledger
    orders: dict[str, str] = field(default_factory=dict)  # key -> state
    credited: set[str] = field(default_factory=set)  # keys with a credit in the inbox
    charged: list[str] = field(default_factory=list)  # keys in the gateway's book
    pending: set[str] = field(default_factory=set)  # notices
    told: list[str] = field(default_factory=list)  # keys in notices.jsonl

    def in_state(self, *states: str) -> set[str]:
        return {key for key, state in self.orders.items() if state in states}


def _asked(path: Path, sql: str) -> list[tuple]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as db:
        return db.execute(sql).fetchall()


def marks(log: Path) -> dict[str, int]:
    """How far each stream is contiguous in the log."""
    with closing(sqlite3.connect(f"file:{log}?mode=ro", uri=True, timeout=10)) as db:
        return {mark.stream: mark.contiguous for mark in newest(db)}


def _outbox_stands(rig: Rig) -> bool:
    """A fleet that starts makes its tables singly."""
    tables = "SELECT count(*) FROM sqlite_master WHERE name IN ('stream', 'message')"
    return rig.outbox.exists() and _asked(rig.outbox, tables) == [(2,)]


def moment(rig: Rig) -> Moment:
    """Read every part's files."""
    ledger, log = rig.data / "ledger.db", rig.data / "log.db"
    found = Moment()
    if _outbox_stands(rig):  # first, so that what is held by then is in the log read after it
        found.held = dict(_asked(rig.outbox, "SELECT stream, held FROM stream"))
        found.waiting = set(_asked(rig.outbox, "SELECT stream, sequence FROM message"))
    found.logged = set(_asked(log, "SELECT stream, sequence FROM record WHERE sequence > 0"))
    found.marks = marks(log)
    bounds = _asked(
        log, "SELECT id >> 48, min(id & 281474976710655), max(id & 281474976710655) FROM record GROUP BY 1"
    )
    found.log_first = {partition: first for partition, first, _ in bounds}
    found.log_last = {partition: last for partition, _, last in bounds}
    found.rated = dict(_asked(ledger, 'SELECT partition, max("offset") FROM checkpoint GROUP BY partition'))
    found.checkpoints = _asked(ledger, "SELECT count(*) FROM checkpoint")[0][0]
    found.archived = dict(_asked(ledger, "SELECT partition, max(last_offset) FROM archive_file GROUP BY partition"))
    archive = rig.data / "archive"
    found.files = {path.relative_to(archive).as_posix() for path in archive.glob("*/*.parquet")}
    found.named = {path for (path,) in _asked(ledger, "SELECT path FROM archive_file")}
    found.orders = dict(_asked(ledger, "SELECT key, state FROM order_"))
    credited = "i.kind = 'credit' AND i.key = 'order:' || o.id || ':' || o.attempt"
    found.credited = {key for (key,) in _asked(ledger, f"SELECT o.key FROM order_ o JOIN inbox i ON {credited}")}
    found.charged = [key for (key,) in _asked(rig.book, "SELECT key FROM charge")]
    found.pending = {key for (key,) in _asked(ledger, "SELECT key FROM notice WHERE state = 'pending'")}
    notices = rig.data / "notices.jsonl"
    if notices.exists():
        found.told = [json.loads(line)["key"] for line in notices.read_text().splitlines() if line.endswith("}")]
    return found


def holds(now: Moment) -> None:
    """What must be true at every moment, however everything died."""
    for stream, sequence in now.held.items():
        assert sequence <= now.marks.get(stream, 0), f"{stream} was told {sequence} is held, and the log has less"
    for partition, cursor in now.rated.items():
        assert cursor <= now.log_last.get(partition, cursor), f"partition {partition} was rated beyond its log"
    for partition, first in now.log_first.items():
        assert first <= now.archived.get(partition, 0) + 1, f"partition {partition}: pruned, and in no archive"
        assert first <= now.rated.get(partition, 0) + 1, f"partition {partition}: pruned before it was rated"
    assert now.named <= now.files, "the ledger names archive files that are not there"
    assert len(now.charged) == len(set(now.charged)), "a key was charged twice"
    assert set(now.charged) <= set(now.orders), "the gateway charged an order that the ledger does not have"
    assert len(now.told) == len(set(now.told)), "a notice was sent twice"


def _quiet_when_paid(rig: Rig, deadline_real_s: float) -> dict:
    """Wait for quiet, and again while payments come in: on a slow machine a city has used, and owes, for longer."""
    credited = -1
    for _ in range(WAITS_MAX):
        left, before = rig.wait_quiet(deadline_real_s), credited
        ((credited,),) = _asked(rig.data / "ledger.db", "SELECT count(*) FROM order_ WHERE state = 'credited'")
        if left["quiet"] or credited == before:
            break
    return left


def ends_at_zero(rig: Rig, *, deadline_real_s: float = 60.0) -> dict:
    """End the fleet, wait for quiet, stop the daemon; then checker, audit and the rest agree. The audit's counts.

    A payment that waits for its time counts as quiet, and its time may come with the stop. What the last checkpoint
    then leaves undone is the next start's to go on with.
    """
    rig.end_fleet()
    assert rig.wait_fleet(deadline_real_s) == 0, f"not everything was held: {rig.fleet_lines[-1:]}"
    for _ in range(STOPS_MAX):
        left = _quiet_when_paid(rig, deadline_real_s)
        assert left["quiet"], left
        assert rig.stop_daemon() == 0
        if rig.wait_quiet(0)["quiet"]:
            break
        rig.start_daemon()
    return agrees(rig)


def agrees(rig: Rig) -> dict:
    """Checker and audit at zero, nothing charged twice, nobody forgotten, every notice once. The audit's report."""
    checked, audited, now = rig.check(), rig.audit(), moment(rig)
    assert checked["clean"], checked
    assert audited["ok"], audited
    assert audited["difference_fen"] == 0
    holds(now)
    assert not now.in_state(*IN_FLIGHT), "orders were forgotten"
    assert set(now.charged) == now.credited, "charged and credited differ"
    ledger = rig.data / "ledger.db"
    open_events = "SELECT id FROM event WHERE kind = 'low_balance' AND id NOT IN (SELECT event_id FROM decision)"
    assert not _asked(ledger, open_events), "a low balance was never decided"
    sent = {key for key, error in _asked(ledger, "SELECT key, error FROM notice WHERE state = 'sent'") if not error}
    assert set(now.told) == sent, "the notices that went out are not those that the ledger calls sent"
    return {"checked": checked, "audited": audited, "now": now}


def _mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True, timeout=60, capture_output=True)


@contextmanager
def _small_disk(folder: Path, megabytes: int):
    """A file system of its own at the folder, gone afterwards; whoever holds files there has ended by then."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={megabytes}m", "meterd-test", folder)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=60)


@pytest.fixture(scope="session")
def mounting() -> bool:
    """Whether this user may mount on this machine."""
    if os.geteuid() != 0:
        return False
    try:
        with tempfile.TemporaryDirectory() as folder, _small_disk(Path(folder), 1):
            return True
    except (OSError, subprocess.SubprocessError):
        return False


@pytest.fixture(scope="session")
def crash():
    """This file's helpers, for tests that import nothing from a conftest."""

    class Helpers:
        city = ShortOfMoney
        story = Story
        failed = RigFailed
        marks = staticmethod(marks)
        moment = staticmethod(moment)
        holds = staticmethod(holds)
        ends_at_zero = staticmethod(ends_at_zero)
        agrees = staticmethod(agrees)
        asked = staticmethod(_asked)
        mount = staticmethod(_mount)
        small_disk = staticmethod(_small_disk)
        outbox_stands = staticmethod(_outbox_stands)

    return Helpers
