"""I/O: one audit of a data directory, each partition in a process, whole or going on from an earlier one.

Each audit leaves its own state in <data>/audit/<checkpoint>.json, with a digest; `since` names the one to go on
from. The state is the auditor's, not the engine's: registers, ladders, open days and carries as it derived them.
"""

from __future__ import annotations

import decimal
import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from audit import compare, sources
from audit.accounts import PartitionAudit
from audit.compare import Difference, Report
from audit.tariffs import WIDE, read_tariffs
from audit.world import World
from config.settings import Paths, RatingSettings, Settings
from config.tariff_files import tariff_texts

LATEST: Final = "last"
STATE_FORMAT: Final = 2
Progress = Callable[[int], None]  # records audited since the last call


class StateMissing(Exception):
    """`since` names no audit that is there and whole."""


@dataclass(slots=True)
class _Task:
    data_dir: Path
    partition: int
    snap: sources.Snapshot
    rating: RatingSettings
    state: dict[str, Any] | None
    entry_after: int


@dataclass(slots=True)
class _Done:
    partition: int
    differences: list[Difference] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


def audit(
    data_dir: Path,
    *,
    settings: Settings | None = None,
    gateway_book: Path | None = None,
    since: str | int | None = None,
    state_file: Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Recompute every balance of `data_dir` and compare. `settings`: those of the daemon (None: the defaults).

    `since`: a checkpoint that was audited before, or "last". `state_file`: where to keep the state of this audit
    (None: <data>/audit/<checkpoint>.json). `progress` is called with counts of partitions done.
    Raises `StateMissing`; OSError or sqlite3.Error when a source cannot be read.
    """
    paths = Paths(data_dir)
    rating = settings.rating if settings is not None else RatingSettings()
    before = _load(data_dir, since) if since is not None else None
    snap = sources.snapshot(paths)
    entry_after = int(before["entry_last"]) if before else 0
    states = {int(s["partition"]): s for s in before["partitions"]} if before else {}
    tasks = [_Task(data_dir, p, snap, rating, states.get(p), entry_after) for p in sorted(snap.cursors)]
    report = Report()
    kept: list[dict[str, Any]] = []
    for done in _each(tasks, jobs):
        report.differences += done.differences
        for name, count in done.counts.items():
            report.counts[name] = report.counts.get(name, 0) + count
        kept.append(done.state)
        if progress is not None:
            progress(1)
    report.differences += _orders(snap, gateway_book, report.counts)
    report.differences.sort()
    report.counts["partitions"] = len(tasks)
    report.counts["differences"] = len(report.differences)
    if report.ok and snap.cursors:
        _save(data_dir, state_file, snap, kept)
    return report


def _each(tasks: Sequence[_Task], jobs: int) -> Iterator[_Done]:
    if jobs < 2 or len(tasks) < 2:
        yield from map(partition_audit, tasks)
        return
    # spawn: whoever audits may have threads
    with multiprocessing.get_context("spawn").Pool(min(jobs, len(tasks))) as pool:
        yield from pool.imap_unordered(partition_audit, tasks)


def partition_audit(task: _Task) -> _Done:
    """Gather, compute, compare: one partition."""
    decimal.setcontext(WIDE.copy())
    paths = Paths(task.data_dir)
    texts = tariff_texts(task.rating.tariffs_dir)
    tariffs = read_tariffs(texts, task.rating.horizon_from_year, task.rating.horizon_to_year)
    book = PartitionAudit(task.partition, tariffs, task.rating)
    done = _Done(task.partition)
    worlds = _Worlds(paths)
    applied: set[int] = set()
    if task.state is not None:
        book.restore(task.state, worlds[task.state["digest"]] if task.state["digest"] else None)
        applied = {int(i) for i in task.state["applied"]}
    try:
        records = _replay(paths, task, book, worlds, applied)
    except sources.RecordsMissing as missing:
        records = 0
        done.differences.append(Difference("", "", "records", 1, 0, str(missing)))
    found = sources.posted(paths, task.partition, task.entry_after, task.snap.entry_last)
    done.differences += _compared(book, found)
    done.counts = {f"verdict.{name}": count for name, count in sorted(book.verdicts.items())}
    done.counts |= {
        "records": records,
        "readings": sum(book.verdicts.values()),
        "accounts": len(book.bills),
        "amounts": len(book.expected),
        "entries": len({entry for entry, _, _ in found.postings}),
    }
    end = task.snap.cursors[task.partition][1]
    done.state = book.dump() | {
        "applied": [c.id for c in task.snap.commands.get(task.partition, []) if c.offset == end]
    }
    return done


class _Worlds(dict[str, World]):
    """Registry versions, each derived when it is first asked for."""

    def __init__(self, paths: Paths) -> None:
        super().__init__()
        self._paths = paths

    def __missing__(self, digest: str) -> World:
        self[digest] = sources.world(self._paths, digest)
        return self[digest]


def _replay(paths: Paths, task: _Task, book: PartitionAudit, worlds: _Worlds, applied: set[int]) -> int:
    """Records and inbox rows in order, each row after the record that the ledger names; returns records read."""
    commands = [
        c for c in task.snap.commands.get(task.partition, []) if c.offset >= book.offset and c.id not in applied
    ]
    waiting = iter(commands)
    command = next(waiting, None)
    count = 0

    def apply_until(offset: int) -> None:
        nonlocal command
        while command is not None and command.offset <= offset:
            if not command.outcome or command.kind == "release":  # a release may take some readings and not others
                book.command(command.kind, command.key, command.body, worlds)
            command = next(waiting, None)

    apply_until(book.offset)
    for offset, kind, received_at_s, source, body in sources.records(paths, task.snap, task.partition, book.offset):
        apply_until(offset - 1)
        if kind == sources.READINGS:
            book.readings(source, received_at_s, sources.columns_of(body))
        elif kind == sources.TICK:
            book.tick(received_at_s)
        book.as_of_s = max(book.as_of_s, received_at_s)
        book.offset = offset
        count += 1
    apply_until(book.offset)
    return count


def _compared(book: PartitionAudit, found: sources.Found) -> list[Difference]:
    accounts = book.world.accounts.values() if book.world is not None else ()
    names = {a.slot: a.id for a in accounts if a.partition == book.partition}
    stored: dict[tuple[str, int, str], int] = {}
    for (slot, day, component), amount in found.amounts.items():
        stored[names.get(slot, f"slot {book.partition}/{slot}"), day, component] = amount
    single = [(key, kind, names.get(slot, f"slot {slot}"), amount) for key, kind, slot, amount in found.single]
    expected = {key: amount for key, amount in book.expected.items() if amount}
    out = compare.amounts(expected, {key: amount for key, amount in stored.items() if amount})
    out += compare.money(book.money, single)
    out += compare.control(found.postings, found.by_entry)
    arrears = sum(amount for _, name, amount in found.postings if name == "customer_arrears")
    if arrears != -book.arrears_fen:
        out.append(Difference("", "", "arrears", -book.arrears_fen, arrears, f"partition {book.partition}"))
    return out


def _orders(snap: sources.Snapshot, gateway_book: Path | None, counts: dict[str, int]) -> list[Difference]:
    """Orders against applied credits, and the gateway's book against both."""
    applied = [
        command.body
        for commands in snap.commands.values()
        for command in commands
        if command.kind == "credit" and not command.outcome and command.body.get("order_id") is not None
    ]
    counts["orders"], counts["credits"] = len(snap.orders), len(applied)
    out = compare.orders(snap.orders, applied)
    if gateway_book is not None:
        charges = sources.gateway_book(gateway_book)
        counts["charges"] = sum(compare.took_money(charge) for charge in charges)
        out += compare.gateway(charges, snap.orders, applied)
    return out


# -- the auditor's own state -------------------------------------------------------------------------------------
def _load(data_dir: Path, since: str | int) -> dict[str, Any]:
    folder = data_dir / "audit"
    if since == LATEST:
        numbers = sorted(int(f.stem) for f in folder.glob("*.json") if f.stem.isdigit())
        if not numbers:
            raise StateMissing(f"no earlier audit in {folder}")
        since = numbers[-1]
    file = folder / f"{since}.json"
    if not file.is_file():
        raise StateMissing(f"checkpoint {since} was not audited: there is no {file}")
    told = json.loads(file.read_text())
    state: dict[str, Any] = told["state"]
    if told["digest"] != _digest(state) or state["format"] != STATE_FORMAT:
        raise StateMissing(f"{file} is damaged or of another version: audit without --since")
    return state


def _save(data_dir: Path, file: Path | None, snap: sources.Snapshot, kept: list[dict[str, Any]]) -> None:
    checkpoint = max(number for number, _ in snap.cursors.values())
    path = file or data_dir / "audit" / f"{checkpoint}.json"
    state = {
        "format": STATE_FORMAT,
        "checkpoint": checkpoint,
        "entry_last": snap.entry_last,
        "partitions": sorted(kept, key=lambda s: int(s["partition"])),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps({"digest": _digest(state), "state": state}))
    draft.replace(path)


def _digest(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
