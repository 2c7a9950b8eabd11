"""Pure: the signature of a webhook: HMAC-SHA256 over "<unix seconds>.<body>", in one header.

`Meterd-Signature: t=1767225600,v1=<64 hex digits>`. The time is the machines' own (not business time, which a
demo scales): an old signature is refused so that a recorded one cannot be replayed for ever.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

HEADER: Final = "Meterd-Signature"
TOLERANCE_S: Final = 300


def sign(secret: bytes, body: bytes, unix_s: int) -> str:
    """The header's value for `body`."""
    digest = hmac.new(secret, f"{unix_s}.".encode() + body, sha256).hexdigest()
    return f"t={unix_s},v1={digest}"


def authentic(secret: bytes, headers: Mapping[str, str], body: bytes, unix_s: int) -> bool:
    """Whether the headers carry a fresh signature of exactly these bytes."""
    value = next((text for name, text in headers.items() if name.lower() == HEADER.lower()), "")
    stamp, _, digest = value.partition(",")
    if (
        not stamp.startswith("t=")
        or not digest.startswith("v1=")
        or not (stamp[2:].isascii() and stamp[2:].isdigit())
    ):
        return False
    if len(stamp) > 20 or abs(unix_s - int(stamp[2:])) > TOLERANCE_S:
        return False
    return hmac.compare_digest(sign(secret, body, int(stamp[2:])).encode(), value.encode("utf-8", "replace"))
