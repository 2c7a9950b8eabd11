"""Statements: whatever was posted, in whatever order, its lines sum to the balance and chain from month to month."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.reads import BillRow, StatementRow
from ledger.statements import between, date_of, month_of, month_text, statement
from meterd.views import statement as view

JULY = (date(2026, 7, 1) - date(1970, 1, 1)).days
MONTH = (2026 - 1970) * 12 + 6


def _row(day: int, component: str, amount_fen: int, quantity: int = 0, reference: str | None = None) -> StatementRow:
    kind = {"energy": "usage", "tier_adder": "usage", "rounding": "bill"}.get(component, component)
    return StatementRow(1, kind, 1, 0, reference, day, component, 0, quantity, amount_fen)


WORKED = [
    _row(0, "opening", 8500),  # booked before the first record: the day means nothing
    _row(JULY, "energy", -589, 10_000),
    _row(JULY + 30, "energy", -1178, 20_000),
    _row(JULY + 30, "tier_adder", -100),
    _row(JULY + 30, "rounding", -1),
    _row(JULY + 31, "energy", -300, 5_000),
    _row(JULY + 32, "credit", 10_000, reference="order:1:1"),
    _row(JULY + 33, "reversal", -50, reference="reversal:R"),
]


def test_the_worked_statement() -> None:
    made = statement(WORKED, [BillRow(1, MONTH, 0, 4 * 10**8, 1, complete=True)], 16_282)
    july, august = made.cycles
    assert made.agrees
    assert (july.opening_fen, july.usage_fen, july.rounding_fen, july.closing_fen) == (8500, -1867, -1, 6632)
    assert [(x.component, x.quantity_wh, x.amount_fen) for x in july.usage] == [
        ("energy", 30_000, -1767),
        ("tier_adder", 0, -100),
    ]
    assert [(x.day - JULY, x.quantity_wh, x.amount_fen) for x in july.days] == [
        (0, 10_000, -589),
        (30, 20_000, -1278),
    ]
    assert july.bill is not None
    assert august.bill is None
    assert [(x.component, x.reference, x.amount_fen) for x in august.money] == [
        ("credit", "order:1:1", 10_000),
        ("reversal", "reversal:R", -50),
    ]
    assert august.closing_fen == 16_282


@pytest.mark.parametrize("off", [-1, 1])
def test_a_fen_too_many_is_seen(off: int) -> None:
    assert not statement(WORKED, [], 16_282 + off).agrees
    assert not between(statement(WORKED, [], 16_282 + off), MONTH + 1, None).agrees


def test_a_cycle_that_closed_without_a_row_is_there() -> None:
    made = statement([], [BillRow(1, MONTH, 0, 0, 0, complete=True)], 0)
    assert [(c.month, c.opening_fen, c.closing_fen) for c in made.cycles] == [(MONTH, 0, 0)]
    assert made.agrees


@given(
    st.lists(
        st.tuples(
            st.integers(JULY, JULY + 400),
            st.sampled_from(["energy", "tier_adder", "rounding", "credit", "reversal", "adjustment", "opening"]),
            st.integers(-(10**12), 10**12),
        ),
        max_size=40,
    ),
    st.integers(0, 14),
    st.integers(0, 14),
)
def test_lines_always_sum_and_parts_chain(rows: list[tuple[int, str, int]], first: int, last: int) -> None:
    posted = sum(amount for _, _, amount in rows)
    whole = statement([_row(*row) for row in rows], [], posted)
    assert whole.agrees
    for cycle in whole.cycles:
        money = sum(line.amount_fen for line in cycle.money)
        assert cycle.closing_fen == cycle.opening_fen + cycle.usage_fen + cycle.rounding_fen + money
        assert sum(day.amount_fen for day in cycle.days) == cycle.usage_fen
    if whole.cycles:
        assert whole.cycles[-1].closing_fen == posted
    part = between(whole, MONTH + first, MONTH + last)
    assert part.agrees or not part.cycles
    assert all(MONTH + first <= cycle.month <= MONTH + last for cycle in part.cycles)


@pytest.mark.parametrize("text", ["1970-01-01", "2024-02-29", "2026-12-31", "2100-03-01"])
def test_days_and_months_are_calendar_s(text: str) -> None:
    day = (date.fromisoformat(text) - date(1970, 1, 1)).days
    assert str(date_of(day)) == text
    assert month_text(month_of(day)) == text[:7]


def test_a_bill_closed_by_the_window_names_what_was_estimated() -> None:
    guessed = StatementRow(2, "estimate", 1, 0, None, JULY + 20, "energy", 0, 3_000, -177)
    made = statement([*WORKED[:2], guessed], [BillRow(1, MONTH, 0, 0, 1, complete=False)], 8500 - 589 - 177)
    (july,) = made.cycles
    assert (july.quantity_wh, july.estimated_wh) == (13_000, 3_000)
    assert made.agrees
    head = view.Head("a1", "x", "X", "P", "t", "now", 0, "0", 0)
    shown = view.plain(head, made)["cycles"][0]
    assert (shown["estimated_kwh"], shown["state"]) == (view.kwh(3_000), "closed by window")
    assert (month_text(MONTH), "of it estimated", view.kwh(3_000), "") in view.rows(head, made)
    assert "of it estimated" in view.page(head, made)
    assert "of it estimated" not in view.page(head, statement(WORKED, [], 16_282))


def test_charges_of_a_bill_are_lines_by_their_place_in_the_tariff() -> None:
    """A standing charge and a rebate sum with the rest; what is contained says its amount and adds nothing."""
    places = [("standing", -2460, 0), ("percent", 512, 1), ("contained", 0, 2), ("tiers", -7, 0)]
    charged = [
        replace(_row(JULY + 30, component, fen, 90_500_000_000), kind="bill", channel=5, version=1, place=place)
        for component, fen, place in places
    ]
    made = statement([_row(JULY, "energy", -8_000, 9_000), *charged, _row(JULY + 30, "rounding", -1)], [], -9_956)
    assert made.agrees
    (july,) = made.cycles
    assert [(line.component, line.amount_fen, line.contained_fen) for line in july.charges] == [
        ("standing", -2460, 0),
        ("percent", 512, 0),
        ("contained", 0, 91),
        ("tiers", -7, 0),
    ]
    assert (july.usage_fen, july.quantity_wh, july.rounding_fen, july.closing_fen) == (-8_000, 9_000, -1, -9_956)
    names = {(5, 1, 0): "base-services", (5, 1, 1): "<rebate>", (5, 1, 2): "vat"}
    head = view.Head("a", "h", "n", "p", "t", "now", -9_956, "0", 0, names)
    told = {line: amount for _, line, _, amount in view.rows(head, made)}
    assert (told["base-services"], told["<rebate>"], told["tiers"]) == ("-24.60", "5.12", "-0.07")
    assert told["vat 0.91 contained"] == "0.00"
    (cycle,) = view.plain(head, made)["cycles"]
    assert [one["name"] for one in cycle["charges"]] == ["base-services", "<rebate>", "tiers"]
    assert cycle["contained"] == [{"name": "vat", "amount": "0.91"}]
    page = view.page(head, made)
    assert "&lt;rebate&gt;" in page
    assert "base-services" in page
    assert "✓" in page
