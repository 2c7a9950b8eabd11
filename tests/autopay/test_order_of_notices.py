"""Money goes before alerts, alerts do not starve, an account's order stays; a batch is one sync, and told once."""

from __future__ import annotations

import json
import threading

import pytest
from sqlalchemy import func, select

import autopay.channels as channels_module
import autopay.outbox as outbox_module
from autopay.channels import ChannelFailed, FileChannel
from autopay.notices import FIELDS, Party
from autopay.outbox import BATCH_MAX, HAND_MAX, LANE_MAX, NoticeDispatcher
from autopay.records import add_notice
from config.settings import NoticeSettings
from ledger.schema import notice, notice_delivery

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


def test_who_is_gone_in_the_middle_of_a_batch_holds_back_nobody_before(world, tmp_path):
    gone = {"of-low0005"}
    someone = Party("someone", "Someone", "en")
    put(world, *alerts(10))
    known, path = {"all": True}, tmp_path / "n"
    sender = sender_of(
        world, FileChannel(path), who=lambda _, account: None if account in gone and not known["all"] else someone,
        retry_after_s=(10,),
    )  # fmt: skip
    fan_out = sender._fan_out

    def forget():
        done = fan_out()
        known["all"] = False
        return done

    sender._fan_out = forget
    sender.step()
    assert keys_of(path) == alerts(5)
    world.clock.advance(10)
    known["all"] = True
    step_until_told(world, sender)
    assert sorted(keys_of(path)) == alerts(10)
