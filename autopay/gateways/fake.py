"""I/O (in memory): an in-process gateway for tests and simulated worlds: a book in a dict, faults by script.

`script` is consumed one word per charge: "ok", "declined", "declined:<code>", "timeout_before" (nothing
happened), "timeout_after" (charged, nobody heard), "error", "contradict" (nothing happened, and the answer tells
of another amount). When it is empty every charge succeeds.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Mapping

from autopay.gateways.port import PAGE_LINES, BookPage, Charge, GatewayBroken, WebhookEvent
from autopay.gateways.signing import HEADER, authentic, sign
from autopay.orders import Answer, Declined, NotFound, Outcome, Succeeded, Unknown
from config.clock import Clock


class FakeGateway:
    """A `GatewayPort` that remembers; thread-safe."""

    replays_errors = True

    def __init__(
        self, clock: Clock, key_lifetime_s: int = 86_400, settlement_horizon_s: int = 7200, secret: bytes = b"fake"
    ) -> None:
        self.key_lifetime_s = key_lifetime_s
        self.settlement_horizon_s = settlement_horizon_s
        self.script: deque[str] = deque()
        self.deaf = False  # lookups answer nothing either
        self.calls: list[tuple[str, int]] = []
        self._clock = clock
        self._secret = secret
        self._charges: list[Charge] = []
        self._results: dict[str, tuple[int, int, Outcome]] = {}  # key -> (at_s, amount, result)
        self._lock = threading.Lock()

    def charge(self, key: str, token: str, amount_fen: int, reference: str) -> Outcome:
        with self._lock:
            now_s = self._clock.now_s()
            self.calls.append((key, amount_fen))
            known = self._results.get(key)
            if known is not None and now_s < known[0] + self.key_lifetime_s:
                if known[1] != amount_fen:
                    raise GatewayBroken(f"key {key}: {known[1]} before, {amount_fen} now")
                return known[2]
            word = self.script.popleft() if self.script else "ok"
            if word in ("timeout_before", "error"):
                return Unknown(word)
            if word == "contradict":
                return Succeeded(f"txn-of-another-{key}", amount_fen + 1)
            result: Outcome
            if word.startswith("declined"):
                result = Declined(word.partition(":")[2] or "insufficient_funds")
            else:
                result = Succeeded(f"txn-{len(self._charges) + 1}", amount_fen)
                self._charges.append(Charge(key, token, amount_fen, result.txn, now_s, reference))
            self._results[key] = (now_s, amount_fen, result)
            return Unknown(word) if word == "timeout_after" else result

    def lookup(self, key: str) -> Answer:
        with self._lock:
            if self.deaf:
                return Unknown("deaf")
            known = self._results.get(key)
            return NotFound() if known is None else known[2]

    def book(self, after: str = "", limit: int = PAGE_LINES) -> BookPage:
        with self._lock:
            first = int(after or 0)
            lines = self._charges[first : first + limit]
            return BookPage(lines, str(first + limit) if first + limit < len(self._charges) else "")

    def charge_late(self, key: str, token: str, amount_fen: int, reference: str) -> Succeeded:
        """The gateway takes the money after it had said no: the case that `succeeded_late` is for."""
        with self._lock:
            result = Succeeded(f"txn-{len(self._charges) + 1}", amount_fen)
            self._charges.append(Charge(key, token, amount_fen, result.txn, self._clock.now_s(), reference))
            self._results[key] = (self._clock.now_s(), amount_fen, result)
            return result

    def webhook_of(self, key: str, event: str) -> tuple[dict[str, str], bytes]:
        """Headers and body of a signed webhook that tells what is known of `key`."""
        with self._lock:
            result = self._results[key][2]
        told: dict[str, object] = {"event": event, "key": key}
        if isinstance(result, Succeeded):
            told |= {"status": "succeeded", "txn": result.txn, "amount_fen": result.amount_fen}
        elif isinstance(result, Declined):
            told |= {"status": "declined", "code": result.code}
        body = json.dumps(told).encode()
        return {HEADER: sign(self._secret, body, self._clock.now_s())}, body

    def verify(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent | None:
        if not authentic(self._secret, headers, body, self._clock.now_s()):
            return None
        try:
            told = json.loads(body)
        except ValueError:
            return None
        outcome: Outcome
        if told["status"] == "succeeded":
            outcome = Succeeded(told["txn"], told["amount_fen"])
        else:
            outcome = Declined(told["code"])
        return WebhookEvent(told["event"], told["key"], outcome)
