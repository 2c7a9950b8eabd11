"""I/O: what the write commands of the HTTP interface do, on the port of the daemon: look, submit, wait, tell.

Every command has a key of its own, so that sending it again is harmless: the same reference with the same
contents finds the same inbox row, with other contents it is refused (`KeyConflict`).
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, or_, select

from autopay.by_hand import NotSettled
from config.units import REGISTER_CODE, Register
from ledger.schema import inbox
from meterd.attempts import Released, Word
from meterd.places import active_registry, place_of
from meterd.port import DaemonPort
from meterd.rejected import Rejected
from meterd.releases import Bulk, Releases
from meterd.views.money import yuan
from registry.address import BadSerial, address
from registry.store import RegistryReader

_TOPUP: Final = "topup:"  # and the reference: the key of a top-up
WAITERS_MAX: Final = 16  # threads that may wait for an outcome at a time; others are told the id at once


@dataclass(frozen=True, slots=True)
class Done:
    """An inbox row; `outcome` "" is good, other text says why it changed nothing, None: not applied yet."""

    inbox_id: int
    outcome: str | None


class Operations:
    """The commands. One lock orders those that look before they write."""

    def __init__(self, daemon: DaemonPort) -> None:
        self._daemon = daemon
        self._lock = threading.Lock()
        self._waiters = threading.BoundedSemaphore(WAITERS_MAX)
        self._releases = Releases(daemon, self._wait_all)

    # -- money -----------------------------------------------------------------------------------------------
    def topup(self, account: str, amount_fen: int, reference: str, gateway: str, wait_s: float) -> Done:
        """Credit an account, once by reference."""
        body = {"account": account, "amount_fen": amount_fen, "gateway": gateway, "reference": reference}
        partition, _ = self._home(account)
        return self._wait(self._daemon.submit("credit", f"{_TOPUP}{reference}", body, partition), wait_s)

    def reverse(self, account: str, amount_fen: int, reference: str, of: str, wait_s: float) -> Done:
        """Take a credit back, all or part, once by reference; never more than the credit gave."""
        partition, _ = self._home(account)
        key = f"reversal:{reference}"
        with self._lock:
            with self._daemon.store.reader() as connection:
                credit_key, credit = _credit(connection, of)
                gone_fen = _reversed(connection, credit_key, but=key)
            if credit["account"] != account:
                raise Rejected(409, f"credit {of} is of account {credit['account']}", "Name that account")
            if gone_fen + amount_fen > credit["amount_fen"]:
                left_fen = credit["amount_fen"] - gone_fen
                if not left_fen:
                    raise Rejected(409, f"credit {of} is taken back whole already", "Nothing is left to do")
                raise Rejected(
                    409, f"of credit {of} only {yuan(left_fen)} yuan are left to reverse", "Reverse no more than that"
                )
            body = {"account": account, "amount_fen": amount_fen, "gateway": credit.get("gateway", "counter")}
            row = self._daemon.submit("reversal", key, body | {"reference": reference, "of": of}, partition)
        return self._wait(row, wait_s)

    def settle_order(self, order_id: int, charged: str | None, why: str, who: str) -> dict[str, Any]:
        """A person's word about a payment order: charged under a transaction id, or (None) not charged."""
        try:
            return self._daemon.settle_order(order_id, charged, why, who)
        except KeyError:
            raise Rejected(404, f"no order {order_id}", "Look at `meterd orders list`") from None
        except NotSettled as no:
            raise Rejected(409, no.why, no.what_to_do) from None

    # -- readings --------------------------------------------------------------------------------------------
    def rebaseline(self, meter: str, register: str, value: int, at_s: int, why: str, wait_s: float) -> Done:
        """Say where a register stands: energy counts on from there, nothing is charged for the step."""
        partition, where = self._register(meter, register)
        body = where | {"value": value, "at_s": at_s}
        key = f"rebaseline:{meter}:{register}:{at_s}:{value}"
        return self._wait(self._daemon.submit("rebaseline", key, body | {"reason": why}, partition), wait_s)

    def mark_supply(self, meter: str, register: str, state: str, why: str, wait_s: float) -> Done:
        """Say that a register's supply is disconnected or connected; the state only warns of use."""
        partition, where = self._register(meter, register)
        key = f"supply:{meter}:{register}:{state}:{self._daemon.clock.now_s()}"
        return self._wait(
            self._daemon.submit("supply", key, where | {"state": state, "reason": why}, partition), wait_s
        )

    def release(self, exception_id: int, word: Word, wait_s: float) -> Released:
        """Have a reading, or a whole message, of the exceptions queue judged again, now."""
        return self._releases.release(exception_id, word, wait_s)

    def release_many(self, exception_ids: list[int], word: Word, wait_s: float) -> Bulk:
        """The same for up to `IDS_MAX` rows, the oldest first; each is told by its id."""
        return self._releases.release_many(exception_ids, word, wait_s)

    def discard(self, exception_id: int, why: str) -> None:
        """Close a row of the exceptions queue without effect, with the reason."""
        self._releases.discard(exception_id, why)

    def discard_many(self, exception_ids: list[int], why: str) -> dict[int, Rejected | None]:
        """The same for up to `IDS_MAX` rows, in one transaction; by id what stands against it."""
        return self._releases.discard_many(exception_ids, why)

    # -- the registry ----------------------------------------------------------------------------------------
    def activate(self, digest: str, wait_s: float) -> Done:
        """Activate a staged registry version in every partition."""
        try:
            return self._wait(self._daemon.activate_registry(digest), wait_s)
        except FileNotFoundError as missing:
            raise Rejected(404, str(missing), "Import it first: `meterd registry import`") from None

    # -- helpers ---------------------------------------------------------------------------------------------
    def _registry(self) -> RegistryReader:
        return active_registry(self._daemon)

    def _register(self, meter: str, register: str) -> tuple[int, dict[str, Any]]:
        """(partition, body that names the register)."""
        try:
            number, code = address(meter), REGISTER_CODE[Register(register)]
        except (BadSerial, ValueError) as wrong:
            raise Rejected(422, str(wrong), "Name the meter's serial and a register like 1.8.0") from None
        place = place_of(self._registry(), number, code)
        if place is None:
            raise Rejected(404, f"no meter {meter} with register {register}", "Look at `meterd account show`")
        partition, concentrator = place
        return partition, {"concentrator": concentrator, "meter": number, "register": register}

    def _home(self, account: str) -> tuple[int, int]:
        try:
            return self._registry().find_account(account)
        except KeyError:
            raise Rejected(404, f"no account {account}", "Look at `meterd balances`") from None

    def _wait(self, inbox_id: int, wait_s: float) -> Done:
        if not self._waiters.acquire(blocking=False):
            return Done(inbox_id, None)
        try:
            return Done(inbox_id, self._daemon.wait_applied(inbox_id, wait_s))
        finally:
            self._waiters.release()

    def _wait_all(self, inbox_ids: list[int], wait_s: float) -> None:
        """Until all are applied, or the deadline of all of them together."""
        until = self._daemon.clock.monotonic_s() + wait_s
        for inbox_id in inbox_ids:
            self._wait(inbox_id, max(0.0, until - self._daemon.clock.monotonic_s()))


def _credit(connection: Connection, reference: str) -> tuple[str, dict[str, Any]]:
    """Key and body of the credit that `reference` names: a key such as order:7:1, or a top-up's own reference."""
    asked = select(inbox.c.key, inbox.c.body).where(inbox.c.kind == "credit")
    for key in (reference, f"{_TOPUP}{reference}"):  # the key first: it is what the statement shows
        row = connection.execute(asked.where(inbox.c.key == key)).first()
        if row is not None:
            body: dict[str, Any] = json.loads(row.body)
            return str(row.key), body
    raise Rejected(404, f"no credit {reference}", "Look at the statement for its reference")


def _reversed(connection: Connection, credit_key: str, *, but: str) -> int:
    """What other reversals of this credit take back already, by whichever of its names they called it."""
    names = {credit_key, credit_key.removeprefix(_TOPUP)}
    # as `ledger.inbox.submit` writes it; few enough to look at each
    named = or_(*(inbox.c.body.contains(f'"of":{json.dumps(name)}', autoescape=True) for name in sorted(names)))
    asked = select(inbox.c.key, inbox.c.body).where(inbox.c.kind == "reversal", named)
    return sum(int(json.loads(row.body)["amount_fen"]) for row in connection.execute(asked) if row.key != but)
