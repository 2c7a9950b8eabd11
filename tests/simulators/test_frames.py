"""Frames of a run with all faults, judged by the contract's own words: the truth stays what it is.

The judge below follows docs/ARCHITECTURE.md, "Rating, in words", reading by reading, in plain Python.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from config.units import Quality
from ingest.codecs import arrow, envelope, senml
from ingest.decoded import Limits
from ingest.wire import check_body
from rating.readings import Readings
from simulators import fleet_shapes
from simulators.faults import BAD_READINGS, FrameFault, Plan, draw, parse_rates
from simulators.fleet_formats import FORMATS, Envelope, encode
from simulators.fleet_frames import FrameMaker
from simulators.fleet_load import Load, build, capacity, rollover_openings
from simulators.fleet_registry import FleetChannel

START_S = 1_782_835_200  # 2026-07-01 in Shanghai
DAYS = 35
BILLED = True
INTERVALS = DAYS * 96
WINDOW_S = 3 * 86_400


def _channel(number: int, opening: int = 1_500_000) -> FleetChannel:
    place = number % 2
    return FleetChannel(
        f"{number:012d}", number, "1.8.0", f"C{place}", f"P{number}", number, START_S, 2**32 - 1, 6, 1, 13_200, 10,
        BILLED, opening, START_S,
    )  # fmt: skip


def _world(rates: str, meters: int = 40, seed: int = 7) -> tuple[Load, Plan]:
    channels = sorted((_channel(n) for n in range(1, meters + 1)), key=lambda c: (c.concentrator, c.position))
    plan = draw(parse_rates(rates), seed, channels, 2, INTERVALS, 900)
    low = rollover_openings(channels, plan)
    channels = [_channel(c.address, low.get((c.meter, c.register), c.opening)) for c in channels]
    at_text = {c.interval: f"t{c.interval}" for c in plan.changeouts}
    return build(channels, plan, fleet_shapes.load(), seed, START_S, INTERVALS, 900, 28_800, at_text), plan


@dataclass
class _Channel:
    facts: FleetChannel
    until_s: int
    value: int
    at_s: int
    quality: int = int(Quality.A)
    excess: int = 0
    pending: tuple[int, int] | None = None
    energy: int = 0


class Judge:
    """Verdicts in the contract's order."""

    def __init__(self, load: Load) -> None:
        finals = {change.old_meter: change.at_s for change in load.changes}
        self.channels = {
            c.address: _Channel(c, finals.get(c.meter, 2**32 - 1), c.opening, c.opening_at_s) for c in load.channels
        }

    def judge(self, address: int, v: int, t: int, q: int, register: int, received_s: int) -> str:
        c = self.channels.get(address)
        if c is None:
            return "unknown_meter"
        if register != 1:
            return "unknown_register"
        if t > received_s + 300:
            return "future"
        if v % c.facts.resolution:
            return "resolution"
        if v < 0:
            return "negative"
        if t < c.at_s:
            return "late"
        if t == c.at_s:
            if v == c.value:
                return "duplicate"
            if q <= c.quality:
                return "conflict"
            c.energy += v - c.value
            c.value, c.quality, c.excess = v, q, 0
            return "replaced"
        if t > c.until_s:
            return "not_installed"
        return self._advance(c, v, t, q)

    def _advance(self, c: _Channel, v: int, t: int, q: int) -> str:
        energy, most = v - c.value, c.facts.power_max_w * (t - c.at_s) / 3600
        if v < c.value - c.excess:
            wrapped = v + capacity(c.facts) - c.value
            if not 0 <= wrapped <= c.facts.power_max_w * min(t - c.at_s, WINDOW_S) / 3600:
                return "reset" if v < c.value / 1000 and c.value > 1_000_000 else "negative"
            energy = wrapped
        if energy > most:
            return "implausible"
        if energy > c.facts.power_max_w * min(t - c.at_s, WINDOW_S) / 3600:
            c.pending = (v, t)
            return "unconfirmed_jump"
        c.energy += energy
        c.excess = c.excess + (v - c.value) if q == int(Quality.E) else 0
        c.value, c.at_s, c.quality = v, t, q
        return "accepted"


def _rows(readings: Readings) -> Any:
    return zip(
        readings.meter.tolist(),
        readings.value.tolist(),
        readings.read_at_s.tolist(),
        readings.quality.tolist(),
        readings.register.tolist(),
        strict=True,
    )


@pytest.fixture(scope="module")
def judged() -> tuple[Load, Judge, Counter[str], Counter[str], Counter[tuple[str, str]]]:
    load, plan = _world("all")
    maker, judge = FrameMaker(load, plan), Judge(load)
    verdicts: Counter[str] = Counter()
    expected: Counter[str] = Counter()
    missed: Counter[tuple[str, str]] = Counter()
    for interval in range(INTERVALS):
        for place in range(2):
            now_s = load.end_s(interval)
            frame = maker.frame(place, interval, plan.frames.get((place, interval), ()), now_s)
            found = Counter(judge.judge(a, v, t, q, r, now_s) for a, v, t, q, r in _rows(frame.readings))
            verdicts += found
            for one in frame.expected:
                expected[one.reason.value] += 1
                if not found[one.reason.value]:
                    missed[one.reason.value, one.meter] += 1
    return load, judge, verdicts, expected, missed


def test_each_bad_reading_is_judged_as_it_is_named(judged: Any) -> None:
    _, _, _, expected, missed = judged
    assert not missed
    named = {"unconfirmed_jump", "not_installed"} | set(BAD_READINGS) - {"clock_2000"}
    assert set(expected) == named


def test_bad_readings_leave_every_register_where_the_truth_has_it(judged: Any) -> None:
    load, judge, _, _, _ = judged
    finals = {change.old_meter: change for change in load.changes}
    for row, facts in enumerate(load.channels):
        found = judge.channels[facts.address]
        last = int(np.flatnonzero(load.alive[:, row])[-1])
        assert found.value == load.shown[last, row]
        assert found.energy == load.true[row, last] // 10 * 10 - facts.opening
        if facts.meter in finals:
            assert finals[facts.meter].old_final >= found.value


def test_rollovers_happen_and_are_accepted(judged: Any) -> None:
    load, _, verdicts, _, _ = judged
    falls = (np.diff(load.shown, axis=0) < 0) & load.alive[1:] & load.alive[:-1]
    assert falls.any()
    assert verdicts["accepted"] > 0.98 * load.alive.sum()


def test_a_vacant_home_uses_nothing() -> None:
    load, plan = _world("vacant=0.1")
    rows = [row for row, c in enumerate(load.channels) if c.meter in plan.vacant]
    assert rows
    assert (load.true[rows] == load.true[rows][:, :1]).all()


def test_a_replaced_meter_hands_over_without_losing_more_than_a_step() -> None:
    load, plain = _world("changeout=0.05")[0], _world("none")[0]
    used = defaultdict(int)
    for row, c in enumerate(load.channels):
        used[c.point] += int(load.true[row, -1]) - c.opening if c.meter.endswith("-n") else 0
    change = load.changes[0]
    at = (change.at_s - START_S) // 900 - 1
    row = next(r for r, c in enumerate(plain.channels) if c.meter == change.old_meter)
    assert change.old_final == plain.true[row, at] // 10 * 10
    assert used[change.point] == plain.true[row, -1] - plain.true[row, at]


def test_without_faults_a_frame_is_the_list_in_order() -> None:
    load, plan = _world("none")
    frame = FrameMaker(load, plan).frame(1, 5, (), 0)
    first, end = load.lists["C1"]
    assert frame.readings.meter.tolist() == [c.address for c in load.channels[first:end]]
    assert set(frame.readings.read_at_s.tolist()) == {START_S + 6 * 900}
    assert (frame.readings.value % 10 == 0).all()
    assert not frame.expected


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_says_the_same(format_: str) -> None:
    load, plan = _world("none")
    faults = () if format_.startswith("senml") else (FrameFault("bad_reading", "replaced", 3),)
    frame = FrameMaker(load, plan).frame(0, 5, faults, 0)
    names = [f"{a:012d}" for a in frame.readings.meter.tolist()]
    payload = encode(format_, frame.readings, names, Envelope("C0", "s", 9, 2, START_S))
    decoders = {
        "arrow": arrow.decode,
        "json": envelope.decode,
        "senml-json": senml.decode_json,
        "senml-cbor": senml.decode_cbor,
    }
    decoded = decoders[format_](payload, Limits())
    assert check_body(decoded.body) == len(frame.readings)
    assert list(_rows(decoded.readings)) == list(_rows(frame.readings))
