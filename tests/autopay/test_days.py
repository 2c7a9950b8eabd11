"""A charge counts on the day on which it is made, be it created before midnight or charged again after it."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from autopay.policy import Live
from config.settings import AutopaySettings
from ledger.schema import cap_use, mandate

TO_MIDNIGHT_S = 12 * 3600
FIRST, SECOND = "payer:daughter:day:2026-07-01", "payer:daughter:day:2026-07-02"


def capped(new_world, homes=4, **settings):
    """One daughter who pays for several homes, at any hour, at most 200 yuan a day over all of them."""
    world = new_world(AutopaySettings(cap_day_fen=20_000, cap_month_fen=10**7, **settings))
    for number in range(homes):
        window = {"window_from": "00:00", "window_to": "00:00"}
        world.mandate(id=f"m{number}", account=f"a{number}", token=f"t{number}", **window)
    return world


def charged(world, from_s):
    return sum(charge.amount_fen for charge in world.gateway.book().charges if charge.at_s >= from_s)


def test_orders_created_before_midnight_and_submitted_after_it_count_on_the_new_day(new_world):
    world = capped(new_world)
    midnight_s = world.clock.now_s() + TO_MIDNIGHT_S
    world.clock.advance(TO_MIDNIGHT_S - 120)
    for number in range(2):
        world.event(account=f"a{number}")
    world.service.start()
    world.service._decide()
    assert world.states() == ["created", "created"]
    assert world.caps()[FIRST] == (20_000, 2)
    world.clock.advance(300)
    world.restart()
    for number in range(2, 4):
        world.event(account=f"a{number}")
    world.run()
    assert charged(world, midnight_s) == 20_000
    assert (world.caps()[FIRST], world.caps()[SECOND]) == ((0, 0), (20_000, 2))
    assert world.reasons()[-2:] == [("wait", "caps")] * 2


def test_an_order_that_the_new_day_has_no_room_for_is_decided_again(new_world):
    world = capped(new_world)
    world.clock.advance(TO_MIDNIGHT_S - 120)
    world.event(account="a0")
    world.service.start()
    world.service._decide()
    world.service.set_hold("by hand")
    world.clock.advance(300)
    world.store.write(lambda c: c.execute(cap_use.insert().values(scope=SECOND, amount_fen=15_000, count=1)))
    world.service.lift_hold("over")
    world.run()
    assert world.states() == ["cancelled"]
    assert world.orders()[0]["reason"] == f"cap {SECOND}"
    assert world.reasons()[-1] == ("wait", "caps")
    world.later(86_400)
    assert world.states() == ["cancelled", "succeeded"]


def test_a_charge_that_is_repeated_after_midnight_counts_on_the_new_day(new_world):
    world = capped(new_world, ask_after_s=(600,))
    midnight_s = world.clock.now_s() + TO_MIDNIGHT_S
    world.gateway.script.extend(["timeout_before"] * 2)
    world.clock.advance(TO_MIDNIGHT_S - 120)
    for number in range(2):
        world.event(account=f"a{number}")
    world.run()
    assert world.states() == ["unknown", "unknown"]
    world.clock.advance(300)
    for number in range(2, 4):
        world.event(account=f"a{number}")
    world.run()
    world.later(600)  # asked about: not found, and there is no room left on the new day
    assert charged(world, midnight_s) == 20_000
    assert world.states() == ["unknown", "unknown", "succeeded", "succeeded"]
    for _ in range(4):
        world.later(86_400)
        world.apply_credits()
    assert len(world.gateway.book().charges) == 4
    assert world.caps()[FIRST] == (0, 0)


@pytest.mark.parametrize("change", ["cancelled", "window", "hold", "recovered", "risen", "token", "payer"])
def test_what_forbids_a_charge_forbids_its_repetition(new_world, change):
    """The first call never arrived. Whatever came in between stands against calling again; asking goes on."""
    world = new_world()
    world.mandate(window_from="07:00", window_to="12:10")
    world.gateway.script.append("timeout_before")
    world.event()
    world.run()
    calls = len(world.gateway.calls)
    now_s = world.clock.now_s()
    changed = {"cancelled_at_s": now_s} if change == "cancelled" else {"changed_at_s": now_s, "token": "new"}
    if change == "payer":
        changed = {"payer": "son"}
    if change in ("cancelled", "token", "payer"):
        world.store.write(lambda c: c.execute(update(mandate).values(changed)))
    elif change == "hold":
        world.service.set_hold("by hand")
    elif change == "recovered":
        world.event(kind="recovered")
    elif change == "risen":
        world.lives["a1"] = Live(2001)
    world.later(700 if change == "window" else 31)
    assert len(world.gateway.calls) == calls
    assert world.states() == ["unknown"]
    for _ in range(9):
        world.clock.advance(900)
        world.run()
    assert world.states()[0] == "declined"  # not found for long enough
    assert world.gateway.book().charges == []


def test_a_mandate_that_is_cancelled_while_its_order_is_in_flight_is_credited_all_the_same(world):
    world.mandate()
    world.gateway.script.append("timeout_after")
    world.event()
    world.run()
    world.store.write(lambda c: c.execute(update(mandate).values(cancelled_at_s=world.clock.now_s())))
    world.later(31)
    assert world.states() == ["succeeded"]
    assert len(world.credits()) == 1


def test_a_clock_that_goes_back_neither_charges_again_nor_forgets(new_world):
    world = new_world()
    world.mandate()
    world.gateway.script.append("timeout_before")
    world.event()
    world.run()
    world.clock.set(world.clock.now_s() - 10 * 86_400)
    for _ in range(3):
        world.later(31)
    assert world.states() == ["unknown"]
    assert len(world.gateway.calls) == 1  # how old the key is, nobody can tell
    for _ in range(13):
        world.later(86_400)
    assert len(world.gateway.book().charges) == 1
