"""I/O: the outbox: notices become messages on every channel, each delivered by itself, retried, and marked when out.

    notice (written with what it tells of)
      -> fan-out: one delivery for each address that it goes to, one transaction
      -> lane:    the deliveries of one address, oldest first, one after the other; each is marked when it is out
      -> sent when all its deliveries are, failed when one of them failed for good

A lane is what can be down. One that fails stops at once and rests by the schedule, so a dead address costs one
time-out now and then, and nobody who was reached is told again because another was not. Lanes run side by side, so
many at a time for each kind of channel, so that what hangs in one kind holds up no other.

`notice.sent` is passed after delivery and before the database knows: a death there may repeat that one message of
each lane, except in the file, which knows its keys (autopay.channels).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any, Final

from autopay.calls import PoolMaker
from autopay.channels import AppriseChannel, Channel, ChannelFailed, FileChannel, WebhookChannel, lane_of
from autopay.deliveries import (
    Delivery,
    asked_for,
    due,
    due_lanes,
    due_of_lane,
    fan_out,
    finish,
    fresh,
    later,
    record,
    rest,
)
from autopay.notices import Message, NoSuchTemplate, Party, render
from autopay.records import Store
from config.clock import Clock
from config.settings import NoticeSettings
from config.steps import reach

BATCH_MAX: Final = 64  # notices fanned out in one pass
LANE_MAX: Final = 32  # messages of one lane before it is another's turn
LANES: Final = {"file": 1, "webhook": 1, "apprise": 4}  # of a kind of channel, at a time
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
        self._lanes: dict[str, tuple[str, Future[list[str]]]] = {}  # under way: lane -> channel, what came of it
        self._stopping = threading.Event()
        self.counts = {"sent": 0, "failed": 0, "retried": 0}

    def step(self) -> int:
        """One bounded pass; returns how many notices and deliveries it has finished or put off."""
        done = self._collect(0.0)
        with self._store.reader() as connection:
            some, lanes = due(connection, self._question, self._clock.now_s())
        if some:
            done += self._fan_out()
        if some or lanes:
            self._start_lanes()
        return done + self._collect(self._wait_real_s)

    def stop(self, deadline_real_s: float = STOP_REAL_S) -> None:
        """Let the messages in hand go out and be marked; what does not end in time may be repeated."""
        self._stopping.set()
        wait([future for _, future in self._lanes.values()], deadline_real_s)
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        for channel in self._channels.values():
            channel.close()

    # -- fan-out ---------------------------------------------------------------------------------------------
    def _fan_out(self) -> int:
        now_s = self._clock.now_s()
        with self._store.reader() as connection:
            rows = fresh(connection, now_s, BATCH_MAX)
        if not rows:
            return 0
        todo = [(row, *self._where(row)) for row in rows]

        def work(connection: Any) -> list[str]:
            words = []
            for row, addresses, state, why in todo:
                if state == "pending" and addresses:
                    fan_out(connection, row["id"], addresses, now_s)
                elif state == "pending":
                    words.append(later(connection, row, why, now_s, self._settings))
                else:
                    words.append(finish(connection, row["id"], state, why, now_s))
            return words

        return self._count(self._store.write(work))

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
                busy = [lane for lane, (channel, _) in self._lanes.items() if channel == name]
                for lane in due_lanes(connection, name, busy, now_s, LANES.get(name, 1) - len(busy)):
                    self._lanes[lane] = name, self._pools[name].submit(self._run_lane, lane)

    def _run_lane(self, lane: str) -> list[str]:
        """Send what is due at one address, oldest first, up to the first failure; runs in a thread of its channel."""
        words: list[str] = []
        with self._store.reader() as connection:
            rows = due_of_lane(connection, lane, self._clock.now_s(), LANE_MAX)
        failed = False
        for row in rows:
            if self._stopping.is_set():
                break
            reach("notice.sending")
            error = self._send(row)
            reach("notice.sent")
            now_s = self._clock.now_s()
            words += self._store.write(partial(record, row=row, error=error, now_s=now_s, settings=self._settings))
            failed = error is not None
            if failed:
                break
        now_s = self._clock.now_s()
        self._store.write(lambda connection: rest(connection, lane, now_s, self._settings, failed=failed))
        return words

    def _send(self, row: Delivery) -> str | None:
        """None: it is out (or the address is no longer the party's); else why not."""
        party = self._who(row.party, row.account)
        if party is None:
            return f"no party {row.party!r} for account {row.account!r}"
        found = self._addresses(party).get(row.lane)
        if found is None:
            return None
        words = render(row.template, party.language, row.account, row.params)
        message = Message(row.key, row.template, party, row.account, words, row.created_at_s)
        try:
            self._channels[found[0]].send(message, found[1])
        except ChannelFailed as fault:
            return str(fault)
        return None

    def _collect(self, real_s: float) -> int:
        """Take note of lanes that have ended; wait up to `real_s` for all of them."""
        if not self._lanes:
            return 0
        wait([future for _, future in self._lanes.values()], real_s)
        count = 0
        for lane, (_, future) in list(self._lanes.items()):
            if future.done():
                del self._lanes[lane]
                count += self._count(future.result())  # a broken ledger stops us here
        return count

    def _count(self, words: Sequence[str]) -> int:
        for word in words:
            if word in self.counts:
                self.counts[word] += 1
        return len(words)
