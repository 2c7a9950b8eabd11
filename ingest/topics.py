"""Pure: MQTT topics: what goes up, what comes down, and their parts."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_ID: Final = "[A-Za-z0-9._-]{1,64}"
ID: Final = re.compile(_ID, re.ASCII)
SEQUENCE_MAX: Final = 2**53 - 1  # JSON readers everywhere hold it exactly
UNNUMBERED: Final = -1
FORMATS: Final = ("json", "senml-json", "senml-cbor", "arrow")
CONTENT_TYPES: Final = {
    "application/json": "json",
    "application/senml+json": "senml-json",
    "application/senml+cbor": "senml-cbor",
    "application/vnd.apache.arrow.batch": "arrow",
    **{name: name for name in FORMATS},
}


class Topic(NamedTuple):
    """An `up` topic taken apart. `format` is None when the publisher names it by content type (MQTT 5)."""

    shard: str
    concentrator: str
    kind: str  # "reads"; "status" and "events" are taken and counted, no more
    format: str | None
    stream: str
    sequence: int


def is_id(text: str) -> bool:
    """True for 1 to 64 of A-Z a-z 0-9 . _ -"""
    return ID.fullmatch(text) is not None


def sequence_of(text: str) -> int | None:
    """A sequence number from 1 on in plain ASCII digits, or None."""
    if 0 < len(text) <= 16 and text.isascii() and text.isdigit():
        value = int(text)
        if 0 < value <= SEQUENCE_MAX:
            return value
    return None


_UP: Final = re.compile(
    rf"meters/v1/({_ID})/({_ID})/up/(?:(reads)/([a-z0-9+.-]{{1,32}})/({_ID})/([0-9]+)|(reads|status|events))",
    re.ASCII,
)


def parse_topic(topic: str) -> Topic | None:
    """The parts of `meters/v1/{shard}/{concentrator}/up/...`; None when it is no topic of ours."""
    found = _UP.fullmatch(topic)
    if found is None:
        return None
    shard, concentrator, kind, format_, stream, number, bare = found.groups()
    if bare is not None:
        return Topic(shard, concentrator, bare, None, "", UNNUMBERED)
    sequence = sequence_of(number)
    return None if sequence is None else Topic(shard, concentrator, kind, format_, stream, sequence)


def reads_topic(shard: str, concentrator: str, format_: str, stream: str, sequence: int) -> str:
    """Where a numbering publisher sends a message."""
    return f"meters/v1/{shard}/{concentrator}/up/reads/{format_}/{stream}/{sequence}"


def bare_topic(shard: str, concentrator: str) -> str:
    """Where a publisher sends that numbers in MQTT 5 properties, or not at all."""
    return f"meters/v1/{shard}/{concentrator}/up/reads"


def in_properties(named: Topic) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """A numbered message under MQTT 5: the short topic, content type and user properties that say the same.

    A broker that remembers topics (the embedded one does, for ever) then has one of a concentrator to remember.
    """
    numbered = (("stream", named.stream), ("sequence", str(named.sequence)))
    return bare_topic(named.shard, named.concentrator), named.format or "", numbered


def subscription(shard: str) -> str:
    """What ingest subscribes to: one session per shard."""
    return f"meters/v1/{shard}/+/up/#"


def down_subscription(shard: str, concentrator: str) -> str:
    """What a concentrator subscribes to."""
    return f"meters/v1/{shard}/{concentrator}/down/#"


def down_subscriptions(shard: str) -> list[str]:
    """What a listener for all concentrators of a shard subscribes to.

    Not to `+/down/#`: the embedded broker keeps little for a filter of that form (`ingest.broker`).
    """
    return [f"meters/v1/{shard}/+/+/held/+", f"meters/v1/{shard}/+/+/resend/+"]


def held_topic(shard: str, concentrator: str, stream: str) -> str:
    return f"meters/v1/{shard}/{concentrator}/down/held/{stream}"


def resend_topic(shard: str, concentrator: str, stream: str) -> str:
    return f"meters/v1/{shard}/{concentrator}/down/resend/{stream}"


def held_payload(sequence: int) -> bytes:
    """Everything up to `sequence` is durable."""
    return b'{"held": %d}' % sequence


def resend_payload(first: int, last: int) -> bytes:
    """Please send `first` to `last` (inclusive) again."""
    return b'{"from": %d, "to": %d}' % (first, last)
