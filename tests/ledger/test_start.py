"""Starts that must be refused, each with what to do; and the schema that migrations make."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from config.clock import ManualClock
from config.settings import LedgerSettings
from ledger.database import _config, migrate, reading, writer_engine
from ledger.effects import PAGE_SLOTS
from ledger.port import StartRefused
from ledger.schema import metadata
from ledger.store import LedgerStore
from rating.state import ARRAYS

Make = Callable[..., object]


@dataclass
class Log:
    log_id: str
    ends: tuple[int, int]
    firsts: tuple[int, int] = (1, 1)

    def bounds(self, partition: int) -> tuple[int, int]:
        return self.firsts[partition], self.ends[partition]


@pytest.fixture
def written(opener: Make, make_checkpoint: Make, make_arrays: Make, tmp_path: Path) -> Path:
    """A closed ledger: partition 0 at offset 9, pages and one delta."""
    store = opener()
    epoch = store.take_over("partition:0", "t")
    arrays = make_arrays(2 * PAGE_SLOTS)
    store.commit([make_checkpoint(epoch=epoch, offset=8, arrays=arrays)])
    store.commit([make_checkpoint(epoch=epoch, offset=9, arrays=arrays, dirty=[3])])
    store.close()
    return tmp_path / "ledger.db"


def _damage(path: Path, sql: str) -> None:
    with sqlite3.connect(path) as connection:
        assert connection.execute(sql).rowcount > 0
    connection.close()


FLIP = "CAST(substr(body, 1, 999) || x'5a' || substr(body, 1001) AS BLOB)"


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        (f"UPDATE state_page SET body = {FLIP} WHERE page = 1 AND array = 'channel'", "channel, page 1.*checksum"),
        ("UPDATE state_page SET body = substr(body, 1, 4096) WHERE page = 0", "page 0.*checksum"),
        ("UPDATE state_page SET version = version + 1 WHERE array = 'cold'", "cold, page 0.*checksum"),
        ("UPDATE state_page SET format = 9", "format 9 is not known"),
        ("DELETE FROM state_page WHERE array = 'ladder' AND page = 1", "ladder: 1024 slots are missing"),
        ("UPDATE state_delta SET body = zeroblob(length(body))", "delta.*checksum"),
        ("UPDATE checkpoint SET offset = 7 WHERE offset = 9", "Checkpoint 2 .*checksum"),
        ("UPDATE checkpoint SET counters = '{}' WHERE offset = 9", "Checkpoint 2 .*checksum"),
    ],
)
def test_damage_refuses_the_start(written: Path, opener: Make, sql: str, says: str) -> None:
    _damage(written, sql)
    store = opener()
    with pytest.raises(StartRefused, match=says) as refused:
        store.recover(0)
    assert "meterd restore" in refused.value.what_to_do


def test_pages_that_the_database_itself_cannot_read_refuse_the_start(written: Path, opener: Make) -> None:
    store = opener()
    with written.open("r+b") as file:
        file.seek(40 * 8192)
        file.write(b"\xa5" * (written.stat().st_size - 40 * 8192))
    with pytest.raises(StartRefused, match=r"cannot be read|does not match"):
        store.recover(0)


def test_a_file_that_is_no_database_refuses_the_start(written: Path, opener: Make) -> None:
    written.write_bytes(b"not a database" * 1000)
    with pytest.raises(StartRefused, match="cannot be opened"):
        opener()
    assert written.read_bytes().startswith(b"not a database")


@pytest.mark.parametrize(
    ("change", "says"),
    [({"log_id": "log-2"}, "log_id = log-1, not log-2"), ({"partitions": 4}, "partitions = 2, not 4")],
)
def test_another_identity_refuses_the_start(written: Path, opener: Make, change: dict, says: str) -> None:
    with pytest.raises(StartRefused, match=says):
        opener(**change)
    opener().recover(0)  # the refusal let the lock go


@pytest.mark.parametrize(
    ("log", "says"),
    [
        (Log("log-2", (9, 0)), "this log is log-2"),
        (Log("log-1", (8, 0)), "the log ends at 8"),
        (Log("log-1", (0, 0)), "the log ends at 0"),
        (Log("log-1", (30, 0), (12, 1)), "the log begins at 12"),
    ],
)
def test_a_log_that_cannot_be_gone_on_in_refuses_the_start(written: Path, opener: Make, log: Log, says: str) -> None:
    with pytest.raises(StartRefused, match=says):
        opener().check_log(log)


@pytest.mark.parametrize("log", [Log("log-1", (9, 0)), Log("log-1", (30, 5), (10, 1)), Log("log-1", (9, 0), (10, 1))])
def test_a_log_that_goes_on_is_taken(written: Path, opener: Make, log: Log) -> None:
    opener().check_log(log)


def test_a_second_daemon_is_refused_and_the_first_one_named(written: Path, opener: Make) -> None:
    opener()
    with pytest.raises(StartRefused, match=rf"runs on .* already \(process {os.getpid()}\)"):
        opener()


def test_a_schema_of_tomorrow_refuses_the_start(written: Path, opener: Make) -> None:
    _damage(written, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StartRefused, match="schema 9999"):
        opener()


def test_migrations_make_the_schema(tmp_path: Path) -> None:
    migrated = writer_engine(tmp_path / "a.db")
    migrate(migrated)
    migrate(migrated)  # nothing left to do
    direct = create_engine(f"sqlite:///{tmp_path / 'b.db'}")
    metadata.create_all(direct)
    with migrated.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    for table in metadata.tables:
        for ask in ("get_columns", "get_unique_constraints", "get_foreign_keys", "get_pk_constraint"):
            found = [getattr(inspect(engine), ask)(table) for engine in (migrated, direct)]
            assert str(found[0]) == str(found[1]), (table, ask)
        checks = [sorted(c["name"] for c in inspect(e).get_check_constraints(table)) for e in (migrated, direct)]
        assert checks[0] == checks[1]
    indexes = (
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND name != 'sqlite_autoindex_alembic_version_1'"
    )
    made = [sorted(e.connect().exec_driver_sql(indexes).all(), key=str) for e in (migrated, direct)]
    assert made[0] == made[1]


def test_a_ledger_of_the_first_schema_comes_along_and_nobody_in_it_is_forgotten(tmp_path: Path) -> None:
    """Waits, and refusals that were for ever, are on the work list; one that is over or ordered is not."""
    engine = writer_engine(tmp_path / "a.db")
    with engine.connect() as connection, connection.begin():
        command.upgrade(_config(connection), "0001")
        for number, (outcome, reason) in enumerate(
            [("wait", "window"), ("refuse", "nobody_can_pay"), ("refuse", "recovered"), ("order", "low_balance")], 1
        ):
            connection.exec_driver_sql(
                'INSERT INTO event (id, "partition", kind, account, arm, as_of_s, balance_fen, decided)'
                f" VALUES ({number}, 0, 'low_balance', 'a{number}', 1, 5, 1900, 1)"
            )
            for made, why in (("wait", "hold"), (outcome, reason)):
                connection.exec_driver_sql(
                    "INSERT INTO decision (event_id, account, at_s, outcome, reason, retry_at_s, detail)"
                    f" VALUES ({number}, 'a{number}', 5, '{made}', '{why}', 9, '{{}}')"
                )
    migrate(engine)
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT event_id, account, at_s, reason FROM autopay_wait").all()
    assert [tuple(row) for row in found] == [(1, "a1", 0, "window"), (2, "a2", 0, "nobody_can_pay")]


def test_of_notices_that_were_on_their_way_in_an_older_schema_money_goes_first(tmp_path: Path) -> None:
    """An alert that a charge of its account follows stays before it; a lane that rests goes on resting."""
    engine = writer_engine(tmp_path / "a.db")
    notices = [
        (1, "low_balance", "a1", "pending", "file"),
        (2, "low_balance", "a2", "pending", "apprise:x"),
        (3, "charged", "a2", "pending", "file"),
        (4, "low_balance", "a2", "pending", "file"),
        (5, "low_balance", "a3", "sent", "file"),
        (6, "charged", "a3", "sent", "apprise:y"),
        (7, "low_balance", "a3", "pending", "apprise:y"),
    ]
    with engine.connect() as connection, connection.begin():
        command.upgrade(_config(connection), "0003")
        for number, template, account, state, lane in notices:
            connection.exec_driver_sql(
                "INSERT INTO notice"
                " (id, key, template, party, account, params, created_at_s, next_at_s, deliveries, state)"
                f" VALUES ({number}, 'k{number}', '{template}', '', '{account}', '{{}}', 5, 5, 1, '{state}')"
            )
            connection.exec_driver_sql(
                "INSERT INTO notice_delivery (notice_id, lane, next_at_s, state)"
                f" VALUES ({number}, '{lane}', 5, '{state}')"
            )
        for lane, next_at_s, failures in (
            ("file", 9, 2),
            ("apprise:x", 5, 0),
            ("apprise:y", 5, 0),
            ("webhook", None, 1),
        ):
            connection.exec_driver_sql(
                "INSERT INTO notice_lane (lane, channel, next_at_s, failures) VALUES (?, ?, ?, ?)",
                (lane, lane.split(":")[0], next_at_s, failures),
            )
    migrate(engine)
    with engine.connect() as connection:
        order = "SELECT rank, notice_id FROM notice_delivery WHERE state = 'pending' ORDER BY rank, notice_id"
        assert [tuple(row) for row in connection.exec_driver_sql(order)] == [(0, 2), (0, 3), (1, 1), (1, 4), (1, 7)]
        lanes = "SELECT lane, rank, next_at_s, rests_until_s FROM notice_lane ORDER BY lane"
        assert [tuple(row) for row in connection.exec_driver_sql(lanes)] == [
            ("apprise:x", 0, 5, 0), ("apprise:y", 1, 5, 0), ("file", 0, 9, 9), ("webhook", 1, None, 0)
        ]  # fmt: skip


def test_another_process_reads_without_the_lock(written: Path, opener: Make) -> None:
    opener()
    with reading(written) as connection:
        assert connection.exec_driver_sql("SELECT max(offset) FROM checkpoint").scalar() == 9


def test_reading_where_nothing_is_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="no ledger"), reading(tmp_path / "ledger.db"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_path_with_odd_letters_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a b#c?d%41"
    path.mkdir()
    named = {"settings": LedgerSettings(), "clock": ManualClock(1), "log_id": "l", "partitions": 1, "arrays": ARRAYS}
    store = LedgerStore.open(path / "ledger.db", **named)
    assert store.recover(0).offset == 0
    store.close()
    assert {file.name for file in path.iterdir()} == {"ledger.db", "meterd.lock"}


def test_commits_are_synchronous_and_keys_are_enforced(store: LedgerStore) -> None:
    asked = ("journal_mode", "synchronous", "foreign_keys")
    found = store.write(lambda c: [c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in asked])
    assert found == ["wal", 2, 1]


WRITER = """
import sys
from pathlib import Path
import numpy as np
from config.clock import ManualClock
from config.settings import LedgerSettings
from ledger import postings
from ledger.effects import PartitionCheckpoint, StateChange
from ledger.store import LedgerStore
from rating.state import ARRAYS

store = LedgerStore.open(Path(sys.argv[1]), settings=LedgerSettings(delta_bytes_max=20_000), clock=ManualClock(1),
                         log_id="log-1", partitions=2, arrays=ARRAYS)
found = store.recover(0)
arrays = found.arrays if found.log_id else {n: np.zeros(3000, d) for n, d in ARRAYS.items()}
epoch, offset = store.take_over("partition:0", "child"), found.offset
print("ready", offset, flush=True)
while True:
    offset += 1
    slots = np.unique(np.random.default_rng(offset).integers(0, 3000, 20)).astype(np.int32)
    for rows in arrays.values():
        rows[rows.dtype.names[0]][slots] = offset
    account = arrays["account"]["balance_fen"]
    account[:] = np.where(np.isin(np.arange(3000), slots), offset, account)
    credit = postings.credit_entry(1, offset, "clearing:x", f"k{offset}", offset=offset, booked_at_s=1, day=1)
    state = {n: StateChange(rows, slots) for n, rows in arrays.items()}
    store.commit([PartitionCheckpoint(0, epoch, "log-1", offset, 1, "r", "t", {"n": offset}, state, [credit])])
    print(offset, flush=True)
"""


def test_kill_9_at_any_moment_keeps_every_acknowledged_commit(tmp_path: Path, opener: Make) -> None:
    """Ten lives; after each, state, cursor and money are those of one commit, and of none before the last answer."""
    arrays = {n: np.zeros(3000, d) for n, d in ARRAYS.items()}
    replayed = 0
    for life in range(10):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "ledger.db")], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == f"ready {replayed}\n"
        acknowledged = [int(child.stdout.readline()) for _ in range(3 + 5 * life)][-1]
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split()
        child.wait(20)
        acknowledged = max([acknowledged, *map(int, rest)])
        store = opener()
        found = store.recover(0)
        assert acknowledged <= found.offset <= acknowledged + 1
        for offset in range(replayed + 1, found.offset + 1):
            slots = np.unique(np.random.default_rng(offset).integers(0, 3000, 20))
            for rows in arrays.values():
                rows[rows.dtype.names[0]][slots] = offset
        replayed = found.offset
        assert all(found.arrays[name].tobytes() == rows.tobytes() for name, rows in arrays.items())
        with store.reader() as connection:
            sums = connection.exec_driver_sql(
                "SELECT sum(amount_fen) FROM posting WHERE account_name = 'customer'"
            ).scalar()
        assert sums == replayed * (replayed + 1) // 2
        store.close()


@pytest.mark.parametrize(("step", "kept"), [("checkpoint.before_commit:3", 2), ("checkpoint.committed:3", 3)])
def test_dying_at_the_steps_of_a_checkpoint(tmp_path: Path, opener: Make, step: str, kept: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path / "ledger.db")],
        env=os.environ | {"METERD_KILL_AT": step},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.split()[-1]) == (-signal.SIGKILL, "2")
    found = opener().recover(0)
    assert (found.offset, found.counters) == (kept, {"n": kept})
