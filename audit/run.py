"""I/O: one audit of a data directory, each partition in a process, whole or going on from an earlier one.

Partitions are audited each at its own newest checkpoint; orders and the gateway's book at one moment for all.
An audit without differences leaves the auditor's state behind (audit.saved), for the next one to go on from.
"""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

from audit import money, saved, sources
from audit.compare import Report, missing
from audit.partition import Done, Task, audit_partition
from audit.saved import StateMissing
from config.settings import Paths, RatingSettings, Settings

__all__ = ["StateMissing", "audit"]
Progress = Callable[[int], None]  # partitions done since the last call


def audit(
    data_dir: Path,
    *,
    settings: Settings | None = None,
    gateway_books: Sequence[Path] = (),
    since: str | int | None = None,
    state_folder: Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Recompute every balance of `data_dir` and compare. `settings`: those of the daemon (None: the defaults).

    `since`: a checkpoint that was audited before, or "last". `state_folder`: where to keep the state of this
    audit (None: <data>/audit/<checkpoint>). `progress` is called with counts of partitions done.
    Raises `StateMissing`; OSError or sqlite3.Error when a source cannot be read.
    """
    paths = Paths(data_dir)
    rating = settings.rating if settings is not None else RatingSettings()
    zone = ZoneInfo(settings.timezone if settings is not None else Settings.model_fields["timezone"].default)
    earlier = saved.find(data_dir, since) if since is not None else None
    partitions = sources.partitions(paths)
    drafted = saved.draft(data_dir)
    try:
        report = Report()
        kept: dict[int, str] = {}
        checkpoint = 0
        for done in _each([Task(data_dir, p, rating, earlier, drafted) for p in partitions], jobs):
            report.differences += done.differences
            for name, count in done.counts.items():
                report.counts[name] = report.counts.get(name, 0) + count
            kept[done.partition] = done.digest
            checkpoint = max(checkpoint, done.checkpoint)
            if progress is not None:
                progress(1)
        for fault in sources.thinned(paths) if partitions else ():
            report.differences += missing(fault.kind, [fault.note])
        report.differences += money.compared(paths, gateway_books, zone, report.counts)
        report.differences.sort()
        report.counts["partitions"] = len(partitions)
        report.counts["differences"] = len(report.differences)
        if report.ok and partitions:
            saved.keep(data_dir, drafted, checkpoint, kept, state_folder)
    finally:
        shutil.rmtree(drafted, ignore_errors=True)
    return report


def _each(tasks: Sequence[Task], jobs: int) -> Iterator[Done]:
    if jobs < 2 or len(tasks) < 2:
        yield from map(audit_partition, tasks)
        return
    # spawn: whoever audits may have threads
    with multiprocessing.get_context("spawn").Pool(min(jobs, len(tasks))) as pool:
        yield from pool.imap_unordered(audit_partition, tasks)
