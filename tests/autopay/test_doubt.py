"""Answers that contradict an order: never believed, never hammered, and a person can end them, once."""

from __future__ import annotations

import json

import pytest

from autopay.by_hand import NotSettled
from autopay.orders import NotFound, Succeeded, reference_of
from ledger.schema import decision, order_step


def contradicted(world, amount_fen=10_001, txn="t9"):
    """A world whose gateway answers the first charge with another amount, and says the same whenever it is asked."""
    world.mandate()
    world.event()
    asked = []

    def look(key):
        asked.append(key)
        return Succeeded(txn, amount_fen)

    world.gateway.charge = lambda key, token, amount, ref: Succeeded(txn, amount_fen)
    world.gateway.lookup = look
    world.run()
    return asked


def test_a_reply_with_another_amount_is_unknown_and_asked_about_by_the_schedule(world):
    asked = contradicted(world)
    assert world.states() == ["unknown"]
    assert world.orders()[0]["reason"] == "person: doubt: charged 10001 fen instead of 10000"
    for _ in range(50):
        world.service.step()
    assert asked == []
    for pause_s in (30, 30, 60, 300, 900, 3600, 3600):  # the first is asked after 30 s, then the schedule
        world.later(pause_s)
        before = len(asked)
        for _ in range(50):
            world.service.step()
        assert len(asked) == before
    assert len(asked) == 7
    assert world.notices() == [("person", "operator")]
    assert world.credits() == []
    assert len(world.steps()) == 2  # the same doubt again is no new step


def test_an_answer_that_fits_ends_a_doubt(world):
    contradicted(world)
    world.gateway.lookup = lambda key: Succeeded("t9", 10_000)
    world.later(31)
    assert world.states() == ["succeeded"]
    assert world.orders()[0]["reason"] == ""
    assert len(world.credits()) == 1


def test_after_a_doubt_not_found_neither_declines_nor_charges_again(world):
    contradicted(world)
    calls = []
    world.gateway.charge = lambda *what: calls.append(what) or Succeeded("t9", 10_000)
    world.gateway.lookup = lambda key: NotFound()
    for _ in range(10):
        world.later(3600)
    assert world.states() == ["unknown"]
    assert calls == []


def test_a_person_says_charged(world):
    contradicted(world)
    row, word = world.service.settle_by_hand(1, "bank-77", "the bank's console", "li")
    assert (row.state.value, word) == ("succeeded", "moved to succeeded")
    assert world.service.settle_by_hand(1, "bank-77", "once more", "li")[1] == "nothing new"
    assert [json.loads(row["body"])["reference"] for row in world.credits()] == ["bank-77"]
    told = json.loads(world.rows(order_step)[-1]["evidence"])
    assert (told["source"], told["who"], told["why"]) == ("person", "li", "the bank's console")
    assert world.orders()[0]["reason"] == "by hand: li: the bank's console"
    world.apply_credits()
    world.later(3600)
    assert world.states() == ["credited"]
    with pytest.raises(NotSettled, match="charged twice"):
        world.service.settle_by_hand(1, "bank-78", "x", "li")
    with pytest.raises(NotSettled, match="it was charged as bank-77"):
        world.service.settle_by_hand(1, None, "x", "li")


def test_a_person_says_not_charged_and_the_account_goes_on(world):
    contradicted(world)
    del world.gateway.charge, world.gateway.lookup
    row, word = world.service.settle_by_hand(1, None, "the bank took nothing", "li")
    assert (row.state.value, row.reason, word) == ("declined", "not_charged", "moved to declined")
    assert world.caps()["payer:daughter:day:2026-07-01"] == (0, 0)
    assert world.service.settle_by_hand(1, None, "once more", "li")[1] == "nothing new"
    world.later(3600)  # by the schedule of declines
    assert world.states() == ["declined", "succeeded"]


def test_a_person_s_word_does_not_meet_an_order_whose_answer_is_to_come(world):
    world.mandate()
    world.event()
    world.service.start()
    world.service._decide()
    with pytest.raises(NotSettled, match="created"):
        world.service.settle_by_hand(1, None, "x", "li")
    with pytest.raises(KeyError):
        world.service.settle_by_hand(9, None, "x", "li")


def test_two_orders_never_stand_on_one_transaction(world):
    """A gateway that tells of one transaction for two keys: the second is a doubt, and a person ends it."""
    world.mandate()
    world.mandate(id="m2", account="a2", token="tok-2")
    world.gateway.charge = lambda key, token, amount, ref: Succeeded("t1", amount)
    world.gateway.lookup = lambda key: Succeeded("t1", 10_000)
    world.event()
    world.event(account="a2")
    world.run()
    world.later(31)
    assert sorted(world.states()) == ["succeeded", "unknown"]
    assert len(world.credits()) == 1
    parked = next(row for row in world.orders() if row["state"] == "unknown")
    with pytest.raises(NotSettled, match="t1 already stands for another order"):
        world.service.settle_by_hand(parked["id"], "t1", "x", "li")
    world.service.settle_by_hand(parked["id"], "t2", "x", "li")
    assert len(world.credits()) == 2


def test_a_doubt_about_a_declined_order_stops_the_next_attempt_until_a_person_ends_it(world):
    world.mandate()
    world.gateway.script.append("declined")
    world.event()
    world.run()
    row = world.orders()[0]
    world.gateway.charge_late(row["key"], "tok-1", 9_999, reference_of("a1", 1, 1))
    headers, body = world.gateway.webhook_of(row["key"], "evt-1")
    assert world.service.webhook("bank", headers, body) == 200
    for _ in range(4):
        world.later(3600)
    assert world.states() == ["declined"]
    assert world.rows(decision)[-1]["reason"] == "doubt"
    assert world.service.settle_by_hand(1, None, "refunded", "li")[1] == "the doubt is settled"
    world.later(3600)
    assert world.states() == ["declined", "succeeded"]


def test_a_doubt_about_an_order_that_is_not_submitted_keeps_it_from_being_submitted(world):
    """After a restore: the gateway tells of another amount under a key that we were about to use."""
    world.mandate()
    world.event()
    world.service.start()
    world.service._decide()
    key = world.orders()[0]["key"]
    world.gateway.charge_late(key, "tok-1", 5, "a1/1/1")
    headers, body = world.gateway.webhook_of(key, "evt-1")
    assert world.service.webhook("bank", headers, body) == 200
    world.run()
    assert world.states() == ["unknown"]
    assert world.gateway.calls == []
