"""Helpers of the ingest tests: readings, clocks, logs, a broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import hypothesis
import numpy as np
import pytest

from config.settings import MqttSettings, Settings
from ingest.broker import EmbeddedBroker
from rating.readings import Readings, Record, RecordKind

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("untimed")

NOON_S = 1_782_864_000  # 2026-07-01 00:00 UTC


def make_readings(rows: int, *, meter: int = 1, value: int = 1000, at_s: int = NOON_S) -> Readings:
    return Readings(
        np.arange(meter, meter + rows, dtype=np.uint64),
        np.arange(value, value + rows, dtype=np.int64),
        np.full(rows, at_s, np.uint32),
        np.ones(rows, np.uint8),
        np.full(rows, 4, np.uint8),
    )


@pytest.fixture
def readings() -> Callable[..., Readings]:
    return make_readings


@pytest.fixture
def record() -> Callable[..., Record]:
    def build(partition: int = 0, body: bytes = b"body", **kinds: object) -> Record:
        words: dict[str, object] = {
            "kind": RecordKind.READINGS,
            "received_at_s": NOON_S,
            "source": "C1",
            "stream": "a",
            "sequence": 1,
        }
        words.update(kinds)
        return Record(partition=partition, body=body, **words)  # type: ignore[arg-type]

    return build


class TestClock:
    """Business time by hand, real seconds as they pass."""

    __test__ = False

    def __init__(self, now_s: int = NOON_S) -> None:
        self.at_s = now_s

    def now_s(self) -> int:
        return self.at_s

    def monotonic_s(self) -> float:
        return time.monotonic()

    def real_seconds(self, business_seconds: float) -> float:
        return business_seconds


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture(scope="session")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(MqttSettings(port=0)) as running:
        yield running


@pytest.fixture
def until() -> Callable[..., None]:
    def wait(condition: Callable[[], object], what: str = "condition", deadline_s: float = 60.0) -> None:
        end = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < end, f"not in time: {what}"
            time.sleep(0.01)

    return wait


@pytest.fixture
def settings(tmp_path) -> Callable[..., Settings]:
    def build(**sections: dict[str, object]) -> Settings:
        return Settings.model_validate({"data_dir": tmp_path, "partitions": 4, **sections})

    return build
