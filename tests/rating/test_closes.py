"""Charges beside the energy: each kind against its document's figures, and columns against figures one by one."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from config.tariff_files import tariff_texts
from config.units import INT64_MAX, ROUNDING, round_ratio
from rating.closes.allocation import per_period, proportional, slab
from rating.closes.netting import netted
from rating.closes.reckoning import reckon
from rating.closes.rounding import share_of
from rating.closes.stretch import Share, Stretch, stretches_of
from rating.tariff.charges import Charge
from rating.tariff.reading import parse_tariffs

E11 = 10**11
TARIFFS = {tariff.id: tariff for tariff in parse_tariffs(tariff_texts())}
CENT = {"step": "0.01", "mode": "half_up"}
OF_ENERGY = {"base": ["energy"], **CENT}


def day(text: str) -> int:
    return int(np.datetime64(text, "D").astype(np.int64))


def charge(**told: Any) -> Charge:
    return Charge.model_validate({"name": "it", **told})


def share(
    days: list[int], kwh: list[int], energy: str = "0", month: str = "2026-07", fed: list[int] | None = None
) -> Share:
    """One account; each stretch has an allowance of its own, and so many days and kWh."""
    first = day(f"{month}-01")
    cycle = int(np.datetime64(month, "M").astype(np.int64))
    stretches = tuple(Stretch(cycle, 0, first + n, first + n + 1, (n,)) for n in range(len(days)))
    row = np.array([days], np.int64), np.array([kwh], np.int64) * 1000
    fed_in = np.array([[n * 1000 for n in fed or [0] * len(days)]], np.int64)
    return Share(stretches, *row, np.array([int(Fraction(energy) * E11)], np.int64), fed_in)


def amounts(charges: list[Charge], of: Share) -> list[Fraction]:
    return [Fraction(int(one.amount_e11[0]), E11) for one in reckon(charges, of)]


@pytest.mark.parametrize(
    ("told", "of", "amount"),
    [
        # Domain 9: 15 summer days at 5 kWh, 15 winter days at 25, allowances 13.5 and 11 kWh a day.
        ({"parts": "pooled"}, share([15, 15], [75, 375]), "-29.9145"),
        ({"parts": "each"}, share([15, 15], [75, 375]), "-19.536"),
        ({"parts": "pooled"}, share([15, 15], [75, 0]), "-6.105"),  # no more than was used
        ({"parts": "each"}, share([0, 0], [75, 375]), "0"),  # and none without a day of service
    ],
)
def test_a_baseline_credit(told: dict[str, Any], of: Share, amount: str) -> None:
    allowance = [{"months": [7], "upto": "13.5"}, {"months": [8], "upto": "11"}]
    one = charge(kind="credit", price="0.0814", allowance=allowance, **told)
    assert amounts([one], of) == [Fraction(amount)]


@pytest.mark.parametrize(
    ("told", "of", "amount"),
    [
        ({"kind": "standing", "amount": "0.79343", "per": "day"}, share([31], [0]), "24.59633"),
        ({"kind": "standing", "amount": "30", "per": "month", **CENT}, share([31], [0]), "30"),
        ({"kind": "standing", "amount": "30", "per": "month", **CENT}, share([10], [0]), "9.68"),  # 9.677...
        ({"kind": "standing", "amount": "30", "per": "month", **CENT}, share([10], [0], month="2026-02"), "10.71"),
        ({"kind": "levy", "price": "0.0205"}, share([31], [600]), "12.3"),
        ({"kind": "minimum", "amount": "0.4", "per": "day", "base": ["energy"]}, share([31], [9], "5"), "7.4"),
        ({"kind": "minimum", "amount": "0.4", "per": "day", "base": ["energy"]}, share([31], [9], "13"), "0"),
        # Ontario: a rebate of 23.5 % on what is billed before tax.
        ({"kind": "percent", "rate": "-23.5", "included": False, **OF_ENERGY}, share([1], [1], "99.99"), "-23.5"),
        ({"kind": "export", "price": "0.453"}, share([31], [400], fed=[180]), "-81.54"),
        # Domain 9: with VAT of 13 % inside, 372.10 is 329.29 and 42.81.
        ({"kind": "percent", "rate": "13", "included": True, **OF_ENERGY}, share([1], [1], "372.1"), "42.81"),
    ],
)  # fmt: skip
def test_one_charge(told: dict[str, Any], of: Share, amount: str) -> None:
    assert amounts([charge(**told)], of) == [Fraction(amount)]


def test_charges_see_those_before_them() -> None:
    """Energy 100, 31 days at 0.5; 13 % on both; a rebate on the energy alone; what is contained adds nothing."""
    percent = {"kind": "percent", **CENT}
    charges = [
        charge(kind="standing", amount="0.5", per="day", name="standing"),
        charge(**percent, rate="10", base=["energy"], included=True, name="vat"),
        charge(**percent, rate="13", base=["energy", "standing"], included=False, name="tax"),
        charge(**percent, rate="-50", base=["tax"], included=False, name="back"),
        charge(kind="minimum", amount="130", per="month", base=["energy", "standing", "tax", "back"], **CENT),
    ]  # fmt: skip
    assert amounts(charges, share([31], [500], "100")) == [*map(Fraction, ("15.5", "9.09", "15.02", "-7.51", "6.99"))]


# -- which tier ------------------------------------------------------------------------------------------------------

P1, P2 = ("0.10", "0.20"), ("0.30", "0.60")  # below the bound of 300 kWh, and above


def cost(tiers: np.ndarray[Any, Any], *prices: tuple[str, ...]) -> Fraction:
    return sum(
        (Fraction(int(wh), 1000) * Fraction(price) for row, told in zip(tiers[0], prices, strict=True)
         for wh, price in zip(row, told, strict=False)), Fraction(),
    )  # fmt: skip


def bounds(*upto_kwh: int) -> np.ndarray[Any, Any]:
    return np.array([*(n * 1000 for n in upto_kwh), *([INT64_MAX] * (8 - len(upto_kwh)))], np.int64)


def test_two_periods_in_two_tiers() -> None:
    """Domain 9: 200 kWh in each of two periods; chronological is 110 or 90, as the order is."""
    wh = np.array([[200_000, 200_000]], np.int64)
    assert cost(proportional(wh, bounds(300)), P1, P2) == 100
    assert cost(per_period(wh, bounds(300), ["p1", "p2"]), P1, P2) == 80


def test_a_slab_is_one_price_for_all() -> None:
    """Domain 9: 251 kWh at 3 up to 250 and 4 above are 1,004 (754 in blocks); 250 are 750."""
    assert cost(slab(np.array([[251_000]], np.int64), bounds(250)), ("3", "4")) == 1004
    assert cost(slab(np.array([[250_000]], np.int64), bounds(250)), ("3", "4")) == 750
    assert cost(slab(np.array([[200_000, 51_000]], np.int64), bounds(250)), ("3", "4"), ("3", "4")) == 1004


@given(
    st.lists(st.lists(st.integers(0, 5 * 10**9), min_size=3, max_size=3), min_size=1, max_size=4),
    st.lists(st.integers(1, 5 * 10**6), min_size=1, max_size=6, unique=True).map(sorted),
)
def test_nothing_is_lost_between_tiers(told: list[list[int]], upto: list[int]) -> None:
    wh, limits = np.array(told, np.int64), bounds(*upto)
    ladder = np.diff(np.clip(wh.sum(axis=1)[:, None], 0, np.concatenate([[0], limits])[None, :]), axis=1)
    for found in (proportional(wh, limits), per_period(wh, limits, ["a", "b", "a"]), slab(wh, limits)):
        assert (found.sum(axis=2) == wh).all()
    shares = proportional(wh, limits)
    assert (shares.sum(axis=1) == ladder).all()
    exact = wh[:, :, None] * ladder.astype(object)[:, None, :]
    total = np.maximum(wh.sum(axis=1), 1)[:, None, None]
    # A share is at most two thousandths from what it would be in fractions.
    assert (np.abs(shares.astype(object) * total - exact) <= 2 * total).all()
    one = per_period(wh, limits, ["a", "a", "a"])
    assert (one.sum(axis=1) == ladder).all(), "one period is the ladder in the order of time"


def test_energy_below_zero_leaves_the_tiers_from_the_top() -> None:
    wh = np.array([[400_000, -50_000]], np.int64)
    assert per_period(wh, bounds(300), ["p", "p"])[0, :, :2].tolist() == [[300_000, 100_000], [0, -50_000]]
    assert per_period(-wh, bounds(300), ["p", "p"])[0, :, :2].tolist() == [[-400_000, 0], [50_000, 0]]
    assert proportional(np.array([[5, -5]], np.int64), bounds(300))[0, :, :2].tolist() == [[5, 0], [-5, 0]]


@given(
    st.lists(st.integers(-9 * 10**18, 9 * 10**18), min_size=1, max_size=5),
    st.integers(-(10**7), 10**7),
    st.integers(1, 11 * 10**6),
    st.sampled_from([10**7, 10**9, 5 * 10**9, 10**11]),
    st.sampled_from(sorted(ROUNDING)),
)
def test_shares_of_columns_are_shares_of_figures(
    told: list[int], numerator: int, denominator: int, step: int, mode: str
) -> None:
    whole = [Fraction(amount * numerator, denominator) for amount in told]
    wanted = [round_ratio(one.numerator, one.denominator * step, mode) * step for one in whole]
    assume(all(abs(one) < 2**63 for one in wanted))
    assert share_of(np.array(told, np.int64), numerator, denominator, step, mode).tolist() == wanted


def test_stretches_end_with_months_versions_and_allowances() -> None:
    tariff = TARIFFS["pge-e-tou-c"]
    found = stretches_of(tariff, day("2026-05-15"), day("2026-11-02"))
    assert [(one.first_day, one.allowance) for one in found] == [
        (day(f"2026-{month:02}-01"), (0 if month < 10 else 1, -1)) for month in (6, 7, 8, 9, 10, 11)
    ]
    assert found[-1].end_day == day("2026-11-02")
    ontario = stretches_of(TARIFFS["ontario-tou"], day("2025-10-20"), day("2025-11-03"))
    assert [(one.version, one.first_day) for one in ontario] == [(0, day("2025-10-20")), (1, day("2025-11-01"))]
    assert stretches_of(tariff, day("2026-05-01"), day("2026-06-01")) == ()


@given(
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), min_size=3, max_size=3),
    st.sampled_from(["cycle_total", "cycle_by_period"]),
)
def test_netting_takes_as_much_of_both(told: list[tuple[int, int]], word: str) -> None:
    taken, fed_in = (np.array([column], np.int64) for column in zip(*told, strict=True))
    left, surplus = netted(word, taken, fed_in, ["a", "b", "a"])
    assert ((left >= 0) & (left <= taken)).all()
    assert ((surplus >= 0) & (surplus <= fed_in)).all()
    assert (taken - left).sum() == (fed_in - surplus).sum()
    for mine in ([0, 1, 2],) if word == "cycle_total" else ([0, 2], [1]):
        both = taken[:, mine].sum(), fed_in[:, mine].sum()
        assert (left[:, mine].sum(), surplus[:, mine].sum()) == (both[0] - min(both), both[1] - min(both))


def test_what_was_taken_back_is_not_netted() -> None:
    """An estimate that is taken back in the next bill leaves less than nothing to net with."""
    left, surplus = netted("cycle_total", np.array([[-50, 20]]), np.array([[10, 0]]), ["a", "a"])
    assert (left.tolist(), surplus.tolist()) == ([[-50, 20]], [[10, 0]])


@pytest.mark.parametrize(
    ("told", "month", "days", "amount"),
    [
        ({"per": "season", "season": ["heating"]}, "2026-11", 30, "285.62"),  # 16 of 121 days, 90 m2 at 24
        ({"per": "season", "season": ["heating"]}, "2026-12", 31, "553.39"),
        ({"per": "season", "season": ["heating"]}, "2028-02", 29, "513.44"),  # a season with 29 February: 122 days
        ({"per": "season", "season": ["heating"]}, "2026-07", 31, "0"),
        ({"per": "month", "months": [12, 1]}, "2026-12", 10, "696.77"),
        ({"per": "month", "months": [1]}, "2026-12", 31, "0"),
    ],
)
def test_a_standing_charge_of_a_season_by_area(told: dict[str, Any], month: str, days: int, amount: str) -> None:
    one = charge(kind="standing", amount="24", times="area", **CENT, **told)
    tariff = TARIFFS["beijing-heating-kwh"]
    changed = tariff.model_copy(update={"version": (tariff.version[0].model_copy(update={"charge": (one,)}),)})
    first = day(f"{month}-01")
    stretches = stretches_of(
        changed, first, int(np.datetime64(month, "M").astype("datetime64[D]").astype(int)) + days
    )
    served = np.array([[one.end_day - one.first_day for one in stretches]], np.int64)
    none = np.zeros_like(served)
    of = Share(stretches, served, none, np.zeros(1, np.int64), none, {"area": 90 * served})
    assert amounts([one], of) == [Fraction(amount)]


def test_what_does_not_fit_stops_and_does_not_wrap() -> None:
    """A hundred thousand a day for ten million people is no bill; it must not come out as a credit."""
    one = charge(kind="standing", amount="99999", per="day", times="people")
    of = replace(share([31], [0]), times={"people": np.array([[31 * 10**7]], np.int64)})
    assert amounts([one], of)[0] > 8 * 10**7
