"""A change of tariff inside a tier cycle: the word `on_switch`.

July   |------ residential ------|------ time of use ------|     bound 260 kWh, 0.05 yuan above it
                180 kWh         20th        120 kWh              300 - 260 = 40 kWh above
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.effects import InboxRow
from rating.state import ChannelFlag
from rating.tariff.model import Tariff
from rating.tariff.reading import parse_tariffs

MakeHome = Callable[..., Any]
PLAIN, TOU, FLAT = "guangzhou-residential", "guangzhou-residential-tou", "guangzhou-residential-flat"
SWITCH = "2026-07-20T00:00"
ADDER = 5_000_000  # 0.05 yuan a kWh, in 1e-11 a Wh


def spans(home: MakeHome, order: list[str], dates: list[str], registers: int = 1) -> Any:
    """Account a under the tariffs of `order` in turn (spans of the same tariff share a ladder), on each register."""
    ids = tuple(dict.fromkeys(order))
    count = len(order) * registers
    h = home([chr(97 + i) for i in range(count)], tariff_ids=ids)
    channels, length = h.image.channels, len(order)
    for i in range(count):
        register, place = divmod(i, length)
        channels["meter"][i] = 100 + register
        channels["tariff"][i] = channels["ladder"][i] = ids.index(order[place])
        channels["account"][i] = 0
        if place + 1 < length:
            channels["until_s"][i], channels["next"][i] = h.seconds(dates[place]), i + 1
        if place:
            channels["opening_value"][i], channels["opening_at_s"][i] = -1, h.seconds(dates[place - 1])
    h.image.ladders["account"][:] = 0
    h.image.ladders["tariff"][: len(ids)] = range(len(ids))
    for number, name in enumerate(ids):
        first = order.index(name)
        h.image.ladders["opening_at_s"][number] = channels["opening_at_s"][first]
    h.image.account_start[:] = [0, *[count] * count]
    h.image.list_meter[:registers] = range(100, 100 + registers)
    h.image.list_channel[:registers] = range(0, count, length)
    h.image.lists["c1"] = (0, registers)
    h.engine = h.fresh()
    return h


def adder_e11(h: Any) -> int:
    """What the tiers have added so far: posted, carried and accrued."""
    entries = h.engine.checkpoint(epoch=1, log_id="x").entries
    posted = -sum(int(r["amount_fen"]) for e in entries for r in e.rows if r["component"] == 2)
    row = h.engine.part.account[0]
    return posted * 10**9 + int(row["carry_adder_e11"]) + int(h.engine.part.channel["accrued_adder_e11"].sum())


@pytest.mark.parametrize("reads", [[180_000, 300_000], [300_000]])
def test_use_so_far_comes_along(home: MakeHome, reads: list[int]) -> None:
    h = spans(home, [PLAIN, TOU], [SWITCH])
    for value, at in zip(reads, [SWITCH, "2026-07-31T00:00"][-len(reads) :], strict=True):
        assert h.read(value, at) == "accepted"
    assert h.engine.part.ladder["used"][:2].tolist() == [300_000, 300_000]
    assert adder_e11(h) == 40_000 * ADDER


def test_a_switch_that_is_told_late_brings_everything_counted_so_far(home: MakeHome) -> None:
    """Told on 5 August that time of use began on 20 July: what July and August have used is behind the ladder."""
    later = spans(home, [PLAIN, TOU], [SWITCH])
    h = home(["a"], tariff_ids=(PLAIN, TOU))
    h.names[:] = ["a", "b"]
    h.read(300_000, "2026-08-01T00:00")
    h.read(550_000, "2026-08-05T00:00")
    h.engine.activate(InboxRow(9, None, "registry", "r9", {"digest": "d9"}), later.image, later.book, h.engine.names)
    h.image = later.image
    h.read(570_000, "2026-08-06T00:00")
    assert adder_e11(h) == (40_000 + 10_000) * ADDER
    assert h.engine.part.ladder["used"][:2].tolist() == [270_000, 270_000]


def test_there_and_back_again_counts_each_kwh_once(home: MakeHome) -> None:
    h = spans(home, [PLAIN, TOU, PLAIN], ["2026-07-10T00:00", SWITCH])
    h.read(100_000, "2026-07-10T00:00")
    h.read(180_000, SWITCH)
    h.read(280_000, "2026-07-31T00:00")
    assert adder_e11(h) == 20_000 * ADDER
    assert h.engine.part.ladder["used"][:2].tolist() == [280_000, 280_000]


def test_the_next_cycle_starts_from_nothing_and_the_plain_way_is_open_again(home: MakeHome) -> None:
    h = spans(home, [PLAIN, TOU], [SWITCH])
    h.read(180_000, SWITCH)
    assert int(h.engine.part.channel["flags"][1]) & ChannelFlag.SHARED
    h.read(200_000, "2026-08-01T00:00")
    assert not int(h.engine.part.channel["flags"][1]) & ChannelFlag.SHARED
    h.read(460_000, "2026-08-31T00:00")
    assert adder_e11(h) == 0
    assert h.read(461_000, "2026-08-31T01:00") == "accepted"
    assert adder_e11(h) == 1_000 * ADDER


@pytest.mark.parametrize(("order", "kwh_above"), [([PLAIN, FLAT], 0), ([FLAT, PLAIN], 0)])
def test_a_tariff_without_tiers_brings_and_takes_nothing(home: MakeHome, order: list[str], kwh_above: int) -> None:
    h = spans(home, order, [SWITCH])
    h.read(180_000, SWITCH)
    h.read(300_000, "2026-07-31T00:00")
    assert adder_e11(h) == kwh_above


def test_start_anew_opens_at_nothing(shipped: dict[str, Tariff], home: MakeHome) -> None:
    both = {name: tariff.model_copy(update={"on_switch": "start_anew"}) for name, tariff in shipped.items()}
    h = spans(lambda names, **more: type(home(["a"]))(both, list(names), **more), [PLAIN, TOU], [SWITCH])
    h.read(180_000, SWITCH)
    h.read(300_000, "2026-07-31T00:00")
    assert adder_e11(h) == 0
    assert h.engine.part.ladder["used"][:2].tolist() == [180_000, 120_000]


def test_the_word_is_required(make_text: Callable[..., str]) -> None:
    assert parse_tariffs({"made-up": make_text()})[0].on_switch == "carry_over"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 60), st.integers(0, 60_000)), min_size=1, max_size=14))
def test_siblings_may_pass_the_switch_in_any_order(home: MakeHome, steps: list[tuple[int, int, int]]) -> None:
    """Two registers of one account: whoever lags, both ladders stand at the energy of the cycle."""
    h = spans(home, [PLAIN, TOU], [SWITCH], registers=2)
    at_s, value = [h.opened_s] * 2, [0, 0]
    for register, hours, step in steps:
        at_s[register] = min(at_s[register] + hours * 3600, h.seconds("2026-08-01T00:00"))
        value[register] += step
        h.read(value[register], at_s[register], home=register, received="2026-08-01T00:10")
    used = h.engine.part.ladder["used"][:2].tolist()
    held = [int(h.engine.part.channel["value"][i : i + 2].max()) for i in (0, 2)]
    assert used == [sum(held)] * 2
    assert adder_e11(h) == max(0, sum(held) - 260_000) * ADDER + max(0, sum(held) - 600_000) * 5 * ADDER
