"""Pure: what a round of the fleet adds, until one commit takes it into truth book and outbox together."""

from __future__ import annotations

from dataclasses import dataclass, field

from simulators.concentrator import Message
from simulators.truth import MessageRow


@dataclass(slots=True)
class Batch:
    """Messages with the interval to release them at (-1: now), and what the truth book says of them."""

    messages: list[tuple[Message, int]] = field(default_factory=list)
    truth: list[MessageRow] = field(default_factory=list)
    expected: list[tuple[str, int, int, str, str]] = field(default_factory=list)
    forged: list[Message] = field(default_factory=list)  # somebody else's, under the number that is next
