"""The auditor over hand-made directories: right ones are silent, each falsification is named."""

import json
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from audit.compare import Difference
from audit.run import StateMissing, audit
from audit.sources import snapshot
from config.settings import Paths

ZONE = ZoneInfo("Asia/Shanghai")


def local_s(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp())


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


def test_commands_are_followed_as_they_were_applied(disk: Any, summer: Any) -> None:
    """A row may become visible after one with a higher id was applied, both after the same record."""
    summer.write(disk)
    disk.ledger.execute("INSERT INTO inbox_applied VALUES (71, 0, 5, 900, '')")
    disk.ledger.execute("INSERT INTO inbox_applied VALUES (72, 0, 5, 899, '')")
    applied = list(snapshot(Paths(disk.root), 0, 0).applied)
    pairs = list(zip(applied[0::2], applied[1::2], strict=True))
    assert pairs.index((5, 72)) == pairs.index((5, 71)) - 1


def order(disk: Any, number: int, attempt: int, key: str, state: str) -> None:
    """An order of 100 yuan under arm 1, and the caps that it holds."""
    columns = "id, account, arm, attempt, key, amount_fen, state"
    row = (number, "A", 1, attempt, key, 10_000, state)
    disk.ledger.execute(f"INSERT INTO order_ ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    disk.ledger.execute("INSERT INTO order_step VALUES (NULL, ?, 1000, '', ?, '{}')", (number, state))
    for scope in (
        "payer:P:day:1970-01-01",
        "payer:P:month:1970-01",
        "mandate:M:day:1970-01-01",
        "mandate:M:month:1970-01",
    ):
        if state not in ("declined", "cancelled"):
            disk.ledger.execute("DELETE FROM cap_use WHERE scope = ?", (scope,))
            disk.ledger.execute("INSERT INTO cap_use VALUES (?, ?, ?)", (scope, 10_000 * number, number))


class TestMoney:
    """Credits, orders and the gateway's book."""

    @staticmethod
    def charge(disk: Any, *, times: int = 1, state: str = "credited") -> None:
        body = {"account": "A", "amount_fen": 10_000, "gateway": "demo", "order_id": 1}
        order(disk, 1, 1, "k1", state)
        disk.command("credit", "order:1:1", body, len(disk.records))
        for n in range(times):
            reference = "order:1:1" if n == 0 else f"again:{n}"
            disk.entry("credit", [("credit", "2026-08-01", 10_000, 0)], "clearing:demo", reference)
        disk.state(account={"balance_fen": 22_968})

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
        report = audit(disk.root, gateway_books=[self.book(tmp_path, ("k1", 10_000))])
        assert report.differences == []
        assert report.counts["charges"] == 1

    def test_a_doubled_credit_is_named(self, disk: Any, summer: Any) -> None:
        summer.write(disk)
        self.charge(disk, times=2)
        told = found(audit(disk.root))
        assert ("A", "", "credit", 10_000, 20_000) in told
        assert ("A", "", "credit", 0, 10_000) in told

    def test_a_credit_of_an_orders_transaction_beside_its_own_is_named(self, disk: Any, summer: Any) -> None:
        """Booked as it says, and nothing else would notice: it is a top-up of the same money."""
        summer.write(disk)
        self.charge(disk)
        disk.ledger.execute("UPDATE order_ SET gateway_txn = 'txn-1'")
        body = {"account": "A", "amount_fen": 10_000, "gateway": "demo", "reference": "txn-1"}
        disk.command("credit", "webhook:txn-1", body, len(disk.records))
        disk.entry("credit", [("credit", "2026-08-01", 10_000, 0)], "clearing:demo", "webhook:txn-1")
        disk.state(account={"balance_fen": 32_968})
        assert found(audit(disk.root)) == [("A", "", "order", 0, 10_000)]
        disk.ledger.execute("UPDATE order_ SET gateway_txn = 'txn-2'")
        assert found(audit(disk.root)) == []

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
        report = audit(disk.root, gateway_books=[self.book(tmp_path, *charges)])
        assert any(d.component == component and word in d.note for d in report.differences), report.differences

    def test_a_credit_that_waits_is_under_way_and_one_that_is_nowhere_is_missing(
        self, disk: Any, summer: Any, tmp_path: Path
    ) -> None:
        """A daemon was stopped, or is audited, between an answer and the credit's turn."""
        summer.write(disk)
        order(disk, 1, 1, "k1", "succeeded")
        book = self.book(tmp_path, ("k1", 10_000))
        missing = found(audit(disk.root, gateway_books=[book]))
        assert [(d[2], d[3], d[4]) for d in missing if d[2] == "credit"] == [("credit", 10_000, 0)]
        body = json.dumps({"account": "A", "amount_fen": 10_000, "order_id": 1})
        disk.ledger.execute("INSERT INTO inbox VALUES (900, 0, 'credit', 'order:1:1', ?, 0)", (body,))
        report = audit(disk.root, gateway_books=[book])
        assert [d for d in report.differences if d.component == "credit"] == []
        assert report.counts["credits_waiting"] == 1

    def test_two_charges_for_one_low_balance_are_named(self, disk: Any, summer: Any, tmp_path: Path) -> None:
        summer.write(disk)
        self.charge(disk)
        order(disk, 2, 2, "k2", "credited")
        disk.command("credit", "order:2:2", {"account": "A", "amount_fen": 10_000, "order_id": 2}, len(disk.records))
        disk.entry("credit", [("credit", "2026-08-01", 10_000, 0)], "clearing:demo", "order:2:2")
        disk.state(account={"balance_fen": 32_968})
        report = audit(disk.root, gateway_books=[self.book(tmp_path, ("k1", 10_000), ("k2", 10_000))])
        note = "charged twice for low balance 1: k1, k2"
        assert report.differences == [Difference("A", "", "gateway", 10_000, 20_000, note)]


class TestSince:
    """An audit that goes on from an earlier one."""

    @staticmethod
    def august(disk: Any, credit: int = 0) -> None:
        """10 kWh on the 1st: 5.8886875, of which 0.86875 fen stay with the meter."""
        disk.read("2026-08-02T00:00", 610_000)
        disk.entry("usage", [("energy", "2026-08-01", -588, 10_000)], "revenue:energy")
        disk.home["channel"] |= {"value": 610_000, "at_s": local_s("2026-08-02"), "day_energy": 0}
        disk.home["channel"] |= {"accrued_energy_e11": 868_750_000}
        disk.home["ladder"] |= {"used": 10_000, "used_before": 600_000}
        disk.home["account"]["balance_fen"] += credit - 588
        disk.store(10)

    def test_it_reads_only_what_is_new_and_finds_what_is_wrong_there(self, disk: Any, summer: Any) -> None:
        summer.write(disk)
        assert audit(disk.root).ok
        disk.command("credit", "cash", {"account": "A", "amount_fen": 1}, len(disk.records))
        disk.entry("credit", [("credit", "2026-08-02", 1, 0)], "clearing:counter", "cash")
        self.august(disk, credit=1)
        report = audit(disk.root, since="last")
        assert report.differences == []
        assert report.counts["readings"] == 1
        disk.entry("usage", [("energy", "2026-08-01", -2, 0)], "revenue:energy")
        assert found(audit(disk.root, since=1)) == [("A", "2026-08-01", "energy", -588, -590)]

    def test_an_open_day_is_gone_on_with(self, disk: Any, summer: Any) -> None:
        summer.write(disk)
        disk.read("2026-08-01T12:00", 605_000)
        disk.home["channel"] |= {"value": 605_000, "at_s": local_s("2026-08-01T12:00"), "day_energy": 5_000}
        disk.home["channel"] |= {"accrued_energy_e11": 294_434_375_000}
        disk.home["ladder"] |= {"used": 5_000, "used_before": 600_000}
        disk.store(10)
        assert audit(disk.root).ok
        self.august(disk)
        assert audit(disk.root, since="last").differences == []

    @pytest.mark.parametrize("file", ["0.jsonl", "audit.json"])
    def test_a_state_that_was_touched_is_refused(self, disk: Any, summer: Any, file: str) -> None:
        summer.write(disk)
        with pytest.raises(StateMissing):
            audit(disk.root, since="last")
        audit(disk.root)
        path = disk.root / "audit" / "1" / file
        path.write_bytes(path.read_bytes().replace(b"1", b"2"))
        with pytest.raises(StateMissing, match="damaged"):
            audit(disk.root, since=1)

    def test_a_ledger_that_was_put_back_is_refused(self, disk: Any, summer: Any) -> None:
        summer.write(disk)
        audit(disk.root)
        disk.ledger.execute("UPDATE checkpoint SET id = id - 1")
        with pytest.raises(StateMissing, match="no checkpoint 1 any more"):
            audit(disk.root, since="last")

    def test_an_audit_that_found_something_leaves_nothing_to_go_on_from(self, disk: Any, summer: Any) -> None:
        summer.write(disk)
        disk.state(account={"balance_fen": 0})
        assert not audit(disk.root).ok
        assert list((disk.root / "audit").iterdir()) == []
