"""Pure: every Prometheus metric of the daemon, declared once, on the registry that is passed in.

There is no global registry: two daemons in one test process do not add to each other, and nothing grows on
import. Label values come from our own closed lists (reasons, verdicts, states, partitions), never from the wire:
a meter that invents names must not grow the metrics.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from config.reasons import Place, Reason, place_of

CHECKPOINT_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Metrics:
    """The daemon's metrics by attribute; gauges are set at a scrape or a checkpoint, counters as things happen."""

    def __init__(self, registry: CollectorRegistry, *, partitions: int = 0) -> None:
        self.registry = registry
        self.queue_depth = Gauge(
            "meterd_queue_depth", "Items waiting in a bounded queue.", ["queue"], registry=registry
        )
        self.log_lag = Gauge(
            "meterd_log_lag_records",
            "Records durable in the reading log and not in a checkpoint yet.",
            ["partition"],
            registry=registry,
        )
        self.archive_lag = Gauge(
            "meterd_archive_lag_records",
            "Records durable in the reading log and not in the archive yet.",
            ["partition"],
            registry=registry,
        )
        self.checkpoint_seconds = Histogram(
            "meterd_checkpoint_seconds",
            "Real seconds from the start to the commit of a checkpoint.",
            buckets=CHECKPOINT_BUCKETS_S,
            registry=registry,
        )
        self.readings = Counter("meterd_readings", "Readings rated, by verdict.", ["verdict"], registry=registry)
        self.exceptions = Counter(
            "meterd_exceptions", "Messages and readings set aside, by reason.", ["reason"], registry=registry
        )
        self.orders = Gauge("meterd_orders", "Payment orders, by state.", ["state"], registry=registry)
        self.messages = Counter(
            "meterd_messages",
            "MQTT messages taken in, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.acks = Counter("meterd_acks", "MQTT acknowledgements sent, after durability.", registry=registry)
        self.held = Counter("meterd_held", "Held marks published to concentrators.", registry=registry)
        self.inbox_open = Gauge(
            "meterd_inbox_open", "Inbox rows that some partition has not applied yet.", registry=registry
        )
        self.notices = Gauge("meterd_notices", "Messages to people, by state.", ["state"], registry=registry)
        self._of_ingest(registry)
        self._of_money(registry)
        self._of_machine(registry)
        self._zeros(partitions)

    def _of_ingest(self, registry: CollectorRegistry) -> None:
        self.streams = Gauge("meterd_streams", "Streams that have a mark.", registry=registry)
        self.open_gaps = Gauge("meterd_open_gaps", "Gaps that streams have at the moment.", registry=registry)
        self.resends = Counter("meterd_resends", "Gaps that were asked for, again counted.", registry=registry)
        self.lost = Counter("meterd_sequences_lost", "Numbers declared lost.", registry=registry)
        self.repeated = Counter(
            "meterd_messages_repeated", "Messages whose number had come before.", registry=registry
        )
        self.best_effort = Counter(
            "meterd_messages_best_effort", "Messages without a number: taken, never held.", registry=registry
        )
        self.unmarked = Counter(
            "meterd_messages_unmarked",
            "Numbered messages taken without noting the number, because a limit is reached.",
            registry=registry,
        )
        self.misplaced = Counter(
            "meterd_messages_misplaced", "Messages over another shard than the registry says.", registry=registry
        )
        self.acks_dropped = Counter(
            "meterd_acks_dropped", "Acknowledgements earned under an older connection.", registry=registry
        )
        self.connections = Counter(
            "meterd_broker_connections", "Connections to the broker, each shard's first included.", registry=registry
        )
        self.broker_memory = Gauge(
            "meterd_broker_memory_bytes", "Resident memory of the embedded broker; 0 without one.", registry=registry
        )
        self.watchdog_restarts = Counter(
            "meterd_watchdog_restarts", "Network threads that hung or died and were replaced.", registry=registry
        )
        self.log_failures = Counter(
            "meterd_log_failures", "Appends that the reading log refused, tried again.", registry=registry
        )

    def _of_money(self, registry: CollectorRegistry) -> None:
        self.autopay_hold = Gauge("meterd_autopay_hold", "1 while autopay is on HOLD.", registry=registry)
        self.orders_for_a_person = Gauge(
            "meterd_orders_for_a_person", "Orders in flight that only a person can settle.", registry=registry
        )
        self.autopay_overdue = Gauge(
            "meterd_autopay_overdue_seconds",
            "Business seconds for which the oldest decision that is due has not been made.",
            registry=registry,
        )
        self.notice_age = Gauge(
            "meterd_notice_oldest_pending_seconds",
            "Business seconds since the oldest message to people that is not out was written.",
            registry=registry,
        )

    def _of_machine(self, registry: CollectorRegistry) -> None:
        self.clock_offset = Gauge(
            "meterd_clock_offset_seconds",
            "The machine's seconds by which business time left the monotonic clock since the start.",
            registry=registry,
        )
        self.stored_bytes = Gauge(
            "meterd_stored_bytes", "Bytes on disk, write-ahead files included.", ["what"], registry=registry
        )
        self.checkpoints_thinned = Counter(
            "meterd_checkpoints_thinned", "Old checkpoint rows of the ledger that went.", registry=registry
        )
        self.disk_free_bytes = Gauge(
            "meterd_disk_free_bytes", "Bytes left on the data directory's file system.", registry=registry
        )

    def _zeros(self, partitions: int) -> None:
        """Series exist from the start: a rate over a series that appears with its first event misses it."""
        for reason in Reason:
            if place_of(reason) in (Place.REJECT, Place.EXCEPTION, Place.SIGNAL):
                self.exceptions.labels(reason.value)
        for outcome in ("accepted", "rejected"):
            self.messages.labels(outcome)
        for partition in range(partitions):
            self.log_lag.labels(str(partition))
            self.archive_lag.labels(str(partition))
