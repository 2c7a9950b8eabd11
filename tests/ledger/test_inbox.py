"""The inbox: once per key, in order of id, by "not applied yet"; credits of orders in the same transaction."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import insert, select

from ledger import inbox, reads
from ledger.effects import Applied
from ledger.port import KeyConflict
from ledger.schema import event, mandate, order
from ledger.schema import inbox as table
from ledger.store import LedgerStore
from ledger.versions import register_version

Make = Callable[..., object]


def submit(store: LedgerStore, key: str, partition: int | None = 0, **body: object) -> int:
    asked = {"kind": "release", "key": key, "body": body, "partition": partition, "now_s": 5}
    return store.write(lambda c: inbox.submit(c, **asked))


def pending(store: LedgerStore, partition: int = 0, limit: int = 100) -> list[int]:
    with store.reader() as connection:
        return [row.id for row in inbox.pending(connection, partition, limit)]


def settled(store: LedgerStore) -> dict[int, int]:
    with store.reader() as connection:
        return dict(connection.execute(select(table.c.id, table.c.settled)).all())


def test_the_same_key_is_the_same_row_and_other_contents_are_refused(store: LedgerStore) -> None:
    first = submit(store, "k", a=1, b="二")
    assert submit(store, "k", b="二", a=1) == first
    for other in ({"a": 2, "b": "二"}, {"a": 1, "b": "二", "partition": 1}):
        with pytest.raises(KeyConflict):
            submit(store, "k", **other)
    with store.reader() as connection:
        (row,) = inbox.pending(connection, 0, 10)
    assert (row.id, row.kind, row.key, row.body, row.partition) == (first, "release", "k", {"a": 1, "b": "二"}, 0)


def test_many_are_submitted_in_order_and_once(store: LedgerStore) -> None:
    rows = [(f"k{n}", n % 2, {"n": n}) for n in (3, 1, 2)]
    for known in ([], rows):  # again: no change, and what is new comes behind
        more = [*known, ("k9", None, {})] if known else rows
        store.write(lambda c, more=more: inbox.submit_many(c, kind="release", rows=more, now_s=5))
    with store.reader() as connection:
        found = connection.execute(select(table.c.key, table.c.partition).order_by(table.c.id)).all()
    assert found == [("k3", 1), ("k1", 1), ("k2", 0), ("k9", None)]
    for other in (("k1", 0, {"n": 1}), ("k1", 1, {"n": 7})):
        mixed = [("k10", 0, {}), other]
        with pytest.raises(KeyConflict):
            store.write(lambda c, mixed=mixed: inbox.submit_many(c, kind="release", rows=mixed, now_s=5))
    assert len(settled(store)) == 4


@pytest.mark.parametrize("amount", [0, -1, 1.5, True, "100", None, 10**15])
@pytest.mark.parametrize("kind", ["credit", "reversal"])
def test_money_that_no_engine_could_book_never_enters(store: LedgerStore, kind: str, amount: object) -> None:
    asked = {"kind": kind, "key": "k", "body": {"amount_fen": amount}, "partition": 0, "now_s": 5}
    with pytest.raises(ValueError, match="amount_fen"):
        store.write(lambda c: inbox.submit(c, **asked))
    assert pending(store) == []


def test_rows_that_become_visible_late_are_still_applied_and_in_order(
    store: LedgerStore, make_checkpoint: Make
) -> None:
    def place(*ids: int) -> None:
        rows = [
            {"id": i, "partition": 0, "kind": "release", "key": f"k{i}", "body": "{}", "created_at_s": 1} for i in ids
        ]
        store.write(lambda c: c.execute(insert(table), rows))

    epoch = store.take_over("partition:0", "t")
    place(101, 103)
    assert pending(store) == [101, 103]
    store.commit([make_checkpoint(epoch=epoch, offset=1, applied=[Applied(103, 1), Applied(101, 1)])])
    assert pending(store) == []
    place(100, 102, 99)  # committed by others after 103 was
    assert pending(store) == [99, 100, 102]
    assert pending(store, limit=2) == [99, 100]
    store.commit([make_checkpoint(epoch=epoch, offset=2, applied=[Applied(99, 2)])])
    assert pending(store) == [100, 102]


def test_a_row_for_everyone_is_settled_once_everyone_applied_it(store: LedgerStore, make_checkpoint: Make) -> None:
    mine, everyones = submit(store, "mine"), submit(store, "everyone's", None)
    epochs = [store.take_over(f"partition:{p}", "t") for p in (0, 1)]
    assert (pending(store, 0), pending(store, 1)) == ([mine, everyones], [everyones])
    done = [Applied(mine, 1), Applied(everyones, 1, "nothing to do here")]
    store.commit([make_checkpoint(epoch=epochs[0], applied=done)])
    assert settled(store) == {mine: 1, everyones: 0}
    assert (pending(store, 0), pending(store, 1)) == ([], [everyones])
    store.commit([make_checkpoint(epoch=epochs[1], partition=1, applied=[Applied(everyones, 1)])])
    assert settled(store) == {mine: 1, everyones: 1}


def test_a_row_is_never_applied_twice(store: LedgerStore, make_checkpoint: Make) -> None:
    row = submit(store, "k")
    epoch = store.take_over("partition:0", "t")
    store.commit([make_checkpoint(epoch=epoch, offset=1, applied=[Applied(row, 1)])])
    with pytest.raises(Exception, match="UNIQUE"):
        store.commit([make_checkpoint(epoch=epoch, offset=2, applied=[Applied(row, 2)])])
    assert store.recover(0).offset == 1


def test_one_unapplied_row_is_found_through_the_index_of_open_ones(store: LedgerStore) -> None:
    with store.reader() as connection:
        plan = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT id FROM inbox WHERE inbox.settled = 0 AND (partition = 1 OR partition IS NULL)"
        ).all()
    assert all("ix_inbox_open" in row[3] or row[3].startswith(("MULTI-INDEX", "INDEX ")) for row in plan), plan


def _order(store: LedgerStore, state: str) -> int:
    values = {
        "account": "A1",
        "partition": 0,
        "event_id": 1,
        "arm": 1,
        "attempt": 1,
        "mandate": "M1",
        "payer": "P1",
        "gateway": "g",
        "key": "A1:1:1",
        "amount_fen": 10_000,
        "state": state,
        "created_at_s": 1,
        "epoch": 1,
    }

    def work(c: object) -> int:
        c.execute(
            insert(event).values(id=1, partition=0, kind="low_balance", account="A1", arm=1, as_of_s=1, balance_fen=1)
        )
        c.execute(
            insert(mandate).values(
                **{column.name: 0 for column in mandate.c if column.name not in ("id", "cancelled_at_s")}, id="M1"
            )
        )
        return c.execute(insert(order).values(values).returning(order.c.id)).scalar_one()

    return store.write(work)


@pytest.mark.parametrize(
    ("before", "outcome", "after"),
    [
        ("succeeded", "", "credited"),
        ("succeeded_late", "", "credited"),
        ("succeeded", "no such account", "succeeded"),
        ("unknown", "", "unknown"),
        ("credited", "", "credited"),
    ],
)
def test_an_applied_credit_moves_its_order(
    store: LedgerStore, make_checkpoint: Make, before: str, outcome: str, after: str
) -> None:
    order_id = _order(store, before)
    row = submit(store, "order:1:1")
    epoch = store.take_over("partition:0", "t")
    store.commit([make_checkpoint(epoch=epoch, offset=4, applied=[Applied(row, 4, outcome, order_id)])])
    with store.reader() as connection:
        (found,) = reads.orders(connection, account="A1")
        steps = reads.order_steps(connection, order_id)
        assert reads.orders_by_state(connection) == {after: 1}
    assert found["state"] == after
    moved = [(step["from_state"], step["to_state"]) for step in steps]
    assert moved == ([(before, "credited")] if before != after else [])


def test_there_is_no_way_back_to_a_registry_version(store: LedgerStore) -> None:
    assert [store.write(lambda c, d=d: register_version(c, d, {}, 5)) for d in ("one", "two", "two")] == [1, 2, 2]
    with pytest.raises(KeyConflict, match="followed by version 2"):
        store.write(lambda c: register_version(c, "one", {}, 6))
