"""I/O: the ways out to people: a file of JSON lines, a signed webhook, apprise URLs. Each raises ChannelFailed.

Delivery is at least once by nature; the file makes it exactly once, because it can look at what it has already
written. The webhook carries the notice's key, so that its receiver can do the same.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final, Protocol

import apprise
import httpx

from autopay.gateways.signing import HEADER, sign
from autopay.notices import Message
from config.clock import Clock, RealClock

TAIL_BYTES: Final = 1 << 20  # of the file, looked at after a restart
KEYS_MAX: Final = 100_000  # remembered while running


class ChannelFailed(RuntimeError):
    """The message did not get out this time."""

    retriable = True


class Channel(Protocol):
    """One way out."""

    name: str

    def send(self, message: Message) -> None:
        """Deliver, or raise ChannelFailed."""
        ...


def _body(message: Message) -> dict[str, Any]:
    return {
        "key": message.key,
        "template": message.template,
        "party": message.party.id,
        "name": message.party.name,
        "account": message.account,
        "language": message.party.language,
        "text": message.text,
        "created_at_s": message.created_at_s,
    }


class FileChannel:
    """Appends one JSON line per message, durable on return, never the same key twice."""

    name = "file"

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._keys: OrderedDict[str, None] = OrderedDict()
        self._read_tail()

    def _read_tail(self) -> None:
        """Learn the keys written last, and cut off a line that a crash tore."""
        size = os.fstat(self._file).st_size
        start = max(0, size - TAIL_BYTES)
        tail = os.pread(self._file, size - start, start)
        whole = tail.rfind(b"\n") + 1
        if whole < len(tail):
            os.ftruncate(self._file, start + whole)
        for line in tail[:whole].splitlines()[1 if start else 0 :]:
            try:
                self._remember(str(json.loads(line)["key"]))
            except (ValueError, KeyError, TypeError):  # not a line of ours: it stands, and names no key
                continue

    def _remember(self, key: str) -> None:
        self._keys[key] = None
        if len(self._keys) > KEYS_MAX:
            self._keys.popitem(last=False)

    def send(self, message: Message) -> None:
        if message.key in self._keys:
            return
        line = (json.dumps(_body(message), ensure_ascii=False, sort_keys=True) + "\n").encode()
        try:
            written = os.write(self._file, line)
            if written != len(line):
                os.ftruncate(self._file, os.fstat(self._file).st_size - written)
                raise ChannelFailed("file: short write")
            os.fsync(self._file)
        except OSError as fault:
            raise ChannelFailed(f"file: {fault}") from fault
        self._remember(message.key)

    def close(self) -> None:
        os.close(self._file)


class WebhookChannel:
    """POSTs the message as JSON, signed as gateways sign theirs, with the key as Idempotency-Key."""

    name = "webhook"

    def __init__(self, url: str, secret: bytes, deadline_real_s: float, wall: Clock | None = None) -> None:
        self._url, self._secret, self._wall = url, secret, wall or RealClock()
        self._client = httpx.Client(timeout=deadline_real_s, trust_env=False)

    def send(self, message: Message) -> None:
        body = json.dumps(_body(message), ensure_ascii=False, sort_keys=True).encode()
        headers = {
            HEADER: sign(self._secret, body, self._wall.now_s()),
            "Content-Type": "application/json",
            "Idempotency-Key": message.key,
        }
        try:
            status = self._client.post(self._url, content=body, headers=headers).status_code
        except httpx.HTTPError as fault:
            raise ChannelFailed(f"webhook: {type(fault).__name__}") from fault
        if status // 100 != 2:
            raise ChannelFailed(f"webhook: status {status}")

    def close(self) -> None:
        self._client.close()


class AppriseChannel:
    """Everything that apprise knows, by URL, and the party's own URL. Its plugins have time-outs of their own."""

    name = "apprise"

    def __init__(self, urls: tuple[str, ...] = ()) -> None:
        self._urls = urls

    def send(self, message: Message) -> None:
        urls = [*self._urls, *([message.party.notify] if message.party.notify else [])]
        if not urls:
            return
        out = apprise.Apprise()
        if not all([out.add(url) for url in urls]):  # noqa: C419 - add every one of them
            raise ChannelFailed("apprise: a URL that it does not understand")
        if not out.notify(title="meterd", body=message.text):
            raise ChannelFailed("apprise: not delivered")
