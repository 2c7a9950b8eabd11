"""I/O: what the write commands of the HTTP interface do, on the port of the daemon: look, submit, wait, tell.

Every command has a key of its own, so that sending it again is harmless: the same reference with the same
contents finds the same inbox row, with other contents it is refused (`KeyConflict`).
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, select, update

from config.units import REGISTER_CODE, Register
from ledger.schema import exception, inbox, inbox_applied
from meterd.port import DaemonPort
from rating.refusals import READING_BYTES
from registry.address import BadSerial, address
from registry.image import PartitionImage
from registry.store import RegistryReader

WAITERS_MAX: Final = 16  # threads that may wait for an outcome at a time; others are told the id at once


class Rejected(Exception):
    """A command that cannot be carried out, with its HTTP status and what to do about it."""

    def __init__(self, status: int, error: str, what_to_do: str) -> None:
        super().__init__(error)
        self.status, self.error, self.what_to_do = status, error, what_to_do


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

    # -- money -----------------------------------------------------------------------------------------------
    def topup(self, account: str, amount_fen: int, reference: str, gateway: str, wait_s: float) -> Done:
        """Credit an account, once by reference."""
        body = {"account": account, "amount_fen": amount_fen, "gateway": gateway, "reference": reference}
        partition, _ = self._home(account)
        return self._wait(self._daemon.submit("credit", f"topup:{reference}", body, partition), wait_s)

    def reverse(self, account: str, amount_fen: int, reference: str, of: str, wait_s: float) -> Done:
        """Take a credit back, all or part, once by reference; never more than the credit gave."""
        partition, _ = self._home(account)
        key = f"reversal:{reference}"
        with self._lock:
            with self._daemon.store.reader() as connection:
                credit = _credit(connection, of)
                gone_fen = _reversed(connection, of, but=key)
            if credit["account"] != account:
                raise Rejected(409, f"credit {of} is of account {credit['account']}", "Name that account")
            if gone_fen + amount_fen > credit["amount_fen"]:
                left = credit["amount_fen"] - gone_fen
                raise Rejected(
                    409, f"of credit {of} only {left} fen are left to reverse", "Reverse no more than that"
                )
            body = {"account": account, "amount_fen": amount_fen, "gateway": credit.get("gateway", "counter")}
            row = self._daemon.submit("reversal", key, body | {"reference": reference, "of": of}, partition)
        return self._wait(row, wait_s)

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

    def release(self, exception_id: int, wait_s: float) -> Done:
        """Have a reading of the exceptions queue judged again, now; it stays open when it is refused again."""
        with self._lock:
            row = self._exception(exception_id)
            if len(row["bytes"]) != READING_BYTES.itemsize or row["meter"] is None:
                raise Rejected(
                    422,
                    f"exception {exception_id} ({row['reason']}) holds no single reading",
                    "A message: have the concentrator send it again; else do what its note says. Then discard it",
                )
            reading = np.frombuffer(row["bytes"], READING_BYTES)[0]
            fields = [int(reading[name]) for name in ("meter", "register", "read_at_s", "value", "quality")]
            place = _place(self._registry(), fields[0], fields[1], source=row["source"])
            body = {"concentrator": row["source"], "readings": [fields], "exception": exception_id}
            partition = place[0] if place is not None else int(row["partition"])
            inbox_id = self._daemon.submit("release", self._release_key(exception_id), body, partition)
        done = self._wait(inbox_id, wait_s)
        if done.outcome == "":
            self._resolve(exception_id, "released", f"inbox {inbox_id}")
        return done

    def discard(self, exception_id: int, why: str) -> None:
        """Close a row of the exceptions queue without effect, with the reason."""
        self._exception(exception_id)
        self._resolve(exception_id, "discarded", why)

    # -- the registry ----------------------------------------------------------------------------------------
    def activate(self, digest: str, wait_s: float) -> Done:
        """Activate a staged registry version in every partition."""
        try:
            return self._wait(self._daemon.activate_registry(digest), wait_s)
        except FileNotFoundError as missing:
            raise Rejected(404, str(missing), "Import it first: `meterd registry import`") from None

    # -- helpers ---------------------------------------------------------------------------------------------
    def _registry(self) -> RegistryReader:
        reader = self._daemon.registry()
        if reader is None:
            raise Rejected(409, "no registry is active", "Import one: `meterd registry import DIR`")
        return reader

    def _register(self, meter: str, register: str) -> tuple[int, dict[str, Any]]:
        """(partition, body that names the register)."""
        try:
            number, code = address(meter), REGISTER_CODE[Register(register)]
        except (BadSerial, ValueError) as wrong:
            raise Rejected(422, str(wrong), "Name the meter's serial and a register like 1.8.0") from None
        place = _place(self._registry(), number, code)
        if place is None:
            raise Rejected(404, f"no meter {meter} with register {register}", "Look at `meterd account show`")
        partition, concentrator = place
        return partition, {"concentrator": concentrator, "meter": number, "register": register}

    def _home(self, account: str) -> tuple[int, int]:
        try:
            return self._registry().find_account(account)
        except KeyError:
            raise Rejected(404, f"no account {account}", "Look at `meterd balances`") from None

    def _exception(self, exception_id: int) -> dict[str, Any]:
        with self._daemon.store.reader() as connection:
            row = connection.execute(select(exception).where(exception.c.id == exception_id)).mappings().first()
        if row is None:
            raise Rejected(404, f"no exception {exception_id}", "Look at `meterd exceptions list`")
        if row["state"] != "open":
            raise Rejected(409, f"exception {exception_id} is {row['state']} already", "Nothing is left to do")
        return dict(row)

    def _release_key(self, exception_id: int) -> str:
        """A release that was refused may be tried again under a new key; one under way keeps its own."""
        prefix = f"release:{exception_id}:"
        with self._daemon.store.reader() as connection:
            joined = select(inbox.c.key, inbox_applied.c.outcome).outerjoin(inbox_applied)
            asked = joined.where(inbox.c.key.startswith(prefix, autoescape=True)).order_by(inbox.c.id)
            rows = connection.execute(asked).all()
        if rows and rows[-1].outcome in (None, ""):
            return str(rows[-1].key)
        return f"{prefix}{len(rows) + 1}"

    def _resolve(self, exception_id: int, state: str, why: str) -> None:
        now_s = self._daemon.clock.now_s()
        change = update(exception).where(exception.c.id == exception_id, exception.c.state == "open")
        values = {"state": state, "resolved_at_s": now_s, "resolved_why": why}
        self._daemon.store.write(lambda connection: connection.execute(change.values(values)).rowcount)

    def _wait(self, inbox_id: int, wait_s: float) -> Done:
        if not self._waiters.acquire(blocking=False):
            return Done(inbox_id, None)
        try:
            return Done(inbox_id, self._daemon.wait_applied(inbox_id, wait_s))
        finally:
            self._waiters.release()


def _credit(connection: Connection, reference: str) -> dict[str, Any]:
    """The credit that `reference` names: a top-up's own reference, or an inbox key such as order:7:1."""
    keys = (f"topup:{reference}", reference)
    row = connection.execute(select(inbox.c.body).where(inbox.c.key.in_(keys), inbox.c.kind == "credit")).first()
    if row is None:
        raise Rejected(404, f"no credit {reference}", "Look at the statement for its reference")
    body: dict[str, Any] = json.loads(row.body)
    return body


def _reversed(connection: Connection, of: str, *, but: str) -> int:
    """What other reversals of this credit take back already; few enough to look at each."""
    named = inbox.c.body.contains(f'"of":{json.dumps(of)}', autoescape=True)  # as `ledger.inbox.submit` writes it
    asked = select(inbox.c.key, inbox.c.body).where(inbox.c.kind == "reversal", named)
    return sum(int(json.loads(row.body)["amount_fen"]) for row in connection.execute(asked) if row.key != but)


def _place(reader: RegistryReader, meter: int, code: int, source: str | None = None) -> tuple[int, str] | None:
    """(partition, concentrator) whose list has this register; the newest of several."""
    found: tuple[int, tuple[int, str]] | None = None
    for number, partition in enumerate(reader.image.partitions):
        here = (partition.list_meter == np.uint64(meter)) & (partition.list_register == code)
        for place in np.flatnonzero(here).tolist():
            name = _list_of(partition, place)
            if source is not None and name != source:
                continue
            opened = int(partition.channels["opening_at_s"][int(partition.list_channel[place])])
            if found is None or opened > found[0]:
                found = opened, (number, name)
    return None if found is None else found[1]


def _list_of(partition: PartitionImage, place: int) -> str:
    return next(name for name, (start, end) in partition.lists.items() if start <= place < end)
