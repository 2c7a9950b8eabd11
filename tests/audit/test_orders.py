"""Orders by themselves: their steps, one under way at a time, the caps that they hold, alerts told once."""

from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from audit import orders
from audit.run import audit

ZONE = ZoneInfo("Asia/Shanghai")
DAY_S = 86_400


def order(number: int, created_at_s: int, state: str = "credited", **more: Any) -> dict[str, Any]:
    return {
        "id": number, "account": "A", "key": f"k{number}", "amount_fen": 10_000, "state": state, "mandate": "M",
        "payer": "P", "created_at_s": created_at_s,
    } | more  # fmt: skip


def path(number: int, at_s: int, *states: str) -> list[dict[str, Any]]:
    """Steps a second apart, from the first of all on."""
    moves = pairwise(("", *states))
    return [{"order_id": number, "at_s": at_s + n, "from_state": a, "to_state": b} for n, (a, b) in enumerate(moves)]


PAID = ("created", "submitted", "succeeded", "credited")


def test_steps_lead_to_where_the_order_is() -> None:
    assert orders.steps([order(1, 0)], path(1, 0, *PAID)) == []
    assert len(orders.steps([order(1, 0, "declined")], path(1, 0, *PAID))) == 1
    for place in range(len(PAID)):
        gone = path(1, 0, *PAID)
        del gone[place]
        assert len(orders.steps([order(1, 0)], gone)) == 1
    assert len(orders.steps([order(1, 0)], [])) == 1


@pytest.mark.parametrize(
    ("first", "taken", "differences"),  # the second order begins when so many steps of the first are taken
    [
        (PAID, 4, 0),
        (PAID, 3, 1),  # charged, and not credited yet
        (("created", "submitted", "unknown"), 3, 1),
        (("created", "submitted"), 2, 1),
        (("created", "cancelled"), 2, 0),
        (("created", "submitted", "declined"), 3, 0),
        (("created", "submitted", "declined", "succeeded_late", "credited"), 3, 0),  # the late one is beside it
        (("created", "submitted", "declined", "succeeded_late", "credited"), 5, 0),
    ],
)
@pytest.mark.parametrize("second_s", [50, 100, 500])  # the clock may have been set back, and says nothing
def test_one_order_of_an_account_is_under_way(
    first: tuple[str, ...], taken: int, differences: int, second_s: int
) -> None:
    rows = [order(1, 100, first[-1]), order(2, second_s, "created")]
    moves = path(1, 100, *first)
    moves[taken:taken] = path(2, second_s, "created")
    found = orders.in_flight(rows, moves)
    assert len(found) == differences
    assert all("k2 began while k1 was under way" in d.note for d in found)


def test_an_order_that_the_book_brought_back_is_in_nobodys_way() -> None:
    back = path(2, 50, "cancelled", "succeeded_late", "credited")
    rows = [order(1, 100, "submitted"), order(2, 50)]
    assert orders.in_flight(rows, [*path(1, 100, "created", "submitted"), *back]) == []
    assert len(orders.in_flight([*rows, order(3, 200)], [*path(1, 100, "created"), *back, *path(3, 200, *PAID)])) == 1


def test_a_charge_after_the_gateways_own_refusal_is_no_second_one_of_ours() -> None:
    """Declined, tried again, and then both were charged: only where the gateway had said no in so many words."""
    rows = [order(number, 100 * number, arm=1) for number in (1, 2)]
    charges = [{"key": r["key"], "amount_fen": r["amount_fen"]} for r in rows]
    applied = [{"order_id": r["id"], "amount_fen": r["amount_fen"]} for r in rows]

    def found(kind: str) -> list[str]:
        moves = [m | {"evidence": f'{{"kind": "{kind}"}}'} for m in path(1, 100, "created", "submitted", "declined")]
        refused = orders.refused_by_gateway(moves)
        return [d.component for d in orders.gateway(charges, rows, applied, refused=refused)]

    assert found("declined") == []
    assert found("notfound") == ["gateway"]
    assert found("unknown") == ["gateway"]


def test_other_accounts_are_free() -> None:
    rows = [order(1, 100, "created"), order(2, 100, "created", account="B")]
    assert orders.in_flight(rows, path(1, 100, "created") + path(2, 100, "created")) == []


MANDATE = {"cap_charge_fen": 10_000, "cap_day_fen": 20_000, "cap_month_fen": 50_000, "cap_day_count": 2}


def used(rows: list[dict[str, Any]], day: str = "1970-01-01") -> dict[str, tuple[int, int]]:
    told = sum(r["amount_fen"] for r in rows), len(rows)
    return {f"{who}:{period}": told for who in ("payer:P", "mandate:M") for period in (f"day:{day}", "month:1970-01")}


def judged(rows: list[dict[str, Any]], counters: Any = None, moves: Any = (), since_s: int = 0, **caps: int) -> Any:
    found = orders.caps(
        rows, moves, used(rows) if counters is None else counters, {"M": MANDATE | caps}, since_s, ZONE
    )
    return [(d.component, d.expected, d.found) for d in found]


def test_caps_that_are_held_are_those_that_are_counted() -> None:
    two = [order(1, 100), order(2, 200)]
    assert judged(two) == []
    assert judged([*two, order(3, 300, "declined"), order(4, 400, "cancelled")], used(two)) == []
    assert judged(two, used(two[:1])) == [("cap_use", 20_000, 10_000)] * 4
    assert judged([], used(two)) == [("cap_use", 0, 20_000)] * 4


def test_a_day_is_the_payers_own() -> None:
    """15:59:59 UTC is the last second of the day in Guangzhou."""
    late = [order(1, 16 * 3600 - 1)]
    assert judged(late) == []
    next_day = [order(1, 16 * 3600)]
    assert judged(next_day, used(next_day, "1970-01-02")) == []
    submitted_later = [order(1, 16 * 3600 - 1) | {"caps_at_s": 16 * 3600}]  # it counts where it was charged
    assert judged(submitted_later, used(submitted_later, "1970-01-02")) == []
    assert judged(submitted_later, used(submitted_later)) != []


@pytest.mark.parametrize(
    ("caps", "found"),
    [
        ({"cap_charge_fen": 9_999}, [("cap", 9_999, 10_000)] * 2),
        ({"cap_day_fen": 19_999}, [("cap", 19_999, 20_000)]),
        ({"cap_month_fen": 19_999}, [("cap", 19_999, 20_000)]),
        ({"cap_day_count": 1}, [("cap_count", 1, 2)]),
        ({"cap_charge_fen": 0, "cap_day_fen": 0, "cap_month_fen": 0, "cap_day_count": 0}, []),
    ],
)
def test_caps_of_mandates(caps: dict[str, int], found: list[tuple[str, int, int]]) -> None:
    two = [order(1, 100), order(2, 200)]
    assert judged(two, **caps) == found
    assert judged(two, since_s=200, **caps) == []  # other caps may have ruled then


def test_a_late_success_is_counted_and_beyond_the_caps() -> None:
    two = [order(1, 100), order(2, 200)]
    late = path(1, 100, "created", "submitted", "declined", "succeeded_late", "credited")
    assert judged(two, moves=late, cap_day_fen=10_000) == []
    assert judged(two, used(two[1:]), moves=late, cap_day_fen=10_000) == [("cap_use", 20_000, 10_000)] * 4


def test_each_alert_is_told_once(disk: Any, summer: Any) -> None:
    summer.write(disk)
    disk.ledger.execute("INSERT INTO event VALUES (1, 'alert', 'A', 0, 5)")
    assert [d.note for d in audit(disk.root).differences] == ["low_balance:A:0:5"]
    disk.ledger.execute("INSERT INTO notice VALUES ('low_balance:A:0:5', 'low_balance')")
    assert audit(disk.root).differences == []
    disk.ledger.execute("INSERT INTO notice VALUES ('low_balance:A:0:6', 'low_balance')")
    assert [(d.component, d.expected, d.found) for d in audit(disk.root).differences] == [("notice", 1, 2)]


@pytest.mark.parametrize(
    ("change", "component"),
    [
        ("UPDATE order_step SET to_state = 'declined'", "order"),
        ("UPDATE cap_use SET count = 2 WHERE scope LIKE 'payer:%'", "cap_use"),
        ("UPDATE mandate SET cap_day_fen = 9999", "cap"),
    ],
)
def test_the_ledgers_rows_are_what_is_judged(disk: Any, summer: Any, change: str, component: str) -> None:
    summer.write(disk)
    columns = "id, account, arm, attempt, key, amount_fen, state"
    disk.ledger.execute(f"INSERT INTO order_ ({columns}) VALUES (1, 'A', 1, 1, 'k1', 10000, 'submitted')")
    disk.ledger.execute("INSERT INTO order_step VALUES (1, 1, 1000, '', 'submitted', '{}')")
    disk.ledger.execute("INSERT INTO mandate VALUES ('M', 10000, 20000, 50000, 2)")
    disk.ledger.executemany("INSERT INTO cap_use VALUES (?, ?, ?)", [(s, *n) for s, n in used([order(1, 0)]).items()])
    assert audit(disk.root).differences == []
    disk.ledger.execute(change)
    assert {d.component for d in audit(disk.root).differences} == {component}
