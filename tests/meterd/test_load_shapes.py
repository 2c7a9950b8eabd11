"""Every shape of load through a real daemon: all is held, every balance right, and it has the shape it names."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from audit.sources import READINGS, columns_of
from meterd import cli
from meterd.exits import Exit
from simulators.load.host import Host
from simulators.load.schedule import Wish, midnight, schedule

DAY_S, QUARTER_S = 86_400, 900
MIDNIGHT_S = DAY_S - 8 * 3600  # of a UTC day, in Shanghai


@dataclass
class Held:
    """What the daemon's log had when the daemon had ended: which meter was read when, however often that came."""

    reads: set[tuple[int, int]] = field(default_factory=set)
    in_order: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # (when, value) as they came, by meter

    def of_meters(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for meter, at_s in sorted(self.reads):
            found.setdefault(meter, []).append(at_s)
        return found


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    found, stop = Held(), Host.stop_daemon

    def stop_and_look(host: Host, *words: float) -> int:
        code = stop(host, *words)
        with closing(sqlite3.connect(host.data / "log.db")) as db:
            for (body,) in db.execute("SELECT body FROM record WHERE kind = ? ORDER BY id", (READINGS,)):
                meter, value, read_at_s, _, _ = columns_of(body)
                for name, *read in zip(meter, read_at_s, value, strict=True):
                    found.reads.add((name, read[0]))
                    found.in_order.setdefault(name, []).append((read[0], read[1]))
        return code

    monkeypatch.setattr(Host, "stop_daemon", stop_and_look)
    return found


def loaded(folder: Path, wish: Wish, *words: str) -> dict[str, Any]:
    """The report of a run in which every message of the plan is held and every balance right."""
    asked = {
        "--pattern": wish.pattern, "--meters": wish.meters, "--per-message": wish.per_message, "--rate": wish.rate,
        "--seconds": wish.seconds, "--report": folder,
    }  # fmt: skip
    code = cli.run(["load", *(str(word) for pair in asked.items() for word in pair), *words])
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    verdict = report["verdict"]
    assert code == Exit.OK, verdict
    assert verdict["held"] == verdict["messages"] == len(schedule(wish))
    assert verdict["unheld"] == verdict["refused_by_broker"] == verdict["meters_wrong"] == 0
    assert verdict["energy_sent_wh"] == verdict["energy_billed_wh"] > 0
    assert verdict["exceptions"] == verdict["never_seen"] == {}
    assert verdict["audit_ok"]
    assert verdict["audit_difference_fen"] == 0
    assert "not_checked" not in verdict
    moved = verdict["messages"] - report["sent"]["past"]  # what is older than its register changes no balance
    assert report["latency_ms"]["reading_to_balance"]["count"] == moved
    assert "everything is held, seen and right" in (folder / "report.html").read_text()
    return report


def test_midnight_has_the_freeze_before_the_curve(tmp_path: Path, held: Held) -> None:
    """Every meter's register of 00:00 comes first; then what it showed in yesterday's last quarter hours."""
    wish = Wish("midnight", 600, 20, 600, 5)
    quarters = midnight(wish).quarters
    report = loaded(tmp_path, wish, "--format", "senml-cbor")
    verdict, sent = report["verdict"], report["sent"]
    assert verdict["curve"] == {"quarter_hours": quarters, "concentrators": 30}
    assert quarters == 4
    assert sent["curve"] == sent["past"] == 30 * quarters
    assert len(held.in_order) == 600
    for reads in held.in_order.values():
        at_s, value = zip(*reads, strict=True)
        frozen = next(place for place, when in enumerate(at_s) if when % DAY_S == MIDNIGHT_S)
        curve = slice(frozen + 1, frozen + 1 + quarters)
        oldest_s = at_s[frozen] - (quarters - 1) * QUARTER_S
        assert list(at_s[curve]) == list(range(oldest_s, at_s[frozen] + 1, QUARTER_S))
        assert list(value[curve]) == sorted(value[curve])
        assert value[curve][0] < value[curve][-1] == value[frozen]
        assert all(dict(zip(at_s[curve], value[curve], strict=True)).get(*one) == one[1] for one in reads[:frozen])
        assert all(when > at_s[frozen] for when in at_s[curve.stop :])
    assert verdict["late_readings"] == 600 * (quarters - 1)
    assert verdict["duplicate_readings"] == 600  # the curve's last point is the freeze
    assert report["over_time"]["due"][0] >= 600  # within one second, and the rest before and after
    latency = report["latency_ms"]
    assert latency["reading_to_order"]["count"] == latency["reading_to_notice"]["count"] > 0


def test_a_ramp_comes_to_twice_its_rate(tmp_path: Path, held: Held) -> None:
    report = loaded(tmp_path, Wish("ramp", 800, 10, 40, 6), "--format", "json")
    due = report["over_time"]["due"]
    assert sum(due[3:]) >= 2.5 * sum(due[:3])  # three times, but for the grain of messages
    assert max(due) == max(due[-2:]) >= 60
    assert len(held.reads) == report["verdict"]["readings"] == sum(due)


def test_a_morning_of_lone_meters_has_its_peak_in_the_middle(tmp_path: Path, held: Held) -> None:
    report = loaded(tmp_path, Wish("morning", 900, 1, 40, 6), "--format", "senml-json")
    due = report["over_time"]["due"]
    outer, inner = due[0] + due[5], due[2] + due[3]
    assert inner > 2 * outer
    assert report["verdict"]["messages"] == report["verdict"]["readings"] == len(held.reads) == 240


def test_a_reconnect_storm_makes_as_many_sessions_again(tmp_path: Path, held: Held) -> None:
    words = ("--connections", "5", "--processes", "2")
    report = loaded(tmp_path, Wish("reconnect", 600, 20, 60, 6), *words)
    assert report["sent"]["cuts"] == 10
    assert report["sent"]["sessions"] >= 20  # one or two more: docs/LOADTEST.md, Reconnect
    assert len(held.reads) == report["verdict"]["readings"] == 360  # also of what was sent twice


def test_a_backfill_is_three_days_of_quarters(tmp_path: Path, held: Held) -> None:
    """Three days of use are more than one order: the next one is a cool-down away, and nobody waits for it."""
    report = loaded(tmp_path, Wish("backfill", 1000, 10, 60, 5), "--format", "json")
    away = {meter: reads for meter, reads in held.of_meters().items() if len(reads) > 100}
    assert len(away) == 100  # every tenth concentrator
    newest = max(at_s for _, at_s in held.reads)
    for reads in away.values():
        quarters = reads[:288]
        assert {after - before for before, after in pairwise(quarters)} == {QUARTER_S}
        assert 3 * DAY_S <= newest - quarters[0] < 3 * DAY_S + 60
    assert report["verdict"]["put_off_by_autopay"] > 0
    latency = report["latency_ms"]
    assert latency["reading_to_order"]["count"] == latency["reading_to_notice"]["count"] > 0
