"""What one bad message, a vanished party or a dead address costs the others."""

from __future__ import annotations

from itertools import pairwise

import autopay.outbox as outbox_module
from autopay.notices import NoSuchTemplate, Party
from autopay.outbox import LANE_MAX
from ledger.schema import notice, notice_delivery
from tests.autopay.telling import Choosy, Post, alerts, forget_after_fan_out, put, sender_of


def test_parties_that_are_gone_use_up_their_own_tries_and_no_rest_of_the_lane(world):
    """Also of a channel of one message at a time, also when all of them are gone."""
    post, gone, someone = Post(), set(), Party("someone", "Someone", "en")
    put(world, *alerts(5))
    sender = sender_of(
        world, post, who=lambda _, account: None if account in gone else someone, attempts_max=2, retry_after_s=(10,)
    )
    forget_after_fan_out(sender, gone, *(f"of-{key}" for key in alerts(5)))
    sender.step()
    assert [row["attempts"] for row in world.rows(notice_delivery)] == [1] * 5
    put(world, "charged", template="charged")
    sender.step()
    assert post.sent == ["charged"]
    world.clock.advance(10)
    sender.step()
    assert [row["state"] for row in world.rows(notice)] == ["failed"] * 5 + ["sent"]


def test_a_template_that_is_gone_is_a_failure_of_that_notice(world, monkeypatch):
    """As when an older version starts on what a newer one has fanned out."""
    post, real = Post(), outbox_module.render
    put(world, "odd", template="person")
    put(world, "charged", template="charged")
    sender = sender_of(world, post, attempts_max=1)
    sender._start_lanes = lambda: None
    sender.step()
    del sender._start_lanes

    def render(template, *rest):
        if template == "person":
            raise NoSuchTemplate("no template")
        return real(template, *rest)

    monkeypatch.setattr(outbox_module, "render", render)
    sender.step()
    assert post.sent == ["charged"]
    assert [row["state"] for row in world.rows(notice)] == ["failed", "sent"]


def test_one_bad_message_holds_up_the_others_for_one_rest(world):
    post, good = Choosy("bad"), [f"good{number}" for number in range(8)]
    put(world, "bad", *good, template="charged")
    sender = sender_of(world, post, retry_after_s=(10, 60, 600, 3600))
    sender.step()
    assert post.tried == ["bad"]
    world.clock.advance(10)
    sender.step()
    assert post.sent == good
    while {row["state"] for row in world.rows(notice, notice.c.key == "bad")} == {"pending"}:
        world.clock.advance(3600)
        sender.step()
        put(world, f"late{post.tried.count('bad')}", template="charged")
        world.clock.advance(10)  # the lane's rest is that of one failure, however often the same one failed
        sender.step()
        assert post.sent[-1] == f"late{post.tried.count('bad')}"
    assert post.tried.count("bad") == 10
    assert sender.counts["failed"] == 1


def test_a_bad_message_that_rests_for_an_hour_is_no_rest_of_the_lane(world):
    post = Choosy("bad")
    put(world, "bad", template="charged")
    sender = sender_of(world, post, retry_after_s=(10, 3600))
    for _ in range(2):
        sender.step()
        world.clock.advance(10)
    assert post.tried == ["bad", "bad"]  # it rests now
    put(world, "good", template="charged")
    sender.step()
    assert post.sent == ["good"]


def test_the_eldest_alert_is_in_the_batch_of_a_lane_whose_money_failed(world):
    """What failed is tried last, also money: else it would end the batch before the alerts."""
    post = Choosy("bad")
    put(world, "bad", template="charged")
    sender = sender_of(world, post, retry_after_s=(10,))
    sender.step()
    put(world, *alerts(4 * LANE_MAX))
    for batch in range(1, 4):
        world.clock.advance(10)
        sender.step()
        assert post.sent == alerts(batch * (LANE_MAX - 1))
        assert post.tried[-1] == "bad"


def test_alerts_get_through_though_all_money_fails(world):
    post = Choosy("charged")
    put(world, *(f"charged{number}" for number in range(40)), template="charged")
    put(world, *alerts(8))
    sender = sender_of(world, post, retry_after_s=(10,))
    for _ in range(3):
        sender.step()
        world.clock.advance(10)
    assert post.sent == alerts(8)


def test_a_dead_address_is_tried_once_a_rest_and_the_rests_grow(world):
    post = Post()
    post.down, tried = True, []
    send = post.send
    post.send = lambda message, address: [tried.append((message.key, world.clock.now_s())), send(message, address)]
    put(world, *(f"charged{number}" for number in range(10)), template="charged")
    put(world, *alerts(10))
    sender = sender_of(world, post, retry_after_s=(10, 60, 600))
    for _ in range(1400):
        sender.step()
        world.clock.advance(1)
    times = [at_s for _, at_s in tried]
    assert [after - before for before, after in pairwise(times)] == [10, 60, 600, 600]
    assert [key for key, _ in tried] == ["charged0", "charged1", "low0000", "charged2", "low0001"]
