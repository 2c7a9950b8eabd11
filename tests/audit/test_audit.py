"""The auditor over hand-made directories: right ones are silent, each falsification is named."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from audit.compare import Difference
from audit.run import StateMissing, audit


def found(report: Any) -> list[tuple[str, str, str, int, int]]:
    return [(d.account, d.day, d.component, d.expected, d.found) for d in report.differences]


@pytest.mark.parametrize("archived", [0, 10, 32])
def test_a_right_summer_month_has_no_difference(disk: Any, summer: Any, archived: int) -> None:
    summer.write(disk, archived=archived)
    report = audit(disk.root)
    assert report.differences == []
    assert report.ok
    assert report.counts["readings"] == 31
    assert sum(row[2] for row in summer.days()) == -37_032  # 370.32125, the rest of 0.00125 rounds to nothing


def test_one_fen_is_named_with_its_day(disk: Any, summer: Any) -> None:
    rows = [(c, d, a - 1, w) if (c, d) == ("energy", "2026-07-05") else (c, d, a, w) for c, d, a, w in summer.days()]
    summer.write(disk, rows)
    report = audit(disk.root)
    right = next(a for c, d, a, _ in summer.days() if (c, d) == ("energy", "2026-07-05"))
    assert found(report) == [("A", "2026-07-05", "energy", right, right - 1)]
    assert report.difference_fen == 1


def test_a_swapped_tier_is_named(disk: Any, summer: Any) -> None:
    rows = [
        (c, d, -600, w) if (c, d) == ("tier_adder", "2026-07-20") else (c, d, a, w) for c, d, a, w in summer.days()
    ]
    summer.write(disk, rows)
    assert found(audit(disk.root)) == [("A", "2026-07-20", "tier_adder", -100, -600)]


def test_a_reading_that_the_ledger_never_saw_is_named(disk: Any, summer: Any) -> None:
    """The archive holds the 10th, the ledger rated as if it did not: 40 kWh spread over the 10th and 11th is the
    same; 20 kWh that are missing altogether are not."""
    rows = [row for row in summer.days() if row[1] != "2026-07-10"]
    summer.write(disk, rows)
    told = found(audit(disk.root))
    assert [row[:3] for row in told] == [("A", "2026-07-10", "energy"), ("A", "2026-07-10", "quantity_wh")]
    assert told[1][3:] == (20_000, 0)


def test_a_record_that_is_nowhere_is_named(disk: Any, summer: Any) -> None:
    summer.write(disk, archived=10)
    disk.log.execute("DELETE FROM record WHERE id = 15")
    report = audit(disk.root)
    assert any(d.component == "records" and "record 15" in d.note for d in report.differences)


def test_a_wrong_opening_and_an_unbalanced_entry_are_named(disk: Any, summer: Any) -> None:
    summer.write(disk)
    disk.ledger.execute("UPDATE posting SET amount_fen = amount_fen + 7 WHERE entry_id = 2 AND line = 1")
    disk.entry("opening", [("opening", "2026-07-01", 3, 0)], "opening")
    assert found(audit(disk.root)) == [("", "", "entry", 0, 7), ("A", "", "opening", 50_000, 50_003)]


def test_rows_must_sum_to_the_control_account(disk: Any, summer: Any) -> None:
    summer.write(disk)
    disk.ledger.execute(
        "UPDATE posting SET amount_fen = amount_fen + CASE line WHEN 0 THEN 5 ELSE -5 END WHERE entry_id = 2"
    )
    assert found(audit(disk.root)) == [("", "", "customer", -37_027, -37_032)]


class TestMoney:
    """Credits, orders and the gateway's book."""

    @staticmethod
    def charge(disk: Any, *, times: int = 1, state: str = "credited") -> None:
        body = {"account": "A", "amount_fen": 10_000, "gateway": "demo", "order_id": 1}
        disk.ledger.execute("INSERT INTO order_ VALUES (1, 'A', 1, 1, 'k1', 10000, ?)", (state,))
        disk.command("credit", "order:1:1", body, len(disk.records))
        for n in range(times):
            reference = "order:1:1" if n == 0 else f"again:{n}"
            disk.entry("credit", [("credit", "2026-08-01", 10_000, 0)], "clearing:demo", reference)

    @staticmethod
    def book(tmp_path: Path, *charges: tuple[str, int]) -> Path:
        path = tmp_path / "gateway.db"
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE charge (key TEXT, amount_fen INTEGER, txn TEXT)")
            db.executemany("INSERT INTO charge VALUES (?, ?, 't')", charges)
        return path

    def test_a_charge_with_its_order_and_credit_is_silent(self, disk: Any, summer: Any, tmp_path: Path) -> None:
        summer.write(disk)
        self.charge(disk)
        report = audit(disk.root, gateway_book=self.book(tmp_path, ("k1", 10_000)))
        assert report.differences == []
        assert report.counts["charges"] == 1

    def test_a_doubled_credit_is_named(self, disk: Any, summer: Any) -> None:
        summer.write(disk)
        self.charge(disk, times=2)
        told = found(audit(disk.root))
        assert ("A", "", "credit", 10_000, 20_000) in told
        assert ("A", "", "credit", 0, 10_000) in told

    @pytest.mark.parametrize(
        ("charges", "state", "component", "word"),
        [
            ([("k1", 10_000), ("k1", 10_000)], "credited", "gateway", "charged 2 times"),
            ([("k1", 9_000)], "credited", "gateway", "another amount"),
            ([("k1", 10_000), ("k9", 10_000)], "credited", "gateway", "has no order"),
            ([], "credited", "gateway", "never charged"),
            ([("k1", 10_000)], "declined", "gateway", "order is declined"),
        ],
    )
    def test_the_gateways_book_must_agree(
        self, disk: Any, summer: Any, tmp_path: Path, charges: Any, state: str, component: str, word: str
    ) -> None:
        summer.write(disk)
        self.charge(disk, state=state)
        report = audit(disk.root, gateway_book=self.book(tmp_path, *charges))
        assert any(d.component == component and word in d.note for d in report.differences), report.differences

    def test_two_charges_for_one_low_balance_are_named(self, disk: Any, summer: Any, tmp_path: Path) -> None:
        summer.write(disk)
        self.charge(disk)
        disk.ledger.execute("INSERT INTO order_ VALUES (2, 'A', 1, 2, 'k2', 10000, 'credited')")
        disk.command("credit", "order:2:2", {"account": "A", "amount_fen": 10_000, "order_id": 2}, len(disk.records))
        disk.entry("credit", [("credit", "2026-08-01", 10_000, 0)], "clearing:demo", "order:2:2")
        report = audit(disk.root, gateway_book=self.book(tmp_path, ("k1", 10_000), ("k2", 10_000)))
        note = "charged twice for low balance 1: k1, k2"
        assert report.differences == [Difference("A", "", "gateway", 10_000, 20_000, note)]


class TestSince:
    """An audit that goes on from an earlier one."""

    def test_it_reads_only_what_is_new_and_finds_what_is_wrong_there(self, disk: Any, summer: Any) -> None:
        summer.write(disk)
        assert audit(disk.root).ok
        disk.read("2026-08-02T00:00", 610_000)  # 10 kWh: 5.8886875, with the 0.125 fen of July settled
        disk.entry("usage", [("energy", "2026-08-01", -588, 10_000)], "revenue:energy")
        disk.command("credit", "cash", {"account": "A", "amount_fen": 1}, len(disk.records))
        disk.entry("credit", [("credit", "2026-08-02", 1, 0)], "clearing:counter", "cash")
        disk.store(10)
        report = audit(disk.root, since="last")
        assert report.differences == []
        assert report.counts["readings"] == 1
        disk.entry("usage", [("energy", "2026-08-01", -2, 0)], "revenue:energy")
        assert found(audit(disk.root, since=1)) == [("A", "2026-08-01", "energy", -588, -590)]

    def test_an_open_day_is_gone_on_with(self, disk: Any, summer: Any) -> None:
        summer.write(disk)
        disk.read("2026-08-01T12:00", 605_000)
        disk.store(10)
        assert audit(disk.root).ok
        disk.read("2026-08-02T00:00", 610_000)
        disk.entry("usage", [("energy", "2026-08-01", -588, 10_000)], "revenue:energy")
        disk.store(10)
        assert audit(disk.root, since="last").differences == []

    def test_a_state_that_was_touched_is_refused(self, disk: Any, summer: Any) -> None:
        summer.write(disk)
        with pytest.raises(StateMissing):
            audit(disk.root, since="last")
        audit(disk.root)
        file = disk.root / "audit" / "1.json"
        told = json.loads(file.read_text())
        told["state"]["partitions"][0]["offset"] -= 1
        file.write_text(json.dumps(told))
        with pytest.raises(StateMissing, match="damaged"):
            audit(disk.root, since=1)
