"""I/O: the ways out to people: a file of JSON lines, a signed webhook, apprise URLs. Each raises ChannelFailed.

Delivery is at least once by nature; the file makes it exactly once, because it can look at what it has already
written. The webhook carries the notice's key, so that its receiver can do the same.
"""

from __future__ import annotations

import errno
import json
import os
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import apprise

from autopay.deadlines import CallFailed, DeadlineClient
from autopay.gateways.signing import HEADER, sign
from autopay.notices import Message, Party
from config.clock import Clock, RealClock

TAIL_BYTES: Final = 1 << 20  # of the file, looked at after a restart
WRITE_BYTES: Final = TAIL_BYTES // 4  # at once: what a death leaves in the file unmarked is well within the tail
KEYS_MAX: Final = 100_000  # remembered while running


class ChannelFailed(RuntimeError):
    """The message did not get out this time."""

    retriable = True


class Channel(Protocol):
    """One kind of way out, with any number of addresses; each is used by one thread at a time."""

    name: str

    def addresses(self, party: Party) -> Sequence[str]:
        """Where this channel reaches a party; "" where it has only one place."""
        ...

    def send(self, message: Message, address: str) -> None:
        """Deliver, or raise ChannelFailed."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Batched(Channel, Protocol):
    """A channel that takes many messages at once and knows, also after a death, which it took last."""

    def taken(self) -> list[str]:
        """Keys of the messages that it took last: at the start, of all that a death may have left unmarked."""
        ...

    def send_all(self, messages: Sequence[Message], address: str) -> int:
        """Deliver the first so many, one at least, and say how many; or raise ChannelFailed, and none is out."""
        ...


def lane_of(channel: str, address: str) -> str:
    """The name under which deliveries to an address are kept: a digest, because URLs hold passwords."""
    return f"{channel}:{blake2b(address.encode(), digest_size=12).hexdigest()}" if address else channel


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
    """Appends one JSON line per message, durable on return, never the same key twice; many with one sync."""

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

    def addresses(self, party: Party) -> Sequence[str]:  # noqa: ARG002 - one place for everybody
        return ("",)

    def taken(self) -> list[str]:
        return list(self._keys)

    def send(self, message: Message, address: str = "") -> None:
        self.send_all([message], address)

    def send_all(self, messages: Sequence[Message], address: str = "") -> int:  # noqa: ARG002
        lines: dict[str, bytes] = {}
        taken, size = 0, 0
        for message in messages:
            if message.key not in self._keys:
                line = (json.dumps(_body(message), ensure_ascii=False, sort_keys=True) + "\n").encode()
                size += len(line)
                if lines and size > WRITE_BYTES:
                    break
                lines[message.key] = line
            taken += 1
        if lines:
            self._append(b"".join(lines.values()))
        for key in lines:
            self._remember(key)
        return taken

    def _append(self, lines: bytes) -> None:
        """Durable on return, or ChannelFailed and nothing of it is there."""
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, lines) != len(lines):
                raise OSError(errno.ENOSPC, "short write")
            os.fsync(self._file)
        except OSError as fault:
            # It will be written again, whole: what is there of it goes. A file that cannot be cut ends the daemon,
            # and the next start reads what stands in it.
            if os.fstat(self._file).st_size != size:
                os.ftruncate(self._file, size)
            raise ChannelFailed(f"file: {fault}") from fault

    def close(self) -> None:
        os.close(self._file)


class WebhookChannel:
    """POSTs the message as JSON, signed as gateways sign theirs, with the key as Idempotency-Key."""

    name = "webhook"

    def __init__(self, url: str, secret: bytes, deadline_real_s: float, wall: Clock | None = None) -> None:
        self._url, self._secret, self._wall = url, secret, wall or RealClock()
        self._client = DeadlineClient(deadline_real_s)

    def addresses(self, party: Party) -> Sequence[str]:  # noqa: ARG002 - one place for everybody
        return ("",)

    def send(self, message: Message, address: str = "") -> None:  # noqa: ARG002
        body = json.dumps(_body(message), ensure_ascii=False, sort_keys=True).encode()
        headers = {
            HEADER: sign(self._secret, body, self._wall.now_s()),
            "Content-Type": "application/json",
            "Idempotency-Key": message.key,
        }
        try:
            status = self._client.request("POST", self._url, content=body, headers=headers).status
        except CallFailed as fault:
            raise ChannelFailed(f"webhook: {fault}") from fault
        if status // 100 != 2:
            raise ChannelFailed(f"webhook: status {status}")

    def close(self) -> None:
        self._client.close()


class AppriseChannel:
    """What apprise knows: the settings' URLs, and the party's own. Its plugins have time-outs of their own."""

    name = "apprise"

    def __init__(self, urls: tuple[str, ...] = ()) -> None:
        self._urls = urls

    def addresses(self, party: Party) -> Sequence[str]:
        return [*self._urls, *([party.notify] if party.notify else [])]

    def send(self, message: Message, address: str) -> None:
        out = apprise.Apprise()
        if not out.add(address):
            raise ChannelFailed("apprise: a URL that it does not understand")
        if not out.notify(title="meterd", body=message.text):
            raise ChannelFailed("apprise: not delivered")

    def close(self) -> None:
        """Nothing is kept open."""
