"""Money goes before alerts, alerts do not starve, an account's order stays; so among addresses, too."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import func, select

from autopay.channels import FileChannel, lane_of
from autopay.deliveries import due_lanes
from autopay.notices import FIELDS, Party
from autopay.outbox import BATCH_MAX, HAND_MAX, LANE_MAX, LANES
from ledger.schema import notice, notice_lane
from tests.autopay.telling import Choosy, Post, alerts, keys_of, put, sender_of, step_until_told

MONEY = sorted(set(FIELDS) - {"low_balance"})


@pytest.mark.parametrize("template", MONEY)
def test_what_is_about_money_or_for_a_person_goes_before_alerts(world, tmp_path, template):
    put(world, *alerts(2 * BATCH_MAX))
    put(world, "money", template=template)
    sender_of(world, FileChannel(tmp_path / "n")).step()
    assert keys_of(tmp_path / "n")[0] == "money"


def test_it_also_overtakes_alerts_that_are_fanned_out_already(world):
    post = Post()
    put(world, *alerts(3 * LANE_MAX))
    sender = sender_of(world, post)
    sender.step()
    put(world, "money", template="charged")
    before = len(post.sent)
    sender.step()
    assert post.sent[before] == "money"


def test_the_eldest_alert_is_in_every_batch_however_much_money_moves(world):
    post = Post()
    put(world, *alerts(LANE_MAX))
    put(world, *(f"charged{number:04d}" for number in range(4 * LANE_MAX)), template="charged")
    sender = sender_of(world, post)
    places = LANE_MAX // 4
    for batch in range(1, 5):
        sender.step()
        assert len(post.sent) == batch * LANE_MAX
        assert [key for key in post.sent if key.startswith("low")] == alerts(batch * places)
    step_until_told(world, sender)
    charged = [key for key in post.sent if key.startswith("charged")]
    assert charged == sorted(charged)


def test_the_same_at_the_fan_out(world):
    post = Post()
    post.down = True
    put(world, *(f"charged{number:04d}" for number in range(2 * BATCH_MAX)), template="charged")
    put(world, *alerts(BATCH_MAX))
    sender_of(world, post).step()
    with world.store.reader() as connection:
        fanned = select(func.count()).where(notice.c.deliveries.is_not(None), notice.c.template == "low_balance")
        assert connection.scalar(fanned) == BATCH_MAX // 4


@pytest.mark.parametrize("fanned_out", [False, True])
def test_an_alert_is_told_before_the_charge_that_followed_it(world, fanned_out):
    """Before it, and at once: neither "topped up" and then "low", nor a charge that waits for all alerts."""
    post = Post()
    put(world, *alerts(2 * BATCH_MAX if not fanned_out else 3 * LANE_MAX))
    put(world, "low", account="a1")
    sender = sender_of(world, post, retry_after_s=(10,))
    if fanned_out:
        post.down = True
        sender.step()
        post.down = False
        world.clock.advance(10)
    put(world, "charged", template="charged", account="a1")
    put(world, "low again", account="a1")
    sender.step()
    assert post.sent[:2] == ["low", "charged"]
    step_until_told(world, sender)
    assert post.sent.index("low again") > post.sent.index("charged")
    assert len(post.sent) == len(set(post.sent))


def test_a_slow_lane_holds_up_no_other_while_there_is_more(world, tmp_path):
    let_go, ended = threading.Event(), []

    class Hung(Post):
        name = "apprise"

        def send(self, message, address):
            if not let_go.wait(20):
                let_go.set()  # somebody waited for it: the rest goes quickly
            ended.append(message.key)

    put(world, *alerts(3 * BATCH_MAX))
    sender = sender_of(world, Hung(), FileChannel(tmp_path / "n"), wait_real_s=60.0)
    for _ in range(3):
        sender.step()
    assert not ended
    assert len(keys_of(tmp_path / "n")) >= 2 * HAND_MAX
    let_go.set()
    sender.stop()


class Personal(Choosy):
    """Each account's party has an address of its own."""

    def __init__(self, *bad):
        super().__init__(*bad, name="apprise")

    def addresses(self, party):
        return (party.notify,)


def personal_of(world, channel, **settings):
    return sender_of(
        world, channel, who=lambda _, account: Party(account, account, "en", f"to-{account}"), **settings
    )  # fmt: skip


def test_a_lane_with_money_goes_before_lanes_with_alerts_only(world):
    post = Personal()
    put(world, *alerts(300))
    sender = personal_of(world, post)
    sender.step()
    put(world, "charged", template="charged")
    before = len(post.sent)
    sender.step()
    assert "charged" in post.sent[before : before + LANES["apprise"]]


def test_a_charge_for_a_lane_that_waits_does_not_cost_its_place(world):
    """The lane of an alert that was next in line: a charge takes it to the front, and never to the end."""
    post = Personal()
    put(world, *alerts(300))
    sender = personal_of(world, post)
    sender.step()
    world.clock.advance(100)
    before = len(post.sent)
    put(world, "charged", template="charged", account=f"of-low{before:04d}")
    put(world, "low again", account=f"of-low{before + LANES['apprise']:04d}")
    sender.step()
    assert {f"low{before:04d}", "charged"} <= set(post.sent[before:])
    sender.step()
    assert "low again" in post.sent  # in the turn of the alert before it


def test_a_lane_whose_alert_goes_ahead_goes_with_it(world):
    """Of an alert that goes to two addresses, and the charge after it to one: both lanes have money now."""
    post, two = Personal(), {"of-low0099": ["first", "second"]}
    post.addresses = lambda party: two.get(party.id, [party.notify])
    put(world, *alerts(100))
    sender = personal_of(world, post)
    sender.step()
    two["of-low0099"] = ["second"]
    put(world, "charged", template="charged", account="of-low0099")
    ranks = {row["lane"]: row["rank"] for row in world.rows(notice_lane)}
    assert ranks[lane_of("apprise", "first")] == ranks[lane_of("apprise", "second")] == 1
    sender._start_lanes = lambda: None
    sender.step()
    ranks = {row["lane"]: row["rank"] for row in world.rows(notice_lane)}
    assert ranks[lane_of("apprise", "first")] == ranks[lane_of("apprise", "second")] == 0


def test_lanes_with_alerts_have_a_quarter_of_the_places(world):
    post, places = Personal(), LANES["apprise"]
    put(world, *alerts(10))
    put(world, *(f"charged{number:03d}" for number in range(60)), template="charged")
    sender = personal_of(world, post)
    for batch in range(1, 6):
        sender.step()
        assert len(post.sent) == batch * places
        assert sum(key.startswith("low") for key in post.sent) == batch * places // 4


def test_what_hangs_in_lanes_with_alerts_has_no_more_than_their_part(world):
    """While there is money: lanes under way count."""
    put(world, *alerts(10))
    put(world, *(f"charged{number:03d}" for number in range(60)), template="charged")
    sender = personal_of(world, Personal())
    sender._start_lanes = lambda: None
    sender.step()
    with world.store.reader() as connection:
        now_s = world.clock.now_s()
        ranks = {row["lane"]: row["rank"] for row in world.rows(notice_lane)}
        bulk = next(lane for lane, rank in ranks.items() if rank == 1)
        found = due_lanes(connection, "apprise", {}, now_s, 4)
        assert [rank for _, rank in found] == [0, 0, 0, 1]
        found = due_lanes(connection, "apprise", {bulk: 1}, now_s, 4)
        assert [rank for _, rank in found] == [0, 0, 0]
        money = [lane for lane, rank in ranks.items() if rank == 0][:3]
        found = due_lanes(connection, "apprise", dict.fromkeys(money, 0), now_s, 4)
        assert [rank for _, rank in found] == [1]


def test_a_lane_that_rests_goes_on_resting_whatever_comes(world):
    post = Personal("low")
    put(world, "low", account="down")
    sender = personal_of(world, post, retry_after_s=(10,))
    sender.step()
    world.clock.advance(9)
    put(world, "charged", template="charged", account="down")
    sender.step()
    assert post.tried == ["low"]
    world.clock.advance(1)
    sender.step()
    assert post.tried == ["low", "charged", "low"]  # what did not fail yet goes first
    assert post.sent == ["charged"]
