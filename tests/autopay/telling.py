"""Channels, notices and a sender for the tests of the outbox."""

from __future__ import annotations

import json

import autopay.outbox as outbox_module
from autopay.channels import ChannelFailed
from autopay.notices import Party
from autopay.outbox import NoticeDispatcher
from autopay.records import add_notice
from config.settings import NoticeSettings
from ledger.schema import notice

TOLD = {"amount_fen": 1, "balance_fen": 2, "code": "c", "order_id": 3, "gateway": "g", "why": "w"}


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


def forget_after_fan_out(sender, gone, *accounts):
    """From then on these are nobody's: as when a party vanishes between fan-out and send."""
    fan_out = sender._fan_out

    def and_forget():
        done = fan_out()
        gone.update(accounts)
        return done

    sender._fan_out = and_forget
