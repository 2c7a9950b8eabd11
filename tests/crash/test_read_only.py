"""A living city whose disk turns read-only, under load and between two starts; then checker and audit at zero.

The data directory is a small ext4 of its own (a loop device), told to turn read-only at its first error; an error is
asked of it while daemon, fleet and gateway work. The daemon cannot go on and ends; a start is refused, with the
directory's name, and changes nothing; once the disk is mended everything goes on. The same after a stop in order.

And the narrow moment by itself: a disk that turns while logs and ledgers are being synced (`config.synced`).
"""

import errno
import hashlib
import os
import random
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from config.synced import Synced
from ingest.log_sqlite import SqliteLog
from ledger.database import disk_failed, writer_engine
from rating.readings import LogFailed, Record, RecordKind

FASTER = 15_000.0
SETTINGS = {
    "autopay": {"cooldown_s": 0, "cap_day_count": 1000, "cap_day_fen": 10**7, "cap_month_fen": 10**8},
    "archive": {"records_per_file": 16, "keep_records": 0, "age_max_s": int(FASTER)},
}
DISK_MB, DEADLINE_S = 256, 120.0
ENDED_BY_ITSELF, REFUSED = 70, 4


class Disk:
    """An ext4 in a file, mounted where the data directory is."""

    def __init__(self, crash, image, folder):
        self.crash, self.image, self.folder = crash, image, folder

    def make(self):
        with self.image.open("wb") as file:
            file.truncate(DISK_MB << 20)
        subprocess.run(["mkfs.ext4", "-q", str(self.image)], check=True, timeout=60, capture_output=True)
        self.folder.mkdir(parents=True)

    def attach(self):
        self.crash.mount("-o", "loop,errors=remount-ro", self.image, self.folder)

    def detach(self):
        subprocess.run(["umount", str(self.folder)], check=False, timeout=60, capture_output=True)

    def options(self):
        """How the kernel has it mounted: (device, options); None: not at all."""
        rows = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
        found = [(row[0], row[3].split(",")) for row in rows if row[1] == str(self.folder)]
        return found[0] if found else None

    def breaks(self):
        """An error, and with it the disk turns read-only under whoever writes to it."""
        device = Path(self.options()[0]).name
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("a test\n")

    def mended(self):
        """As a person would: unmounted, checked, mounted again."""
        self.detach()
        subprocess.run(["e2fsck", "-fy", str(self.image)], check=False, timeout=60, capture_output=True)
        self.attach()


@contextmanager
def small_ext4(crash, no_mounts, image, folder):
    disk = Disk(crash, image, folder)
    try:
        disk.make()
        disk.attach()
    except (OSError, subprocess.SubprocessError) as fault:
        no_mounts(f"in a file, by a loop device: {fault}")
    try:
        yield disk
    finally:
        disk.detach()


@dataclass
class Turn:
    """The disk turned read-only."""

    code: int = -1  # of the daemon
    said: str = ""
    again: tuple[int, str] = (0, "")  # a start on it: code, and what it said
    unchanged: bool = False  # by that start
    goes_on: bool = False  # once it can be written


@dataclass
class Story:
    """Both turns, and the end."""

    data: str = ""
    running: Turn = field(default_factory=Turn)
    stopped: Turn = field(default_factory=Turn)
    end: dict = field(default_factory=dict)


def contents(folder):
    return {path: hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*") if path.is_file()}


class City:
    """A rig, and what is asked of it."""

    def __init__(self, crash, rig):
        self.crash, self.rig = crash, rig

    def said(self):
        return (self.rig.folder / "daemon.log").read_text(errors="replace")

    def held(self):
        if not self.crash.outbox_stands(self.rig):
            return 0
        return sum(held for (held,) in self.crash.asked(self.rig.outbox, "SELECT held FROM stream"))

    def goes_on(self):
        before, until = self.held(), time.monotonic() + DEADLINE_S
        while self.held() <= before + 20:
            assert self.rig.daemon.poll() is None, self.said()[-3000:]
            assert time.monotonic() < until, "nothing more is held"
            time.sleep(0.05)
        return True

    def refused(self, turn):
        """A start on a disk that takes nothing."""
        data, before = self.rig.data, len(self.said())
        as_it_was = contents(data)
        self.rig.start_daemon(wait=False)
        turn.again = self.rig.wait_dead(DEADLINE_S), self.said()[before:]
        turn.unchanged = contents(data) == as_it_was


@pytest.fixture(scope="module")
def story(crash, mounting, no_mounts, tmp_path_factory):
    if not mounting:
        no_mounts("in a file")
    found, folder = Story(), tmp_path_factory.mktemp("read_only")
    told = crash.story(meters=40, days=400, seed=35, factor=FASTER, partitions=4, lead_real_s=3.0, settings=SETTINGS)
    rig = crash.city(folder, told)
    found.data, city = str(rig.data), City(crash, rig)
    with small_ext4(crash, no_mounts, folder / "disk.img", rig.data) as disk, rig:
        rig.prepare()
        rig.start_gateway()
        rig.start_daemon()
        rig.start_fleet()
        city.goes_on()

        before = len(city.said())
        disk.breaks()
        found.running.code = rig.wait_dead(DEADLINE_S)
        found.running.said = city.said()[before:]
        assert {"ro", "emergency_ro"} & set(disk.options()[1])  # as older and newer kernels say it
        city.refused(found.running)
        disk.mended()
        crash.holds(crash.moment(rig))
        rig.start_daemon()
        found.running.goes_on = city.goes_on()

        found.stopped.code = rig.stop_daemon()
        crash.mount("-o", "remount,ro", rig.data)
        city.refused(found.stopped)
        crash.mount("-o", "remount,rw", rig.data)
        rig.start_daemon()
        found.stopped.goes_on = city.goes_on()
        found.end = crash.ends_at_zero(rig)
    return found


def test_a_daemon_whose_disk_turns_read_only_ends(story):
    assert story.running.code == ENDED_BY_ITSELF
    assert "a part ended by itself" in story.running.said


@pytest.mark.parametrize("when", ["running", "stopped"])
def test_a_start_on_it_is_refused_and_changes_nothing(story, when):
    turn = getattr(story, when)
    code, said = turn.again
    assert code == REFUSED, said[-2000:]
    assert story.data in said
    assert "Traceback" not in said
    assert turn.unchanged


@pytest.mark.parametrize("when", ["running", "stopped"])
def test_it_goes_on_once_the_disk_can_be_written(story, when):
    assert getattr(story, when).goes_on


def test_nothing_is_lost(story):
    assert story.stopped.code == 0
    counts = story.end["audited"]["counts"]
    assert story.end["checked"]["used_wh"] == story.end["checked"]["billed_wh"] > 0
    assert counts["charges"] == counts["credits"] > 0


# -- the moment at which it turns --------------------------------------------------------------------------------

TURNS, OF_EACH = 12, 3
BODY = bytes(20_000)


class OneLog:
    """Appends one record after the other; `said` is how many were called durable."""

    def __init__(self, path):
        self.log, self.said = SqliteLog(path), 0
        self.there = self.log.bounds(0)[1]

    def write(self):
        (stored,) = self.log.append([Record(RecordKind.READINGS, 0, 1, "C", "s", self.said + 1, BODY)])
        self.said = stored.offset

    def close(self):
        self.log.close()


class OneLedger:
    """The same through the ledger's engine."""

    def __init__(self, path):
        self.engine, self.said = writer_engine(path), 0
        with self.engine.begin() as connection:
            connection.execute(text("CREATE TABLE IF NOT EXISTS row (n INTEGER PRIMARY KEY, body BLOB)"))
            self.there = connection.execute(text("SELECT coalesce(max(n), 0) FROM row")).scalar_one()

    def write(self):
        with self.engine.begin() as connection:
            connection.execute(text("INSERT INTO row VALUES (:n, :body)"), {"n": self.said + 1, "body": BODY})
        self.said += 1

    def close(self):
        self.engine.dispose()


def until_it_turns(disk, stores):
    """All write at once, the disk turns, all of them notice."""
    faults, until = [], time.monotonic() + DEADLINE_S

    def write(store):
        try:
            while time.monotonic() < until:
                store.write()
        except (LogFailed, DatabaseError) as fault:
            faults.append(fault)

    threads = [threading.Thread(target=write, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    time.sleep(random.uniform(0.05, 0.2))
    disk.breaks()
    for thread in threads:
        thread.join(DEADLINE_S)
    return faults


def test_what_was_called_durable_is_there_after_the_disk_has_turned(crash, mounting, no_mounts, tmp_path):
    if not mounting:
        no_mounts("in a file")
    written = 0
    for turn in range(TURNS):
        folder = tmp_path / f"{turn}"
        with small_ext4(crash, no_mounts, tmp_path / f"{turn}.img", folder) as disk:
            makers = [
                (kind, folder / f"{kind.__name__}{n}.db") for kind in (OneLog, OneLedger) for n in range(OF_EACH)
            ]
            stores = [kind(path) for kind, path in makers]
            assert len(until_it_turns(disk, stores)) == len(stores)
            for store in stores:
                store.close()
            disk.mended()
            for store, (kind, path) in zip(stores, makers, strict=True):
                again = kind(path)
                again.close()
                assert again.there >= store.said > 0, f"{path.name}: {again.there}, and {store.said} were durable"
                written += store.said
    assert written > TURNS


@pytest.mark.parametrize("fault", ["EROFS", "EIO"])
def test_a_file_system_that_no_longer_takes_changes_is_not_believed(tmp_path, monkeypatch, fault):
    log, ledger = OneLog(tmp_path / "log.db"), OneLedger(tmp_path / "ledger.db")
    log.write()
    ledger.write()
    monkeypatch.setattr(os, "setxattr", _failing(fault))
    with pytest.raises(LogFailed) as of_log:
        log.write()
    assert not of_log.value.retriable  # the same again would be written twice
    with pytest.raises(DatabaseError) as of_ledger:
        ledger.write()
    assert disk_failed(of_ledger.value)


@pytest.mark.parametrize("fault", ["ENOTSUP", "EPERM", "ENOSPC"])
def test_one_without_attributes_is_believed(tmp_path, monkeypatch, fault):
    monkeypatch.setattr(os, "setxattr", _failing(fault))
    log, ledger = OneLog(tmp_path / "log.db"), OneLedger(tmp_path / "ledger.db")
    for store in (log, ledger):
        store.write()
        store.write()
        assert store.said == 2
    Synced(tmp_path / "nothing").make_sure()


def _failing(fault):
    def setxattr(path, name, value):
        raise OSError(getattr(errno, fault), os.strerror(getattr(errno, fault)), path)

    return setxattr
