"""Metrics: on the registry that is passed in, under the names that dashboards rely on."""

from prometheus_client import CollectorRegistry, generate_latest

from meterd.metrics import Metrics


def test_every_metric_counts_under_its_name() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.queue_depth.labels("decode").set(3)
    metrics.log_lag.labels("0").set(4)
    metrics.archive_lag.labels("0").set(5)
    metrics.checkpoint_seconds.observe(0.02)
    metrics.readings.labels("accepted").inc(1000)
    metrics.exceptions.labels("future").inc()
    metrics.orders.labels("unknown").set(2)
    metrics.messages.labels("accepted").inc(7)
    metrics.acks.inc(7)
    metrics.held.inc(6)
    metrics.inbox_open.set(1)
    metrics.notices.labels("pending").set(8)
    expected = {
        ("meterd_queue_depth", "queue", "decode"): 3,
        ("meterd_log_lag_records", "partition", "0"): 4,
        ("meterd_archive_lag_records", "partition", "0"): 5,
        ("meterd_checkpoint_seconds_bucket", "le", "0.01"): 0,
        ("meterd_checkpoint_seconds_bucket", "le", "0.025"): 1,
        ("meterd_readings_total", "verdict", "accepted"): 1000,
        ("meterd_exceptions_total", "reason", "future"): 1,
        ("meterd_orders", "state", "unknown"): 2,
        ("meterd_messages_total", "outcome", "accepted"): 7,
        ("meterd_acks_total", "", ""): 7,
        ("meterd_held_total", "", ""): 6,
        ("meterd_inbox_open", "", ""): 1,
        ("meterd_notices", "state", "pending"): 8,
    }
    got = {key: registry.get_sample_value(key[0], {key[1]: key[2]} if key[1] else {}) for key in expected}
    assert got == expected


def test_series_that_count_trouble_exist_before_there_is_any() -> None:
    registry = CollectorRegistry()
    Metrics(registry, partitions=2)
    text = generate_latest(registry).decode()
    for line in (
        'meterd_exceptions_total{reason="malformed"} 0.0',
        'meterd_exceptions_total{reason="unknown_meter"} 0.0',
        'meterd_messages_total{outcome="rejected"} 0.0',
        'meterd_log_lag_records{partition="1"} 0.0',
        "meterd_checkpoint_seconds_count 0.0",
    ):
        assert line in text
    assert 'reason="duplicate"' not in text  # a verdict, not an exception
