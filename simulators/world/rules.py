"""I/O (reads the files of a history): what must be true after every step, after every death, and at the end.

A rule that is broken raises `Finding`. The rules ask the files and the books of the world, never the daemon.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import datetime
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq
from sqlalchemy import Engine

from audit.compare import Difference
from audit.run import audit
from config.settings import Paths
from ingest.pipeline import Message
from ingest.wire import parse_topic
from ledger.database import reader_engine, snapshot
from ledger.reads import account_state, statement_rows
from ledger.schema import IN_FLIGHT
from rating.state import ARRAYS
from registry.image import NO_TRIGGER
from registry.store import RegistryReader
from simulators.checker import check_files
from simulators.fleet_check import Result
from simulators.quiet import quiet_of

if TYPE_CHECKING:
    from simulators.world.port import NodePort
    from simulators.world.world import World

_FLYING: Final = ", ".join(f"'{state}'" for state in IN_FLIGHT if state != "succeeded_late")
_DEAD: Final = ("declined", "cancelled")


class Finding(Exception):
    """A rule that does not hold."""

    def __init__(self, rule: str, how: str) -> None:
        super().__init__(f"{rule}: {how}")
        self.rule, self.how = rule, how


class Rules:
    """Of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        world.telephone.is_sent = self._is_sent
        self._zone = ZoneInfo(world.settings.timezone)
        self._db: sqlite3.Connection | None = None
        self._readers: Engine | None = None
        self._version = -1
        self._entry = 0
        self._orders: dict[str, int] = {}  # key -> amount
        self._lost_with_the_disk: set[tuple[str, int]] = set()

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
        if self._readers is not None:
            self._readers.dispose()
            self._readers = None

    def _ledger(self) -> sqlite3.Connection | None:
        if self._db is None:
            path = Paths(self._world.data).ledger
            if not path.exists():
                return None
            self._db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
            self._version = -1
        return self._db

    def _is_sent(self, key: str, lane: str) -> bool:
        db = self._ledger()
        assert db is not None
        asked = (
            "SELECT 1 FROM notice n JOIN notice_delivery d ON d.notice_id = n.id"
            " WHERE n.key = ? AND d.lane = ? AND d.state = 'sent'"
        )
        return db.execute(asked, (key, lane)).fetchone() is not None

    # -- after every step ----------------------------------------------------------------------------------------
    def after_step(self) -> None:
        """What the ledger says whenever it has changed, and what the fleet was told."""
        db = self._ledger()
        if db is None:
            return
        version = int(db.execute("PRAGMA data_version").fetchone()[0])
        if version == self._version:
            return
        self._version = version
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'posting'").fetchone():
            return
        self._sums(db)
        self._payments(db)
        if self._world.dice.random() < 0.1:
            self._balance()

    def _sums(self, db: sqlite3.Connection) -> None:
        sums = (
            "SELECT entry_id, sum(amount_fen) FROM posting WHERE entry_id > ? GROUP BY 1 HAVING sum(amount_fen) <> 0"
        )
        for entry, total in db.execute(sums, (self._entry,)):
            raise Finding("postings sum to zero", f"entry {entry}: {total}")
        self._entry = int(db.execute("SELECT coalesce(max(id), 0) FROM entry").fetchone()[0])

    def _payments(self, db: sqlite3.Connection) -> None:
        rows = db.execute(
            "SELECT id, key, account, mandate, payer, amount_fen, state, coalesce(caps_at_s, created_at_s)"
            " FROM order_"
        ).fetchall()
        flying = Counter(row[2] for row in rows if row[6] in IN_FLIGHT and row[6] != "succeeded_late")
        for account, count in flying.items():
            if count > 1:
                raise Finding("one order in flight an account", f"{account} has {count}")
        for _, key, _, _, _, amount, _, _ in rows:
            if self._orders.setdefault(key, amount) != amount:
                raise Finding("a key names one amount", f"{key}: {self._orders[key]} and {amount}")
        for key, amounts in chain.from_iterable(bank.amounts.items() for bank in self._world.banks.values()):
            if len(amounts) > 1:
                raise Finding("a key names one amount", f"{key} at the gateway: {sorted(amounts)}")
        self._caps(db, rows)

    def _caps(self, db: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> None:
        """What was reserved or taken on a local day and in a month, by mandate and by payer, over all partitions.

        What the gateway took after it had said no is beyond anybody's caps.
        """
        late = {row[0] for row in db.execute("SELECT order_id FROM order_step WHERE to_state = 'succeeded_late'")}
        terms = {
            row[0]: row[1:]
            for row in db.execute(
                "SELECT id, payer, cap_day_fen, cap_month_fen, cap_day_count, cap_charge_fen FROM mandate"
            )
        }
        rules = self._world.settings.autopay
        used: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        limits: dict[tuple[str, str], tuple[int, int]] = {}
        for order, _, _, mandate, payer, amount, state, at_s in rows:
            if state in _DEAD or order in late or mandate not in terms:
                continue
            _, day_fen, month_fen, day_count, charge_fen = terms[mandate]
            if amount > charge_fen:
                raise Finding("caps hold", f"order {order}: {amount} is more than one charge of {mandate} may be")
            local = datetime.fromtimestamp(at_s, self._zone)
            day, month = f"{local:%Y-%m-%d}", f"{local:%Y-%m}"
            mine, all_of = f"mandate {mandate}", f"payer {payer}"  # the settings bind the payer, a mandate itself
            limits |= {(mine, day): (day_fen, day_count), (mine, month): (month_fen, 10**9)}
            limits |= {
                (all_of, day): (rules.cap_day_fen, rules.cap_day_count),
                (all_of, month): (rules.cap_month_fen, 10**9),
            }
            for key in ((mine, day), (mine, month), (all_of, day), (all_of, month)):
                used[key][0] += amount
                used[key][1] += 1
        for key, (fen, count) in used.items():
            if fen > limits[key][0] or count > limits[key][1]:
                raise Finding("caps hold", f"{key[0]} on {key[1]}: {fen} fen in {count}, caps {limits[key]}")

    def _reader(self, digest: str) -> RegistryReader:
        """A version of the scene, which no history changes."""
        return _version(self._world.registry, digest)

    def _balance(self) -> None:
        """Of one account, drawn: the state's balance is what was posted, and live is less what accrued since."""
        world = self._world
        account = world.dice.choice(world.scene.accounts)
        if self._readers is None:
            self._readers = reader_engine(Paths(world.data).ledger)
        with snapshot(self._readers) as connection:
            digest = connection.exec_driver_sql(
                "SELECT registry_digest FROM checkpoint ORDER BY id DESC LIMIT 1"
            ).scalar()
            if not digest:
                return
            reader = self._reader(str(digest))
            try:
                partition, slot = reader.find_account(account)
                part = reader.image.partitions[partition]
                first, past = int(part.account_start[slot]), int(part.account_start[slot + 1])
                channels = [int(channel) for channel in part.account_channels[first:past]]
                state = account_state(connection, partition, slot, channels=channels, dtypes=ARRAYS)
            except KeyError:
                return
            posted = sum(row.amount_fen for row in statement_rows(connection, partition, slot))
        if state.balance_fen != posted:
            raise Finding("balance = posted", f"{account}: {state.balance_fen} in the state, {posted} posted")
        if state.live_fen != posted + (-state.accrued_e11) // 10**9:
            raise Finding("live = posted - accrued", f"{account}: {state}")

    # -- after a death -------------------------------------------------------------------------------------------
    def after_death(self) -> None:
        """What was acknowledged or said to be held is in the log or the archive."""
        world = self._world
        acknowledged, world.broker.acknowledged = world.broker.acknowledged, []
        paths = Paths(world.data)
        if not paths.log.exists() or self._ledger() is None:
            return
        kept = _kept(paths)
        if not world.restored:
            for stream, sequence in world.truth.sent():
                if sequence <= world.broker.told_held.get(stream, 0) and (stream, sequence) not in kept:
                    raise Finding("held is durable", f"stream {stream}, message {sequence}")
        for message in acknowledged:
            number = _number_of(message)
            if number is not None and number not in kept:
                raise Finding("acknowledged is durable", f"stream {number[0]}, message {number[1]}")

    def after_restore(self) -> None:
        """Back to a backup: what was held since then is gone as detail, and people may hear things again."""
        world = self._world
        self.close()
        self._entry = 0
        self._orders.clear()
        world.broker.acknowledged.clear()

    # -- at the end ----------------------------------------------------------------------------------------------
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
        self.close()
        self._checker()
        self._audit()
        self._nobody_forgotten()
        self._notices()
        self._limits()
        batch = self._world.dice.choice((1, 3, 50))
        for difference in differences(batch):
            raise Finding("replay gives the same state", difference)

    def _checker(self) -> None:
        world = self._world
        found: Result = check_files(world.folder / "truth.db", world.data, self._books(), world.folder / "outbox.db")
        due = self._corrections_due()
        left_wh = found.checker_difference_wh - sum(
            abs(d["used_wh"] - d["billed_wh"]) for d in found.details if d["what"] == "energy" and d["meter"] in due
        )
        details = [d for d in found.details if not self._late(d) and d.get("meter") not in due]
        if world.restored:  # energy and money must agree; messages that the backup did not have are detail
            details = [d for d in details if d["what"] != "held but in no log"]
        if details or left_wh or found.uncredited_charges or found.outbox_left:
            raise Finding("truth books agree", json.dumps({**found.as_json(), "details": details[:5]}))

    def _corrections_due(self) -> set[str]:
        """Meters whose span was ended behind what it had charged (`backdated`): the engine asks a person to correct.

        It takes a restore from before a change-out, and a bill that was estimated before the version came again.
        """
        with closing(sqlite3.connect(f"file:{Paths(self._world.data).ledger}?mode=ro", uri=True)) as db:
            return {str(meter) for (meter,) in db.execute("SELECT meter FROM exception WHERE reason = 'backdated'")}

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
        """Whether it is two charges for one low balance of which the gateway had refused one, before a restore.

        The step that says so went with the restored ledger: the auditor is right to report it, and a person was told.
        """
        head, _, keys = found.note.partition(": ")
        twice = head.startswith("charged twice for low balance ")
        return self._world.restored and twice and self._meant(keys.split(", ")) <= 1

    def _nobody_forgotten(self) -> None:
        """A low balance has a decision, and what was not charged waits with a time and a reason, or is over.

        Events at 0 are none: what a restored ledger did not know of is hung on them.
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
        if undecided or left:
            raise Finding("nobody is forgotten", f"undecided {undecided}, waiting for nothing {left}")

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
            reader = self._reader(digest)
            for account in self._world.scene.accounts:
                try:
                    partition, slot = reader.find_account(account)
                except KeyError:
                    continue
                limit = int(reader.image.partitions[partition].accounts["trigger_fen"][slot])
                if limit != NO_TRIGGER:
                    yield account, limit

    def _notices(self) -> None:
        """Every notice reached whom it was for, once."""
        telephone = self._world.telephone
        if telephone.again:
            raise Finding("a notice is told once", f"again: {telephone.again[:5]}")
        with closing(sqlite3.connect(f"file:{Paths(self._world.data).ledger}?mode=ro", uri=True)) as db:
            sent = db.execute(
                "SELECT n.key FROM notice n WHERE n.state = 'sent'"
                " AND EXISTS (SELECT 1 FROM notice_delivery d WHERE d.notice_id = n.id)"
            ).fetchall()
            failed = db.execute("SELECT key, error FROM notice WHERE state = 'failed'").fetchall()
        heard = {key for key, _ in telephone.heard}
        missing = [key for (key,) in sent if key not in heard]
        if missing or failed:
            raise Finding("a notice is told once", f"never told: {missing[:5]}; failed: {failed[:5]}")


@lru_cache(maxsize=64)
def _version(registry: Path, digest: str) -> RegistryReader:
    return RegistryReader(registry, digest)


def _kept(paths: Paths) -> set[tuple[str, int]]:
    """(stream, sequence) of every record of a message in log and archive, refused ones too."""
    with closing(sqlite3.connect(f"file:{paths.log}?mode=ro", uri=True)) as log:
        found = set(log.execute("SELECT stream, sequence FROM record WHERE sequence > 0"))
    for file in paths.archive.glob("*/*.parquet"):
        table = pq.read_table(file, columns=["stream", "sequence"])
        found.update(zip(table["stream"].to_pylist(), table["sequence"].to_pylist(), strict=True))
    return found


def _number_of(message: Message) -> tuple[str, int] | None:
    """Stream and sequence, where the message says them outside its payload."""
    topic = parse_topic(message.topic) if message.topic is not None else None
    if topic is None or topic.kind != "reads" or topic.sequence <= 0:
        return None
    return topic.stream, topic.sequence
