"""A scrape: what the parts counted, what the ledger has open, what the disk holds."""

from __future__ import annotations

from threading import Lock
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import Connection, delete, insert, select, update

from autopay.records import HOLD, set_switch
from ingest.shell import Stats
from ledger.schema import event, notice, order, wait
from meterd.daemon import Daemon
from meterd.metrics import Metrics
from meterd.observe import Observer

STATS = Stats(
    messages=100, best_effort=3, unmarked=4, repeated=5, misplaced=6, acks=90, acks_dropped=7, held=80, resends=8,
    lost=9, log_failures=10,
)  # fmt: skip


@pytest.fixture
def scrape(village: Any):
    """Values by name (and label) after one scrape."""
    registry = CollectorRegistry()
    shell = SimpleNamespace(stats=STATS, queue_depth=2, streams=11, open_gaps=12, reconnects=13, watchdog_restarts=14)
    daemon = SimpleNamespace(
        store=village.store,
        log=village.log,
        rating=SimpleNamespace(engines=village.engines),
        shell=shell,
        watch=SimpleNamespace(last_s=village.clock.now_s(), offset_real_s=-1.5, monotonic_s=lambda: 0.0),
        paths=village.paths,
        metrics_set=Metrics(registry),
    )
    observer = Observer(daemon)  # type: ignore[arg-type]

    def look() -> dict[str, float]:
        lines = observer.text().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    return look


@pytest.mark.parametrize("times", [1, 2])
def test_what_ingest_counted_is_there_once(scrape: Any, times: int) -> None:
    for _ in range(times):
        found = scrape()
    wanted = {
        "meterd_streams": 11,
        "meterd_open_gaps": 12,
        "meterd_resends_total": 8,
        "meterd_sequences_lost_total": 9,
        "meterd_messages_repeated_total": 5,
        "meterd_messages_best_effort_total": 3,
        "meterd_messages_unmarked_total": 4,
        "meterd_messages_misplaced_total": 6,
        "meterd_acks_dropped_total": 7,
        "meterd_broker_connections_total": 13,
        "meterd_watchdog_restarts_total": 14,
        "meterd_log_failures_total": 10,
        "meterd_clock_offset_seconds": -1.5,
    }
    assert {name: found[name] for name in wanted} == wanted


def test_sizes_and_room_are_the_disks(scrape: Any, village: Any) -> None:
    found = scrape()
    assert found['meterd_stored_bytes{what="ledger"}'] >= village.paths.ledger.stat().st_size > 0
    assert found['meterd_stored_bytes{what="log"}'] >= village.paths.log.stat().st_size > 0
    files = sum(path.stat().st_size for path in village.paths.archive.glob("*/*.parquet"))
    assert found['meterd_stored_bytes{what="archive"}'] == files > 0
    assert found["meterd_disk_free_bytes"] > 0


def test_what_waits_for_people_and_gateways(scrape: Any, village: Any) -> None:
    """HOLD, an order for a person, a notice and a decision that are overdue: first none, then each."""
    now_s = village.clock.now_s()
    names = (
        "meterd_autopay_hold",
        "meterd_orders_for_a_person",
        "meterd_autopay_overdue_seconds",
        "meterd_notice_oldest_pending_seconds",
    )

    def quiet(connection: Connection) -> None:
        connection.execute(update(event).values(decided=1))
        connection.execute(update(notice).values(state="sent"))

    def trouble(connection: Connection) -> None:
        set_switch(connection, HOLD, "by the test", now_s, on=True)
        known = connection.scalars(select(order.c.id)).first()
        values = {"state": "unknown", "reason": "person: unknown for 3 days"}
        connection.execute(update(order).where(order.c.id == known).values(values))
        values = {"key": "n", "template": "charged", "party": "ann", "account": "a1", "params": "{}"}
        for key, age_s in (("old", 500), ("new", 5)):
            row = values | {"key": key, "created_at_s": now_s - age_s, "next_at_s": now_s}
            connection.execute(insert(notice).values(row))

    village.store.write(quiet)
    assert [scrape()[name] for name in names] == [0, 0, 0, 0]

    def waits(at_s: int) -> None:
        account, first = "a1", select(event.c.id).limit(1).scalar_subquery()
        row = {"event_id": first, "account": account, "at_s": at_s, "reason": "declined"}
        village.store.write(lambda c: (c.execute(delete(wait)), c.execute(insert(wait).values(row))))

    waits(now_s + 60)
    assert scrape()["meterd_autopay_overdue_seconds"] == 0  # a wait whose time has not come
    waits(now_s - 70)
    village.store.write(trouble)
    assert [scrape()[name] for name in names] == [1, 1, 70, 500]
    first = select(event.c.id).limit(1).scalar_subquery()
    village.store.write(
        lambda c: c.execute(update(event).where(event.c.id == first).values(decided=0, as_of_s=now_s - 900))
    )
    assert scrape()["meterd_autopay_overdue_seconds"] == 900


@pytest.mark.parametrize(("broker", "memory"), [(SimpleNamespace(memory_bytes=7 << 20), 7 << 20), (None, 0)])
def test_the_embedded_brokers_memory_is_told(broker: Any, memory: int) -> None:
    metrics = Metrics(CollectorRegistry())
    daemon = SimpleNamespace(_observing=Lock(), metrics_set=metrics, broker=broker, _observer=SimpleNamespace())
    daemon._observer.text = lambda: generate_latest(metrics.registry)
    lines = Daemon.metrics(daemon).decode().splitlines()  # type: ignore[arg-type]
    assert [float(line.split()[1]) for line in lines if line.startswith("meterd_broker_memory_bytes")] == [memory]
