"""Logs: stamped by the clock that is passed in, one event a line, and no secrets."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from config.clock import ManualClock
from meterd import logs

NOON_S = 1_782_907_200  # 2026-07-01T12:00:00Z


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = (root.handlers, root.level)
    yield io.StringIO()
    root.handlers, root.level = list(before[0]), before[1]


def test_json_lines_carry_the_clocks_time_and_the_fields(stream: io.StringIO) -> None:
    clock = ManualClock(NOON_S)
    logs.configure("info", as_json=True, clock=clock, stream=stream)
    logs.logger("ingest").info("shard connected", shard="0", partition=3)
    clock.advance(61)
    logs.logger("ingest").warning("电表", text="\n")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first == {
        "event": "shard connected",
        "level": "info",
        "logger": "ingest",
        "partition": 3,
        "shard": "0",
        "timestamp": "2026-07-01T12:00:00Z",
    }
    assert (second["timestamp"], second["event"], second["text"]) == ("2026-07-01T12:01:01Z", "电表", "\n")


def test_what_libraries_log_comes_out_the_same_way(stream: io.StringIO) -> None:
    logs.configure("info", as_json=True, clock=ManualClock(NOON_S), stream=stream)
    logging.getLogger("paho").warning("socket %s closed", 7)
    logging.getLogger("uvicorn.access").info("not this")
    (line,) = map(json.loads, stream.getvalue().splitlines())
    assert line["event"] == "socket 7 closed"
    assert line["timestamp"] == "2026-07-01T12:00:00Z"
    assert line["logger"] == "paho"


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_levels(level: str, count: int, stream: io.StringIO) -> None:
    logs.configure(level, as_json=False, clock=ManualClock(NOON_S), stream=stream)
    log = logs.logger("x")
    log.debug("d")
    log.info("i")
    log.warning("w")
    log.error("e")
    assert len(stream.getvalue().splitlines()) == count


@pytest.mark.parametrize("as_json", [True, False])
def test_no_secret_reaches_a_log_not_even_by_a_traceback(as_json: bool, stream: io.StringIO) -> None:
    logs.configure("info", as_json=as_json, clock=ManualClock(NOON_S), stream=stream)
    local = "correct-horse"
    try:
        raise ValueError(f"length {len(local)}")
    except ValueError:
        logs.logger("x").exception(
            "failed", webhook_secret=local, Authorization=local, key=SecretStr(local), password=local
        )
    shown = stream.getvalue()
    assert "ValueError: length 13" in shown
    assert "test_no_secret_reaches_a_log" in shown
    # the source line of the frame is shown, the value never
    assert '"correct-horse' not in shown.replace('local = "correct-horse"', "")
    assert shown.count("********") >= 3


def test_the_last_configuration_counts(stream: io.StringIO) -> None:
    log = logs.logger("x")
    other = io.StringIO()
    logs.configure("info", as_json=True, clock=ManualClock(0), stream=other)
    logs.configure("info", as_json=True, clock=ManualClock(0), stream=stream)
    log.info("once")
    assert other.getvalue() == ""
    assert len(stream.getvalue().splitlines()) == 1
