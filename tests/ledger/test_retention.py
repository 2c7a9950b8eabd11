"""Old checkpoint rows on a real ledger: what goes in bounded steps, what stays, and what a failure leaves behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
from sqlalchemy import select, update

from ledger import retention
from ledger.effects import Applied
from ledger.inbox import submit
from ledger.pages import Damaged
from ledger.schema import checkpoint, thinned_page
from ledger.store import LedgerStore

Make = Callable[..., object]
H = 3600
KEEP_S = 2 * H
LAST_S = 6 * H  # of the newest rows; hours 0 to 3 are due


def ids(store: LedgerStore) -> list[int]:
    with store.reader() as connection:
        return list(connection.execute(select(checkpoint.c.id).order_by(checkpoint.c.id)).scalars())


def thin(store: LedgerStore, *, rows_max: int = 2000, after: int = 0, held: Collection[int] = ()) -> list[int]:
    """Steps until none is due; how many rows each took away."""
    told = []
    while True:
        with store.reader() as connection:
            step = retention.planned(connection, after, keep_s=KEEP_S, rows_max=rows_max, held=lambda: held)
        if step is None:
            return told
        if step.count:
            store.write(lambda c, step=step: retention.carry_out(c, step))
        told.append(step.count)
        after = step.through_id


def marks(store: LedgerStore) -> list[tuple[int, int, int]]:
    with store.reader() as connection:
        return [(p, *mark) for p in (0, 1) for mark in retention.marks(connection, p)]


@pytest.fixture
def busy(store: LedgerStore, make_checkpoint: Make, make_arrays: Make) -> LedgerStore:
    """Two partitions, a checkpoint of both every ten minutes: ids 1 and 2 at 0 s, 3 and 4 at 600 s, to 73 and 74.

    Two inbox rows were applied in 15 and 28.
    """
    epochs = [store.take_over(f"partition:{p}", "t") for p in (0, 1)]
    arrays = make_arrays(50)
    applied = {15: [], 28: []}
    for id_, told in applied.items():
        body, partition = {"account": "A", "amount_fen": 1}, (id_ + 1) % 2
        put = {"kind": "credit", "key": f"k{id_}", "body": body, "partition": partition, "now_s": 1}
        told.append(Applied(store.write(lambda c, put=put: submit(c, **put)), id_))
    for at_s in range(0, LAST_S + 1, 600):
        id_ = at_s // 300 + 1
        store.commit(
            [
                make_checkpoint(
                    epoch=epochs[p], partition=p, offset=id_ + p, as_of_s=at_s, arrays=arrays, dirty=[id_ % 50],
                    applied=applied.get(id_ + p, []),
                )
                for p in (0, 1)
            ]
        )  # fmt: skip
    assert ids(store) == list(range(1, 75))
    return store


LAST_OF_HOUR = [11, 12, 23, 24, 35, 36, 47, 48]
STAYS = sorted([*LAST_OF_HOUR, 15, 28, *range(49, 75)])


@pytest.mark.parametrize(("rows_max", "steps"), [(2000, 1), (5, 10), (1, 48), (48, 1), (49, 1)])
def test_one_an_hour_stays_and_what_inbox_rows_name(busy: LedgerStore, rows_max: int, steps: int) -> None:
    """However the steps are cut; and none is larger than it may be."""
    told = thin(busy, rows_max=rows_max)
    assert ids(busy) == STAYS
    assert len(told) == steps
    assert max(told) <= rows_max
    gone = sorted(set(range(1, 75)) - set(STAYS))
    assert sorted(marks(busy), key=lambda m: m[1]) == [((id_ + 1) % 2, id_, id_) for id_ in gone]


def test_a_second_time_finds_nothing(busy: LedgerStore) -> None:
    thin(busy)
    with busy.reader() as connection:
        assert retention.through(connection) == 46  # row 47 and 48 stayed
    before = marks(busy)
    assert sum(thin(busy, after=46)) == 0
    assert sum(thin(busy)) == 0  # also from the very beginning
    assert (ids(busy), marks(busy)) == (STAYS, before)


def test_what_others_hold_stays(busy: LedgerStore) -> None:
    thin(busy, held={1, 40, 1000})
    assert ids(busy) == sorted([*STAYS, 1, 40])


def test_the_newest_row_stays_whatever_the_hours_are(
    store: LedgerStore, make_checkpoint: Make, make_arrays: Make
) -> None:
    """A partition that lags holds up what comes after its row, and its own newest row is not even looked at."""
    epochs = [store.take_over(f"partition:{p}", "t") for p in (0, 1)]
    for id_, (p, at_s) in enumerate([(0, 0), (0, 1), (1, 2), (0, 3), (0, 9 * H), (0, 20 * H)], 1):
        store.commit([make_checkpoint(epoch=epochs[p], partition=p, offset=id_, as_of_s=at_s)])
    assert thin(store) == [2]
    assert ids(store) == [3, 4, 5, 6]
    store.commit([make_checkpoint(epoch=epochs[1], partition=1, offset=9, as_of_s=20 * H)])
    assert thin(store) == [0]
    assert ids(store) == [3, 4, 5, 6, 7]


def test_ids_are_not_given_again_and_the_state_stands(
    busy: LedgerStore, opener: Make, make_checkpoint: Make, make_arrays: Make
) -> None:
    before = [busy.recover(p) for p in (0, 1)]
    thin(busy)
    busy.close()
    store = opener()
    for told, found in zip(before, (store.recover(0), store.recover(1)), strict=True):
        assert (told.offset, told.as_of_s, told.counters) == (found.offset, found.as_of_s, found.counters)
        assert all(found.arrays[name].tobytes() == rows.tobytes() for name, rows in told.arrays.items())
    epoch = store.take_over("partition:0", "t")
    store.commit([make_checkpoint(epoch=epoch, offset=100, as_of_s=LAST_S, arrays=make_arrays(50), dirty=[7])])
    assert ids(store)[-1] == 75
    assert thin(store) == [0]  # found by the new start to be done


def test_a_step_that_fails_leaves_everything_and_is_made_again(busy: LedgerStore) -> None:
    def dies(connection: object) -> None:
        retention.carry_out(connection, step)
        raise KeyError("on purpose")

    with busy.reader() as connection:
        step = retention.planned(connection, 0, keep_s=KEEP_S, rows_max=10)
    with pytest.raises(KeyError, match="on purpose"):
        busy.write(dies)
    assert (ids(busy), marks(busy)) == (list(range(1, 75)), [])
    busy.write(lambda c: retention.carry_out(c, step))
    with pytest.raises(Exception, match="UNIQUE"):  # nobody carries a plan out twice
        busy.write(lambda c: retention.carry_out(c, step))
    assert sum(thin(busy)) == 38 - 10  # ids 1 to 10 went
    assert ids(busy) == STAYS


DIES = """
import os, signal, sys
from pathlib import Path
from config.clock import ManualClock
from config.settings import LedgerSettings
from ledger import retention
from ledger.store import LedgerStore
from rating.state import ARRAYS

store = LedgerStore.open(Path(sys.argv[1]), settings=LedgerSettings(), clock=ManualClock(1), log_id="log-1",
                         partitions=2, arrays=ARRAYS)
with store.reader() as connection:
    step = retention.planned(connection, 0, keep_s=7200)
assert step.count == 38

def work(connection):
    retention.carry_out(connection, step)
    os.kill(os.getpid(), signal.SIGKILL)

store.write(work)
"""


def test_kill_9_inside_a_step_leaves_everything(busy: LedgerStore, opener: Make, tmp_path: Path) -> None:
    busy.close()
    ended = subprocess.run([sys.executable, "-c", DIES, str(tmp_path / "ledger.db")], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    store = opener()
    assert (ids(store), marks(store)) == (list(range(1, 75)), [])
    assert sum(thin(store)) == 38
    assert ids(store) == STAYS


def test_rows_that_went_meanwhile_are_a_broken_invariant(busy: LedgerStore) -> None:
    with busy.reader() as connection:
        step = retention.planned(connection, 0, keep_s=KEEP_S)
    busy.write(lambda c: c.execute(checkpoint.delete().where(checkpoint.c.id == 3)))
    with pytest.raises(AssertionError, match="rows went"):
        busy.write(lambda c: retention.carry_out(c, step))
    assert len(ids(busy)) == 73


def test_a_row_whose_checksum_does_not_match_stays_for_the_audit(busy: LedgerStore) -> None:
    busy.write(lambda c: c.execute(update(checkpoint).where(checkpoint.c.id == 5).values(offset=6)))
    thin(busy)
    assert ids(busy) == sorted([*STAYS, 5])


def test_marks_that_were_changed_are_damaged(busy: LedgerStore, tmp_path: Path) -> None:
    thin(busy)
    busy.write(lambda c: c.execute(update(thinned_page).values(count=thinned_page.c.count + 1)))
    with pytest.raises(Damaged, match="marks of checkpoints up to 46: the checksum"):
        marks(busy)


def test_a_ledger_that_no_daemon_of_this_version_opened_has_no_marks(busy: LedgerStore) -> None:
    busy.write(lambda c: thinned_page.drop(c))
    assert marks(busy) == []
