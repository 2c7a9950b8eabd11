"""I/O (reads the files of a history): what must be true at its end: books against books, and nobody forgotten.

A rule that is broken raises `Finding`. The daemon is down by then; nothing is asked of it.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from audit.compare import Difference
from audit.run import audit
from autopay.channels import lane_of
from config.settings import Paths
from registry.image import NO_TRIGGER
from simulators.checker import check_files
from simulators.fleet_check import Result
from simulators.quiet import quiet_of
from simulators.world.findings import Finding, version_of
from simulators.world.followed import Followed

if TYPE_CHECKING:
    from simulators.world.port import NodePort
    from simulators.world.world import World

_ANSWERED: Final = """
    SELECT e.kind = 'low_balance' AND (SELECT d.outcome = 'refuse'
        OR EXISTS (SELECT 1 FROM autopay_wait w WHERE w.event_id = e.id)
        OR EXISTS (SELECT 1 FROM order_ o WHERE o.id = d.order_id
            AND o.state NOT IN ('credited', 'declined', 'cancelled'))
        FROM decision d WHERE d.event_id = e.id ORDER BY d.id DESC LIMIT 1)
    FROM event e WHERE e.account = :account AND e.kind <> 'alert' ORDER BY e.id DESC LIMIT 1
"""  # its newest event: is it a low balance that is looked at again, is being paid, or was refused for a reason


class Ending:
    """Of one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def quiet(self) -> bool:
        return bool(quiet_of(self._world.data)["quiet"])

    def unrest(self, node: NodePort | None) -> str:
        world = self._world
        return json.dumps(
            quiet_of(world.data)
            | {
                "fleet": world.fleet.quiet(),
                "unheld": world.fleet.unheld(),
                "node": node is not None,
                "registry": node.registry_digest()[:8] if node else "",
            }
        )

    def at_end(self, differences: Callable[[int], list[str]]) -> None:
        """Everything is at rest and the daemon is down: books against books."""
        self._checker()
        self._audit()
        self._nobody_forgotten()
        self._nobody_low()
        self._notices()
        self._limits()
        batch = self._world.dice.choice((1, 3, 50))
        for difference in differences(batch):
            raise Finding("replay gives the same state", difference)

    def _checker(self) -> None:
        world = self._world
        found: Result = check_files(world.folder / "truth.db", world.data, self._books(), world.folder / "outbox.db")
        due = self._corrections_due()
        let_pass = [d for d in found.details if d["what"] == "energy" and self._corrected_by_hand(d, due)]
        left_wh = found.checker_difference_wh - sum(abs(d["used_wh"] - d["billed_wh"]) for d in let_pass)
        details = [d for d in found.details if not self._late(d) and d not in let_pass]
        if world.restored:  # energy and money must agree; messages that the backup did not have are detail
            details = [d for d in details if d["what"] != "held but in no log"]
        if details or left_wh or found.uncredited_charges or found.outbox_left:
            raise Finding("truth books agree", json.dumps({**found.as_json(), "details": details[:5]}))

    def _corrections_due(self) -> dict[str, int]:
        """Meters whose span was ended behind what it had charged (`backdated`), and the register it had charged.

        The engine asks a person to correct that. It takes a version that comes (or after a restore comes again) when
        the bill was closed by an estimate.
        """
        with closing(sqlite3.connect(f"file:{Paths(self._world.data).ledger}?mode=ro", uri=True)) as db:
            ended = (
                "SELECT meter, value FROM exception WHERE reason = 'backdated' AND note LIKE '% ends here, behind %'"
            )
            return dict(db.execute(ended))

    def _corrected_by_hand(self, detail: dict[str, Any], due: dict[str, int]) -> bool:
        """Whether a bill differs only by what a person is asked about.

        After a restore whatever such a meter differs by. Else what is missing of a replaced meter up to its final
        register, when the estimate that was kept lies behind that.
        """
        meter = detail["meter"]
        if meter not in due or self._world.restored:
            return meter in due
        finals = {change.old_meter: change.old_final for change in self._world.scene.load.changes}
        return detail["billed_wh"] < detail["used_wh"] and meter in finals and due[meter] >= finals[meter]

    def _books(self) -> list[Path]:
        return [bank.file for bank in self._world.banks.values()]

    def _late(self, detail: dict[str, Any]) -> bool:
        """Whether only charges that the gateway made after it had said no are more than one: the bank's own doing."""
        if detail["what"] != "charged more than once" or "arm" not in detail:
            return False
        with closing(sqlite3.connect(f"file:{Paths(self._world.data).ledger}?mode=ro", uri=True)) as db:
            keys = db.execute(
                "SELECT key FROM order_ WHERE account = ? AND arm = ?", (detail["account"], detail["arm"])
            ).fetchall()
        return self._meant(key for (key,) in keys) <= 1

    def _meant(self, keys: Iterable[str]) -> int:
        """How often the gateways charged these keys, without what they charged after they had said no."""
        charges = Counter(
            line["key"]
            for bank in self._world.banks.values()
            for line in bank.ledger.charges()
            if line["txn"] not in bank.after_all
        )
        return sum(charges[key] for key in keys)

    def _audit(self) -> None:
        world = self._world
        report = audit(world.data, settings=world.settings, gateway_books=self._books())
        differences = [d for d in report.differences if not self._refusal_forgotten(d)]
        if differences:
            raise Finding("the audit is zero", "; ".join(map(str, differences[:5])))
        world.counts["audited amounts"] += report.counts.get("amounts", 0)

    def _refusal_forgotten(self, found: Difference) -> bool:
        """Whether it is two charges, of one low balance or of one key, of which the gateway had refused one.

        And the ledger was restored since: the step that says so went with it. The auditor is right to report it, and
        a person was told.
        """
        head, _, keys = found.note.partition(": ")
        if head.startswith("charged twice for low balance "):
            charged = keys.split(", ")
        elif found.component == "gateway" and head.endswith(" times"):
            charged = [head.partition(" ")[0]]
        else:
            return False
        return self._world.restored and self._meant(charged) <= 1

    def _nobody_forgotten(self) -> None:
        """A low balance has a decision, and what was not charged waits with a time and a reason, or is over.

        An order that ended without money is no end of the account's newest low balance. Events at 0 are none: what a
        restored ledger did not know of is hung on them.
        """
        with closing(sqlite3.connect(f"file:{Paths(self._world.data).ledger}?mode=ro", uri=True)) as db:
            undecided = db.execute(
                "SELECT e.id, e.account FROM event e WHERE e.kind = 'low_balance' AND e.as_of_s > 0"
                " AND NOT EXISTS (SELECT 1 FROM decision d WHERE d.event_id = e.id)"
            ).fetchall()
            left = db.execute(
                "SELECT d.account, d.outcome, d.reason FROM decision d"
                " WHERE d.id IN (SELECT max(id) FROM decision GROUP BY event_id) AND d.outcome = 'wait'"
                " AND d.event_id NOT IN (SELECT event_id FROM autopay_wait)"
            ).fetchall()
            unpaid = db.execute(
                "SELECT d.account, o.key, o.state FROM decision d JOIN order_ o ON o.id = d.order_id"
                " WHERE d.id IN (SELECT max(id) FROM decision GROUP BY event_id) AND d.outcome = 'order'"
                " AND d.event_id IN (SELECT max(id) FROM event"
                " WHERE kind <> 'alert' AND as_of_s > 0 GROUP BY account)"
                " AND o.state IN ('declined', 'cancelled') AND d.event_id NOT IN (SELECT event_id FROM autopay_wait)"
            ).fetchall()
        if undecided or left or unpaid:
            how = f"undecided {undecided}, waiting for nothing {left}, unpaid and not looked at again {unpaid}"
            raise Finding("nobody is forgotten", how)

    def _limits(self) -> None:
        """Nobody is called low above the limit, nor recovered before the balance is over it by the hysteresis."""
        limits = dict(self._limits_of_accounts())
        over_fen = self._world.settings.autopay.hysteresis_fen
        with closing(sqlite3.connect(f"file:{Paths(self._world.data).ledger}?mode=ro", uri=True)) as db:
            events = db.execute("SELECT id, kind, account, balance_fen FROM event WHERE kind <> 'alert'").fetchall()
        for number, kind, account, fen in events:
            limit = limits[account]
            if (kind == "low_balance" and fen > limit) or (kind == "recovered" and fen <= limit + over_fen):
                raise Finding("limits hold", f"event {number}: {account} is {kind} at {fen} fen, its limit {limit}")

    def _limits_of_accounts(self) -> Iterator[tuple[str, int]]:
        """Of every version: the limits at which autopay was triggered; the scene never changes one."""
        for digest, _ in self._world.scene.versions:
            reader = version_of(self._world.registry, digest)
            for account in self._world.scene.accounts:
                try:
                    partition, slot = reader.find_account(account)
                except KeyError:
                    continue
                limit = int(reader.image.partitions[partition].accounts["trigger_fen"][slot])
                if limit != NO_TRIGGER:
                    yield account, limit

    def _nobody_low(self) -> None:
        """Whoever has a mandate and is at or under its trigger has an order, or a reason and a time to look again.

        From the mandates and the balances themselves, whatever the daemon has made of them. (An estimate alone
        triggers nothing.)
        """
        world, now_s = self._world, self._world.clock.now_s()
        followed = Followed(world)
        with closing(sqlite3.connect(f"file:{Paths(world.data).ledger}?mode=ro", uri=True)) as db:
            followed.look(db)
            triggers = db.execute(
                "SELECT account, max(trigger_fen) FROM mandate WHERE valid_from_s <= ? AND valid_until_s > ?"
                " AND (cancelled_at_s IS NULL OR cancelled_at_s > ?) GROUP BY account",
                (now_s, now_s, now_s),
            ).fetchall()
            live = followed.live()
            for account, trigger_fen in triggers:
                live_fen, guessed = live.get(account, (trigger_fen + 1, False))
                if live_fen > trigger_fen or guessed:
                    continue
                world.counts["low at the end"] += 1
                answered = db.execute(_ANSWERED, {"account": account}).fetchone()
                if answered is None or not answered[0]:
                    how = f"{account} has {live_fen} fen, the trigger is {trigger_fen}, and nothing waits for it"
                    raise Finding("nobody is forgotten", how)

    def _notices(self) -> None:
        """Every notice reached everybody whom it was for, once; and what they must hear of was told."""
        telephone = self._world.telephone
        if telephone.again:
            raise Finding("a notice is told once", f"again: {telephone.again[:5]}")
        with closing(sqlite3.connect(f"file:{Paths(self._world.data).ledger}?mode=ro", uri=True)) as db:
            sent = db.execute(
                "SELECT n.key, d.lane FROM notice n JOIN notice_delivery d ON d.notice_id = n.id"
                " WHERE n.state = 'sent' OR d.state = 'sent'"
            ).fetchall()
            failed = db.execute("SELECT key, error FROM notice WHERE state = 'failed'").fetchall()
            due = list(self._due(db))
        lanes = {(key, lane_of(telephone.name, party)) for key, party in telephone.heard}
        missing = [key for key, lane in sent if (key, lane) not in lanes]
        if missing or failed:
            raise Finding("a notice is told once", f"never told: {missing[:5]}; failed: {failed[:5]}")
        unheard = [(key, party) for key, party in due if (key, party) not in telephone.heard]
        if unheard:
            raise Finding("people are told", f"who never heard of it: {unheard[:5]}")

    def _due(self, db: sqlite3.Connection) -> Iterator[tuple[str, str]]:
        """What somebody must have heard: charges (both), declines (both), alerts: (key of the notice, party)."""
        holders = dict(self._holders())
        for key, payer, account in db.execute("SELECT key, payer, account FROM order_ WHERE gateway_txn IS NOT NULL"):
            yield f"charged:{key}:payer", payer
            if holders[account] != payer:
                yield f"charged:{key}:holder", holders[account]
        declined = (
            "SELECT DISTINCT o.key, o.payer, o.account, o.arm FROM order_ o JOIN order_step s ON s.order_id = o.id"
            " WHERE s.to_state = 'declined'"
        )
        for key, payer, account, arm in db.execute(declined):
            yield f"charge_failed:{key}", payer
            if holders[account] != payer:
                yield f"nothing_came:{account}:{arm}", holders[account]
        for account, arm, as_of_s in db.execute("SELECT account, arm, as_of_s FROM event WHERE kind = 'alert'"):
            yield f"low_balance:{account}:{arm}:{as_of_s}", holders[account]

    def _holders(self) -> Iterator[tuple[str, str]]:
        """Of every account of every version; none changes hands under one id."""
        for digest, _ in self._world.scene.versions:
            reader = version_of(self._world.registry, digest)
            for account in self._world.scene.accounts:
                try:
                    yield account, reader.holder_of_slot(*reader.find_account(account))
                except KeyError:
                    continue
