"""I/O: what the parts count, carried into the metrics at a scrape; the parts keep plain integers."""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol

from prometheus_client import generate_latest
from sqlalchemy import func, select

from config.settings import Paths
from ingest.shell import MqttShell
from ingest.tail import TailedLog
from ledger.reads import counters, exceptions_by_reason, orders_by_state
from ledger.schema import inbox, notice
from ledger.store import LedgerStore
from meterd.clock_watch import WatchedClock
from meterd.metrics import Metrics
from meterd.observe_store import Disk, Money
from meterd.rating_loop import RatingLoop


class Observed(Protocol):
    """The parts that are looked at (meterd.daemon.Daemon has them)."""

    store: LedgerStore
    log: TailedLog
    rating: RatingLoop
    shell: MqttShell
    watch: WatchedClock
    paths: Paths
    metrics_set: Metrics


class Observer:
    """Moves counters forward by what they grew since the last scrape; sets gauges to what is."""

    def __init__(self, daemon: Observed) -> None:
        self._daemon = daemon
        self._seen: Counter[tuple[str, str]] = Counter()
        self._money = Money(daemon.metrics_set)
        self._disk = Disk(daemon.metrics_set, daemon.paths, daemon.watch.monotonic_s)

    def text(self) -> bytes:
        """The exposition format, after a refresh."""
        daemon = self._daemon
        self._ingest()
        with daemon.store.reader() as connection:
            by_name = counters(connection)
            reasons = exceptions_by_reason(connection)
            orders = orders_by_state(connection)
            notices = connection.execute(select(notice.c.state, func.count()).group_by(notice.c.state)).all()
            self._money.set(connection, daemon.watch.last_s)
            waiting = connection.scalar(select(func.count()).select_from(inbox).where(inbox.c.settled == 0))
        metrics = daemon.metrics_set
        for name, count in by_name.items():
            kind, _, verdict = name.partition(".")
            if kind == "verdict":
                self._grow(metrics.readings.labels(verdict), ("verdict", verdict), count)
        for reason, count in reasons.items():
            self._grow(metrics.exceptions.labels(reason), ("reason", reason), count)
        for state, count in orders.items():
            metrics.orders.labels(state).set(count)
        for state, count in notices:
            metrics.notices.labels(state).set(count)
        metrics.inbox_open.set(waiting or 0)
        metrics.clock_offset.set(daemon.watch.offset_real_s)
        self._disk.set()
        for engine in daemon.rating.engines:
            _, last = daemon.log.bounds(engine.partition)
            metrics.log_lag.labels(str(engine.partition)).set(last - engine.offset)
        return generate_latest(metrics.registry)

    def _ingest(self) -> None:
        shell, metrics = self._daemon.shell, self._daemon.metrics_set
        metrics.queue_depth.labels("ingest").set(shell.queue_depth)
        stats = shell.stats
        rejected = sum(stats.rejected.values())
        self._grow(metrics.messages.labels("rejected"), ("messages", "rejected"), rejected)
        self._grow(metrics.messages.labels("accepted"), ("messages", "accepted"), stats.messages - rejected)
        self._grow(metrics.acks, ("acks", ""), stats.acks)
        self._grow(metrics.held, ("held", ""), stats.held)
        metrics.streams.set(shell.streams)
        metrics.open_gaps.set(shell.open_gaps)
        for counter, name, now in (
            (metrics.resends, "resends", stats.resends),
            (metrics.lost, "lost", stats.lost),
            (metrics.repeated, "repeated", stats.repeated),
            (metrics.best_effort, "best_effort", stats.best_effort),
            (metrics.unmarked, "unmarked", stats.unmarked),
            (metrics.misplaced, "misplaced", stats.misplaced),
            (metrics.acks_dropped, "acks_dropped", stats.acks_dropped),
            (metrics.connections, "connections", shell.reconnects),
            (metrics.watchdog_restarts, "watchdog_restarts", shell.watchdog_restarts),
            (metrics.log_failures, "log_failures", stats.log_failures),
        ):
            self._grow(counter, (name, ""), now)

    def _grow(self, counter: Any, key: tuple[str, str], now: int) -> None:
        if now > self._seen[key]:
            counter.inc(now - self._seen[key])
            self._seen[key] = now
