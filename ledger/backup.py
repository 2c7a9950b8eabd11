"""I/O: `meterd backup` and `meterd restore`: ledger, log, archive and registry together, with a manifest.

The ledger's moment is fixed first and the log's after it, so that the ledger's cursor is never beyond the log's
end; both are then copied from those moments with SQLite's own backup, while the daemon runs or not. Archive and
registry files are immutable: linked where the file system can, else copied, after the ledger that names them.
The manifest is written last: a folder without one is no backup. The ledger is restored last, under another name until
it is in HOLD, and no daemon starts beside that name: a restore that was killed is no city whose payments could go on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from config.clock import Clock
from config.settings import Paths
from config.steps import reach
from ledger.port import StartRefused
from ledger.schema import LEDGER_RESTORED

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1
HOLD: Final = "autopay.hold"
_CHUNK: Final = 1 << 20
_BUSY_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup holds."""

    folder: Path
    made_at_s: int
    files: int
    bytes: int


def backup(paths: Paths, target: Path, *, clock: Clock) -> Backup:
    """Write a backup into the new or empty folder `target`; `StartRefused` when there is nothing or no room."""
    if not paths.ledger.exists() or not paths.log.exists():
        raise StartRefused(f"{paths.root} holds no ledger and log", "Name the data directory of a daemon")
    if target.exists() and any(target.iterdir()):
        raise StartRefused(f"{target} is not empty", "Name a new folder: a backup is never written over another")
    target.mkdir(parents=True, exist_ok=True)
    made_at_s = clock.now_s()
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(_moment(paths.ledger))
        log = stack.enter_context(_moment(paths.log))
        _copy_database(ledger, target / paths.ledger.name)
        _copy_database(log, target / paths.log.name)
    reach("backup.copied")
    for folder in (paths.archive, paths.registry):
        _link_tree(folder, target / folder.name)
    files = [_described(path, target) for path in sorted(target.rglob("*")) if path.is_file()]
    manifest = {"format": FORMAT, "made_at_s": made_at_s, "files": files}
    reach("backup.described")
    partial = target / (MANIFEST + ".part")
    partial.write_text(json.dumps(manifest, indent=1) + "\n")
    _sync(partial)
    partial.rename(target / MANIFEST)
    _sync_tree(target)
    return Backup(target, made_at_s, len(files), sum(int(file["bytes"]) for file in files))


def restore(source: Path, paths: Paths, *, clock: Clock) -> Backup:
    """Put a backup into the empty data directory, autopay in HOLD; `StartRefused` with nothing written."""
    manifest_file = source / MANIFEST
    if not manifest_file.exists():
        raise StartRefused(f"{source} has no {MANIFEST}: it is no finished backup", "Name another backup")
    if paths.root.exists() and any(paths.root.iterdir()):
        raise StartRefused(f"{paths.root} is not empty", "Move the old data away: a restore never writes over them")
    manifest = json.loads(manifest_file.read_text())
    if manifest["format"] != FORMAT:
        raise StartRefused(f"{source} has backup format {manifest['format']}", "Restore with the meterd that made it")
    _verify(source, manifest["files"])
    paths.root.mkdir(parents=True, exist_ok=True)
    unfinished = paths.unfinished_ledger
    unfinished.touch()
    _sync(paths.root)
    for file in manifest["files"]:
        place = paths.root / file["path"]
        if place != paths.ledger:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file["path"], place)
            _sync(place)
    reach("restore.copied")
    shutil.copyfile(source / paths.ledger.name, unfinished)
    _hold(unfinished, made_at_s=int(manifest["made_at_s"]), now_s=clock.now_s())
    _sync(unfinished)
    _sync_tree(paths.root)
    reach("restore.held")
    unfinished.rename(paths.ledger)
    _sync(paths.root)
    files = manifest["files"]
    return Backup(source, int(manifest["made_at_s"]), len(files), sum(int(file["bytes"]) for file in files))


@contextlib.contextmanager
def _moment(path: Path) -> Any:
    """A connection whose read transaction is open: every later read of it sees this moment."""
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        yield connection
    finally:
        connection.close()


def _copy_database(source: sqlite3.Connection, target: Path) -> None:
    copy = sqlite3.connect(target)
    try:
        source.backup(copy)  # the open read transaction is what is copied
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, no -wal beside it
        (verdict,) = copy.execute("PRAGMA quick_check").fetchone()
        if verdict != "ok":
            raise StartRefused(
                f"The copy of {target.name} is damaged: {verdict}", "Check the disk of the data directory"
            )
    finally:
        copy.close()
    _sync(target)


def _link_tree(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")) if source.exists() else []:
        inside = path.relative_to(source)
        place = target / inside
        # Unfinished files and folders are named by nobody; who writes them renames them into place.
        if any(part.startswith(".") or part.endswith((".part", ".tmp")) for part in inside.parts):
            continue
        if not path.is_file():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            place.hardlink_to(path)
        except OSError:
            shutil.copyfile(path, place)
            _sync(place)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _described(path: Path, root: Path) -> dict[str, Any]:
    return {"path": path.relative_to(root).as_posix(), "bytes": path.stat().st_size, "sha256": _digest(path)}


def _verify(source: Path, files: list[dict[str, Any]]) -> None:
    for file in files:
        path = source / file["path"]
        inside = path.resolve().is_relative_to(source.resolve())
        if not inside or not path.is_file() or _digest(path) != file["sha256"]:
            raise StartRefused(f"{path} is missing or not what was written", "Restore another backup")


def _hold(ledger: Path, *, made_at_s: int, now_s: int) -> None:
    """Autopay stays still until a person has compared the gateway's book with the restored orders.

    And from now on it asks the gateway about a key before it sends it: the lost orders may have used it.
    """
    reason = f"restored from backup of {datetime.fromtimestamp(made_at_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
    connection = sqlite3.connect(ledger, timeout=_BUSY_S)
    try:
        connection.execute("PRAGMA synchronous=FULL")
        with connection:
            for name in (HOLD, LEDGER_RESTORED):
                connection.execute("DELETE FROM switch WHERE name = ?", (name,))
                connection.execute(
                    "INSERT INTO switch (name, value, reason, at_s) VALUES (?, 1, ?, ?)", (name, reason, now_s)
                )
    finally:
        connection.close()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(root: Path) -> None:
    for path in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        _sync(path)
