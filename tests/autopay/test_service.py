"""The order machine end to end over a fake gateway: the story, every fault, restarts, hold, reconciliation."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import select

import autopay.service as service_module
from autopay.gateways.fake import FakeGateway
from autopay.gateways.port import GatewayBroken
from autopay.orders import key_of, reference_of
from config.settings import AutopaySettings
from ledger import inbox as inbox_module
from ledger.effects import Applied
from ledger.port import Fenced
from ledger.schema import inbox, mandate, order, webhook

DAY_S = 86_400


class Died(BaseException):
    """The process ended here."""


def die_at(monkeypatch, step):
    def reach(name):
        if name == step:
            raise Died(name)

    monkeypatch.setattr(service_module, "reach", reach)


def test_the_story(world):
    world.mandate()
    world.event()
    world.run()
    assert world.states() == ["succeeded"]
    assert [charge.amount_fen for charge in world.gateway.book().charges] == [10_000]
    (credit,) = world.credits()
    body = json.loads(credit["body"])
    assert credit["key"] == "order:1:1"
    assert (body["account"], body["amount_fen"], body["gateway"], body["order_id"]) == ("a1", 10_000, "bank", 1)
    assert body["reference"] == "txn-1"
    assert world.notices() == [("charged", "daughter"), ("charged", "")]
    world.apply_credits()
    assert world.states() == ["credited"]
    assert world.steps() == [("created", "submitted"), ("submitted", "succeeded"), ("succeeded", "credited")]
    assert world.caps()["payer:daughter:day:2026-07-01"] == (10_000, 1)
    assert world.reasons() == [("order", "low_balance")]


def test_nobody_is_charged_without_a_mandate(world):
    world.event()
    world.run()
    assert world.reasons() == [("wait", "no_mandate")]
    assert world.orders() == []


def test_a_time_out_after_the_charge_is_found_by_asking(world):
    world.mandate()
    world.gateway.script.append("timeout_after")
    world.event()
    world.run()
    assert world.states() == ["unknown"]
    assert world.credits() == []
    world.later(31)
    assert world.states() == ["succeeded"]
    assert len(world.gateway.book().charges) == len(world.credits()) == len(world.gateway.calls) == 1


def test_a_time_out_before_the_charge_is_charged_again_with_the_same_key(world):
    world.mandate()
    world.gateway.script.append("timeout_before")
    world.event()
    world.run()
    world.later(31)
    assert world.states() == ["succeeded"]
    keys = {key for key, _ in world.gateway.calls}
    assert keys == {key_of("a1", 1, 1)}
    assert len(world.gateway.calls) == 2
    assert len(world.gateway.book().charges) == 1


def test_past_the_key_lifetime_only_asking_then_a_person(world):
    world.mandate()
    world.gateway.script.append("timeout_before")
    world.gateway.deaf = True
    world.event()
    world.run()
    for _ in range(80):
        world.later(3600)
    assert world.states() == ["unknown"]
    assert len(world.gateway.calls) == 1
    assert world.orders()[0]["reason"].startswith("person:")
    assert world.notices() == [("person", "operator")]
    world.gateway.deaf = False
    world.later(3600)  # not found, long past the horizon: a decline at last, and the next attempt by schedule
    assert world.states()[0] == "declined"


def test_an_unknown_order_blocks_every_new_charge(world):
    world.mandate()
    world.mandate(id="m2", payer="son", token="tok-2", priority=2)
    world.gateway.script.append("timeout_after")
    world.gateway.deaf = True
    world.event()
    world.run()
    world.event(arm=2)
    for _ in range(30):
        world.later(3600)
    assert len(world.orders()) == 1
    assert ("wait", "in_flight") in world.reasons()


def test_a_declined_payer_backs_off_and_then_the_next_one_pays(world):
    world.mandate()
    world.mandate(id="m2", payer="son", token="tok-2", priority=2)
    world.gateway.script.extend(["declined"] * 3)
    world.event()
    world.run()
    assert world.states() == ["declined"]
    assert world.caps()["payer:daughter:day:2026-07-01"] == (0, 0)
    world.later(3599)
    assert len(world.orders()) == 1
    for _ in range(72):
        world.later(3600)
    assert [(row["payer"], row["state"]) for row in world.orders()] == [
        ("daughter", "declined"),
        ("daughter", "declined"),
        ("daughter", "declined"),
        ("son", "succeeded"),
    ]
    assert len({row["key"] for row in world.orders()}) == 4
    assert world.notices().count(("charge_failed", "daughter")) == 3
    assert world.notices().count(("nothing_came", "")) == 1


def test_a_revoked_mandate_is_not_tried_twice(world):
    world.mandate()
    world.gateway.script.append("declined:mandate_revoked")
    world.event()
    world.run()
    for _ in range(40):
        world.later(86_400)
    assert world.states() == ["declined"]
    assert world.reasons()[-1] == ("wait", "nobody_can_pay")


def test_a_recovered_account_is_not_charged(world):
    world.mandate()
    event_id = world.event()
    world.service.start()
    made = world.service._decide()
    assert made == 1
    assert world.states() == ["created"]
    world.event(kind="recovered")
    world.run()
    assert world.states() == ["cancelled"]
    assert world.gateway.calls == []
    assert world.caps()["mandate:m1:day:2026-07-01"] == (0, 0)
    assert world.reasons()[-1] == ("refuse", "recovered")
    assert event_id == world.orders()[0]["event_id"]


@pytest.mark.parametrize("step", ["order.created", "order.submitted", "order.answered", "order.succeeded"])
def test_death_at_every_step_charges_once_and_forgets_nothing(world, monkeypatch, step):
    world.mandate()
    world.event()
    die_at(monkeypatch, step)
    with pytest.raises(Died):
        world.run()
    monkeypatch.undo()
    world.restart()
    world.run()
    world.later(31)
    assert world.states() == ["succeeded"]
    assert len(world.gateway.book().charges) == len(world.credits()) == 1
    assert world.caps()["payer:daughter:month:2026-07"] == (10_000, 1)


def test_after_a_restart_it_asks_before_it_charges(world, monkeypatch):
    world.mandate()
    world.event()
    die_at(monkeypatch, "order.answered")
    with pytest.raises(Died):
        world.run()
    monkeypatch.undo()
    world.restart()
    world.run()
    assert len(world.gateway.calls) == 1
    assert world.steps()[1:] == [("submitted", "unknown"), ("unknown", "succeeded")]


def test_a_former_owner_writes_nothing(world):
    world.mandate()
    world.service.start()
    world.store.take_over("autopay", "another")
    world.event()
    with pytest.raises(Fenced):
        world.service.step()
    assert world.orders() == []
    assert world.rows(webhook) == []


def test_a_second_process_cannot_open_a_second_order(world):
    world.mandate()
    world.event()
    old = world.service
    old.start()
    world.restart().start()
    with pytest.raises(Fenced):
        old.step()
    world.run()
    assert len(world.gateway.calls) == 1


def test_hold_stops_submitting_and_not_asking(world):
    world.mandate()
    world.gateway.script.append("timeout_after")
    world.event()
    world.run()
    world.service.set_hold("by hand")
    world.mandate(id="m9", account="a9", token="tok-9")
    world.event(account="a9")
    world.later(31)
    assert world.states() == ["succeeded"]
    assert ("wait", "hold") in world.reasons()
    assert world.service.lift_hold("by hand") == []
    world.later(301)
    assert world.states() == ["succeeded", "succeeded"]


def test_created_orders_stay_where_they_are_in_hold(world):
    world.mandate()
    world.event()
    world.service.start()
    world.service._decide()
    world.service.set_hold("by hand")
    world.run()
    assert world.states() == ["created"]
    assert world.gateway.calls == []


def test_the_breaker_stops_the_fleet_until_a_person_lifts_it(new_world):
    world = new_world(AutopaySettings(breaker_charges_per_hour=2))
    for number in range(4):
        world.mandate(id=f"m{number}", payer=f"p{number}", account=f"a{number}", token=f"t{number}")
        world.event(account=f"a{number}")
    world.run()
    for _ in range(30):
        world.later(3600)
    assert world.states() == ["created", "created"]  # not even those that were decided before it tripped
    assert world.gateway.calls == []
    assert ("wait", "breaker") in world.reasons()
    world.service.lift_hold("tariff file put right")
    world.later(18 * 3600)  # noon again
    assert world.states() == ["succeeded"] * 4


def test_webhooks_early_duplicate_late_and_forged(world):
    world.mandate()
    world.gateway.script.append("timeout_after")
    world.event()
    world.run()
    key = world.orders()[0]["key"]
    headers, body = world.gateway.webhook_of(key, "evt-1")
    assert world.service.webhook("bank", headers, body + b" ") == 401
    assert world.service.webhook("bank", {}, body) == 401
    assert world.service.webhook("nobody", headers, body) == 404
    assert world.rows(webhook) == []
    assert world.states() == ["unknown"]
    for _ in range(2):
        assert world.service.webhook("bank", headers, body) == 200
        assert world.states() == ["succeeded"]
    world.apply_credits()
    headers, body = world.gateway.webhook_of(key, "evt-2")
    assert world.service.webhook("bank", headers, body) == 200
    assert world.states() == ["credited"]
    assert [row["outcome"] for row in world.rows(webhook)] == ["moved to succeeded", "nothing new"]
    assert len(world.credits()) == 1


def test_a_webhook_signed_too_long_ago_is_forged(world):
    world.mandate()
    world.gateway.script.append("timeout_after")
    world.event()
    world.run()
    headers, body = world.gateway.webhook_of(world.orders()[0]["key"], "evt-1")
    world.clock.advance(301)
    assert world.service.webhook("bank", headers, body) == 401


def test_a_webhook_for_nobody_is_kept_and_moves_nothing(world):
    world.service.start()
    world.gateway.charge_late("mtd-of-another", "tok", 100, "x/1/1")
    headers, body = world.gateway.webhook_of("mtd-of-another", "evt-7")
    assert world.service.webhook("bank", headers, body) == 200
    assert [row["outcome"] for row in world.rows(webhook)] == ["no such order"]


def test_charged_after_a_decline_is_credited_and_stops_the_next_attempt(world):
    world.mandate()
    world.gateway.script.append("declined")
    world.event()
    world.run()
    row = world.orders()[0]
    world.gateway.charge_late(row["key"], "tok-1", 10_000, reference_of("a1", 1, 1))
    headers, body = world.gateway.webhook_of(row["key"], "evt-1")
    assert world.service.webhook("bank", headers, body) == 200
    assert world.states() == ["succeeded_late"]
    for _ in range(30):
        world.later(3600)
    assert len(world.orders()) == 1
    assert world.reasons()[-1] == ("refuse", "already_charged")
    world.apply_credits()
    assert world.states() == ["credited"]
    assert ("person", "operator") in world.notices()
    assert world.caps()["payer:daughter:month:2026-07"] == (10_000, 1)


def test_a_late_success_beside_a_newer_order_is_still_credited(world):
    world.mandate()
    world.gateway.script.extend(["declined", "timeout_after"])
    world.event()
    world.run()
    world.later(3600)
    assert world.states() == ["declined", "unknown"]
    row = world.orders()[0]
    world.gateway.charge_late(row["key"], "tok-1", 10_000, reference_of("a1", 1, 1))
    headers, body = world.gateway.webhook_of(row["key"], "evt-1")
    assert world.service.webhook("bank", headers, body) == 200
    world.later(31)
    assert world.states() == ["succeeded_late", "succeeded"]
    assert sum(json.loads(row["body"])["amount_fen"] for row in world.credits()) == 20_000  # what was really taken


def test_another_amount_than_asked_is_never_credited(world):
    world.mandate()
    world.gateway.script.append("timeout_before")
    world.event()
    world.run()
    row = world.orders()[0]
    world.gateway.charge_late(row["key"], "tok-1", 9_999, reference_of("a1", 1, 1))
    world.later(31)
    assert world.credits() == []
    assert world.orders()[0]["reason"].startswith("person: doubt: charged 9999 fen")


def test_one_key_with_two_amounts_stops_the_process(world):
    world.mandate()
    world.gateway.charge_late(key_of("a1", 1, 1), "tok-1", 5, "a1/1/1")
    world.event()
    with pytest.raises(GatewayBroken):
        world.run()


def test_the_window_is_waited_for(world):
    world.mandate()
    world.clock.advance(11 * 3600)  # 23:00
    world.event()
    world.run()
    assert world.reasons() == [("wait", "window")]
    world.later(8 * 3600 - 1)
    assert world.orders() == []
    world.later(1)
    assert world.states() == ["succeeded"]


def test_waits_outlive_a_restart(world):
    world.mandate()
    world.clock.advance(11 * 3600)
    world.event()
    world.run()
    world.restart()
    world.later(9 * 3600)
    assert world.states() == ["succeeded"]


def test_a_balance_that_is_still_low_charges_again_after_the_cool_down(world):
    world.mandate()
    world.event()
    world.run()
    world.apply_credits()
    world.event(arm=2)
    world.run()
    assert world.reasons()[-1] == ("wait", "cooldown")
    world.later(DAY_S)
    assert len(world.gateway.book().charges) == 2


def test_a_restored_database_is_reconciled_before_hold_is_lifted(world, new_world):
    world.mandate()
    world.event()
    world.run()
    restored = new_world()
    restored.gateway = world.gateway
    restored.mandate()
    restored.event(arm=1)
    restored.event(account="a2", kind="alert")
    restored.restart().set_hold("restored from backup of 1")
    restored.run()
    assert restored.orders() == []
    assert restored.service.lift_hold("go") != []
    report = restored.service.reconcile("bank")
    assert (report.charges, len(report.credited), report.unmatched) == (1, 1, [])
    assert restored.states() == ["succeeded_late"]
    again = restored.service.reconcile("bank")
    assert (again.known, again.credited) == (1, [])
    assert restored.service.lift_hold("reconciled") == []
    restored.later(400)
    assert len(restored.gateway.book().charges) == len(restored.credits()) == 1
    assert restored.reasons()[-1] == ("refuse", "already_charged")


def test_a_charge_that_fits_nothing_holds_the_hold(world):
    world.service.start()
    world.service.set_hold("restored from backup of 1")
    world.gateway.charge_late("mtd-unknown", "tok", 100, "nobody/1/1")
    report = world.service.reconcile("bank")
    assert len(report.unmatched) == 1
    assert world.credits() == []
    assert len(world.service.lift_hold("go")) == 1
    assert world.service.lift_hold("a person looked", force=True) == []


def test_a_charge_whose_credit_is_refused_is_a_person_s(world):
    """Rating does not know the account (any more): the order stays in flight, and somebody must hear of it."""
    world.mandate()
    world.event()
    world.run()

    def refuse(connection):
        (row,) = inbox_module.pending(connection, 0, 10)
        applied = [Applied(row.id, 1, "no account a1 in partition 0", 1)]
        inbox_module.stamp(connection, applied, partition=0, partitions=1, checkpoint_id=1, now_s=5)

    world.store.write(refuse)
    world.later(3 * DAY_S - 1)
    assert ("person", "operator") not in world.notices()
    for _ in range(3):
        world.later(DAY_S)
    assert world.notices().count(("person", "operator")) == 1
    assert world.orders()[0]["reason"] == "person: charged, and its credit was refused: no account a1 in partition 0"


def test_the_cool_down_runs_from_the_charge_and_not_from_an_order_that_was_held_up(world):
    world.mandate()
    world.event()
    world.service.start()
    world.service._decide()
    world.service.set_hold("by hand")
    world.later(2 * DAY_S)
    world.service.lift_hold("over")
    world.run()
    world.apply_credits()
    world.event(arm=2)
    world.run()
    assert world.reasons()[-1] == ("wait", "cooldown")
    world.later(DAY_S)
    assert len(world.gateway.book().charges) == 2


def test_a_gateway_that_is_gone_from_the_settings_does_not_keep_others_from_being_asked(world):
    for number in range(12):
        world.mandate(id=f"g{number}", account=f"g{number}", payer=f"p{number}", token=f"g{number}", gateway="gone")
        world.event(account=f"g{number}")
    gone = FakeGateway(world.clock)
    gone.deaf = True
    gone.script.extend(["timeout_before"] * 12)
    world.service._gateways["gone"] = gone
    world.run(40)
    world.mandate()
    world.gateway.script.append("timeout_after")
    world.event()
    world.run()
    world.restart()
    world.later(4000)
    assert world.states() == ["unknown"] * 12 + ["succeeded"]


def test_orders_of_many_accounts_all_end(world):
    for number in range(40):
        world.mandate(id=f"m{number}", payer=f"p{number}", account=f"a{number}", token=f"t{number}")
        world.event(account=f"a{number}")
    world.run(100)
    assert world.states() == ["succeeded"] * 40
    assert world.scalar(select(order.c.key).where(order.c.account == "a7")) == key_of("a7", 1, 1)
    assert len(world.rows(inbox)) == len(world.rows(mandate)) == 40
