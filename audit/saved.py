"""I/O: the auditor's own state of an audit, to go on from: registers, ladders, open days, carries as it derived them.

    <data>/audit/<checkpoint>/<partition>.jsonl     a line a channel, ladder, account
    <data>/audit/<checkpoint>/audit.json            format, and the digest of each of the files; written last

A job writes its own partition, so that nobody holds a city. What was touched, or is of another format, is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

LATEST: Final = "last"
FORMAT: Final = 6
_HEAD: Final = "audit.json"
Line = list[Any]


class StateMissing(Exception):
    """`since` names no audit that is there and whole."""


def draft(data_dir: Path) -> Path:
    """A new folder for the parts of an audit that has not ended."""
    folder = data_dir / "audit"
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=".draft-", dir=folder))


def write_part(folder: Path, partition: int, lines: Iterable[Line]) -> str:
    """Write one partition's part; returns its digest."""
    digest = hashlib.sha256()
    with _part(folder, partition).open("wb") as file:
        for line in lines:
            text = json.dumps(line, separators=(",", ":")).encode() + b"\n"
            digest.update(text)
            file.write(text)
    return digest.hexdigest()


def read_part(folder: Path, partition: int) -> Iterator[Line]:
    """The lines of one partition's part; none when that audit did not know the partition."""
    path = _part(folder, partition)
    if path.is_file():
        with path.open("rb") as file:
            for line in file:
                yield json.loads(line)


def keep(data_dir: Path, drafted: Path, checkpoint: int, digests: dict[int, str], target: Path | None = None) -> None:
    """The audit has ended well: its parts get their name, in place of an earlier audit of the same checkpoint."""
    parts = {str(partition): digest for partition, digest in sorted(digests.items())}
    head: dict[str, Any] = {"format": FORMAT, "checkpoint": checkpoint, "parts": parts}
    (drafted / _HEAD).write_text(json.dumps(head | {"digest": _digest(head)}, indent=1) + "\n")
    drafted.chmod(0o755)
    folder = target or data_dir / "audit" / str(checkpoint)
    if folder.is_dir():
        shutil.rmtree(folder)
    drafted.replace(folder)


def find(data_dir: Path, since: str | int) -> Path:
    """The folder of an earlier audit, every part of it verified; `StateMissing`."""
    folder = data_dir / "audit"
    if since == LATEST:
        numbers = sorted(int(f.name) for f in folder.glob("*") if f.name.isdigit() and (f / _HEAD).is_file())
        if not numbers:
            raise StateMissing(f"no earlier audit in {folder}: audit without --since")
        since = numbers[-1]
    found = folder / str(since)
    if not (found / _HEAD).is_file():
        raise StateMissing(f"checkpoint {since} was not audited: there is no {found / _HEAD}: audit without --since")
    try:
        head = json.loads((found / _HEAD).read_text())
        whole = head.pop("digest") == _digest(head) and head["format"] == FORMAT
        whole = whole and all(_file_digest(found, int(p)) == digest for p, digest in head["parts"].items())
    except (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError):
        whole = False
    if not whole:
        raise StateMissing(f"{found} is damaged or of another version: audit without --since")
    return found


def checkpoints(data_dir: Path) -> set[int]:
    """Checkpoints that kept audits go on from, of every partition: their rows must stay. Nothing is verified here."""
    found: set[int] = set()
    for head in (data_dir / "audit").glob(f"*/{_HEAD}"):
        for part in head.parent.glob("*.jsonl"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # `find` refuses it, if it is asked
                with part.open("rb") as file:
                    _, position = json.loads(file.readline())
                found.add(int(position["checkpoint"]))
    return found


def _part(folder: Path, partition: int) -> Path:
    return folder / f"{partition}.jsonl"


def _file_digest(folder: Path, partition: int) -> str:
    with _part(folder, partition).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(head: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(head, sort_keys=True).encode()).hexdigest()
