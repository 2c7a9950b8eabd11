"""Starts that must be refused, with what to do and nothing changed; and a backup of a living city, restored."""

import hashlib
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from ingest.log_sqlite import SqliteLog

FASTER = 30_000.0
SETTINGS = {
    "autopay": {"cooldown_s": 0, "cap_day_count": 1000, "cap_day_fen": 10**7, "cap_month_fen": 10**8},
    "ingest": {"resend_after_s": int(0.5 * FASTER), "resend_times": 3},
}
REFUSED = 4


def wait_until(what, deadline_real_s=30.0):
    until = time.monotonic() + deadline_real_s
    while not what():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.05)


def tried(config):
    """A start that is expected to end by itself: (exit code, what it said)."""
    arguments = [sys.executable, "-m", "meterd.cli", "run", "--config", str(config)]
    done = subprocess.run(arguments, capture_output=True, check=False, timeout=60, text=True)
    return done.returncode, done.stderr


def contents(folder):
    """Digests of what the files hold: every table's rows for databases, bytes for the rest."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix == ".lock" or path.name.endswith(("-wal", "-shm")):
            continue
        if path.suffix == ".db":
            try:
                with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
                    text = "\n".join(db.iterdump()).encode("utf-8", "replace")
            except sqlite3.DatabaseError:
                text = path.read_bytes()
        else:
            text = path.read_bytes()
        found[path.relative_to(folder).as_posix()] = hashlib.sha256(text).hexdigest()
    return found


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def city(crash, tmp_path_factory):
    """A city that has run for a while; (its rig, what a second daemon on its data said)."""
    told = crash.story(meters=20, days=400, seed=13, factor=FASTER, partitions=2, lead_real_s=3.0, settings=SETTINGS)
    with crash.city(tmp_path_factory.mktemp("city"), told) as rig:
        rig.prepare()
        rig.start_gateway()
        rig.start_daemon()
        rig.start_fleet()
        wait_until(lambda: len(crash.moment(rig).logged) > 100)
        second = tried(rig.config)
        first_still_runs = rig.daemon.poll() is None and rig.endpoint() is not None
        rig.end_fleet()
        assert rig.wait_fleet(30) == 0
        assert rig.stop_daemon() == 0
        yield rig, second, first_still_runs


@pytest.fixture
def copied(city, tmp_path):
    """A copy of the city's data to damage: (folder, its config)."""
    rig = city[0]
    shutil.copytree(rig.data, tmp_path / "data")
    config = tmp_path / "meterd.toml"
    config.write_text(rig.config.read_text().replace(str(rig.data), str(tmp_path / "data")))
    return tmp_path / "data", config


def execute(path, *statements):
    with closing(sqlite3.connect(path)) as db, db:
        return [db.execute(*statement).rowcount for statement in statements]


def damage_page(data):
    with closing(sqlite3.connect(data / "ledger.db")) as db:
        table = "state_page" if db.execute("SELECT count(*) FROM state_page").fetchone()[0] else "state_delta"
        key, body = db.execute(f"SELECT rowid, body FROM {table} LIMIT 1").fetchone()
    middle = len(body) // 2
    body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
    assert execute(data / "ledger.db", (f"UPDATE {table} SET body = ? WHERE rowid = ?", (body, key))) == [1]


def tear_ledger(data):
    with (data / "ledger.db").open("r+b") as file:
        file.seek(3 * 8192)
        file.write(b"\xa5" * 30 * 8192)


def another_log(data):
    (data / "log.db").unlink()
    SqliteLog(data / "log.db").close()


def shorten_log(data):
    gone = execute(data / "log.db", ("DELETE FROM record WHERE id & 281474976710655 > 5",), ("DELETE FROM high",))
    assert gone[0] > 0


def tear_log(data):
    with (data / "log.db").open("r+b") as file:
        file.write(b"\xa5" * 4096)


DAMAGES = {
    "a page of the state": (damage_page, "restore the last backup"),
    "a torn ledger": (tear_ledger, "restore"),
    "another log": (another_log, "Put the log back"),
    "a log that ends before the cursor": (shorten_log, "Put the log back"),
    "a torn log": (tear_log, "restore"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_start_is_refused(what, copied):
    """Exit 4, what to do, and the files hold what they held."""
    data, config = copied
    damage, advice = DAMAGES[what]
    damage(data)
    before = contents(data)
    code, said = tried(config)
    assert code == REFUSED, said[-2000:]
    assert advice in said
    assert "Traceback" not in said
    assert contents(data) == before


def test_second_daemon_is_refused(city):
    """The first one does not notice."""
    _, (code, said), first_still_runs = city
    assert code == REFUSED, said[-2000:]
    assert "runs on" in said
    assert "stop it first" in said
    assert first_still_runs


# -- backup and restore ----------------------------------------------------------------------------------------------


def test_backup_of_a_living_city_and_its_restore(crash, tmp_path):
    """What came after the backup is caught up: energy from registers, charges from the gateway's book.

    ::

        backup            crash, disk gone    restore (HOLD)   reconcile, resume        quiet
          |---- readings, charges ----|            |--- gap is asked for, then lost ---|
    """
    told = crash.story(meters=40, days=400, seed=14, factor=FASTER, partitions=4, lead_real_s=3.0, settings=SETTINGS)
    with crash.city(tmp_path / "city", told) as rig:
        rig.prepare()
        rig.start_gateway()
        rig.start_daemon()
        rig.start_fleet()
        wait_until(lambda: len(crash.moment(rig).charged) >= 3)
        saved = tmp_path / "backup"
        rig.meterd("backup", str(saved), "--config", str(rig.config))
        known = set(crash.moment(rig).orders)  # and the backup knows no more
        wait_until(lambda: len(set(crash.moment(rig).charged) - known) >= 3)
        rig.kill_daemon()
        late = crash.moment(rig)
        rig.data.rename(tmp_path / "lost")

        rig.meterd("restore", str(saved), "--config", str(rig.config))
        rig.start_daemon()
        restored = crash.moment(rig)
        assert set(restored.charged) - set(restored.orders), "the backup should not know the latest charges"
        refused = rig.meterd("autopay", "resume", "--why", "too early", "--config", str(rig.config), check=False)
        assert refused.returncode == 1, "HOLD must stand until the book was compared"
        rig.meterd("autopay", "reconcile", "simulated", "--config", str(rig.config))
        rig.meterd("autopay", "resume", "--why", "the book was compared", "--config", str(rig.config))
        wait_until(lambda: len(crash.moment(rig).charged) > len(late.charged))

        rig.end_fleet()
        assert rig.wait_fleet(60) == 0
        left = rig.wait_quiet(60)
        assert left["quiet"], left
        assert rig.stop_daemon() == 0
        checked, audited, now = rig.check(), rig.audit(), crash.moment(rig)
    assert audited["ok"], audited
    assert checked["checker_difference_wh"] == 0, checked
    assert checked["double_charges"] == 0, checked
    assert checked["uncredited_charges"] == 0, checked
    assert checked["outbox_left"] == 0
    # Detail is gone with the disk, and only that: messages that were held by then and are newer than the backup.
    lost = {(d["stream"], d["sequence"]) for d in checked["details"] if d["what"] == "held but in no log"}
    assert lost <= late.logged
    assert now.held == now.marks
