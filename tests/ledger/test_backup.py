"""Backup and restore, drilled: with the daemon writing, and against damage."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from config.clock import ManualClock
from config.settings import LedgerSettings, Paths, Settings
from config.steps import watched
from ingest.log_sqlite import SqliteLog
from ledger import reads
from ledger.backup import HOLD, backup, restore
from ledger.port import StartRefused
from ledger.schema import LEDGER_RESTORED
from ledger.store import LedgerStore
from meterd.parts import Outside, Parts
from rating.readings import Record, RecordKind
from rating.state import ARRAYS

Make = Callable[..., object]
CLOCK = ManualClock(1_782_000_000)


def _record(number: int) -> Record:
    return Record(RecordKind.READINGS, 0, number, "c", "s", number, b"x" * 100)


def _open(paths: Paths, log: SqliteLog) -> LedgerStore:
    named = {"log_id": log.log_id, "partitions": 2, "arrays": ARRAYS}
    return LedgerStore.open(paths.ledger, settings=LedgerSettings(), clock=CLOCK, **named)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    found = Paths(tmp_path / "data")
    for folder, name in ((found.archive / "0", "1-9.parquet"), (found.registry / "d1", "image.npy")):
        folder.mkdir(parents=True)
        (folder / name).write_bytes(name.encode() * 50)
    (found.archive / "0" / "half.part").write_bytes(b"unfinished")
    (found.registry / ".staging-1").mkdir()
    (found.registry / ".staging-1" / "half.parquet").write_bytes(b"unfinished")
    return found


def test_a_backup_under_load_restores_to_a_moment_and_holds_autopay(
    paths: Paths, tmp_path: Path, make_checkpoint: Make, make_arrays: Make
) -> None:
    log = SqliteLog(paths.log)
    store = _open(paths, log)
    epoch, arrays, stop = store.take_over("partition:0", "t"), make_arrays(50), threading.Event()
    written = threading.Event()

    def daemon() -> None:
        offset = 0
        while not stop.is_set():
            offset = log.append([_record(offset + 1)])[-1].offset
            arrays["account"]["balance_fen"][:] = offset
            make = {"epoch": epoch, "offset": offset, "log_id": log.log_id, "arrays": arrays, "dirty": range(50)}
            store.commit([make_checkpoint(**make)])
            if offset == 10:
                written.set()

    writing = threading.Thread(target=daemon)
    writing.start()
    try:
        assert written.wait(20)
        made = backup(paths, tmp_path / "safe", clock=CLOCK)
    finally:
        stop.set()
        writing.join(20)
        store.close()
        log.close()
    listed = {file["path"] for file in json.loads((made.folder / "manifest.json").read_text())["files"]}
    assert listed == {"ledger.db", "log.db", "archive/0/1-9.parquet", "registry/d1/image.npy"}

    there = Paths(tmp_path / "restored")
    restore(made.folder, there, clock=CLOCK)
    log = SqliteLog(there.log)
    store = _open(there, log)
    store.check_log(log)
    found = store.recover(0)
    assert found.offset >= 10
    assert set(found.arrays["account"]["balance_fen"]) == {found.offset}
    assert log.bounds(0)[1] >= found.offset
    with store.reader() as connection:
        assert reads.switch_value(connection, HOLD) == (1, "restored from backup of 2026-06-21T00:00:00Z")
        assert reads.switch_value(connection, LEDGER_RESTORED)[0] == 1  # stays when HOLD is lifted
    assert (there.archive / "0" / "1-9.parquet").read_bytes() == b"1-9.parquet" * 50
    store.close()
    log.close()


@pytest.fixture
def safe(paths: Paths, tmp_path: Path) -> Path:
    log = SqliteLog(paths.log)
    _open(paths, log).close()
    log.close()
    return backup(paths, tmp_path / "safe", clock=CLOCK).folder


@pytest.mark.parametrize("name", ["ledger.db", "log.db", "archive/0/1-9.parquet", "registry/d1/image.npy"])
@pytest.mark.parametrize("how", ["flip", "drop"])
def test_a_damaged_backup_restores_nothing(safe: Path, tmp_path: Path, name: str, how: str) -> None:
    file = safe / name
    body = bytearray(file.read_bytes())
    file.unlink()
    if how == "flip":
        body[len(body) // 2] ^= 1
        file.write_bytes(body)
    with pytest.raises(StartRefused, match="missing or not what was written"):
        restore(safe, Paths(tmp_path / "new"), clock=CLOCK)
    assert not (tmp_path / "new").exists()


def test_nothing_is_ever_overwritten(safe: Path, paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="is not empty"):
        restore(safe, paths, clock=CLOCK)
    with pytest.raises(StartRefused, match="is not empty"):
        backup(paths, safe, clock=CLOCK)
    with pytest.raises(StartRefused, match="holds no ledger"):
        backup(Paths(tmp_path / "nowhere"), tmp_path / "b", clock=CLOCK)


def test_a_backup_that_was_not_finished_is_none(safe: Path, tmp_path: Path) -> None:
    (safe / "manifest.json").unlink()
    with pytest.raises(StartRefused, match="no finished backup"):
        restore(safe, Paths(tmp_path / "new"), clock=CLOCK)


@pytest.mark.parametrize("step", ["restore.copied", "restore.held"])
def test_a_restore_that_was_killed_leaves_no_ledger_without_hold(safe: Path, tmp_path: Path, step: str) -> None:
    """Nobody starts on what it left, and it is begun again on an empty directory only."""
    there = Paths(tmp_path / "new")

    def dies(name: str) -> None:
        if name == step:
            raise KeyboardInterrupt(name)

    with pytest.raises(KeyboardInterrupt), watched(dies):
        restore(safe, there, clock=CLOCK)
    assert there.unfinished_ledger.exists()
    assert not there.ledger.exists()
    with pytest.raises(StartRefused, match="a restore that did not end"):
        Parts(Settings(data_dir=there.root), CLOCK, Outside())
    with pytest.raises(StartRefused, match="is not empty"):
        restore(safe, there, clock=CLOCK)
    shutil.rmtree(there.root)
    restore(safe, there, clock=CLOCK)
    assert there.ledger.exists()
    assert not there.unfinished_ledger.exists()


@pytest.mark.parametrize("step", ["backup.copied", "backup.described"])
def test_a_backup_that_was_killed_is_none(safe: Path, paths: Paths, tmp_path: Path, step: str) -> None:
    def dies(name: str) -> None:
        if name == step:
            raise KeyboardInterrupt(name)

    with pytest.raises(KeyboardInterrupt), watched(dies):
        backup(paths, tmp_path / "half", clock=CLOCK)
    with pytest.raises(StartRefused, match="no finished backup"):
        restore(tmp_path / "half", Paths(tmp_path / "new"), clock=CLOCK)
