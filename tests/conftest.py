"""Fixtures that every package's tests may use."""

import os
import socket
from collections.abc import Iterator

import pytest


@pytest.fixture
def free_port() -> int:
    """A TCP port of the loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def mosquitto() -> Iterator[int]:
    """The port of a Mosquitto that is this test's own; a machine without one skips, CI fails (`make services`)."""
    from benchmarks.mosquitto import Mosquitto, program

    if program() is None:
        assert os.environ.get("CI", "").lower() not in ("1", "true"), "CI has Mosquitto: run `make services`"
        pytest.skip("no Mosquitto on this machine: `make services` installs it")
    with Mosquitto() as broker:
        yield broker.port
