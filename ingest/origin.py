"""Pure: what a refused message came under: the last line of its note, so that it can be read again later.

A record has no column for the topic, the format that was said, or the signature; a message that was refused needs
all three to be judged again (a key may be corrected). The line is JSON and stands behind the note in words:
whatever a sender gets into the words, the last line is ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ingest.topics import Topic

_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Origin:
    """`topic` None: it was none of ours, so nobody has checked who sent it; "" where nothing was said."""

    topic: str | None = None
    format: str = ""
    signature: str = ""  # only one that could be right is kept


def with_origin(note: str, topic: Topic, text: str | None, properties: Sequence[tuple[str, str]]) -> str:
    """The note with its last line. `text`: the topic as it came; `topic.format` None: it was none of ours."""
    found: dict[str, str] = {}
    if topic.format is not None and text is not None:
        found = {"topic": text, "format": topic.format}
    signature = next((value for name, value in properties if name == "signature"), "")
    if _SIGNATURE.fullmatch(signature):
        found["signature"] = signature
    return f"{note}\n{json.dumps(found, separators=(',', ':'))}"


def split_note(note: str) -> tuple[str, Origin]:
    """A note's words, and what the message came under; rows of before this was kept have nothing."""
    words, _, line = note.rpartition("\n")
    if not line.startswith("{"):
        return note, Origin()
    try:
        found = json.loads(line)
        return words, Origin(found.get("topic"), found.get("format", ""), found.get("signature", ""))
    except ValueError:
        return note, Origin()
