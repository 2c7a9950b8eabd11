"""The reading commands on a village: what they say must be what the ledger holds, to the fen."""

from __future__ import annotations

import csv
import io
import json
import stat
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ledger import reads
from meterd.exits import Exit
from rating.state import ARRAYS
from rating.walk import rate_use


@pytest.fixture
def ledger(village: Any) -> Any:
    with village.store.reader() as connection:
        yield connection


def _state(village: Any, connection: Any, account: str) -> Any:
    partition, slot = village.registry().find_account(account)
    image = village.city.image.partitions[partition]
    start, end = image.account_start[slot], image.account_start[slot + 1]
    channels = [int(c) for c in image.account_channels[start:end]]
    return reads.account_state(connection, partition, slot, channels=channels, dtypes=ARRAYS)


def test_balances_are_the_ledger_s_in_every_form(told: Any, village: Any, ledger: Any) -> None:
    code, rows, _ = told("balances")
    assert code == Exit.OK
    assert [row["account"] for row in rows] == sorted(
        ["a1", "a2", "a3"], key=lambda a: village.registry().find_account(a)
    )
    for row in rows:
        state = _state(village, ledger, row["account"])
        assert Decimal(row["posted"]) == Decimal(state.balance_fen) / 100
        assert Decimal(row["live"]) == Decimal(state.live_fen) / 100
        assert Decimal(row["posted"]) - Decimal(row["accrued"]) == Decimal(row["live"])
    assert {row["account"]: (row["holder"], row["arrears"]) for row in rows}["a2"] == ("wang", "4.05")
    _, text, _ = told("balances", "--csv", json_=False)
    assert list(csv.DictReader(io.StringIO(text))) == rows
    _, text, _ = told("balances", json_=False)
    assert [line.split("\t") for line in text.splitlines()][1:] == [list(row.values()) for row in rows]


@pytest.mark.parametrize("value", [0, 1, -1, 99, -99, 100, -100, 12345, -12345, 2**63 - 1, -(2**63)])
def test_fen_columns_are_exact(value: int) -> None:
    import numpy as np

    from meterd.views.money import yuan, yuan_column

    assert yuan_column(np.array([value])).to_pylist() == [yuan(value)]
    assert Decimal(yuan(value)) * 100 == value


def test_account_show_tells_who_where_what_and_who_pays(told: Any, village: Any, ledger: Any) -> None:
    code, facts, _ = told("account", "show", "a1")
    state = _state(village, ledger, "a1")
    assert code == Exit.OK
    assert (facts["holder"], facts["name"], facts["metering_point"]) == ("li", "李伟", "p1")
    assert Decimal(facts["live"]) * 100 == state.live_fen
    assert Decimal(facts["accrued"]).scaleb(11) == state.accrued_e11
    (register,) = facts["registers"]
    assert register["meter"] == "440100000001"
    assert register["read_at"] == "2026-08-11 23:45:00+08:00"
    assert [m["payer"] for m in facts["mandates"]] == ["ann"]
    assert facts["mandates"][0]["state"] == "gateway is not in the settings"  # nobody would be charged
    assert facts["orders"][0]["state"] == "credited"
    assert facts["trigger"].startswith("out") or facts["trigger"] == "armed"
    _, facts, _ = told("account", "show", "a3")
    assert facts["registers"][0]["meter"] == "WX-77.a"  # the serial, not its digest
    assert facts["mandates"] == []
    assert facts["trigger"] == "nobody pays by mandate"


@pytest.mark.parametrize("account", ["a1", "a2", "a3"])
def test_a_statement_s_lines_sum_to_the_ledger(told: Any, village: Any, ledger: Any, account: str) -> None:
    code, facts, _ = told("statement", account)
    assert code == Exit.OK
    assert facts["agrees"] is True
    balance = Decimal(facts["opening"])
    for cycle in facts["cycles"]:
        assert Decimal(cycle["opening"]) == balance
        parts = [x["amount"] for x in cycle["usage"]] + [x["amount"] for x in cycle["money"]] + [cycle["rounding"]]
        balance += sum(map(Decimal, parts), Decimal(0))
        assert Decimal(cycle["closing"]) == balance
        days = sum((Decimal(x["kwh"]) for x in cycle["days"]), Decimal(0))
        assert days == sum((Decimal(x["kwh"]) for x in cycle["usage"]), Decimal(0))
    assert balance * 100 == _state(village, ledger, account).balance_fen
    assert [cycle["state"] for cycle in facts["cycles"]] == ["complete", "open"]


def test_a_statement_of_some_months_begins_where_the_ones_before_ended(told: Any) -> None:
    _, whole, _ = told("statement", "a1")
    code, part, _ = told("statement", "a1", "--from", "2026-08")
    assert code == Exit.OK
    assert [cycle["cycle"] for cycle in part["cycles"]] == ["2026-08"]
    assert part["opening"] == whole["cycles"][0]["closing"]
    assert part["agrees"] is True
    code, part, _ = told("statement", "a1", "--to", "2026-07-31")
    assert [cycle["cycle"] for cycle in part["cycles"]] == ["2026-07"]
    assert part["posted"] == whole["cycles"][0]["closing"]
    assert told("statement", "a1", "--from", "July", json_=False)[0] == Exit.USAGE
    assert told("statement", "a1", "--from", "2026-08", "--to", "2026-07", json_=False)[0] == Exit.USAGE
    code, shown, error = told("statement", "a1", "--from", "2027-01", json_=False)
    assert (code, shown) == (Exit.NO, "")  # not an opening balance that fits no line
    assert "there are 2026-07 to 2026-08" in error


def test_the_page_is_whole_and_tells_the_same(told: Any, tmp_path: Path) -> None:
    from html.parser import HTMLParser

    _, facts, _ = told("statement", "a1")
    file = tmp_path / "a1.html"
    code, shown, _ = told("statement", "a1", "--html", "--out", str(file), json_=False)
    assert (code, shown.strip()) == (Exit.OK, str(file))
    text = file.read_text(encoding="utf-8")
    cells: list[str] = []
    open_tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            assert not {name for name, _ in attrs} & {"src", "href"}, "nothing from outside"
            if tag not in ("meta", "br") and tag not in ("rect", "line"):
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in ("rect", "line"):
                assert open_tags.pop() == tag

        def handle_data(self, data: str) -> None:
            cells.append(data.strip())

    Reader().feed(text)
    assert open_tags == []
    for cycle in facts["cycles"]:
        for amount in [cycle["opening"], cycle["closing"], *(x["amount"] for x in cycle["usage"])]:
            assert amount in cells
    assert "期初余额" in cells
    assert "Opening balance" in cells
    assert "李伟 (li)" in cells
    assert "✓" in text
    assert "✗" not in text
    assert text.count("<rect") == sum(len(cycle["days"]) for cycle in facts["cycles"])


def test_names_are_escaped_on_the_page() -> None:
    from ledger.statements import Statement
    from meterd.views.statement import Head, page

    head = Head("<a>", "h", "<script>x</script>", "p&q", "t", "now", -1, "0", 0)
    text = page(head, Statement(0))
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "p&amp;q" in text


def test_the_page_s_figures_add_up_and_nothing_is_left_out() -> None:
    """Posted less what is used is live, to the fen; and an account before its first bill shows its opening."""
    from ledger.statements import Statement
    from meterd.views.statement import Head, page

    head = Head("a", "h", "n", "p", "t", "now", 49_997, "0.02933360000", 3)
    text = page(head, Statement(50_000, lines_fen=50_000, posted_fen=50_000))
    for figure in ("<b>¥ 500.00</b>", "<b>¥ 0.03</b>", "<b>¥ 499.97</b>"):
        assert figure in text
    assert "0.0293336" not in text
    assert "期初余额" in text


DAYS = [
    "2026-07-01",
    "2026-07-02",
    "2026-07-10",
    "2026-07-13",
    "2026-07-31",
    "2026-08-01",
    "2026-08-10",
    "2026-08-11",
]


@pytest.mark.parametrize("account", ["a1", "a2", "a3"])
def test_every_day_is_explained_to_the_fen(told: Any, ledger: Any, village: Any, account: str) -> None:
    """Also the first day, archived days, days of bad and late readings, a cycle's last day, the open day."""
    partition, slot = village.registry().find_account(account)
    posted: dict[tuple[str, str], int] = {}
    for row in reads.statement_rows(ledger, partition, slot):
        if row.component in ("energy", "tier_adder"):
            from ledger.statements import date_of

            key = (str(date_of(row.day)), row.component)
            posted[key] = posted.get(key, 0) - row.amount_fen
    for day in DAYS:
        code, facts, _ = told("explain", account, day)
        assert code == Exit.OK, (day, facts)
        (channel,) = facts["channels"]
        assert channel["agrees"] is True
        total = sum((Decimal(line["amount"]) for line in channel["lines"]), Decimal(0))
        for component in channel["components"]:
            brought, amount = Decimal(component["brought_in"]), Decimal(component["of_the_day"])
            assert brought + amount == Decimal(component["whole_fen"]) + Decimal(component["carried_on"])
            total -= amount
            if component["posted"] != "day is open":
                assert Decimal(component["posted"]) * 100 == posted.get((day, component["component"]), 0)
        assert total == 0
        for line in channel["lines"]:
            assert Decimal(line["kwh"]) * Decimal(line["price"]) == Decimal(line["amount"])
    assert facts["channels"][0]["components"][0]["posted"] == "day is open"


def test_explain_shows_the_tier_where_the_month_passes_its_bound(told: Any) -> None:
    """Opening 12.5 kWh and 260 kWh a summer month: the second tier begins on the day that passes it."""
    tiers = {}
    for day in range(20, 32):
        _, facts, _ = told("explain", "a1", f"2026-07-{day}")
        (channel,) = facts["channels"]
        tiers[day] = {line["tier"] for line in channel["lines"]}
        before, energy = Decimal(channel["used_before_kwh"]), Decimal(channel["energy_kwh"])
        expected = {1} if before + energy <= 260 else {2} if before >= 260 else {1, 2}
        assert tiers[day] == expected
    assert {1, 2} in tiers.values()


def test_explain_finds_a_ledger_that_says_something_else(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    def cheaper(*arguments: Any) -> Any:
        return [replace(line, energy_e11=line.energy_e11 - 10**9) for line in rate_use(*arguments)]

    monkeypatch.setattr("meterd.views.explaining.rate_use", cheaper)
    code, facts, error = told("explain", "a1", "2026-07-10")
    assert code == Exit.NO
    assert facts["channels"][0]["agrees"] is False
    assert "audit" in error


def test_explain_refuses_what_is_no_day_and_days_without_a_register(told: Any) -> None:
    assert told("explain", "a1", "tomorrow", json_=False)[0] == Exit.USAGE
    assert told("explain", "a1", "2026-06-30", json_=False)[0] == Exit.NO


def test_exceptions_are_listed_and_shown_with_their_bytes(told: Any) -> None:
    code, rows, _ = told("exceptions", "list", "--state", "all")
    assert code == Exit.OK
    assert sorted(row["reason"] for row in rows) == ["conflict", "implausible", "malformed"]
    _, rows, _ = told("exceptions", "list", "--reason", "malformed", "--state", "all")
    (row,) = rows
    code, facts, _ = told("exceptions", "show", str(row["id"]))
    assert code == Exit.OK
    assert facts["bytes"] == "\x00{oops"
    assert facts["note"] == "not JSON"
    assert told("exceptions", "show", "999", json_=False)[0] == Exit.NO
    assert told("exceptions", "list", "--reason", "boring", json_=False)[0] == Exit.USAGE
    assert told("exceptions", "list", "--state", "boring", json_=False)[0] == Exit.USAGE


def test_late_readings_are_listed_by_register_and_day(told: Any) -> None:
    code, rows, _ = told("late", "list")
    assert code == Exit.OK
    assert rows == [
        {"account": "a1", "meter": "440100000001", "register": "1.8.0", "day_utc": "2026-07-01", "readings": 1}
    ]


def test_orders_with_steps_and_the_decision_behind_them(told: Any) -> None:
    code, rows, _ = told("orders", "list", "--state", "credited")
    assert code == Exit.OK
    (row,) = rows
    assert (row["account"], row["payer"], row["amount"]) == ("a1", "ann", "100.00")
    code, facts, _ = told("orders", "show", str(row["id"]))
    assert [step["to"] for step in facts["steps"]] == ["created", "submitted", "succeeded", "credited"]
    assert facts["steps"][2]["evidence"] == {"kind": "answer"}
    assert told("orders", "list", "--state", "boring", json_=False)[0] == Exit.USAGE
    assert told("orders", "show", "999", json_=False)[0] == Exit.NO


def test_an_order_is_settled_by_one_word_and_through_the_daemon(told: Any) -> None:
    assert told("orders", "settle", "1", "--why", "x", json_=False)[0] == Exit.USAGE
    both = ("--charged", "t1", "--not-charged")
    assert told("orders", "settle", "1", "--why", "x", *both, json_=False)[0] == Exit.USAGE
    assert told("orders", "settle", "1", "--not-charged", json_=False)[0] == Exit.USAGE
    assert told("orders", "settle", "1", "--why", "x", "--not-charged", json_=False)[0] == Exit.NOT_RUNNING
    code, decisions, _ = told("autopay", "why", "a1")
    assert (decisions[0]["outcome"], decisions[0]["figures"]) == ("order", {"balance_fen": 1990})
    code, decisions, _ = told("autopay", "why", "a3")
    assert (code, decisions) == (Exit.OK, [])
    _, _, error = told("autopay", "why", "a3", json_=False)
    assert "nobody pays for it by mandate" in error


@pytest.mark.parametrize(
    "arguments",
    [
        ("account", "show", "nobody"),
        ("statement", "nobody"),
        ("explain", "nobody", "2026-07-01"),
        ("orders", "list", "--account", "nobody"),
    ],
)
def test_an_unknown_account_is_a_no(told: Any, arguments: tuple[str, ...]) -> None:
    code, shown, error = told(*arguments, json_=False)
    assert (code, shown) == (Exit.NO, "")
    assert "nobody" in error


def test_without_data_or_registry_the_answer_says_what_to_do(told: Any, empty_village: Any, tmp_path: Path) -> None:
    nothing = tmp_path / "none.toml"
    nothing.write_text(f'data_dir = "{tmp_path / "none"}"\n')
    code, _, error = told("balances", json_=False, config=nothing)
    assert code == Exit.NO
    assert "meterd run" in error
    code, _, error = told("replay", json_=False, config=nothing)
    assert code == Exit.NO
    assert "ledger.db" in error
    assert not (tmp_path / "none").exists()  # a look made nothing
    code, _, error = told("audit", json_=False, config=nothing)
    assert code == Exit.USAGE
    assert "there is no" in error
    assert "ledger.db" in error
    code, _, error = told("statement", "a1", json_=False, config=empty_village.config)
    assert code == Exit.NO
    assert "registry import" in error


def test_a_disk_that_says_no_is_not_called_damage(
    told: Any, village: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's words for a read-only disk are those for a broken file; restoring a backup would not help."""
    data = tmp_path / "read-only"
    data.mkdir()
    (data / "ledger.db").write_bytes(b"no database" * 100)
    config = tmp_path / "read-only.toml"
    config.write_text(f'data_dir = "{data}"\npartitions = 2\n')
    _, _, error = told("balances", json_=False, config=config)
    assert "Restore a backup" in error
    monkeypatch.setattr("meterd.lookup._writable", lambda _: False)
    code, _, error = told("balances", json_=False, config=config)
    assert code == Exit.REFUSED
    assert "make it writable" in error
    assert "Restore" not in error


def test_a_page_that_cannot_be_written_is_wrong_usage(told: Any, tmp_path: Path) -> None:
    code, _, error = told("statement", "a1", "--out", str(tmp_path / "none" / "a1.html"), json_=False)
    assert code == Exit.USAGE
    assert "No such file or directory" in error


def test_backup_and_restore_bring_the_same_balances(told: Any, village: Any, tmp_path: Path) -> None:
    folder, back = tmp_path / "copy", tmp_path / "back.toml"
    back.write_text(f'data_dir = "{tmp_path / "back"}"\npartitions = {village.settings.partitions}\n')
    code, made, _ = told("backup", str(folder))
    assert code == Exit.OK
    assert made["files"] > 3
    assert told("backup", str(folder), json_=False)[0] == Exit.REFUSED  # never over another
    code, _, error = told("restore", str(folder), config=back)
    assert code == Exit.OK
    assert "HOLD" in error
    assert told("restore", str(folder), json_=False, config=back)[0] == Exit.REFUSED
    assert told("balances", config=back)[1] == told("balances")[1]
    assert told("explain", "a1", "2026-07-10", config=back)[1] == told("explain", "a1", "2026-07-10")[1]
    _, facts, _ = told("account", "show", "a1", config=back)
    assert "restored" in facts["autopay_hold"]


def test_the_endpoint_s_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    from meterd.endpoint import write_endpoint

    path = tmp_path / "endpoint.json"
    write_endpoint(path, {"token": "t"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {"token": "t"}
