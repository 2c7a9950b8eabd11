"""The reader adds posted days and open days by meter: pages, newer deltas, and nothing twice."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import create_engine

from ledger.effects import SUBLEDGER, Component
from ledger.schema import metadata
from rating.state import CHANNEL
from simulators import checker, fleet_ledger

METERS = np.array([101, 102, 101], np.uint64)  # slot 2 is a later span of meter 101


def _channels(energy: list[int]) -> bytes:
    rows = np.zeros(len(energy), CHANNEL)
    rows["day_energy"] = energy
    return rows.tobytes()


def _subledger(rows: list[tuple[int, int, int]], days: list[int] | None = None) -> bytes:
    found = np.zeros(len(rows), SUBLEDGER)
    found["day"] = 0 if days is None else days
    for place, (channel, component, quantity) in enumerate(rows):
        found[place]["channel"], found[place]["component"], found[place]["quantity"] = channel, component, quantity
    return found.tobytes()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    image = SimpleNamespace(
        partitions=[SimpleNamespace(channels={"meter": METERS, "register": np.ones(3, np.uint8)})]
    )
    monkeypatch.setattr(fleet_ledger, "load_image", lambda _root, digest: {"new": image}[digest])
    metadata.create_all(create_engine(f"sqlite:///{tmp_path / 'ledger.db'}"))
    db = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    for number, digest in ((1, "old"), (2, "new")):
        values = {
            "id": number,
            "partition": 0,
            "registry_digest": digest,
            "counters": json.dumps({"readings": number}),
        }
        names = [row[1] for row in db.execute("PRAGMA table_info(checkpoint)")]
        db.execute(
            f"INSERT INTO checkpoint ({','.join(names)}) VALUES ({','.join('?' * len(names))})",
            [values.get(name, 0) for name in names],
        )
    db.execute("PRAGMA foreign_keys=OFF")
    names = [row[1] for row in db.execute("PRAGMA table_info(entry)")]
    for number in (1, 2):
        row = [{"id": number, "kind": "usage"}.get(name, None if name == "reference" else 0) for name in names]
        db.execute(f"INSERT INTO entry VALUES ({','.join('?' * len(names))})", row)
    energy, adder = Component.ENERGY, Component.TIER_ADDER
    first = _subledger([(0, energy, 100), (1, energy, 7), (0, adder, 50), (-1, energy, 9)])
    db.execute("INSERT INTO subledger VALUES (0,0,1,?,0)", (first,))
    db.execute("INSERT INTO subledger VALUES (0,0,2,?,0)", (_subledger([(0, energy, -20), (2, energy, 5)]),))
    db.execute("INSERT INTO state_page VALUES (0,'channel',0,5,1,?,0)", (_channels([1000, 2000, 0]),))
    older, newer = np.array([1], "<i4"), np.array([0, 2], "<i4")
    delta = (
        "INSERT INTO state_delta (partition, array, version, format, count, body, crc) VALUES (0,'channel',?,1,?,?,0)"
    )
    db.execute(delta, (4, 1, older.tobytes() + _channels([999_999])))
    db.execute(delta, (6, 2, newer.tobytes() + _channels([1500, 3])))
    yield db, tmp_path
    db.close()


def test_billed_energy_is_posted_days_and_the_open_one(data: Any) -> None:
    assert fleet_ledger.billed_wh(data[1]) == {101: 100 - 20 + 5 + 1500 + 3, 102: 7 + 2000}


def test_what_was_guessed_for_a_bill_is_no_meter_s_word_until_a_reading_made_it_good(data: Any) -> None:
    db, root = data
    db.execute("DELETE FROM state_delta")
    db.execute("UPDATE state_page SET body = ?", (_channels([0, 0, 0]),))
    assert fleet_ledger.billed_wh(root) == {101: 100 - 20 + 5, 102: 7}
    db.execute("UPDATE entry SET kind = 'estimate' WHERE id = 2")
    assert fleet_ledger.billed_wh(root) == {101: 100, 102: 7}
    db.execute("UPDATE state_page SET body = ?", (_channels([3, 0, 0]),))  # slot 0 has been read since
    assert fleet_ledger.billed_wh(root) == {
        101: 100 - 20 + 5 + 3,
        102: 7,
    }  # register by register: what a later span guessed is good, too


def test_a_reading_in_the_checkpoint_of_the_estimate_makes_it_good_though_its_entry_comes_first(data: Any) -> None:
    """Days 8 and 9 are guessed at a bill's close; the reading of day 10 takes that back, all in one checkpoint::

    entry 1, usage      day 7: 100 Wh                                   day 10: -30 Wh
    entry 2, estimate                    day 8: 10 Wh   day 9: 20 Wh
    """
    db, root = data
    db.execute("DELETE FROM state_delta")
    db.execute("DELETE FROM subledger")
    db.execute("UPDATE state_page SET body = ?", (_channels([0, 0, 0]),))
    db.execute("UPDATE entry SET kind = 'estimate' WHERE id = 2")
    energy = Component.ENERGY
    used = _subledger([(0, energy, 100), (0, energy, -30), (1, energy, 5)], [7, 10, 7])
    guess = _subledger([(0, energy, 10), (0, energy, 20), (1, energy, 2)], [8, 9, 8])
    db.executemany("INSERT INTO subledger VALUES (0,0,?,?,0)", [(1, used), (2, guess)])
    assert fleet_ledger.billed_wh(root) == {101: 100, 102: 5}, "of meter 102 nothing came after the estimate"


def test_counters_are_of_the_newest_checkpoint(data: Any) -> None:
    assert fleet_ledger.counters(data[1]) == {"readings": 2}


def test_orders_count_their_credits(data: Any) -> None:
    db, root = data
    names = [row[1] for row in db.execute("PRAGMA table_info(order_)")]
    for order, arm in ((1, 4), (2, 5)):
        values = {"id": order, "account": "A", "arm": arm, "attempt": 1, "key": f"k{order}", "amount_fen": 10_000}
        values["state"] = "credited" if order == 1 else "declined"
        row = [values.get(name, None if name == "gateway_txn" else 0) for name in names]
        db.execute(f"INSERT INTO order_ VALUES ({','.join('?' * len(names))})", row)
    db.execute("INSERT INTO inbox (kind, key, body, created_at_s) VALUES ('credit','order:1:1','{}',0)")
    found = {credit.key: (credit.arm, credit.credits) for credit in fleet_ledger.order_credits(root)}
    assert found == {"k1": (4, 1), "k2": (5, 0)}
    db.execute("UPDATE order_ SET gateway = 'bank', gateway_txn = 'gw-7' WHERE id = 1")
    twice = '{"gateway":"bank","reference":"gw-7"}'
    db.execute(f"INSERT INTO inbox (kind, key, body, created_at_s) VALUES ('credit','webhook:e','{twice}',0)")
    found = {credit.key: credit.credits for credit in fleet_ledger.order_credits(root)}
    assert found == {"k1": 2, "k2": 0}, "whoever else credits the order's transaction credits it again"


def test_what_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--truth", str(tmp_path / "none.db"), "--data-dir", str(tmp_path)]
    assert checker.main(arguments) == 2
    assert "none.db is missing" in capsys.readouterr().err
    with pytest.raises(fleet_ledger.NotReadable):
        fleet_ledger.billed_wh(tmp_path)
