"""Decisions as tables: windows, caps, cool-down, priorities, back-off; amounts; and that decide is total."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopay.policy import (
    Live,
    LowBalance,
    Mandate,
    Order,
    PastOrder,
    Refuse,
    Switches,
    Wait,
    amount_of,
    decide,
    limits_of,
    next_attempt,
    window_opens,
)
from config.settings import AutopaySettings

ZONE = ZoneInfo("Asia/Shanghai")
NOON_S = 1_782_878_400  # 2026-07-01 12:00 in Shanghai
SETTINGS = AutopaySettings()
DAY_S = 86_400


def mandate(**changes):
    values = {
        "id": "m1",
        "payer": "p1",
        "account": "a",
        "gateway": "bank",
        "token": "t",
        "priority": 1,
        "trigger_fen": 2000,
        "amount_fen": 10_000,
        "target_fen": 0,
        "cap_charge_fen": 0,
        "cap_day_fen": 0,
        "cap_month_fen": 0,
        "cap_day_count": 0,
        "cooldown_s": 0,
        "window_from": "00:00",
        "window_to": "00:00",
        "valid_from_s": 0,
        "valid_until_s": 2**40,
        "cancelled_at_s": None,
    }
    return Mandate(**(values | changes))


def past(state, attempt=1, arm=5, who="m1", created=NOON_S - 100, closed=NOON_S - 50, reason=""):
    return PastOrder(arm, attempt, who, "p1", state, created, closed, reason)


def judge(mandates, *, used=None, orders=(), now=NOON_S, switches=None, settings=SETTINGS, **event):
    low = LowBalance(**({"id": 1, "account": "a", "partition": 0, "arm": 5, "balance_fen": 1900} | event))
    switches = switches or Switches(gateways=frozenset({"bank"}))
    return decide(low, mandates, used or {}, list(orders), now, ZONE, switches, settings)


@pytest.mark.parametrize(
    ("window", "clock", "opens"),
    [  # 07:00-22:00   ....[=========)...     22:00-06:00   ====)........[===
        (("07:00", "22:00"), "06:59", "07:00"),
        (("07:00", "22:00"), "07:00", None),
        (("07:00", "22:00"), "21:59", None),
        (("07:00", "22:00"), "22:00", "+07:00"),
        (("22:00", "06:00"), "23:00", None),
        (("22:00", "06:00"), "05:59", None),
        (("22:00", "06:00"), "06:00", "22:00"),
        (("00:00", "00:00"), "03:00", None),
    ],
)
def test_windows(window, clock, opens):
    def at(text):
        hours, minutes = text.removeprefix("+").split(":")
        return NOON_S - 12 * 3600 + int(hours) * 3600 + int(minutes) * 60 + (DAY_S if text[0] == "+" else 0)

    found = window_opens(mandate(window_from=window[0], window_to=window[1]), at(clock), ZONE)
    assert found == (None if opens is None else at(opens))


@pytest.mark.parametrize(
    ("changes", "balance", "expected"),
    [
        ({}, 1900, 10_000),
        ({"amount_fen": 5000}, 1900, 5000),
        ({"amount_fen": 0}, 1900, 10_000),  # the settings' own
        ({"amount_fen": 0, "target_fen": 8000}, 1900, 6100),
        ({"amount_fen": 0, "target_fen": 30_000}, 1900, 10_000),  # cut to the cap per charge
        ({"amount_fen": 0, "target_fen": 30_000, "cap_charge_fen": 7000}, -500, 7000),
        ({"amount_fen": 0, "target_fen": 1000}, 1900, 0),
    ],
)
def test_amounts(changes, balance, expected):
    assert amount_of(mandate(**changes), balance, SETTINGS)[0] == expected


@pytest.mark.parametrize(
    ("changes", "event", "orders", "used", "kind", "reason"),
    [
        ({}, {}, (), {}, Order, "low_balance"),
        ({"cancelled_at_s": 5}, {}, (), {}, Wait, "nobody_can_pay"),
        ({"valid_until_s": NOON_S}, {}, (), {}, Wait, "nobody_can_pay"),
        ({"valid_from_s": NOON_S + 1}, {}, (), {}, Wait, "nobody_can_pay"),
        ({"trigger_fen": 1000}, {}, (), {}, Wait, "nobody_can_pay"),
        ({"gateway": "none"}, {}, (), {}, Wait, "nobody_can_pay"),
        ({"amount_fen": 10_001}, {}, (), {}, Wait, "nobody_can_pay"),  # above the cap per charge
        ({}, {"recovered": True}, (), {}, Refuse, "recovered"),
        ({}, {"superseded": True}, (), {}, Refuse, "superseded"),
        ({}, {}, (past("unknown"),), {}, Wait, "in_flight"),
        ({}, {}, (past("succeeded", arm=5),), {}, Refuse, "already_charged"),
        ({}, {}, (past("succeeded", arm=4),), {}, Wait, "in_flight"),
        ({}, {}, (past("credited", arm=4),), {}, Wait, "cooldown"),
        ({}, {}, (past("credited", arm=4, created=NOON_S - DAY_S),), {}, Order, "low_balance"),
        ({"cooldown_s": 2 * DAY_S}, {}, (past("credited", arm=4, created=NOON_S - DAY_S),), {}, Wait, "cooldown"),
        ({}, {}, (past("declined"),), {}, Wait, "declined_backoff"),
        ({}, {}, (past("declined", closed=NOON_S - 3600),), {}, Order, "low_balance"),
        ({}, {}, [past("declined", n) for n in (1, 2, 3)], {}, Wait, "nobody_can_pay"),
        ({}, {}, [past("declined", n, closed=NOON_S - 7 * DAY_S) for n in (1, 2, 3)], {}, Order, "low_balance"),
        ({"changed_at_s": NOON_S - 49}, {}, (past("declined", reason="card_closed"),), {}, Order, "low_balance"),
        ({}, {"live": Live(2001)}, (), {}, Wait, "nobody_can_pay"),
        ({}, {"live": Live(2000), "balance_fen": 4900}, (), {}, Order, "low_balance"),
        ({}, {"live": Live(2000, estimated=True), "balance_fen": 4900}, (), {}, Wait, "nobody_can_pay"),
        ({}, {"live": Live(-9, estimated=True)}, (), {}, Order, "low_balance"),  # the event's own was no estimate
        ({}, {"live": Live(1900, open=False)}, (), {}, Refuse, "account_closed"),
        ({}, {}, (past("declined", reason="person: doubt: charged 1 fen"),), {}, Wait, "doubt"),
        ({}, {}, (past("declined", closed=0, reason="card_closed"),), {}, Wait, "nobody_can_pay"),
        ({}, {}, (), {"payer:p1:month:2026-07": (40_001, 4)}, Wait, "caps"),
        ({}, {}, (), {"payer:p1:month:2026-07": (40_000, 4)}, Order, "low_balance"),
        ({"cap_day_fen": 19_999}, {}, (), {"mandate:m1:day:2026-07-01": (10_000, 1)}, Wait, "caps"),
        ({"cap_day_count": 1}, {}, (), {"mandate:m1:day:2026-07-01": (1, 1)}, Wait, "caps"),
        ({}, {}, (), {"payer:p1:day:2026-07-01": (0, 5)}, Wait, "caps"),
    ],
)
def test_decisions(changes, event, orders, used, kind, reason):
    made = judge([mandate(**changes)], used=used, orders=orders, **event)
    assert (type(made), made.reason) == (kind, reason)


def test_a_cap_is_waited_for_until_its_period_ends():
    made = judge([mandate()], used={"payer:p1:day:2026-07-01": (100_000, 1)})
    assert isinstance(made, Wait)
    assert made.until_s == NOON_S + 12 * 3600
    made = judge([mandate()], used={"payer:p1:month:2026-07": (50_000, 1)})
    assert made.until_s == NOON_S + 12 * 3600 + 30 * DAY_S


def test_the_next_payer_pays_when_the_first_cannot_and_not_when_it_is_night():
    second = mandate(id="m2", payer="p2", priority=2)
    made = judge([second, mandate(cancelled_at_s=1)])
    assert isinstance(made, Order)
    assert made.mandate.id == "m2"
    assert made.detail["skipped"] == {"m1": "cancelled"}
    made = judge([second, mandate(window_from="13:00", window_to="14:00")])
    assert isinstance(made, Wait)
    assert (made.mandate, made.until_s) == ("m1", NOON_S + 3600)


def test_the_switches():
    on = frozenset({"bank"})
    assert judge([mandate()], switches=Switches(hold=True, gateways=on)).reason == "hold"
    full = Switches(charges_last_hour=SETTINGS.breaker_charges_per_hour, gateways=on)
    assert judge([mandate()], switches=full).reason == "breaker"
    assert judge([mandate()], settings=AutopaySettings(enabled=False)).reason == "disabled"


@pytest.mark.parametrize(
    ("changes", "orders", "again_s"),
    [
        ({"valid_from_s": NOON_S + 3600}, (), 3600),
        ({"trigger_fen": 1000}, (), SETTINGS.recheck_s),
        ({"target_fen": 1000}, (), SETTINGS.recheck_s),
        ({"gateway": "none"}, (), DAY_S),
        ({"cancelled_at_s": 5}, (), DAY_S),
        ({"amount_fen": 10_001}, (), DAY_S),
        ({}, [past("declined", n) for n in (1, 2, 3)], 7 * DAY_S - 50),
        ({}, (past("declined", reason="card_closed"),), DAY_S),
    ],
)
def test_whoever_cannot_pay_now_is_asked_again(changes, orders, again_s):
    made = judge([mandate(**changes)], orders=orders)
    assert isinstance(made, Wait)
    assert made.until_s == NOON_S + again_s


def test_the_earliest_of_all_payers_is_waited_for():
    made = judge([mandate(valid_from_s=NOON_S + 60), mandate(id="m2", trigger_fen=0, priority=2)])
    assert (made.reason, made.until_s) == ("nobody_can_pay", NOON_S + 60)
    assert made.detail["skipped"] == {"m1": "not_valid_yet", "m2": "above_its_trigger"}


def test_nobody_without_a_mandate_is_asked_for_money_and_nobody_is_refused_for_ever():
    assert (judge([]).reason, judge([]).until_s) == ("no_mandate", NOON_S + DAY_S)


def test_a_window_that_opens_in_an_hour_that_comes_twice_is_never_in_the_past():
    """New York, 1 November 2026: 01:00-02:00 comes twice. At the second 01:10, 01:30 is ahead, not behind."""
    york = ZoneInfo("America/New_York")
    second_0110_s = 1_793_513_400  # 06:10 UTC
    found = window_opens(mandate(window_from="01:30", window_to="01:45"), second_0110_s, york)
    assert found == second_0110_s + 20 * 60
    gap_s = 1_772_953_800  # 8 March 2026, 07:10 UTC: 03:10 there, and no 02:30 came
    found = window_opens(mandate(window_from="02:30", window_to="02:45"), gap_s, york)
    assert found == 1_772_953_800 + 23 * 3600 + 20 * 60


def test_attempts_rise_and_back_off():
    assert next_attempt([], SETTINGS) == ("again", 0)
    assert next_attempt([past("declined")], SETTINGS) == ("again", NOON_S - 50 + 3600)
    two = [past("declined"), past("declined", 2, closed=NOON_S)]
    assert next_attempt(two, SETTINGS) == ("again", NOON_S + 6 * 3600)
    made = judge([mandate()], orders=[past("declined", 1, closed=0), past("cancelled", 2, closed=0)])
    assert isinstance(made, Order)
    assert made.attempt == 3


@given(
    balance=st.integers(-(10**9), 2000),
    amount=st.integers(-1, 20_000),
    target=st.integers(-1, 50_000),
    caps=st.tuples(*[st.integers(-1, 30_000)] * 3),
    used=st.integers(0, 60_000),
    now=st.integers(0, 4_000_000_000),
)
def test_whatever_is_ordered_is_within_every_bound(balance, amount, target, caps, used, now):
    payer = mandate(
        amount_fen=amount, target_fen=target, cap_charge_fen=caps[0], cap_day_fen=caps[1], cap_month_fen=caps[2]
    )
    scopes = {limit.scope: (used, 1) for limit in limits_of(payer, now, ZONE, SETTINGS)}
    made = judge([payer], used=scopes, now=now, balance_fen=balance)
    if isinstance(made, Order):
        assert 0 < made.amount_fen <= SETTINGS.cap_charge_fen
        assert caps[0] <= 0 or made.amount_fen <= caps[0]
        assert used + made.amount_fen <= SETTINGS.cap_month_fen
        assert caps[1] <= 0 or used + made.amount_fen <= caps[1]
        assert caps[2] <= 0 or used + made.amount_fen <= caps[2]
    elif isinstance(made, Wait):
        assert made.until_s > now
