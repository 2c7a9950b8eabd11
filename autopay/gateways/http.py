"""I/O: the HTTP gateway: charge, lookup and book by JSON, every call with one deadline over all of it.

    POST {url}/charges                 {"key", "token", "amount_fen", "reference"}
    GET  {url}/charges/{key}           lookup by our key
    GET  {url}/book?after=...&limit=n  what it charged, for reconciliation: {"charges": [...], "next": "..."}

`MEANING` says what each HTTP status means. Whatever is not in it, and whatever has a body we cannot read, is
`Unknown`: only a definite answer moves money.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from autopay.deadlines import CallFailed, DeadlineClient
from autopay.gateways.port import PAGE_LINES, BookPage, Charge, GatewayBroken, GatewayDown, WebhookEvent
from autopay.gateways.signing import authentic
from autopay.orders import Answer, Declined, NotFound, Outcome, Succeeded, Unknown
from config.clock import Clock, RealClock
from config.settings import GatewaySettings

BODY_MAX: Final = 1 << 16
_JSON: Final = {"Content-Type": "application/json"}
LINE_MAX: Final = 2048  # bytes of one line of the book

# status -> how its body is read; both for a charge and for a lookup
MEANING: Final[dict[int, str]] = {
    200: "answer",
    201: "answer",
    402: "answer",  # declined
    422: "answer",  # declined
    404: "not_found",  # of a lookup; of a charge it is an address that is wrong, so unknown
    409: "key_reused",  # the same key with another amount: our bug
}


class _Reply(msgspec.Struct):
    status: str
    key: str = ""
    txn: str = ""
    amount_fen: int = 0
    code: str = ""


class _Event(msgspec.Struct):
    event: str
    status: str
    key: str
    txn: str = ""
    amount_fen: int = 0
    code: str = ""


class _Book(msgspec.Struct):
    charges: list[dict[str, Any]]
    next: str = ""


class HttpGateway:
    """A `GatewayPort` over HTTP. Keeps one connection pool; `close()` at the end."""

    replays_errors = True

    def __init__(self, settings: GatewaySettings, wall: Clock | None = None, connections_max: int = 16) -> None:
        self.key_lifetime_s = settings.key_lifetime_s
        self.settlement_horizon_s = settings.settlement_horizon_s
        self._secret = settings.secret.get_secret_value().encode()
        self._wall = wall or RealClock()  # signatures carry the machines' time
        self._url = settings.url.rstrip("/")
        self._client = DeadlineClient(
            settings.deadline_real_s,
            headers={"Authorization": f"Bearer {settings.secret.get_secret_value()}"},
            connections_max=connections_max,
        )

    def charge(self, key: str, token: str, amount_fen: int, reference: str) -> Outcome:
        """One try under `key`; see the port's contract."""
        body = {"key": key, "token": token, "amount_fen": amount_fen, "reference": reference}
        answer = self._ask("POST", "/charges", key, body)
        return Unknown("the gateway has no such address (404)") if isinstance(answer, NotFound) else answer

    def lookup(self, key: str) -> Answer:
        """What became of `key`."""
        return self._ask("GET", f"/charges/{key}", key, None)

    def book(self, after: str = "", limit: int = PAGE_LINES) -> BookPage:
        """A page of what it charged, oldest first."""
        asked = f"{self._url}/book?{urlencode({'after': after, 'limit': limit})}"
        try:
            reply = self._client.request("GET", asked, body_max=LINE_MAX * (limit + 1))
            if reply.status != 200:
                raise GatewayDown(f"book of {self._url}: status {reply.status}")
            page = msgspec.json.decode(reply.body, type=_Book)
            lines = [msgspec.convert(line, Charge, strict=True) for line in page.charges]
        except (CallFailed, msgspec.MsgspecError) as fault:
            raise GatewayDown(f"book of {self._url}: {fault}") from fault
        return BookPage(lines, page.next)

    def verify(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent | None:
        """The event when its signature is good and it can be read, else None."""
        if len(body) > BODY_MAX or not authentic(self._secret, headers, body, self._wall.now_s()):
            return None
        try:
            event = msgspec.json.decode(body, type=_Event)
        except msgspec.MsgspecError:
            return None
        outcome = _outcome(event.status, event.txn, event.amount_fen, event.code)
        ids_fit = 0 < len(event.event) <= 120 and len(event.key) <= 120
        return WebhookEvent(event.event, event.key, outcome) if outcome is not None and ids_fit else None

    def close(self) -> None:
        self._client.close()

    def _ask(self, method: str, path: str, key: str, body: dict[str, Any] | None) -> Answer:
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else _JSON
        try:
            response = self._client.request(
                method, self._url + path, content=content, headers=headers, body_max=BODY_MAX
            )
        except CallFailed as fault:
            return Unknown(str(fault)[:100])
        meaning = MEANING.get(response.status, "unknown")
        if meaning == "key_reused":
            raise GatewayBroken(f"key {key} was used with another amount before: {response.body[:200]!r}")
        if meaning == "not_found":
            return NotFound()
        if meaning == "unknown":
            return Unknown(f"status {response.status}")
        try:
            reply = msgspec.json.decode(response.body, type=_Reply)
        except msgspec.MsgspecError:
            return Unknown(f"status {response.status} with a body that cannot be read")
        outcome = _outcome(reply.status, reply.txn, reply.amount_fen, reply.code)
        refused = response.status >= 400  # a lookup answers 200 also for a decline
        contradicts = refused if isinstance(outcome, Succeeded) else not refused and method != "GET"
        if outcome is None or reply.key != key or contradicts:
            return Unknown(f"status {response.status} that contradicts its body")
        return outcome


def _outcome(status: str, txn: str, amount_fen: int, code: str) -> Outcome | None:
    if status == "succeeded" and 0 < len(txn) <= 120 and amount_fen > 0:
        return Succeeded(txn, amount_fen)
    if status == "declined" and code:
        return Declined(code[:100])
    return None
