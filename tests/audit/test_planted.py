"""Faults planted in the stored bytes: state pages and deltas, checkpoint rows, packed rows, archive, log."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from audit.run import audit
from ledger.effects import STATE_FORMAT
from ledger.pages import checksum
from rating.state import ARRAYS


def told(report: Any) -> list[tuple[str, str, str, int, int]]:
    return [(d.account, d.day, d.component, d.expected, d.found) for d in report.differences]


def kinds(report: Any) -> set[tuple[str, str]]:
    return {(d.account, d.component) for d in report.differences}


def notes(report: Any, component: str) -> str:
    return " | ".join(d.note for d in report.differences if d.component == component)


@pytest.fixture
def august(disk: Any, summer: Any) -> Any:
    """July as published, and 5 kWh of an August day that is open: 2.94434375 accrued."""
    summer.write(disk)
    disk.read("2026-08-01T12:00", 605_000)
    at_s = disk.home["channel"]["at_s"] + 12 * 3600
    disk.home["channel"] |= {"value": 605_000, "at_s": at_s, "day_energy": 5_000}
    disk.home["channel"] |= {"accrued_energy_e11": 294_434_375_000}
    disk.home["ladder"] |= {"used": 5_000, "used_before": 600_000}
    disk.store(10)
    return disk


def test_an_open_day_that_is_right_has_no_difference(august: Any) -> None:
    assert audit(august.root).differences == []


@pytest.mark.parametrize(
    ("array", "field", "component", "dated"),
    [
        ("channel", "value", "register", True),
        ("channel", "at_s", "register_at_s", True),
        ("channel", "quality", "quality", True),
        ("channel", "estimate_excess", "estimate_excess", True),
        ("channel", "accrued_energy_e11", "energy_e11", True),
        ("channel", "accrued_adder_e11", "tier_adder_e11", True),
        ("channel", "day_energy", "day_wh", True),
        ("channel", "until_s", "until_s", True),
        ("channel", "power_max_w", "power_max_w", True),
        ("channel", "multiplier", "multiplier", True),
        ("channel", "resolution", "resolution", True),
        ("channel", "digits", "digits", True),
        ("channel", "ladder", "ladder_slot", True),
        ("cold", "account", "account_slot", True),
        ("cold", "next", "next_slot", True),
        ("ladder", "used", "ladder_used_wh", False),
        ("ladder", "used_before", "ladder_used_before_wh", False),
        ("account", "balance_fen", "balance", False),
        ("account", "arrears_fen", "arrears", False),
        ("account", "carry_energy_e11", "carry_energy_e11", False),
        ("account", "carry_adder_e11", "carry_adder_e11", False),
        ("account", "cycle", "bill_cycle", False),
    ],
)
def test_one_unit_in_the_state_is_named(august: Any, array: str, field: str, component: str, dated: bool) -> None:
    right = august.home[array].get(field, 0)
    wrong = right - 1 if right else 1
    august.state(**{array: {field: wrong}})
    report = audit(august.root)
    assert ("A", "2026-08-01" if dated else "", component, right, wrong) in told(report)
    moves_money = {"energy_e11", "tier_adder_e11", "balance", "carry_energy_e11", "carry_adder_e11", "account_slot"}
    assert (("A", "live_balance_e11") in kinds(report)) == (component in moves_money)
    assert len(report.differences) == 1 + (component in moves_money)


@pytest.mark.parametrize(
    ("array", "flags", "component"),
    [("channel", 0, "billed"), ("channel", 17, "ladder_shared"), ("account", 3, "bill_open")],
)
def test_flags_are_compared(august: Any, array: str, flags: int, component: str) -> None:
    august.state(**{array: {"flags": flags}})
    assert kinds(audit(august.root)) == {("A", component)}


def test_a_jump_that_waits_is_compared_until_its_time_is_over(august: Any) -> None:
    """Whatever stands there of a jump that nothing can confirm any more says nothing."""
    at_s = august.home["channel"]["at_s"]
    august.state(cold={"pending_value": 900_000, "pending_at_s": at_s})
    assert audit(august.root).differences == []
    august.state(cold={"pending_at_s": at_s + 1})
    assert kinds(audit(august.root)) == {("A", "pending"), ("A", "pending_at_s")}


def test_a_ring_of_ladders_that_nobody_tied_is_named(august: Any) -> None:
    august.state(ladder={"ring": 1, "ring_until_s": 5})
    assert told(audit(august.root)) == [("A", "", "ladder_ring", 0, 1), ("A", "", "ladder_ring_until_s", 0, 5)]


def test_the_live_balance_is_compared_to_the_last_e11(august: Any) -> None:
    august.state(channel={"accrued_energy_e11": 294_434_375_001})
    report = audit(august.root)
    live = 12_968 * 10**9 - 294_434_375_000
    assert ("A", "", "live_balance_e11", live, live - 1) in told(report)
    assert report.difference_fen == 2  # each of the two is less than a fen, and none is nothing


def test_money_that_only_moved_is_still_named(august: Any) -> None:
    """A fen that went from the open day into the posted balance: the live balance agrees, its parts do not."""
    august.state(channel={"accrued_energy_e11": 293_434_375_000}, account={"balance_fen": 12_967})
    assert kinds(audit(august.root)) == {("A", "energy_e11"), ("A", "balance")}


@pytest.mark.parametrize("array", ["channel", "cold", "ladder", "account"])
def test_a_page_whose_bytes_were_changed_fails_its_checksum(august: Any, array: str) -> None:
    (body,) = august.ledger.execute("SELECT body FROM state_page WHERE array = ?", (array,)).fetchone()
    august.ledger.execute("UPDATE state_page SET body = ? WHERE array = ?", (flipped(body, -1), array))
    report = audit(august.root)  # the last byte is padding: nothing else would tell
    assert "the checksum does not match" in notes(report, "state")
    assert f"partition 0, {array}: page 0" in notes(report, "state")


def test_a_page_of_another_format_place_or_length_is_named(august: Any) -> None:
    august.ledger.execute("UPDATE state_page SET format = 9 WHERE array = 'channel'")
    august.ledger.execute("UPDATE state_page SET page = 7 WHERE array = 'ladder'")
    august.ledger.execute("UPDATE state_page SET body = substr(body, 1, 40) WHERE array = 'account'")
    august.ledger.execute("UPDATE state_page SET array = 'colder' WHERE array = 'cold'")
    found = notes(audit(august.root), "state")
    for words in ("format 9", "page 7", "its length does not fit", "'colder' is not known", "1 slots are missing"):
        assert words in found


def test_state_that_is_gone_is_named(august: Any) -> None:
    august.ledger.execute("DELETE FROM state_page WHERE array = 'account'")
    report = audit(august.root)
    assert "partition 0, account: 1 slots are missing" in notes(report, "state")
    assert ("A", "balance") in kinds(report)


def delta(disk: Any, version: int, rows: Iterable[tuple[int, bytes]], array: str = "channel") -> None:
    kept = list(rows)
    body = np.array([slot for slot, _ in kept], "<i4").tobytes() + b"".join(row for _, row in kept)
    crc = checksum(0, array, -1, version, body)
    row = (array, version, STATE_FORMAT, len(kept), body, crc)
    disk.ledger.execute("INSERT INTO state_delta VALUES (NULL, 0, ?, ?, ?, ?, ?, ?)", row)


def channel_row(disk: Any, **changes: int) -> bytes:
    row = np.zeros(1, ARRAYS["channel"])
    for name, value in (disk.home["channel"] | changes).items():
        row[name] = value
    return row.tobytes()


def test_a_newer_delta_counts_and_an_older_one_does_not(august: Any) -> None:
    version = august.checkpoints
    delta(august, version, [(0, channel_row(august, value=1))])  # as old as the page
    assert audit(august.root).differences == []
    august.checkpoint()
    delta(august, version + 1, [(0, channel_row(august, value=604_999))])
    assert told(audit(august.root)) == [("A", "2026-08-01", "register", 605_000, 604_999)]
    delta(august, version + 1, [(0, channel_row(august))])
    assert audit(august.root).differences == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("crc = crc + 1", "the checksum does not match"),
        ("count = 2", "its length does not fit"),
        ("format = 2", "format 2 is not known"),
        ("version = version + 1", "the checksum does not match"),
    ],
)
def test_a_delta_that_was_changed_is_named(august: Any, change: str, words: str) -> None:
    delta(august, august.checkpoints, [(0, channel_row(august))])
    august.ledger.execute(f"UPDATE state_delta SET {change}")
    assert words in notes(audit(august.root), "state")


def test_a_delta_beyond_the_array_is_named(august: Any) -> None:
    delta(august, august.checkpoints, [(0, channel_row(august)), (5, channel_row(august))])
    assert "a slot beyond the array" in notes(audit(august.root), "state")


@pytest.mark.parametrize(
    "change", ["as_of_s = 5", "epoch = 2", "counters = '{\"readings\": 1}'", "timeline_digest = 'u'", "crc = crc + 1"]
)
def test_a_checkpoint_row_that_was_changed_is_named(august: Any, change: str) -> None:
    august.ledger.execute(f"UPDATE checkpoint SET {change} WHERE id = 1")  # not the newest
    assert notes(audit(august.root), "checkpoint") == "checkpoint 1 of partition 0: the checksum does not match"


def test_checkpoints_that_do_not_follow_and_another_registry_are_named(august: Any) -> None:
    august.digest = "v2"
    august.checkpoint()
    august.ledger.execute("UPDATE checkpoint SET log_id = 'other' WHERE id = 1")
    report = audit(august.root)
    assert "checkpoint 2 of partition 0 does not follow checkpoint 1" in notes(report, "checkpoint")
    assert notes(report, "registry") == "partition 0 is rated under v2, not v1"


@pytest.mark.parametrize("slots", ["{}", "nothing", '{"channel": -1}', '{"channel": 99999999999}'])
def test_a_checkpoint_without_lengths_is_named(august: Any, slots: str) -> None:
    august.ledger.execute("UPDATE checkpoint SET slots = ?", (slots,))
    report = audit(august.root)
    assert "the checksum does not match" in notes(report, "checkpoint")
    assert ("", "state") in kinds(report)


def test_state_without_a_checkpoint_is_named(august: Any) -> None:
    august.ledger.execute("DELETE FROM checkpoint")
    assert notes(audit(august.root), "checkpoint") == "partition 0 has state and no checkpoint"


def flipped(body: bytes, place: int) -> bytes:
    out = bytearray(body)
    out[place] ^= 1
    return bytes(out)


def test_packed_rows_that_were_changed_fail_their_checksum(august: Any) -> None:
    (body,) = august.ledger.execute("SELECT body FROM subledger WHERE entry_id = 2").fetchone()
    august.ledger.execute("UPDATE subledger SET body = ? WHERE entry_id = 2", (flipped(body, 31),))  # padding
    report = audit(august.root)
    assert notes(report, "subledger") == "entry 2, page 0 of partition 0: the checksum does not match"
    assert len(report.differences) == 1


def test_packed_rows_without_an_entry_or_cut_short_are_named(august: Any) -> None:
    august.ledger.execute("UPDATE subledger SET body = substr(body, 1, 33) WHERE entry_id = 2")
    august.ledger.execute("DELETE FROM entry WHERE id = 1")
    found = notes(audit(august.root), "subledger")
    assert "entry 2, page 0 of partition 0: its length does not fit" in found
    assert "entry 1, page 0 of partition 0: there is no such entry" in found


def test_bills_and_late_pages_are_verified(august: Any) -> None:
    august.ledger.execute("INSERT INTO bill_page VALUES (0, 0, 1, 'b', ?)", (checksum(0, "bill", 0, 1, b"b"),))
    late = checksum(0, "late", 0, 4, b"l")
    august.ledger.execute("INSERT INTO late_page VALUES (1, 0, 4, ?, ?)", (b"l", late))
    august.ledger.execute("UPDATE bill_page SET body = ?", (b"b",))
    assert audit(august.root).differences == []
    august.ledger.execute("UPDATE bill_page SET body = ?", (b"c",))
    august.ledger.execute("UPDATE late_page SET body = ?", (b"m",))
    report = audit(august.root)
    assert notes(report, "bill") == "entry 1, page 0 of partition 0: the checksum does not match"
    assert notes(report, "late") == "late page 1 of partition 0: the checksum does not match"


class TestArchive:
    """The files that the ledger names."""

    @staticmethod
    def file(disk: Any) -> Any:
        return next((disk.root / "archive").rglob("*.parquet"))

    def test_another_file_with_the_same_records_is_named(self, august: Any) -> None:
        path = self.file(august)
        path.write_bytes(path.read_bytes().replace(b"parquet-cpp", b"parquet-CPP"))
        report = audit(august.root)
        assert notes(report, "archive").endswith("1-10.parquet: not the bytes that were written")
        assert len(report.differences) == 1

    def test_a_file_that_cannot_be_read_is_named_once_and_no_account_is(self, august: Any) -> None:
        path = self.file(august)
        path.write_bytes(path.read_bytes()[:-20])
        report = audit(august.root)
        assert {d.component for d in report.differences} == {"archive", "records"}
        assert {d.account for d in report.differences} == {""}

    def test_a_file_that_is_gone_is_named(self, august: Any) -> None:
        self.file(august).unlink()
        assert {d.component for d in audit(august.root).differences} == {"archive", "records"}

    def test_a_record_of_the_log_that_was_changed_is_named(self, august: Any) -> None:
        august.log.execute("UPDATE record SET received_at_s = received_at_s + 1 WHERE id = 20")
        report = audit(august.root)
        assert notes(report, "records") == "record 20 of partition 0: the checksum in the log does not match"

    def test_a_record_that_cannot_be_unpacked_is_named(self, august: Any) -> None:
        august.log.execute("UPDATE record SET body = x'78' WHERE id = 20")
        assert "record 20 cannot be read" in notes(audit(august.root), "records")


class TestExceptions:
    """Each refused reading and message has its row, and nothing else has one."""

    @pytest.fixture
    def refused(self, disk: Any, summer: Any) -> Any:
        """July, then a conflicting reading twice, and a message that ingest refused."""
        summer.write(disk)
        for _ in range(2):
            disk.read("2026-08-01T00:00", 600_001)
        disk.records.append((2, disk.records[-1][1], "c1", b"{"))
        disk.detail[len(disk.records)] = "malformed: it ends too soon"
        disk.counters = {"verdict.accepted": 30, "verdict.frozen": 1, "verdict.conflict": 2}
        at_s, last = disk.home["channel"]["at_s"], len(disk.records)
        rows = [
            ("conflict", 0, last - 2, "c1", "", 1, "000000000001", "1.8.0", at_s, 600_001, "A", b"", 1),
            ("malformed", 0, last, "c1", "", 1, None, None, None, None, None, b"{", 0),
            ("frozen", 0, 32, "c1", "", 1, "000000000001", "1.8.0", at_s, 600_000, "A", b"", 0),
        ]
        disk.ledger.executemany(f"INSERT INTO exception VALUES ({', '.join('?' * 13)})", rows)
        disk.store(10)
        return disk

    def test_a_full_queue_is_silent(self, refused: Any) -> None:
        assert audit(refused.root).differences == []

    @pytest.mark.parametrize(
        ("reason", "words"),
        [
            ("conflict", "record 33: conflict: meter 000000000001 1.8.0 of c1, 600001"),
            ("malformed", "record 35: malformed: message 1 of c1"),
        ],
    )
    def test_a_row_that_is_gone_is_named(self, refused: Any, reason: str, words: str) -> None:
        refused.ledger.execute("DELETE FROM exception WHERE reason = ?", (reason,))
        report = audit(refused.root)
        assert words in notes(report, "exception")
        assert len(report.differences) == 1

    @pytest.mark.parametrize(
        "change",
        ["value = 600002", "reason = 'negative'", "quality = 'E'", "source = 'c2'", "meter = '000000000002'"],
    )
    def test_a_row_that_tells_something_else_is_named_on_both_sides(self, refused: Any, change: str) -> None:
        refused.ledger.execute(f"UPDATE exception SET {change} WHERE reason = 'conflict'")
        assert [(d.component, d.expected, d.found) for d in audit(refused.root).differences] == [
            ("exception", 0, 2),
            ("exception", 2, 0),
        ]

    def test_other_bytes_of_a_message_are_named(self, refused: Any) -> None:
        refused.ledger.execute("UPDATE exception SET bytes = x'5b' WHERE reason = 'malformed'")
        assert len(audit(refused.root).differences) == 2

    def test_how_often_it_came_is_compared(self, refused: Any) -> None:
        refused.ledger.execute("UPDATE exception SET repeats = 7 WHERE reason = 'conflict'")
        report = audit(refused.root)
        assert [(d.component, d.expected, d.found) for d in report.differences] == [("exception", 2, 8)]

    def test_counters_of_verdicts_are_compared(self, refused: Any) -> None:
        refused.counters["verdict.conflict"] = 1
        refused.checkpoint()
        report = audit(refused.root)
        assert [(d.component, d.expected, d.found) for d in report.differences] == [("verdict.conflict", 2, 1)]

    def test_an_audit_that_goes_on_takes_what_was_before_as_it_is(self, refused: Any) -> None:
        assert audit(refused.root).ok
        refused.read("2026-08-01T00:00", 600_001)
        refused.counters["verdict.conflict"] = 3
        refused.ledger.execute("UPDATE exception SET repeats = 2 WHERE reason = 'conflict'")
        refused.store(10)
        assert audit(refused.root, since="last").differences == []
        refused.ledger.execute("DELETE FROM exception")
        assert [d.component for d in audit(refused.root, since=2).differences] == ["exception"]
