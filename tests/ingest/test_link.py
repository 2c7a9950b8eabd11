"""One session's life, where no broker of a test's fixture is needed."""

from __future__ import annotations

import queue
import socket
import time
from typing import Any

import pytest

from config.clock import RealClock
from config.settings import MqttSettings
from ingest import link as module
from ingest.link import Link


class Logged:
    """A logger that keeps the errors."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def error(self, event: str, **_: Any) -> None:
        self.errors.append(event)

    def info(self, event: str, **_: Any) -> None:
        """Not kept."""

    warning = info


def test_a_broker_that_is_not_there_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    logged = Logged()
    monkeypatch.setattr(module, "_log", logged)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        link = Link("0", queue.SimpleQueue(), MqttSettings(), free.getsockname()[1], RealClock().monotonic_s)
        link.start()
        until = time.monotonic() + 10
        while not logged.errors and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(1.2)  # paho has tried again by then
        link.close(time.monotonic() + 5)
    assert logged.errors == ["no broker there"]
