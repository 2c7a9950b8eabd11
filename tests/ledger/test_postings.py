"""Entries sum to zero whatever they are made of, and an attack on that is refused before and after writing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, select

from ledger import commit, postings, reads
from ledger.effects import BILL, SUBLEDGER, Component, Entry, exact_sum
from ledger.schema import entry, posting
from ledger.store import LedgerStore

AT = {"offset": 7, "booked_at_s": 1000}
FEN = st.integers(-(10**12), 10**12)
DAYS = st.lists(st.tuples(st.integers(0, 5000), FEN, FEN, st.integers(-(10**9), 10**9)), max_size=30)


def _usage(days: list[tuple[int, int, int, int]]) -> Entry | None:
    slots, energy, adder, wh = (list(c) for c in zip(*days, strict=True)) if days else ([], [], [], [])
    return postings.usage_entry(
        **AT, slots=slots, channels=slots, days=[20_000] * len(days), quantity=wh, energy_fen=energy, adder_fen=adder
    )


@given(days=DAYS)
def test_usage_takes_from_customers_what_it_gives_to_revenue(days: list) -> None:
    made = _usage(days)
    if made is None:
        assert all(not (energy or adder or wh) for _, energy, adder, wh in days)
        return
    made.check()
    names = dict(made.postings)
    assert names.get(postings.REVENUE_ENERGY, 0) == sum(d[1] for d in days)
    assert names.get(postings.REVENUE_TIER_ADDER, 0) == sum(d[2] for d in days)
    for slot in {d[0] for d in days}:
        mine = made.rows[made.rows["slot"] == slot]
        assert int(mine["amount_fen"].sum()) == -sum(d[1] + d[2] for d in days if d[0] == slot)
        assert int(mine["quantity"].sum()) == sum(d[3] for d in days if d[0] == slot)


@given(balances=st.lists(st.tuples(FEN, st.integers(0, 10**9)), max_size=20))
def test_an_opening_balances_with_arrears_beside_it(balances: list) -> None:
    made = postings.opening_entry(
        [b for b, _ in balances], [a for _, a in balances], **AT, days=[1] * len(balances), reference="opening"
    )
    if made is None:
        assert not any(b or a for b, a in balances)
        return
    made.check()
    assert dict(made.postings).get(postings.CUSTOMER_ARREARS, 0) == -sum(a for _, a in balances)


def test_worked_signs() -> None:
    top_up = postings.credit_entry(3, 10_000, postings.clearing("alipay"), "k", **AT, day=1)
    assert top_up.postings == [("customer", 10_000), ("clearing:alipay", -10_000)]
    back = postings.reversal_entry(3, 10_000, postings.clearing("alipay"), "r", **AT, day=1)
    assert back.postings == [("customer", -10_000), ("clearing:alipay", 10_000)]
    used = _usage([(3, 300, 21, 5000)])
    assert used is not None
    assert used.postings == [("customer", -321), ("revenue:energy", 300), ("revenue:tier_adder", 21)]
    bills = np.zeros(2, BILL)
    bills["slot"], bills["rounding_fen"] = [1, 2], [1, 0]
    closed = postings.bill_entry(**AT, bills=bills, days=[30, 30])
    assert closed is not None
    assert closed.postings == [("customer", -1), ("rounding", 1)]
    assert (len(closed.rows), len(closed.bills)) == (1, 2)
    for one in (top_up, back, used, closed):
        one.check()


@given(amounts=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=50))
def test_the_exact_sum_cannot_wrap(amounts: list[int]) -> None:
    assert exact_sum(np.array(amounts, np.int64)) == sum(amounts)


def _forged(kind: str, amounts: list[int], rows: list[int]) -> Entry:
    packed = np.zeros(len(rows), SUBLEDGER)
    packed["amount_fen"], packed["component"] = rows, Component.CREDIT
    return Entry(kind, 1, 1, [("customer" if i == 0 else "clearing:x", a) for i, a in enumerate(amounts)], packed)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(amounts=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4), rows=st.lists(FEN, max_size=3))
def test_an_unbalanced_entry_is_never_written(
    amounts: list[int], rows: list[int], opener: Callable[..., LedgerStore], make_checkpoint: Callable
) -> None:
    if sum(amounts) == 0 and amounts[0] == sum(rows) and min(amounts) > -(2**63):
        rows = [*rows, 1]
    store = opener()
    try:
        epoch = store.take_over("partition:0", "attack")
        with pytest.raises(AssertionError, match="entry attack"):
            store.commit([make_checkpoint(epoch=epoch, entries=[_forged("attack", amounts, rows)])])
        with store.reader() as connection:
            assert connection.execute(select(func.count()).select_from(entry)).scalar() == 0
            assert connection.execute(select(func.count()).select_from(posting)).scalar() == 0
            assert reads.cursors(connection) == {}
    finally:
        store.close()


def test_sums_that_only_zero_by_wrapping_are_refused() -> None:
    huge = [2**63 - 1, 2**63 - 1, 2]  # as int64 this is 0
    with np.errstate(over="ignore"):
        assert int(np.array(huge, np.int64).sum()) == 0
    with pytest.raises(AssertionError, match="postings sum to"):
        _forged("attack", huge, [2**63 - 1]).check()
    with pytest.raises(AssertionError, match="customer 0 != rows"):
        _forged("attack", [0], huge).check()


def test_what_the_check_misses_the_database_does_not(
    store: LedgerStore, make_checkpoint: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch = store.take_over("partition:0", "attack")
    monkeypatch.setattr(Entry, "check", lambda self: None)
    with pytest.raises(AssertionError, match="do not sum to zero as written"):
        store.commit([make_checkpoint(epoch=epoch, entries=[_forged("attack", [5, -4], [5])])])
    with store.reader() as connection:
        assert connection.execute(select(func.count()).select_from(posting)).scalar() == 0


def test_a_partition_cannot_post_what_another_broke(store: LedgerStore, make_checkpoint: Callable) -> None:
    epochs = [store.take_over(commit.role_of(p), "t") for p in (0, 1)]
    good = postings.credit_entry(0, 5, "clearing:x", "good", **AT, day=1)
    both = [
        make_checkpoint(epoch=epochs[0], entries=[good]),
        make_checkpoint(epoch=epochs[1], partition=1, entries=[_forged("attack", [1], [1])]),
    ]
    with pytest.raises(AssertionError, match="entry attack"):
        store.commit(both)
    with store.reader() as connection:
        assert reads.trial_balance(connection) == {}
    store.commit(both[:1])
    with store.reader() as connection:
        assert reads.trial_balance(connection) == {"clearing:x": -5, "customer": 5}


def test_the_same_reference_is_posted_once(store: LedgerStore, make_checkpoint: Callable) -> None:
    epoch = store.take_over("partition:0", "t")
    once = postings.credit_entry(0, 5, "clearing:x", "order:1:1", **AT, day=1)
    store.commit([make_checkpoint(epoch=epoch, entries=[once])])
    with pytest.raises(Exception, match="UNIQUE"):
        store.commit([make_checkpoint(epoch=epoch, offset=2, entries=[once])])
    store.write(lambda c: c.execute(insert(entry).values(partition=0, kind="x", offset=1, booked_at_s=1, count=0)))
    with store.reader() as connection:
        assert reads.trial_balance(connection)["customer"] == 5
