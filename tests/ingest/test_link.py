"""One session's life, where no broker of a test's fixture is needed."""

from __future__ import annotations

import queue
import socket
import time

from structlog.testing import capture_logs

from config.clock import RealClock
from config.settings import MqttSettings
from ingest.link import Link


def test_a_broker_that_is_not_there_is_told_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        link = Link("0", queue.SimpleQueue(), MqttSettings(), free.getsockname()[1], RealClock().monotonic_s)
        with capture_logs() as logged:
            link.start()
            until = time.monotonic() + 10
            while len(logged) < 1 and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(1.2)  # paho has tried again by then
            link.close(time.monotonic() + 5)
    assert [line["event"] for line in logged if line["log_level"] == "error"] == ["no broker there"]
