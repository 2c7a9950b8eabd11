"""Money goes before alerts, alerts do not starve, an account's order stays; a batch is one sync, and told once."""

from __future__ import annotations

import json
import threading
from itertools import pairwise

import pytest
from sqlalchemy import func, select

import autopay.channels as channels_module
import autopay.outbox as outbox_module
from autopay.channels import ChannelFailed, FileChannel, lane_of
from autopay.deliveries import due_lanes
from autopay.notices import FIELDS, NoSuchTemplate, Party
from autopay.outbox import BATCH_MAX, HAND_MAX, LANE_MAX, LANES, NoticeDispatcher
from autopay.records import add_notice
from config.settings import NoticeSettings
from ledger.schema import notice, notice_delivery, notice_lane

TOLD = {"amount_fen": 1, "balance_fen": 2, "code": "c", "order_id": 3, "gateway": "g", "why": "w"}
MONEY = sorted(set(FIELDS) - {"low_balance"})


class Died(BaseException):
    """The process is gone."""


class Post:
    """A channel of one message at a time; down when told so."""

    name = "webhook"

    def __init__(self):
        self.sent, self.down = [], False

    def addresses(self, party):
        return ("",)

    def send(self, message, address):
        if self.down:
            raise ChannelFailed("down")
        self.sent.append(message.key)

    def close(self):
        pass


def sender_of(world, *channels, who=None, wait_real_s=10.0, **settings):
    someone = Party("someone", "Someone", "en")
    parties = who or (lambda party, account: someone)
    return NoticeDispatcher(
        world.store, channels, parties, world.clock, NoticeSettings(**settings), wait_real_s=wait_real_s
    )


def put(world, *keys, template="low_balance", account=None):
    """Notices with these keys, each about an account of its own name unless one is given."""

    def work(connection):
        for key in keys:
            add_notice(connection, key, template, "", account or f"of-{key}", TOLD, world.clock.now_s())

    world.store.write(work)


def alerts(count):
    return [f"low{number:04d}" for number in range(count)]


def keys_of(path):
    return [json.loads(line)["key"] for line in path.read_text().splitlines()]


def step_until_told(world, sender, steps=50):
    for _ in range(steps):
        if not sender.step():
            break
        world.clock.advance(1)
    assert {row["state"] for row in world.rows(notice)} == {"sent"}


def die_at(monkeypatch, step, times=1):
    passed = []

    def reach(name):
        passed.append(name)
        if passed.count(step) == times:
            raise Died

    monkeypatch.setattr(outbox_module, "reach", reach)


# -- order -------------------------------------------------------------------------------------------------------


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


# -- hands -------------------------------------------------------------------------------------------------------


def test_a_batch_is_one_sync_and_a_few_transactions(world, tmp_path, monkeypatch):
    syncs, writes = [], []
    real_sync, real_write = channels_module.os.fsync, world.store.write
    put(world, *alerts(HAND_MAX))
    monkeypatch.setattr(channels_module.os, "fsync", lambda file: [syncs.append(file), real_sync(file)])
    monkeypatch.setattr(world.store, "write", lambda work: [writes.append(work), real_write(work)][1])
    sender_of(world, FileChannel(tmp_path / "n")).step()
    assert len(keys_of(tmp_path / "n")) == HAND_MAX
    assert len(syncs) == 1
    assert len(writes) == 3  # fanned out; marked; the lane rests


def test_death_before_a_batch_has_told_nobody(world, tmp_path, monkeypatch):
    put(world, *alerts(20))
    die_at(monkeypatch, "notice.sending")
    with pytest.raises(Died):
        sender_of(world, FileChannel(tmp_path / "n")).step()
    assert keys_of(tmp_path / "n") == []
    assert {row["state"] for row in world.rows(notice_delivery)} == {"pending"}


def test_death_after_a_batch_repeats_none_of_it_whatever_comes_first_then(world, tmp_path, monkeypatch):
    put(world, *alerts(HAND_MAX))
    die_at(monkeypatch, "notice.sent")
    with pytest.raises(Died):
        sender_of(world, FileChannel(tmp_path / "n")).step()
    monkeypatch.undo()
    assert keys_of(tmp_path / "n") == alerts(HAND_MAX)
    assert {row["state"] for row in world.rows(notice)} == {"pending"}  # it is out, and the database does not know
    charged = [f"charged{number:04d}" for number in range(HAND_MAX)]
    put(world, *charged, template="charged")
    step_until_told(world, sender_of(world, FileChannel(tmp_path / "n")))
    assert keys_of(tmp_path / "n") == alerts(HAND_MAX) + charged


def test_a_start_marks_what_is_out_before_it_sends_anything(world, tmp_path, monkeypatch):
    """Else a second death would find it further up in the file than the tail goes."""
    put(world, *alerts(HAND_MAX))
    die_at(monkeypatch, "notice.sent")
    with pytest.raises(Died):
        sender_of(world, FileChannel(tmp_path / "n")).step()
    put(world, *(f"charged{number:04d}" for number in range(HAND_MAX)), template="charged")
    die_at(monkeypatch, "notice.sending")
    with pytest.raises(Died):
        sender_of(world, FileChannel(tmp_path / "n")).step()
    assert {row["key"] for row in world.rows(notice, notice.c.state == "sent")} == set(alerts(HAND_MAX))


def test_a_batch_that_a_crash_tore_is_completed(world, tmp_path, monkeypatch):
    path = tmp_path / "n"
    put(world, *alerts(50))
    die_at(monkeypatch, "notice.sent")
    with pytest.raises(Died):
        sender_of(world, FileChannel(path)).step()
    monkeypatch.undo()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    step_until_told(world, sender_of(world, FileChannel(path)))
    assert path.read_bytes() == whole


def test_a_batch_that_failed_counts_as_one_try_of_its_first(world, tmp_path, monkeypatch):
    """A disk that is full for a night must not use up the tries of everybody who waits."""
    path, real, broken = tmp_path / "n", channels_module.os.fsync, [True] * 3

    def sync(number):
        if broken:
            broken.pop()
            raise OSError(28, "No space left on device")
        real(number)

    monkeypatch.setattr(channels_module.os, "fsync", sync)
    put(world, *alerts(20))
    sender = sender_of(world, FileChannel(path), retry_after_s=(10,))
    for _ in range(3):
        sender.step()
        assert path.read_bytes() == b""
        world.clock.advance(10)
    assert sum(row["attempts"] for row in world.rows(notice_delivery)) == 3
    step_until_told(world, sender)
    assert sorted(keys_of(path)) == alerts(20)


def test_what_is_written_at_once_stays_well_within_the_tail(world, tmp_path, monkeypatch):
    monkeypatch.setattr(channels_module, "WRITE_BYTES", 1000)
    written, real = [], channels_module.os.write
    monkeypatch.setattr(
        channels_module.os, "write", lambda file, data: [written.append(len(data)), real(file, data)][1]
    )
    put(world, *alerts(30))
    step_until_told(world, sender_of(world, FileChannel(tmp_path / "n")))
    assert keys_of(tmp_path / "n") == alerts(30)
    assert len(written) > 3
    assert max(written) <= 1000


def test_one_message_longer_than_that_goes_out_all_the_same(world, tmp_path, monkeypatch):
    monkeypatch.setattr(channels_module, "WRITE_BYTES", 10)
    put(world, *alerts(3))
    step_until_told(world, sender_of(world, FileChannel(tmp_path / "n")))
    assert keys_of(tmp_path / "n") == alerts(3)


def test_who_is_gone_in_the_middle_of_a_batch_holds_back_nobody(world, tmp_path):
    """Nobody before and nobody behind, and the file is no less healthy for it."""
    gone, path = set(), tmp_path / "n"
    someone = Party("someone", "Someone", "en")
    put(world, *alerts(10))
    sender = sender_of(
        world, FileChannel(path), who=lambda _, account: None if account in gone else someone, retry_after_s=(10,)
    )
    forget_after_fan_out(sender, gone, "of-low0005")
    sender.step()
    assert keys_of(path) == [key for key in alerts(10) if key != "low0005"]
    assert [row["failures"] for row in world.rows(notice_lane)] == [0]
    put(world, "charged", template="charged")
    sender.step()
    assert keys_of(path)[-1] == "charged"
    world.clock.advance(10)
    gone.clear()
    step_until_told(world, sender)
    assert sorted(keys_of(path)) == sorted([*alerts(10), "charged"])


def forget_after_fan_out(sender, gone, *accounts):
    """From then on these are nobody's: as when a party vanishes between fan-out and send."""
    fan_out = sender._fan_out

    def and_forget():
        done = fan_out()
        gone.update(accounts)
        return done

    sender._fan_out = and_forget


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


# -- one message that fails ----------------------------------------------------------------------------------------


class Choosy(Post):
    """Down for some messages only, as a webhook that answers 400."""

    def __init__(self, *bad, name="webhook"):
        super().__init__()
        self.name, self.bad, self.tried = name, set(bad), []

    def send(self, message, address):
        self.tried.append(message.key)
        if message.key in self.bad or message.template in self.bad:
            raise ChannelFailed("400")
        super().send(message, address)


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


# -- a lane for each party -----------------------------------------------------------------------------------------


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
