"""I/O: what a scrape asks the ledger about money that waits, and the disk about room.

Each question is answered from an index or a small table, so that a scrape never reads more than what is open. The
archive's folder is walked at most once a minute.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, func, select, text

from autopay.records import HOLD
from config.settings import Paths
from ledger.reads import switch_value
from ledger.schema import IN_FLIGHT, event, notice, order, wait
from meterd.metrics import Metrics

_ARCHIVE_REAL_S: Final = 60.0


class Money:
    """HOLD, orders for a person, decisions and notices that are overdue."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def set(self, connection: Connection, now_s: int) -> None:
        metrics = self._metrics
        metrics.autopay_hold.set(switch_value(connection, HOLD)[0])
        for_a_person = order.c.state.in_(IN_FLIGHT), order.c.reason.startswith("person:")
        metrics.orders_for_a_person.set(connection.scalar(select(func.count()).where(*for_a_person)) or 0)
        undecided = connection.scalar(select(func.min(event.c.as_of_s)).where(text("decided = 0")))
        waiting = connection.scalar(select(func.min(wait.c.at_s)))
        due = [at_s for at_s in (undecided, waiting) if at_s is not None]
        metrics.autopay_overdue.set(max(0, now_s - min(due, default=now_s)))
        oldest = connection.scalar(select(func.min(notice.c.created_at_s)).where(text("state = 'pending'")))
        metrics.notice_age.set(max(0, now_s - oldest) if oldest is not None else 0)


class Disk:
    """Sizes of what the daemon keeps, and what is left."""

    def __init__(self, metrics: Metrics, paths: Paths, monotonic_s: Callable[[], float]) -> None:
        self._metrics, self._paths, self._monotonic_s = metrics, paths, monotonic_s
        self._archive_at_real_s = float("-inf")

    def set(self) -> None:
        metrics, paths = self._metrics, self._paths
        metrics.disk_free_bytes.set(shutil.disk_usage(paths.root).free)
        for what, path in (("ledger", paths.ledger), ("log", paths.log)):
            metrics.stored_bytes.labels(what).set(sum(_size(Path(f"{path}{more}")) for more in ("", "-wal")))
        real_s = self._monotonic_s()
        if real_s - self._archive_at_real_s >= _ARCHIVE_REAL_S:
            self._archive_at_real_s = real_s
            metrics.stored_bytes.labels("archive").set(sum(map(_size, paths.archive.glob("*/*"))))


def _size(path: Path) -> int:
    """0 for what is gone, or not there yet."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
