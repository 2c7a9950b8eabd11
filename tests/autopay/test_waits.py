"""Nobody is forgotten: whoever is low and not charged has a time at which that is decided again."""

from __future__ import annotations

import json

from sqlalchemy import select, update

import autopay.service as service_module
from autopay.policy import Live
from autopay.waits import WAIT_MAX_S, due
from config.settings import AutopaySettings
from ledger.inbox import submit
from ledger.schema import decision, event, mandate, wait
from meterd.mandates import sync_mandates

DAY_S = 86_400
MINUTES_15 = 900


def owed(world):
    """Accounts that fell low and have neither an order in flight, nor a charge, nor a wait, nor an end."""
    waiting = {row["event_id"] for row in world.rows(wait)}
    ended = {row["event_id"] for row in world.rows(decision) if row["outcome"] == "refuse"}
    ordered = {row["event_id"] for row in world.orders() if row["state"] not in ("declined", "cancelled")}
    lows = {row["id"] for row in world.rows(event) if row["kind"] == "low_balance" and row["decided"]}
    return lows - waiting - ended - ordered


def test_a_payer_with_a_lower_trigger_is_asked_when_the_balance_comes_there(new_world):
    """50 falls, and its payer's card is closed; on the way below 20 there is no new event."""
    world = new_world(AutopaySettings(retry_after_s=(60,)))
    world.mandate(trigger_fen=5000, payer="son")
    world.mandate(id="m2", payer="daughter", token="tok-2", priority=2)
    world.gateway.script.append("declined:card_closed")
    world.event(balance_fen=4900)
    world.lives["a1"] = Live(4900)
    world.run()
    assert world.states() == ["declined"]
    assert json.loads(world.rows(decision)[-1]["detail"])["skipped"] == {
        "m1": "card_closed",
        "m2": "above_its_trigger",
    }
    assert owed(world) == set()
    world.later(MINUTES_15)
    assert world.states() == ["declined"]
    world.lives["a1"] = Live(1990)
    world.later(MINUTES_15)
    assert [(row["payer"], row["state"]) for row in world.orders()] == [
        ("son", "declined"),
        ("daughter", "succeeded"),
    ]
    figures = json.loads(world.rows(decision)[-1]["detail"])
    assert (figures["balance_fen"], figures["at_event_fen"]) == (1990, 4900)


def test_an_estimate_alone_does_not_bring_a_payer_below_his_trigger(world):
    world.mandate()
    world.event(balance_fen=4900)
    world.lives["a1"] = Live(1000, estimated=True)
    world.run()
    world.later(DAY_S)
    assert world.orders() == []
    world.lives["a1"] = Live(1000)
    world.later(MINUTES_15)
    assert world.states() == ["succeeded"]


def test_a_mandate_that_is_not_valid_yet_is_charged_when_it_is(world):
    world.mandate(valid_from_s=world.clock.now_s() + 3600)
    world.event()
    world.run()
    world.later(3599)
    assert world.orders() == []
    world.later(1)
    assert world.states() == ["succeeded"]


def test_a_gateway_that_one_start_lacked_forgets_nobody(world):
    world.mandate()
    world.event()
    gateways = world.service._gateways
    world.service._gateways = {}
    world.run()
    assert world.orders() == []
    world.restart()
    assert world.service._gateways == gateways
    world.run()
    assert world.states() == ["succeeded"]


def test_autopay_disabled_and_enabled_again(new_world):
    world = new_world(AutopaySettings(enabled=False))
    world.mandate()
    world.event()
    world.run()
    assert world.reasons() == [("wait", "disabled")]
    world.settings = AutopaySettings()
    world.restart()
    world.run()
    assert world.states() == ["succeeded"]


def test_a_mandate_that_comes_later_and_one_with_a_new_card(world):
    """The registry's next version is what they waited for."""
    world.event()
    world.run()
    assert world.reasons() == [("wait", "no_mandate")]
    world.mandate()
    terms = {k: v for k, v in world.rows(mandate)[0].items() if k != "changed_at_s"}
    world.store.write(lambda c: c.execute(mandate.delete()))
    world.gateway.script.append("declined:card_closed")
    world.clock.advance(60)
    world.store.write(lambda c: sync_mandates(c, [terms], world.clock.now_s()))
    world.run()
    assert world.states() == ["declined"]
    world.later(3 * DAY_S)
    world.store.write(lambda c: sync_mandates(c, [terms], world.clock.now_s()))  # as it was: nothing changes
    world.run()
    assert world.states() == ["declined"]
    world.store.write(lambda c: sync_mandates(c, [terms | {"token": "tok-new"}], world.clock.now_s()))
    world.run()
    assert world.states() == ["declined", "succeeded"]
    assert world.gateway.book().charges[0].token == "tok-new"


def test_after_the_last_decline_the_payer_rests_and_is_tried_again(new_world):
    world = new_world(AutopaySettings(retry_after_s=(60,), failures_max=2, failures_rest_s=3 * DAY_S))
    world.mandate(window_from="00:00", window_to="00:00")
    world.gateway.script.extend(["declined"] * 3)
    world.event()
    world.run()
    for _ in range(12):
        world.later(3600)
    assert world.states() == ["declined"] * 2
    for _ in range(12):
        world.later(DAY_S)
        assert owed(world) == set()
    assert world.states() == ["declined"] * 3 + ["succeeded"]


def test_a_balance_that_came_back_by_itself_is_not_charged(world):
    """Held up for hours; meanwhile somebody paid in a little, not enough to count as recovered."""
    world.mandate()
    world.event()
    world.service.start()
    world.service.set_hold("by hand")
    world.run()
    world.lives["a1"] = Live(2050)
    world.service.lift_hold("over")
    world.run()
    assert world.orders() == []
    assert world.reasons()[-1] == ("wait", "nobody_can_pay")
    world.lives["a1"] = Live(1999)
    world.later(MINUTES_15)
    assert world.states() == ["succeeded"]


def pay_in(world, key):
    body = {"account": "a1", "amount_fen": 5000, "gateway": "counter", "reference": key}
    now_s = world.clock.now_s()
    world.store.write(lambda c: submit(c, kind="credit", key=key, body=body, partition=0, now_s=now_s))


def test_a_top_up_that_is_not_applied_yet_is_waited_for(world):
    """Somebody pays in while the balance falls low: neither decided nor submitted before it is in the balance."""
    world.mandate()
    pay_in(world, "topup:1")
    world.event()
    world.run()
    assert world.reasons() == [("wait", "credit_pending")]
    world.apply_credits()
    world.lives["a1"] = Live(1950)  # it was not enough
    world.service.start()
    world.clock.advance(5)
    world.service._decide()
    assert world.states() == ["created"]
    pay_in(world, "topup:2")
    world.run()
    assert world.gateway.calls == []
    world.apply_credits()
    world.lives["a1"] = Live(6950)
    world.run()
    assert world.states() == ["cancelled"]
    assert world.gateway.calls == []


def test_an_order_is_not_submitted_on_a_balance_that_is_above_the_trigger_by_now(world):
    world.mandate()
    world.event()
    world.service.start()
    world.service._decide()
    world.lives["a1"] = Live(2001)
    world.run()
    assert world.states() == ["cancelled"]
    assert world.gateway.calls == []
    assert world.reasons()[-1] == ("wait", "nobody_can_pay")


def test_a_credit_that_lands_between_the_look_and_the_decision_is_not_overlooked(new_world, monkeypatch):
    """The balance was read before an order's credit was applied: the account is looked at again, not charged."""
    world = new_world(AutopaySettings(cooldown_s=0))
    world.mandate()
    world.gateway.script.append("timeout_after")
    world.event()
    world.run()
    world.event(arm=2)
    world.run()
    world.lives["a1"] = Live(1500)
    world.later(29)
    looked = service_module.look

    def look(*arguments):
        seen = looked(*arguments)
        headers, body = world.gateway.webhook_of(world.orders()[0]["key"], "evt-1")
        world.service.webhook("bank", headers, body)
        world.apply_credits()
        monkeypatch.setattr(service_module, "look", looked)
        world.lives["a1"] = Live(11_500)
        return seen

    monkeypatch.setattr(service_module, "look", look)
    world.clock.advance(60)
    world.service._decide()
    world.run()
    assert world.states() == ["credited"]


def test_the_work_list_is_found_by_index_and_in_batches(world):
    from autopay.service import BATCH_MAX

    world.mandate()
    for number in range(BATCH_MAX + 10):
        world.event(account=f"b{number}")
    world.service.start()
    assert world.service._decide() == BATCH_MAX
    assert world.service._decide() == 10
    assert world.service._decide() == 0
    world.clock.advance(DAY_S)
    assert world.service._decide() == BATCH_MAX
    with world.store.reader() as connection:
        asked = str(select(wait.c.event_id).where(wait.c.at_s <= 5).order_by(wait.c.at_s).limit(3))
        plan = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN " + asked.replace(":at_s_1", "5").replace(":param_1", "3")
        )
        assert "ix_autopay_wait_at" in str(plan.all())


def test_a_clock_that_was_set_back_leaves_nobody_in_the_future(world):
    world.mandate()
    world.clock.advance(11 * 3600)
    world.event()
    world.run()
    years = 13 * 365 * DAY_S
    world.store.write(lambda c: c.execute(update(wait).values(at_s=world.clock.now_s() + years)))
    with world.store.reader() as connection:
        assert due(connection, world.clock.now_s(), 5) == [1]
        assert due(connection, world.clock.now_s() + years - WAIT_MAX_S, 5) == []
    world.later(12 * 3600)
    assert world.states() == ["succeeded"]


def test_a_hold_by_hand_does_not_lift_the_hold_of_a_restore(world):
    world.service.start()
    world.service.set_hold("restored from backup of 1")
    world.service.set_hold("audit")
    assert world.service.lift_hold("go") != []
    world.service.reconcile("bank")
    assert world.service.lift_hold("go") == []


def test_an_order_whose_mandate_ended_is_decided_again(world):
    world.mandate()
    world.mandate(id="m2", payer="son", token="tok-2", priority=2)
    world.event()
    world.service.start()
    world.service._decide()
    world.store.write(
        lambda c: c.execute(update(mandate).where(mandate.c.id == "m1").values(cancelled_at_s=world.clock.now_s()))
    )
    world.run()
    assert [(row["payer"], row["state"]) for row in world.orders()] == [
        ("daughter", "cancelled"),
        ("son", "succeeded"),
    ]
