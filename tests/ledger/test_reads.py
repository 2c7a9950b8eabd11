"""Statements, balances and one account's state, read from few pages and from one moment."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ledger import pages, postings, reads
from ledger.effects import BILL, PAGE_SLOTS
from ledger.store import LedgerStore
from rating.state import ARRAYS

Make = Callable[..., object]
AT = {"booked_at_s": 1000}
COUNT = 2 * PAGE_SLOTS


def _homes() -> dict[str, np.ndarray]:
    arrays = {name: np.zeros(COUNT, dtype) for name, dtype in ARRAYS.items()}
    arrays["cold"]["account"] = np.arange(COUNT)
    arrays["account"]["balance_fen"] = 1000 * np.arange(COUNT)
    return arrays


def _commit(store: LedgerStore, make: Make, arrays: dict, offset: int, dirty: list[int], entries: list = ()) -> None:
    epoch = store.take_over("partition:0", "t")
    store.commit([make(epoch=epoch, offset=offset, arrays=arrays, dirty=dirty, entries=list(entries))])


@pytest.mark.parametrize(
    ("accrued", "adder", "carry", "live"),
    [
        (0, 0, 0, 5000),
        (1, 0, 0, 4999),
        (10**9, 0, 0, 4999),
        (10**9, 1, 0, 4998),
        (5 * 10**8, 0, 5 * 10**8, 4999),
        (-1, 0, 0, 5000),
    ],
)
def test_live_balance_is_posted_minus_accrued_floored(
    store: LedgerStore, make_checkpoint: Make, accrued: int, adder: int, carry: int, live: int
) -> None:
    arrays = _homes()
    _commit(store, make_checkpoint, arrays, 1, [])
    arrays["channel"][["accrued_energy_e11", "accrued_adder_e11"]][5] = (accrued, adder)
    arrays["channel"]["accrued_energy_e11"][5], arrays["channel"]["accrued_adder_e11"][5] = accrued, adder
    arrays["account"]["carry_energy_e11"][5] = carry
    _commit(store, make_checkpoint, arrays, 2, [5])
    with store.reader() as connection:
        one = reads.account_state(connection, 0, 5, channels=[5], dtypes=ARRAYS)
        every = reads.balances(connection, 0, ARRAYS)
    assert (one.balance_fen, one.accrued_e11, one.live_fen) == (5000, accrued + adder + carry, live)
    assert (every.posted_fen[5], every.live_fen[5], every.live_fen[6]) == (5000, live, 6000)


def test_one_account_is_the_same_from_pages_and_deltas_as_from_the_whole(
    store: LedgerStore, make_checkpoint: Make, make_arrays: Make
) -> None:
    arrays = make_arrays(COUNT)
    _commit(store, make_checkpoint, arrays, 1, [])
    for offset, dirty in ((2, [7, 1030]), (3, list(range(PAGE_SLOTS))), (4, [7]), (5, [1030])):
        fresh = make_arrays(COUNT, offset)
        for name in arrays:
            arrays[name][dirty] = fresh[name][dirty]
        _commit(store, make_checkpoint, arrays, offset, dirty)
        with store.reader() as connection:
            for name, dtype in ARRAYS.items():
                found = reads.state_rows(connection, 0, name, [7, 8, 1030], dtype)
                assert found.tobytes() == arrays[name][[7, 8, 1030]].tobytes()
    with store.reader() as connection, pytest.raises(KeyError):
        reads.state_rows(connection, 0, "channel", [COUNT], ARRAYS["channel"])


def _entries() -> list:
    bills = np.zeros(1, BILL)
    bills["slot"], bills["cycle"], bills["rounding_fen"], bills["complete"] = 1030, 24_318, -1, 1
    columns = {"slots": [7, 1030, 7], "channels": [7, 1030, 8], "days": [20_000] * 3}
    money = {"quantity": [1000, 2000, 0], "energy_fen": [58, 117, 0], "adder_fen": [0, 10, 3]}
    return [
        postings.opening_entry([500], [0], offset=1, **AT, days=[19_999], reference="opening", slots=[1030]),
        postings.usage_entry(offset=2, **AT, **columns, **money),
        postings.bill_entry(offset=3, **AT, bills=bills, days=[20_000]),
        postings.credit_entry(1030, 10_000, "clearing:g", "order:1:1", offset=4, **AT, day=20_001),
    ]


def test_a_statement_is_what_was_posted_in_order(store: LedgerStore, make_checkpoint: Make) -> None:
    _commit(store, make_checkpoint, _homes(), 4, [], _entries())
    with store.reader() as connection:
        mine = reads.statement_rows(connection, 0, 1030)
        others = reads.statement_rows(connection, 0, 7)
        assert reads.statement_rows(connection, 0, 8) == []
        (bill,) = reads.bills(connection, 0, 1030)
        trial = reads.trial_balance(connection)
    assert [(r.component, r.amount_fen, r.quantity) for r in mine] == [
        ("opening", 500, 0),
        ("energy", -117, 2000),
        ("tier_adder", -10, 0),
        ("rounding", 1, 0),
        ("credit", 10_000, 0),
    ]
    assert mine[-1].reference == "order:1:1"
    assert [(r.component, r.channel, r.amount_fen) for r in others] == [("energy", 7, -58), ("tier_adder", 8, -3)]
    assert (bill.cycle, bill.rounding_fen, bill.complete) == (24_318, -1, True)
    assert trial["customer"] == sum(r.amount_fen for r in mine + others)
    assert sum(trial.values()) == 0


def test_a_tampered_subledger_page_is_noticed(store: LedgerStore, make_checkpoint: Make) -> None:
    _commit(store, make_checkpoint, _homes(), 4, [], _entries())
    tamper = "UPDATE subledger SET body = zeroblob(length(body)) WHERE page = 1 AND entry_id = 2"
    assert store.write(lambda c: c.exec_driver_sql(tamper).rowcount) == 1
    with store.reader() as connection:
        with pytest.raises(pages.Damaged, match="subledger of entry 2"):
            reads.statement_rows(connection, 0, 1030)
        assert len(reads.statement_rows(connection, 0, 7)) == 2  # its page is whole


def test_a_switch_that_nobody_set_is_off(store: LedgerStore) -> None:
    with store.reader() as connection:
        assert reads.switch_value(connection, "autopay.hold") == (0, "")
