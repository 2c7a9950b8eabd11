"""The compiled kernel and the plain walk charge the same, to the last 1e-11, over days, periods and tiers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rating.book import TariffBook
from rating.compiled import Batch, Homes
from rating.kernel import CLOSE_ROWS_MIN, rate
from rating.register_rules import PARAMS
from rating.sheets import NO_SHEETS
from rating.spread import CLOSE
from rating.state import CHANNEL, COLD, LADDER, ChannelFlag
from rating.tariff.model import Tariff
from rating.verdicts import Warn
from tests.rating.explained import explain_day

FEN_E11 = 10**9
JULY_10 = 20_644  # days since 1970-01-01


@pytest.fixture(scope="module")
def book(shipped: dict[str, Tariff]) -> TariffBook:
    order = ("guangzhou-residential-tou", "guangzhou-residential")
    return TariffBook.compile(tuple(shipped.values()), order, ((),), [(0, 0), (1, 0)], 2026, 2027)


def kernel_charges(
    book: TariffBook, tariff: int, at_s: list[int], value: list[int], used: int, power_w: int, *, one_record: bool
) -> tuple[int, int, int, list[int], bytes]:
    """(energy e11, adder e11, used afterwards, days closed, state) of one channel under the kernel.

    The readings come in one record, a load curve, or each in one of its own.
    """
    channel, cold, ladder = np.zeros(1, CHANNEL), np.zeros(1, COLD), np.zeros(1, LADDER)
    channel["value"], channel["at_s"], channel["segment"] = value[0], at_s[0], book.segment_of(tariff, at_s[0])
    channel["until_s"], channel["power_max_w"], channel["multiplier"] = 2**32 - 1, power_w, 1
    channel["resolution"], channel["quality"], channel["flags"] = 1, 4, ChannelFlag.BILL
    cold["next"] = -1
    ladder["used"], ladder["stage"] = used, book.stage_of(tariff, 0, at_s[0])
    n = len(at_s) - 1
    closes, verdict = np.zeros(CLOSE_ROWS_MIN, CLOSE), np.zeros(n, np.uint8)
    homes = Homes(channel, cold, ladder, np.zeros(1, np.uint8), np.zeros(1, np.uint8), *NO_SHEETS)
    columns = np.array(value[1:], np.int64), np.array(at_s[1:], np.uint32), np.full(n, 4, np.uint8)
    run_end, limit_s = np.arange(1, n + 1), np.array(at_s[1:], np.int64)
    if one_record:
        run_end, limit_s = run_end[-1:], limit_s[-1:]
    batch = Batch(np.zeros(n, np.int32), *columns, run_end, limit_s)
    params = np.array([FEN_E11, 3 * 86_400, 30 * 86_400, 96][:PARAMS], np.int64)
    done, closed = rate(homes, batch, book.lines, params, 0, verdict, np.zeros(len(Warn.NAMES), np.int64), closes)
    assert (done, verdict.tolist()) == (n, [0] * n)
    rows = closes[:closed]
    energy = int(rows["energy_minor"].sum()) * FEN_E11 + int(channel["accrued_energy_e11"][0])
    adder = int(rows["adder_minor"].sum()) * FEN_E11 + int(channel["accrued_adder_e11"][0])
    state = channel.tobytes() + cold.tobytes() + ladder.tobytes() + bytes([homes.dirty_channel[0]])
    return energy, adder, int(ladder["used"][0]), rows["day"].tolist(), state


@given(
    tariff=st.sampled_from([0, 1]),
    steps=st.lists(
        st.tuples(st.one_of(st.integers(60, 3_600), st.integers(60, 100_000)), st.integers(0, 9_000)),
        min_size=1,
        max_size=20,
    ),
    start=st.integers(0, 86_399),
    used=st.integers(0, 650_000),
    power_w=st.sampled_from([0, 1_000_000]),  # unchecked: no reading is plain, the judge takes every one
)
@settings(max_examples=150, deadline=None)
def test_kernel_and_walk_agree(
    book: TariffBook, tariff: int, steps: list[tuple[int, int]], start: int, used: int, power_w: int
) -> None:
    at_s, value = [book.day_start_s(tariff, JULY_10) + start], [5_000_000]
    for gap_s, energy in steps:
        at_s.append(at_s[-1] + gap_s)
        value.append(value[-1] + energy)
    energy_e11, adder_e11, place = 0, 0, used
    last_day = book.calendars[tariff].day_of(at_s[-1])
    for day in range(JULY_10, last_day + 1):
        lines = explain_day(book, tariff, 0, at_s, value, [4] * len(at_s), place, day)
        place += sum(line.energy_wh for line in lines)
        energy_e11 += sum(line.energy_e11 for line in lines)
        adder_e11 += sum(line.adder_e11 for line in lines)
    *found, alone = kernel_charges(book, tariff, at_s, value, used, power_w, one_record=False)
    energy, adder, after, closed, together = kernel_charges(book, tariff, at_s, value, used, power_w, one_record=True)
    assert (found, alone) == ([energy, adder, after, closed], together)
    assert (energy, adder, after) == (energy_e11, adder_e11, place)
    assert closed == sorted(set(closed))
    assert all(JULY_10 <= day < last_day for day in closed)
