"""I/O: the outbox: pending notices become messages, retried by schedule, and are marked when they are out.

Rows are written in the transactions of what they tell about; here they only leave. `notice.sent` is passed after
delivery and before the database knows, so a death there must not send the line twice (autopay.channels).
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, select, text, update

from autopay.channels import AppriseChannel, Channel, ChannelFailed, FileChannel, WebhookChannel
from autopay.notices import Message, NoSuchTemplate, Party, render
from autopay.records import Store
from config.clock import Clock
from config.settings import NoticeSettings
from config.steps import reach
from ledger.schema import notice

BATCH_MAX: Final = 64
PARTIAL_MAX: Final = 10_000
OPERATOR: Final = "operator"
Parties = Callable[[str, str], Party | None]  # (party, account) -> who; party "" is the account's holder


@dataclass(frozen=True, slots=True)
class _Result:
    id: int
    state: str
    attempts: int
    next_at_s: int
    error: str


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
    """Call `step` again and again from one thread."""

    def __init__(
        self, store: Store, channels: Sequence[Channel], parties: Parties, clock: Clock, settings: NoticeSettings
    ) -> None:
        self._store, self._channels, self._parties = store, list(channels), parties
        self._clock, self._settings = clock, settings
        self._partial: OrderedDict[str, set[str]] = OrderedDict()  # key -> channels that have it already
        self.counts = {"sent": 0, "failed": 0, "retried": 0}

    def step(self) -> int:
        """Send what is due, at most BATCH_MAX; returns how many rows it dealt with."""
        now_s = self._clock.now_s()
        with self._store.reader() as connection:
            due = select(notice).where(text("state = 'pending'"), notice.c.next_at_s <= now_s)
            rows = list(connection.execute(due.order_by(notice.c.next_at_s).limit(BATCH_MAX)).mappings())
        if not rows:
            return 0
        results = []
        for row in rows:
            reach("notice.sending")
            results.append(self._one(dict(row), now_s))
            reach("notice.sent")
        self._store.write(lambda connection: _write(connection, results, now_s))
        for result in results:
            self.counts["retried" if result.state == "pending" else result.state] += 1
        return len(rows)

    def _one(self, row: dict[str, Any], now_s: int) -> _Result:
        key, attempts = str(row["key"]), int(row["attempts"]) + 1
        params = json.loads(row["params"])
        party = self._who(str(row["party"]), str(row["account"]))
        if party is None:
            return self._again(row, attempts, now_s, f"no party {row['party']!r} for account {row['account']!r}")
        if row["party"] == "" and params.get("payer") == party.id:
            return _Result(row["id"], "sent", attempts, now_s, "the holder is the payer: told once")
        try:
            words = render(str(row["template"]), party.language, str(row["account"]), params)
        except NoSuchTemplate as fault:
            return _Result(row["id"], "failed", attempts, now_s, str(fault))
        message = Message(key, str(row["template"]), party, str(row["account"]), words, int(row["created_at_s"]))
        have = self._partial.setdefault(key, set())
        faults = []
        for channel in self._channels:
            if channel.name in have:
                continue
            try:
                channel.send(message)
                have.add(channel.name)
            except ChannelFailed as fault:
                faults.append(str(fault))
        if faults:
            while len(self._partial) > PARTIAL_MAX:
                self._partial.popitem(last=False)
            return self._again(row, attempts, now_s, "; ".join(faults))
        self._partial.pop(key, None)
        return _Result(row["id"], "sent", attempts, now_s, "")

    def _who(self, party: str, account: str) -> Party | None:
        if party == OPERATOR:
            return Party(OPERATOR, OPERATOR, self._settings.language)
        return self._parties(party, account)

    def _again(self, row: dict[str, Any], attempts: int, now_s: int, error: str) -> _Result:
        """Later by the schedule, or failed for good."""
        if attempts >= self._settings.attempts_max:
            self._partial.pop(str(row["key"]), None)
            return _Result(row["id"], "failed", attempts, now_s, error)
        schedule = self._settings.retry_after_s or (60,)
        return _Result(row["id"], "pending", attempts, now_s + schedule[min(attempts, len(schedule)) - 1], error)


def _write(connection: Connection, results: Sequence[_Result], now_s: int) -> None:
    for result in results:
        connection.execute(
            update(notice)
            .where(notice.c.id == result.id, notice.c.state == "pending")
            .values(
                state=result.state,
                attempts=result.attempts,
                next_at_s=result.next_at_s,
                sent_at_s=now_s if result.state == "sent" else None,
                error=result.error[:500],
            )
        )
