"""What is worked out while a run goes on is what all of it says at its end, and what is answered is forgotten.

`whole` keeps everything and looks at it once: the plainest way to say what is meant.
"""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from simulators.load.answers import Answers, noted, slots_of
from simulators.load.dues import Dues

START_S = 50.0
READINGS = 3


@dataclass
class History:
    """A run: records of each partition in order, and what happened in order."""

    due: dict[tuple[int, int], tuple[float, bool]]  # by concentrator and sequence: (due, good)
    happened: list[tuple[str, tuple]] = field(default_factory=list)


def history(seed: int) -> History:
    """Four concentrators in one or two of three partitions; copies, events, charges, messages; some unanswered."""
    dice = random.Random(seed)
    due = {(c, n): (c / 10 + n, dice.random() < 0.9) for c in range(4) for n in range(1, 9)}
    made = History(due)
    homes = [sorted(dice.sample(range(3), dice.choice((1, 1, 2)))) for _ in range(4)]
    last, committed, now_s = [0, 0, 0], [0, 0, 0], START_S
    orders: list[tuple[str, int]] = []
    coming = sorted(due, key=lambda key: (key[1], dice.random()))
    coming += dice.choices(coming, k=8)  # copies, most of them long after
    for concentrator, sequence in coming:
        now_s += dice.random()
        for partition in homes[concentrator]:
            last[partition] += 1
            made.happened.append(("record", (partition, last[partition], concentrator, sequence)))
        while dice.random() < 0.6:
            partition, now_s = dice.randrange(3), now_s + 0.01
            committed[partition] = dice.randint(committed[partition], last[partition])
            made.happened.append(("checkpoint", (now_s, partition, committed[partition])))
            if dice.random() < 0.5:
                orders.append((f"A{dice.randrange(4)}", len(orders)))
                made.happened.append(("low", (orders[-1], dice.randrange(4), partition, committed[partition])))
        for kind in ("charge", "notice"):
            if orders and dice.random() < 0.7:
                made.happened.append((kind, (now_s + 0.02, dice.choice(orders))))
    return made


def whole(run: History) -> dict[str, list[float]]:
    """Every latency, from all that happened."""
    commits = [what for kind, what in run.happened if kind == "checkpoint"]
    records = [what for kind, what in run.happened if kind == "record"]
    first: dict[tuple[int, int], dict[int, int]] = {}
    for partition, offset, *key in records:
        first.setdefault(tuple(key), {}).setdefault(partition, offset)
    balance = []
    for key, where in first.items():
        seen = [min((at for at, p, to in commits if p == q and to >= o), default=None) for q, o in where.items()]
        if None not in seen and run.due[key][1]:
            balance.append(max(seen) - START_S - run.due[key][0])
    late: dict[str, list[float]] = {"balance": balance, "charge": [], "notice": []}
    for order, concentrator, partition, upto in (what for kind, what in run.happened if kind == "low"):
        mine = [n for p, o, c, n in records if (p, c) == (partition, concentrator) and o <= upto]
        mine = [n for n in mine if run.due[concentrator, n][1]]  # what is no reading makes no balance low
        if not mine:
            continue
        since_s = run.due[concentrator, max(mine)][0]  # a copy of an old one makes none low either
        for name in ("charge", "notice"):
            found = [at for kind, what in run.happened if kind == name for at, of in [what] if of == order]
            late[name] += [found[0] - START_S - since_s] if found else [float("nan")]
    return late


def streamed(run: History, seed: int) -> tuple[Answers, int]:
    """The same through `Answers`, which is given the log now and then; (it, most that was in flight)."""
    dice = random.Random(seed)
    keys = sorted(run.due)
    slots = slots_of(np.array([c for c, _ in keys]), 4)
    made = Answers(np.array([noted(run.due[key][0], good=run.due[key][1]) for key in keys]), slots,
                   np.full(4, READINGS), START_S)  # fmt: skip
    new: dict[int, list[tuple[int, int, int]]] = {}
    ends: dict[int, int] = {}
    most = 0
    for place, (kind, what) in enumerate(run.happened):
        if kind == "record":
            new.setdefault(what[0], []).append(what[1:])
            ends[what[0]] = what[1]
        else:
            {"checkpoint": made.checkpoint, "low": made.low_balance, "charge": made.charge,
             "notice": made.notice}[kind](*what)  # fmt: skip
        whole_message = run.happened[place + 1 : place + 2] == [] or run.happened[place + 1][0] != "record"
        if whole_message and dice.random() < 0.2:
            made.records(new, ends)
            new = {}
        most = max(most, made.in_flight)
    made.records(new, ends)
    return made, most


def curve(values: list[float]) -> list[float]:
    return sorted(value for value in values if value == value)


@pytest.mark.parametrize("seed", range(60))
def test_what_is_worked_out_on_the_way_is_what_all_of_it_says(seed: int) -> None:
    run = history(seed)
    made, _ = streamed(run, seed)
    found, wanted = made.end(), whole(run)
    for name, one in (("balance", found.balance), ("charge", found.order), ("notice", found.notice)):
        known = curve(wanted[name])
        assert len(one) == len(known), name
        if known:
            assert one.most_s == pytest.approx(max(known[-1], 0.0))
            assert one.total_s == pytest.approx(sum(max(value, 0.0) for value in known))
    assert found.good == len(curve(wanted["balance"]))
    assert int(found.over_time.sum()) == READINGS * found.good
    assert found.orders_without == {
        name: sum(value != value for value in wanted[of]) for name, of in (("order", "charge"), ("notice", "notice"))
    }


def test_histories_have_what_they_are_for() -> None:
    made = [history(seed) for seed in range(60)]
    runs = [whole(run) for run in made]
    assert sum(len(curve(run["charge"])) for run in runs) > 60
    assert sum(len(run["notice"]) - len(curve(run["notice"])) for run in runs) > 10
    readings = [sum(good for _, good in run.due.values()) for run in made]
    assert sum(len(run["balance"]) < count for run, count in zip(runs, readings, strict=True)) > 5


def test_what_is_answered_is_forgotten() -> None:
    """300,000 messages and 3,000 orders, a thousand in flight at a time: what is left is a byte each."""
    count, batch = 300_000, 1000
    slots = slots_of(np.arange(count) % 100, 100)
    due = np.ones(count)
    made = Answers(due, slots, np.full(100, READINGS), START_S)
    tracemalloc.start()
    try:
        sizes = []
        for first in range(0, count, batch):
            rows = [(n + 1, n % 100, n // 100 + 1) for n in range(first, first + batch)]
            made.records({0: rows}, {0: first + batch})
            assert made.in_flight == 2 * batch
            made.checkpoint(START_S + 1.0, 0, first + batch)
            for order in (("A", n) for n in range(first, first + batch, 100)):
                made.low_balance(order, 5, 0, first + batch)
                made.charge(START_S + 2.0, order)
                made.notice(START_S + 3.0, order)
            made.records({}, {0: first + batch})
            assert made.in_flight == 0
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[-1] - sizes[10] < 1_000_000  # 290,000 messages of eight bytes would be 2.3 MB
    assert made.end().good == count


def test_what_autopay_puts_off_is_no_order_to_wait_for() -> None:
    """Two low balances of one account: the second one falls into the cool-down of the first one's order."""
    made = Answers(np.array([noted(1.0, good=True)]), slots_of(np.array([0]), 1), np.array([READINGS]), START_S)
    made.checkpoint(START_S + 2.0, 0, 1)
    for arm in (1, 2):
        made.low_balance(("A", arm), 0, 0, 1)
    made.records({0: [(1, 0, 1)]}, {0: 1})
    made.charge(START_S + 3.0, ("A", 1))
    for order in (("A", 2), ("A", 1), ("B", 1)):  # of one that is charged it comes too late
        made.put_off(order)
    made.notice(START_S + 4.0, ("A", 1))
    assert made.in_flight == 0
    found = made.end()
    assert (found.put_off, len(found.order), found.orders_without) == (1, 1, {"order": 0, "notice": 0})


def test_due_times_come_through_the_file(tmp_path: Path) -> None:
    """Written by two generators, read by a third; what is not due yet is none."""
    slots = slots_of(np.array([0, 1, 1, 2]), 3)
    for concentrator, good in ((0, True), (1, False)):
        Dues(tmp_path / "dues", slots).note(concentrator, 1, 0.0, good=good)
    assert Dues(tmp_path / "dues", slots).due.tolist() == [1.0, -1.0, 0.0, 0.0]
