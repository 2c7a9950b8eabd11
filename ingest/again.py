"""Pure: a refused message read again: its stored bytes, under today's limits, keys and registry.

The cause may be gone: a newer version reads more, a limit was raised, a key was corrected, the registry knows the
meters. What time cannot clear, a person may: which format it is (`--as`), and whether a message is believed
whose sender is in doubt (`--trust`). The readings then go where ingest would have sent them, and rating judges
them by its own rules; nothing here makes a reading right.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from typing import Final

from config.reasons import Reason
from ingest.decoded import Rejected
from ingest.origin import Origin, split_note
from ingest.pipeline import OVERSIZED_KEPT_BYTES, Context, Message, agrees, decode, signature
from ingest.routing import route
from ingest.topics import FORMATS, Topic
from ingest.wire import decode_readings
from rating.readings import Readings

_DOUBT: Final = (Reason.SPOOF, Reason.AUTH, Reason.REPLAY)
_CUT: Final = re.compile(rf"[0-9]+ bytes, sha256 [0-9a-f]{{64}}; the first {OVERSIZED_KEPT_BYTES} kept")
_REPAIR: Final = "name its format with --as; or have it sent again as it should be, and discard this one"
_TRUST: Final = "say --trust and --why if you know that it is honest, or discard it"


@dataclass(frozen=True, slots=True)
class Refused:
    """A row of the exceptions queue that is a whole message; `note` with its last line (`ingest.origin`)."""

    reason: str
    source: str
    stream: str
    sequence: int
    body: bytes
    note: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decides about a message that cannot be told from its bytes."""

    format: str = ""  # "": the one that its sender said
    source: str = ""  # "": the concentrator of its topic; another one only with `trusted`
    trusted: bool = False  # believe the sender, whatever signature, numbers and names say


class NotReleasable(Exception):
    """The message cannot be read, or not without a person's word; nothing was stored."""

    def __init__(self, why: str, what_to_do: str) -> None:
        super().__init__(why)
        self.why, self.what_to_do = why, what_to_do


def read_again(refused: Refused, decision: Decision, context: Context) -> tuple[str, list[tuple[int, Readings]]]:
    """(concentrator, its readings by partition, in the order of the message); `NotReleasable` says why not."""
    note, origin = split_note(refused.note)
    _has_bytes(refused, note)
    if not decision.trusted:
        _authentic(refused, origin, context)
    concentrator = decision.source or refused.source
    if not concentrator:
        raise NotReleasable("its topic names no concentrator", "If you know whose it is: --source, --trust, --why")
    format_ = decision.format or origin.format
    if format_ not in FORMATS:
        said = f"its sender called it {format_!a}" if format_ else "nobody said its format"
        raise NotReleasable(f"{said}: that is none of {', '.join(FORMATS)}", "Name the right one with --as")
    topic = Topic("", concentrator, "reads", format_, refused.stream, refused.sequence)
    try:
        decoded = decode(topic, Message(None, refused.body), context.limits)
        if not decision.trusted:
            agrees(topic, decoded)
    except Rejected as fault:
        doubt = fault.reason in _DOUBT
        todo = _TRUST if doubt else _REPAIR
        what = "is not believed" if doubt else f"cannot be read as {format_}"
        raise NotReleasable(f"it {what}: {fault.reason.value}: {fault.note}", _capital(todo)) from None
    parts = route(decoded.body, concentrator, context.routes, context.partitions)
    return concentrator, [(partition, decode_readings(body)) for partition, body in parts]


def _has_bytes(refused: Refused, note: str) -> None:
    if refused.reason == Reason.SEQUENCE_LOST:
        raise NotReleasable(
            f"these messages never came: {note}",
            "There is nothing to read. Registers are cumulative: the next reading bills the energy. Discard it; what"
            " comes after all under these numbers is taken by itself",
        )
    if refused.reason == Reason.OVERSIZED and _CUT.fullmatch(note):
        raise NotReleasable(
            f"only a part of it was kept: {note}",
            "Have the concentrator send its readings in smaller messages under new numbers, then discard this one",
        )


def _authentic(refused: Refused, origin: Origin, context: Context) -> None:
    """Who sent it must be as certain as ingest wants it, or become so by a key that is known now."""
    if refused.reason in (Reason.SPOOF, Reason.REPLAY):
        raise NotReleasable(f"its sender is in doubt ({refused.reason}), and no time clears that", _capital(_TRUST))
    key = context.keys.get(refused.source)
    if refused.reason == Reason.AUTH:
        if key is None or not origin.signature or origin.topic is None:
            missing = "no key of its concentrator is known" if key is None else "it bears no signature"
            raise NotReleasable(f"it cannot be verified: {missing}", f"Correct [signing], or {_TRUST}")
        if not hmac.compare_digest(signature(key, origin.topic, refused.body), origin.signature):
            raise NotReleasable(
                "its signature is of another message or key", f"Correct its key in [signing], or {_TRUST}"
            )
    elif origin.topic is None and (key is not None or context.signed_only):  # it was refused before anybody looked
        raise NotReleasable("its topic is not readable, so its signature cannot be verified", _capital(_TRUST))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
