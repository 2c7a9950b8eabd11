"""A restored ledger makes orders again under keys that lost ones had: it asks first, so no key names two amounts.

before the restore   order a1/1/1, 4190 fen        the gateway heard of it, or did not
the restore          the ledger knows nothing of it; the gateway's book tells of charges, not of declines
after it             order a1/1/1, 5105 fen        the same key
"""

from __future__ import annotations

import json

import pytest

from autopay.gateways.fake import FakeGateway
from autopay.orders import key_of, reference_of
from autopay.records import set_switch
from ledger.schema import LEDGER_RESTORED, notice

LOST_FEN, NOW_FEN = 4190, 5105
KEY = key_of("a1", 1, 1)
HOUR_S = 3600


@pytest.fixture
def restored(world):
    """A restored ledger whose HOLD was lifted, and an account that is low."""
    world.mandate(amount_fen=NOW_FEN)
    world.store.write(lambda c: set_switch(c, LEDGER_RESTORED, "restored from backup of 1", 1, on=True))
    world.event()
    return world


def lost_charge(world, word):
    """What the lost ledger asked for, and what came of it."""
    world.gateway.script.append(word)
    world.gateway.charge(KEY, "tok-1", LOST_FEN, reference_of("a1", 1, 1))
    world.gateway.calls.clear()


def told_by_webhook(world):
    headers, body = world.gateway.webhook_of(KEY, "evt-1")
    assert world.service.webhook("bank", headers, body) == 200


def test_what_the_gateway_does_not_know_is_charged_after_it_was_asked(restored):
    asked = []
    look = restored.gateway.lookup
    restored.gateway.lookup = lambda key: (asked.append((key, len(restored.gateway.calls))), look(key))[1]
    restored.run()
    assert asked == [(KEY, 0)], "before it was charged"
    assert restored.gateway.calls == [(KEY, NOW_FEN)]
    assert restored.steps() == [("created", "unknown"), ("unknown", "unknown"), ("unknown", "succeeded")]
    assert len(restored.credits()) == 1


def test_a_ledger_that_was_never_restored_asks_nobody(world):
    world.gateway.lookup = None
    world.mandate()
    world.event()
    world.run()
    assert world.states() == ["succeeded"]


def test_a_key_that_was_declined_before_the_restore_is_never_sent_with_another_amount(restored):
    lost_charge(restored, "declined")
    restored.run()
    assert (restored.states(), restored.gateway.calls) == (["declined"], [])
    restored.later(HOUR_S)
    assert restored.states() == ["declined", "succeeded"]
    assert restored.gateway.calls == [(key_of("a1", 1, 2), NOW_FEN)]


def test_a_lost_time_out_that_was_charged_is_credited_with_its_own_amount(restored):
    lost_charge(restored, "timeout_after")
    restored.run()
    assert restored.gateway.calls == []
    assert [(row["state"], row["amount_fen"]) for row in restored.orders()] == [("succeeded_late", LOST_FEN)]
    assert [json.loads(row["body"])["amount_fen"] for row in restored.credits()] == [LOST_FEN]
    assert set(restored.caps().values()) == {(LOST_FEN, 1)}
    restored.apply_credits()
    restored.later(HOUR_S)
    assert restored.reasons()[-1] == ("refuse", "already_charged")


def test_a_lost_decline_that_is_charged_after_all_is_credited_with_its_own_amount(restored):
    lost_charge(restored, "declined")
    restored.run()
    restored.gateway.charge_late(KEY, "tok-1", LOST_FEN, reference_of("a1", 1, 1))
    told_by_webhook(restored)
    assert [(row["state"], row["amount_fen"]) for row in restored.orders()] == [("succeeded_late", LOST_FEN)]
    assert set(restored.caps().values()) == {(LOST_FEN, 1)}
    restored.later(HOUR_S)
    assert len(restored.gateway.book().charges) == len(restored.credits()) == 1


def test_once_it_was_sent_another_amount_is_a_doubt_also_after_a_restore(restored):
    restored.gateway.script.append("contradict")
    restored.run()
    assert restored.states() == ["unknown"]
    assert restored.orders()[0]["reason"].startswith("person: doubt: charged 5106 fen")
    assert restored.credits() == []


def test_what_was_never_sent_and_may_not_be_charged_now_is_cancelled_and_nobody_is_told(restored):
    restored.gateway.deaf = True
    restored.run()
    assert restored.states() == ["unknown"]
    restored.service.set_hold("a test")
    restored.later(5 * HOUR_S)  # past the settlement horizon
    restored.gateway.deaf = False
    restored.later(5 * HOUR_S)
    assert restored.states() == ["cancelled"]
    assert restored.orders()[0]["reason"] == "hold"
    assert restored.rows(notice) == []
    assert restored.reasons()[-1] == ("wait", "hold")
    assert restored.caps() == {} or set(restored.caps().values()) == {(0, 0)}
    restored.service.lift_hold("go")
    restored.later(12 * HOUR_S)  # in the mandate's window
    assert restored.states() == ["cancelled", "succeeded"]


def test_it_is_sent_however_long_the_gateway_could_not_be_asked(restored):
    restored.gateway.deaf = True
    restored.run()
    restored.later(HOUR_S)
    restored.gateway.deaf = False
    restored.later(4 * HOUR_S)  # past the settlement horizon, which is of what was sent
    assert restored.states() == ["succeeded"]
    assert restored.gateway.calls == [(KEY, NOW_FEN)]


def test_an_order_of_one_key_at_two_gateways_is_a_person_s(restored):
    """The lost order went to another gateway than the one that was made in its place."""
    restored.run()
    other = FakeGateway(restored.clock)
    other.charge(KEY, "tok-2", LOST_FEN, reference_of("a1", 1, 1))
    restored.service._gateways["other"] = other
    report = restored.service.reconcile("other")
    assert report.credited == []
    assert report.unmatched == [f"txn-1: {LOST_FEN} fen under the key of order 1 of bank"]


def test_an_attempt_whose_next_one_was_charged_before_the_restore_is_not_sent(restored):
    """The lost ledger gave the first attempt up and charged the second; this one still asks about the first."""
    restored.gateway.deaf = True
    restored.run()
    assert restored.states() == ["unknown"]
    restored.gateway.charge(key_of("a1", 1, 2), "tok-1", LOST_FEN, reference_of("a1", 1, 2))
    restored.gateway.calls.clear()
    assert restored.service.reconcile("bank").credited
    restored.gateway.deaf = False
    restored.later(HOUR_S)
    assert restored.gateway.calls == [], "charged once for one low balance"
    assert restored.states() == ["cancelled", "succeeded_late"]
    assert restored.orders()[0]["reason"] == "paid_otherwise"
    assert len(restored.credits()) == 1


def test_a_stop_in_the_middle_leaves_what_was_never_sent_to_the_next_start(restored):
    look, service = restored.gateway.lookup, restored.service

    def stopped_meanwhile(key):
        service._stopping = True
        return look(key)

    restored.gateway.lookup = stopped_meanwhile
    restored.run(3)
    assert service._stopping, "it was asked"
    assert (restored.states(), restored.gateway.calls) == (["unknown"], [])
    restored.gateway.lookup = look
    restored.restart()
    restored.later(HOUR_S)
    assert restored.states() == ["succeeded"]
    assert restored.gateway.calls == [(KEY, NOW_FEN)]
