"""What is right is said to be right, what is wrong is found, what could not be checked is named with its reason."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from simulators.load import asked, checks
from simulators.load.asked import LoadFailed, Target, starts_at
from simulators.load.checks import Before, await_rated, before, check_running, exceptions_of, is_watchable
from simulators.load.schedule import Wish
from simulators.rig import RigFailed

LOG = "CREATE TABLE record (id INTEGER PRIMARY KEY)"
LEDGER = (
    'CREATE TABLE checkpoint (id INTEGER PRIMARY KEY, partition, "offset", registry_digest, counters)',
    "CREATE TABLE exception (reason, source, repeats)",
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Partition 1 with three records, all of them rated; C1's exception, and one of a stranger."""
    with sqlite3.connect(tmp_path / "log.db") as log:
        log.execute(LOG)
        log.executemany("INSERT INTO record VALUES (?)", [((1 << 48) + n,) for n in (1, 2, 3)])
    with sqlite3.connect(tmp_path / "ledger.db") as ledger:
        for table in LEDGER:
            ledger.execute(table)
        ledger.execute("""INSERT INTO checkpoint VALUES (1, 1, 3, '', '{"verdict.late": 9, "readings": 20}')""")
        ledger.execute("INSERT INTO exception VALUES ('late', 'C1', 1), ('negative', 'stranger', 0)")
    return tmp_path


@pytest.fixture
def checked(data: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """The verdict on meters 7 and 8 that sent 100 Wh and 50."""
    monkeypatch.setattr(checks, "RATED_S", 0.3)

    def check(
        billed: Any, *, known: bool = True, faults: Any = None, audit: Any = None, was: Any = None
    ) -> dict[str, Any]:
        monkeypatch.setattr(checks, "billed_wh", billed if callable(billed) else lambda *_: billed)
        monkeypatch.setattr(checks, "_audit_there", audit or (lambda *_: {"ok": True, "difference_fen": 0}))
        sent = SimpleNamespace(address=np.array([7, 8], np.uint64), used=np.array([100, 50]))
        result: Any = SimpleNamespace(sent=sent, verdict={"good": True})
        test = asked.Test(Wish("steady", 2, 1, 1.0, 1.0), faults=faults or {"drop": 0.1})
        target = Target("localhost", 1, data, data if known else None)
        check_running(result, target, test, Before({"C1"}, was or {}, {"verdict.late": 2}) if known else None)
        found: dict[str, Any] = result.verdict
        return found

    return check


def test_all_is_right(checked: Callable[..., dict[str, Any]]) -> None:
    """`late` is what a dropped connection explains; the stranger's rows are no business of ours."""
    verdict = checked({7: 100, 8: 50, 9: 1000})
    assert verdict["good"]
    assert (verdict["energy_sent_wh"], verdict["energy_billed_wh"], verdict["meters_wrong"]) == (150, 150, 0)
    assert verdict["exceptions"] == {"late": 2}
    assert (verdict["late_readings"], verdict["duplicate_readings"]) == (7, 0)  # while the load ran
    assert "not_checked" not in verdict
    assert checked({7: 100, 8: 50}, was={"late": 2})["exceptions"] == {}


def test_a_watt_hour_too_much_is_found(checked: Callable[..., dict[str, Any]]) -> None:
    verdict = checked({7: 101, 8: 49})
    assert not verdict["good"]
    assert (verdict["energy_billed_wh"], verdict["meters_wrong"]) == (150, 2)


def test_exceptions_that_no_fault_explains_are_a_no(checked: Callable[..., dict[str, Any]]) -> None:
    verdict = checked({7: 100, 8: 50}, faults={"bad": 0.1})
    assert not verdict["good"]
    assert verdict["exceptions_not_asked_for"] == ["late"]


def test_an_audit_with_a_difference_or_without_an_end_is_a_no(checked: Callable[..., dict[str, Any]]) -> None:
    verdict = checked({7: 100, 8: 50}, audit=lambda *_: {"ok": False, "difference_fen": 3})
    assert (verdict["good"], verdict["audit_ok"], verdict["audit_difference_fen"]) == (False, False, 3)

    def fails(*_: object) -> Any:
        raise RigFailed("no such settings")

    verdict = checked({7: 100, 8: 50}, audit=fails)
    assert (verdict["good"], verdict["not_checked"]) == (False, {"balances": "no such settings"})


def test_what_is_not_rated_is_not_compared(checked: Callable[..., dict[str, Any]], data: Path) -> None:
    with sqlite3.connect(data / "log.db") as log:
        log.execute("INSERT INTO record VALUES (?)", ((1 << 48) + 5,))
    assert await_rated(data) == 2
    verdict = checked({})
    assert not verdict["good"]
    assert verdict["not_checked"]["energy"].startswith("2 records of the log were still not rated")
    assert "meters_wrong" not in verdict


def test_a_ledger_that_takes_too_long_is_let_go(checked: Callable[..., dict[str, Any]], data: Path) -> None:
    def slow(_: Path, most_real_s: float) -> dict[int, int]:
        assert most_real_s == checks.SNAPSHOT_S
        raise sqlite3.OperationalError("interrupted")

    verdict = checked(slow)
    assert not verdict["good"]
    assert verdict["not_checked"] == {"energy and exceptions": f"{data} cannot be read: interrupted"}


def test_a_snapshot_is_given_up_when_its_time_is_over(data: Path) -> None:
    from simulators.fleet_ledger import _snapshot

    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with _snapshot(data / "ledger.db", 0.1) as db, pytest.raises(sqlite3.OperationalError, match="interrupted"):
        db.execute(endless).fetchone()


def test_without_its_files_nothing_is_claimed(checked: Callable[..., dict[str, Any]], data: Path) -> None:
    verdict = checked({}, known=False)
    assert verdict["good"]  # of what was seen on the wire
    assert set(verdict["not_checked"]) == {"energy", "exceptions", "balances"}
    assert set(verdict["not_measured"]) == {"reading_to_balance", "reading_to_order, reading_to_notice"}
    assert before(Target("localhost", 1, data)) is None


def test_exceptions_are_counted_with_their_repeats(data: Path) -> None:
    assert exceptions_of(data) == {"late": 2, "negative": 1}
    assert exceptions_of(data, {"stranger"}) == {"negative": 1}


def test_what_is_no_data_directory_is_refused_at_once(data: Path) -> None:
    is_watchable(data)
    (data / "log.db").unlink()
    with pytest.raises(LoadFailed, match=r"there is no log\.db"):
        is_watchable(data)


@pytest.mark.parametrize(
    ("now", "night"), [("2026-11-28 00:04:59", 27), ("2026-11-28 00:05:00", 28), ("2026-11-28 23:59", 28)]
)
def test_a_midnight_was_at_five_past_by_the_meters_clocks(now: str, night: int) -> None:
    zone = ZoneInfo("Asia/Shanghai")
    now_s = int(datetime.fromisoformat(now).replace(tzinfo=zone).timestamp())
    wish = Wish("midnight", 100, 10, 1.0, 60.0)
    start_s = starts_at(wish, now_s, zone)
    assert start_s + 6 == datetime(2026, 11, night - 1, 16, 5, tzinfo=UTC).timestamp()
    assert start_s + 6 <= now_s  # nothing is read in the future
    assert starts_at(Wish("steady", 100, 10, 1.0, 60.0), now_s, zone) == now_s
