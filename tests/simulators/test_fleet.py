"""The real fleet command against a real broker: all held, exits, resends, kills, change-outs, back-pressure."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from config.clock import RealClock
from ingest.wire import decode_readings
from simulators.checker import outbox_left
from simulators.fleet import formats_of, prepare
from simulators.fleet_registry import read_fleet, rows_of
from simulators.truth import read_book

FAST = ("--as-fast-as-possible", "--deadline", "20")
START_S = 1_782_835_200


def _wait(what: Any, deadline_s: float = 20.0) -> None:
    end = time.monotonic() + deadline_s
    while not what():
        assert time.monotonic() < end, "deadline"
        time.sleep(0.02)


def _frames(receiver: Any) -> int:
    return sum(1 for stream in receiver.messages.values() for kind, _ in stream.values() if kind != "lost")


def test_a_clean_run_is_sent_held_and_quiet(city: Any, receiver: Any, fleet_command: Any) -> None:
    command = fleet_command(city.make(20))
    code, lines = command.run("--days", "1", *FAST)
    end = lines[-1]
    assert (code, end["event"], end["quiet"], end["outbox_left"]) == (0, "end", True, 0)
    assert end["readings"] == 20 * 96
    assert _frames(receiver) == 2 * 96
    sent = [decode_readings(body) for stream in receiver.messages.values() for _, body in stream.values()]
    assert sum(len(readings) for readings in sent) == 20 * 96
    book = read_book(command.truth)
    assert sorted(book.held.values()) == [96, 96]
    assert all(len(c.registers) == 96 for c in book.channels)


def test_every_fault_ends_held_with_the_truth_written(city: Any, receiver: Any, fleet_command: Any) -> None:
    registry = city.make(40)
    command = fleet_command(registry)
    code, lines = command.run("--days", "8", "--faults", "all", *FAST)
    end = lines[-1]
    assert code == 0, end
    assert end["outbox_left"] == 0
    assert end["fault:lost_sequence"] == 1
    assert end["resend_requests"] >= 1
    assert end["restarts"] >= 1
    book = read_book(command.truth)
    kinds = {message.kind for message in book.messages}
    assert "lost" in kinds
    assert any(kind.startswith("bad:") for kind in kinds)
    assert sum(book.held.values()) == len(book.messages)
    assert len(book.expected) > 15
    changed = next(line for line in lines if line["event"] == "changeout")
    target = Path(changed["directory"])
    assert [[row["old_meter"], row["new_meter"]] for row in rows_of(target, "changeouts")] == changed["meters"]
    old, new = changed["meters"][0]
    spans = {row["meter"]: (row["from"], row["to"]) for row in rows_of(target, "meters")}
    assert spans[old][1] == spans[new][0] != ""
    assert (
        read_fleet(target, START_S, START_S + 86_400 * 8).shards == read_fleet(registry, START_S, START_S + 1).shards
    )


def test_a_killed_fleet_sends_what_was_in_its_outbox(city: Any, receiver: Any, fleet_command: Any) -> None:
    command = fleet_command(city.make(20))
    receiver.paused = True  # nothing is held, so everything stays in the outbox
    arguments = ("--days", "30", "--as-fast-as-possible", "--unheld-max", "800", "--deadline", "20")
    process = command.start(*arguments)
    try:
        _wait(lambda: receiver.received >= 800)
    finally:
        process.kill()
        process.communicate(timeout=10)
    kept = outbox_left(command.outbox)
    assert kept >= 800
    receiver.messages.clear()  # as if the receiver had lost them all
    receiver.paused = False
    code, lines = command.run("--days", "30", *FAST)
    assert code == 0, lines[-1]
    assert lines[-1]["outbox_left"] == 0
    book = read_book(command.truth)
    frames = [message for message in book.messages if message.kind == "frame"]
    assert sorted((m.concentrator, m.interval) for m in frames) == sorted(
        (name, interval) for name in ("C000", "C001") for interval in range(30 * 96)
    )
    for stream in receiver.messages.values():
        assert sorted(stream) == list(range(1, len(stream) + 1))
    assert _frames(receiver) == len(frames)


def test_an_unheld_outbox_is_back_pressure_and_ends_with_1(city: Any, receiver: Any, fleet_command: Any) -> None:
    command = fleet_command(city.make(10))
    receiver.paused = True
    code, lines = command.run(
        "--days", "1", "--as-fast-as-possible", "--deadline", "2", "--resend-after", "0.5"
    )  # fmt: skip
    assert code == 1
    assert lines[-1]["quiet"] is False
    assert lines[-1]["sent_again"] > 0
    assert outbox_left(command.outbox) == lines[-1]["outbox_left"] == 2 * 96


def test_a_scaled_clock_paces_the_rounds(city: Any, receiver: Any, fleet_command: Any) -> None:
    command = fleet_command(city.make(4))
    clock = f"{RealClock().now_s() + 2},{START_S},43200"
    started = time.monotonic()
    code, lines = command.run("--days", "1", "--clock", clock, "--deadline", "20")
    assert code == 0
    assert lines[-1]["interval"] == 96
    assert time.monotonic() - started > 2.0  # one day at 43,200 times takes two seconds, whatever the machine does


def test_wrong_words_end_with_2(city: Any, fleet_command: Any) -> None:
    command = fleet_command(city.make(4))
    assert command.run("--faults", "gremlins", *FAST)[0] == 2
    assert command.run("--formats", "morse", *FAST)[0] == 2
    keys = city.root / "keys.toml"
    assert command.run("--mqtt-version", "5", "--keys", str(keys), *FAST)[0] == 2  # there is none
    keys.write_text("C000 = 'no digits'")
    assert command.run("--mqtt-version", "5", "--keys", str(keys), *FAST)[0] == 2
    keys.write_text("")
    assert command.run("--mqtt-version", "3.1.1", "--keys", str(keys), *FAST)[0] == 2  # carries no signature


def test_prepare_puts_rollovers_near_the_end_of_their_digits(city: Any) -> None:
    source, target = city.make(60), city.root / "prepared"
    plan = prepare(source, target, seed=7, start_s=START_S, days=35, faults="rollover=0.1")
    before = {row["meter"]: row["value"] for row in rows_of(source, "opening_registers")}
    after = {row["meter"]: row["value"] for row in rows_of(target, "opening_registers")}
    assert {meter for meter in after if after[meter] != before[meter]} == plan.rollover
    assert len(plan.rollover) == 6
    assert all(float(after[meter]) > 999_950 for meter in plan.rollover)


def test_formats_by_share() -> None:
    assert formats_of("arrow", 3) == ["arrow"] * 3
    assert formats_of("arrow=0.5,json=0.5", 4) == ["arrow", "arrow", "json", "json"]
    assert len(set(formats_of("arrow=0.7,json=0.1,senml-json=0.1,senml-cbor=0.1", 10))) == 4
    with pytest.raises(ValueError, match="morse"):
        formats_of("morse", 1)


def test_a_truth_book_survives_being_written_twice(city: Any, receiver: Any, fleet_command: Any) -> None:
    command = fleet_command(city.make(4))
    assert command.run("--days", "1", *FAST)[0] == 0
    before = read_book(command.truth)
    assert command.run("--days", "1", *FAST)[0] == 0  # nothing is left to do
    after = read_book(command.truth)
    assert [m.sequence for m in before.messages] == [m.sequence for m in after.messages]
    assert (before.held, before.expected) == (after.held, after.expected)
    db = sqlite3.connect(command.outbox)
    assert db.execute("SELECT min(boot), max(boot) FROM stream").fetchone() == (2, 2)
    db.close()
