"""I/O: the outbox: notices become messages on every channel, each delivered by itself, retried, and marked when out.

    notice (written with what it tells of)
      -> fan-out: one delivery for each address that it goes to, one transaction
      -> lane:    the deliveries of one address, one hand after the other; each hand is marked when it is out
      -> sent when all its deliveries are, failed when one of them failed for good

A lane is what can be down. One that fails stops at once and rests by the schedule, so a dead address costs one
time-out now and then, and nobody who was reached is told again because another was not. After its rest it begins
with a message that did not fail yet; what is not the channel's doing is never the lane's failure. Lanes run side by
side, so many at a time for each kind of channel, so that what hangs in one kind holds up no other. What is about
money goes before alerts, at the fan-out, among lanes and in each, and alerts have their part (autopay.deliveries).

`notice.sending` is passed when nothing of a hand is out, `notice.sent` when it is out and the database does not know.
A hand is one message, so that a death there repeats that one of each lane at most; but of a channel that knows
its keys (the file: autopay.channels) a hand is a batch, out with one sync and marked in one transaction, and a death
repeats nothing: before a start sends anything, it marks what the channel has.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from autopay.calls import PoolMaker
from autopay.channels import (
    AppriseChannel,
    Batched,
    Channel,
    ChannelFailed,
    FileChannel,
    WebhookChannel,
    lane_of,
)
from autopay.deliveries import (
    Delivery,
    Fanned,
    Tried,
    asked_for,
    due,
    due_lanes,
    due_of_lane,
    fan_out,
    finish,
    fresh,
    go_ahead,
    later,
    open_of_keys,
    record,
    rest,
)
from autopay.notices import Message, NoSuchTemplate, Party, render
from autopay.records import Store
from config.clock import Clock
from config.settings import NoticeSettings
from config.steps import reach

BATCH_MAX: Final = 512  # notices fanned out in one pass
LANE_MAX: Final = 32  # messages of one lane before it is another's turn
HAND_MAX: Final = 512  # the same, of a channel that takes them at once
LANES: Final = {"file": 1, "webhook": 1, "apprise": 4}  # of a kind of channel, at a time; what has 1 has 1 address
OPERATOR: Final = "operator"
STOP_REAL_S: Final = 10.0
Parties = Callable[[str, str], Party | None]  # (party, account) -> who; party "" is the account's holder


def channels_of(settings: NoticeSettings, data_dir: Path) -> list[Channel]:
    """The channels that the settings ask for; a file in the data directory when they ask for none."""
    channels: list[Channel] = []
    if settings.file is not None or (settings.webhook_url is None and not settings.apprise_urls):
        channels.append(FileChannel(data_dir / (settings.file or "notices.jsonl")))
    if settings.webhook_url is not None:
        assert settings.webhook_secret is not None  # config.settings refuses it
        secret = settings.webhook_secret.get_secret_value().encode()
        channels.append(WebhookChannel(settings.webhook_url, secret, settings.deadline_real_s))
    channels.append(AppriseChannel(tuple(url.get_secret_value() for url in settings.apprise_urls)))
    return channels


class Turn(NamedTuple):
    """What a lane's turn came to: words for the counts, and whether more is due in it."""

    words: list[str]
    more: bool


class Running(NamedTuple):
    """A lane under way: its channel, its rank when it began, and what will come of it."""

    channel: str
    rank: int
    turn: Future[Turn]


class Sent(NamedTuple):
    """What became of the first so many of a hand, and how the channel did."""

    tried: list[Tried]
    failed: Delivery | None  # at which the channel failed: the last of `tried`, nothing behind it is out
    alive: bool  # it took something


class NoticeDispatcher:
    """Call `step` again and again from one thread, and `stop` at the end.

    `wait_real_s`: how long a step waits for the lanes that are under way.
    """

    def __init__(
        self,
        store: Store,
        channels: Sequence[Channel],
        parties: Parties,
        clock: Clock,
        settings: NoticeSettings,
        *,
        wait_real_s: float = 0.2,
        pool: PoolMaker = ThreadPoolExecutor,
    ) -> None:
        self._store, self._parties = store, parties
        self._channels = {channel.name: channel for channel in channels}
        self._clock, self._settings, self._wait_real_s = clock, settings, wait_real_s
        self._pools = {name: pool(LANES.get(name, 1), f"notices-{name}") for name in self._channels}
        self._question = asked_for(tuple(self._channels))
        self._lanes: dict[str, Running] = {}
        self._recalled: set[str] = set()  # lanes of which it is marked what a former process sent
        self._backlog = False  # the last pass left notices that are to be fanned out
        self._stopping = threading.Event()
        self.counts = {"sent": 0, "failed": 0, "retried": 0}

    def step(self) -> int:
        """One bounded pass; returns how many notices and deliveries it has finished or put off; 0: nothing is due."""
        done = self._collect(0.0)
        with self._store.reader() as connection:
            some, lanes = due(connection, self._question, self._clock.now_s())
        if lanes and self._backlog:
            self._start_lanes()  # they send while the next ones are fanned out
        self._backlog = False
        if some:
            words, self._backlog = self._fan_out()
            done += self._count(words)
        if some or lanes:
            self._start_lanes()
        done += self._collect(self._wait_real_s, more=self._backlog)
        return done or int(self._backlog)

    def stop(self, deadline_real_s: float = STOP_REAL_S) -> None:
        """Let the messages in hand go out and be marked; what does not end in time may be repeated."""
        self._stopping.set()
        wait([lane.turn for lane in self._lanes.values()], deadline_real_s)
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        for channel in self._channels.values():
            channel.close()

    # -- fan-out ---------------------------------------------------------------------------------------------
    def _fan_out(self) -> Turn:
        now_s = self._clock.now_s()
        with self._store.reader() as connection:
            found = fresh(connection, now_s, BATCH_MAX)
        todo = [(row, rank, *self._where(row)) for row, rank in found.ranked]

        def work(connection: Any) -> list[str]:
            words, fanned = [], []
            for row, rank, addresses, state, why in todo:
                if state == "pending" and addresses:
                    fanned.append(Fanned(row["id"], rank, addresses))
                elif state == "pending":
                    words.append(later(connection, row, why, now_s, self._settings))
                else:
                    words.append(finish(connection, row["id"], state, why, now_s))
            fan_out(connection, fanned, now_s)
            go_ahead(connection, found.ahead)
            return words

        return Turn(self._store.write(work) if todo else [], len(todo) >= BATCH_MAX)

    def _where(self, row: Mapping[str, Any]) -> tuple[dict[str, str], str, str]:
        """(lane -> channel, state, why): where a notice goes, or what becomes of it when it goes nowhere (now)."""
        party = self._who(str(row["party"]), str(row["account"]))
        if party is None:
            return {}, "pending", f"no party {row['party']!r} for account {row['account']!r}"
        params = json.loads(row["params"])
        if row["party"] == "" and params.get("payer") == party.id:
            return {}, "sent", "the holder is the payer: told once"
        try:
            render(str(row["template"]), party.language, str(row["account"]), params)
        except NoSuchTemplate as fault:
            return {}, "failed", str(fault)
        addresses = {lane: name for lane, (name, _) in self._addresses(party).items()}
        return addresses, "pending" if addresses else "sent", ""

    def _addresses(self, party: Party) -> dict[str, tuple[str, str]]:
        """lane -> (channel, address) of everything that reaches a party."""
        return {
            lane_of(name, address): (name, address)
            for name, channel in self._channels.items()
            for address in channel.addresses(party)
        }

    def _who(self, party: str, account: str) -> Party | None:
        if party == OPERATOR:
            return Party(OPERATOR, OPERATOR, self._settings.language)
        return self._parties(party, account)

    # -- lanes -----------------------------------------------------------------------------------------------
    def _start_lanes(self) -> None:
        now_s = self._clock.now_s()
        with self._store.reader() as connection:
            for name in self._channels:
                busy = {lane: running.rank for lane, running in self._lanes.items() if running.channel == name}
                for lane, rank in due_lanes(connection, name, busy, now_s, LANES.get(name, 1)):
                    turn = self._pools[name].submit(self._run_lane, name, lane)
                    self._lanes[lane] = Running(name, rank, turn)

    def _run_lane(self, name: str, lane: str) -> Turn:
        """Send what is due at one address until its channel fails; runs in a thread of its channel."""
        channel = self._channels[name]
        words = self._recall(channel, lane) if isinstance(channel, Batched) and lane not in self._recalled else []
        most, hand = (HAND_MAX, HAND_MAX) if isinstance(channel, Batched) else (LANE_MAX, 1)
        with self._store.reader() as connection:
            left = due_of_lane(connection, lane, self._clock.now_s(), most)
        full, failed, alive = len(left) == most, None, False
        while left and failed is None and not self._stopping.is_set():
            reach("notice.sending")
            sent = self._send(channel, left[:hand])
            reach("notice.sent")
            now_s = self._clock.now_s()
            words += self._store.write(partial(record, tried=sent.tried, now_s=now_s, settings=self._settings))
            failed, alive, left = sent.failed, alive or sent.alive, left[len(sent.tried) :]
        now_s, more = self._clock.now_s(), full or bool(left)
        end = partial(rest, lane=lane, now_s=now_s, settings=self._settings, failed=failed, alive=alive, more=more)
        self._store.write(end)
        return Turn(words, full and failed is None)

    def _recall(self, channel: Batched, lane: str) -> list[str]:
        """Mark what the channel took from a process that died before it could: nothing is sent before."""
        keys, words, now_s = channel.taken(), [], self._clock.now_s()
        for first in range(0, len(keys), HAND_MAX):
            with self._store.reader() as connection:
                rows = open_of_keys(connection, lane, keys[first : first + HAND_MAX])
            if rows:
                tried: list[Tried] = [(row, None) for row in rows]
                words += self._store.write(partial(record, tried=tried, now_s=now_s, settings=self._settings))
        self._recalled.add(lane)
        return words

    def _send(self, channel: Channel, hand: Sequence[Delivery]) -> Sent:
        """Try the first so many of a hand, one at least."""
        ready: list[tuple[Delivery, Message | None, str | None]] = []
        messages, address = [], ""
        for row in hand:
            message, where, why = self._message(channel, row)
            if message is not None:
                address = where
                messages.append(message)
            ready.append((row, message, why))
        out, fault = 0, None
        try:
            if isinstance(channel, Batched) and messages:
                out = channel.send_all(messages, address)
            elif messages:
                channel.send(messages[0], address)
                out = 1
        except ChannelFailed as error:
            fault = str(error)
        tried: list[Tried] = []
        taken = 0
        for row, message, why in ready:
            if message is not None and taken == out:
                if fault is not None:
                    return Sent([*tried, (row, fault)], row, alive=False)
                break
            taken += message is not None
            tried.append((row, why))
        return Sent(tried, None, alive=out > 0)

    def _message(self, channel: Channel, row: Delivery) -> tuple[Message | None, str, str | None]:
        """(message, address, why not); neither a message nor why when the address is no longer the party's."""
        party = self._who(row.party, row.account)
        if party is None:
            return None, "", f"no party {row.party!r} for account {row.account!r}"
        found = [one for one in channel.addresses(party) if lane_of(channel.name, one) == row.lane]
        if not found:
            return None, "", None
        try:
            words = render(row.template, party.language, row.account, row.params)
        except NoSuchTemplate as fault:
            return None, "", str(fault)
        return Message(row.key, row.template, party, row.account, words, row.created_at_s), found[0], None

    def _collect(self, real_s: float, *, more: bool = False) -> int:
        """Take note of lanes that have ended; wait up to `real_s` for all of them.

        Where there is `more` to do, also in one that has ended, only for the first: a slow lane holds up no other.
        """
        until, count = self._clock.monotonic_s() + real_s, 0
        while self._lanes:
            left_s = max(0.0, until - self._clock.monotonic_s())
            wait([running.turn for running in self._lanes.values()], left_s, FIRST_COMPLETED)
            ended = [lane for lane, running in self._lanes.items() if running.turn.done()]
            for lane in ended:
                turn = self._lanes.pop(lane).turn.result()  # a broken ledger stops us here
                count += self._count(turn.words)
                more = more or turn.more
            if more or not ended:
                break
        return count

    def _count(self, words: Sequence[str]) -> int:
        for word in words:
            if word in self.counts:
                self.counts[word] += 1
        return len(words)
