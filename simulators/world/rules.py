"""I/O (reads the files of a history): what must be true after every step, after every death, and at the end.

A rule that is broken raises `Finding`. The rules ask the files and the books of the world, never the daemon.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from datetime import datetime
from itertools import chain
from shutil import rmtree
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq

from audit.partition import Task, audit_partition
from config.settings import Paths
from ingest.pipeline import Message
from ingest.wire import parse_topic
from ledger.database import reader_engine, snapshot
from ledger.reads import balances
from ledger.schema import IN_FLIGHT
from rating.state import ARRAYS
from simulators.world.findings import Finding
from simulators.world.followed import Followed

if TYPE_CHECKING:
    from simulators.world.world import World

_FLYING: Final = ", ".join(f"'{state}'" for state in IN_FLIGHT if state != "succeeded_late")
_DEAD: Final = ("declined", "cancelled")
AUDITS: Final = 0.004  # of the ledger's changes: about one in a history


class Rules:
    """Of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        world.telephone.is_sent = self._is_sent
        self._zone = ZoneInfo(world.settings.timezone)
        self._db: sqlite3.Connection | None = None
        self._version = -1
        self._entry = 0
        self._followed = Followed(world)
        self._orders: dict[str, int] = {}  # key -> amount
        self._terms: dict[str, tuple[Any, ...]] = {}  # of every mandate that there ever was
        self._seen_orders: list[tuple[Any, ...]] = []  # as they were when they were last looked at
        self._archived: dict[tuple[str, int, int], set[tuple[str, int]]] = {}  # file -> (stream, sequence) in it

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

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
        self._followed.look(db)
        if self._world.look.random() < AUDITS:
            self._audit()

    def _sums(self, db: sqlite3.Connection) -> None:
        sums = (
            "SELECT entry_id, sum(amount_fen) FROM posting WHERE entry_id > ? GROUP BY 1 HAVING sum(amount_fen) <> 0"
        )
        for entry, total in db.execute(sums, (self._entry,)):
            raise Finding("postings sum to zero", f"entry {entry}: {total}")
        self._entry = int(db.execute("SELECT coalesce(max(id), 0) FROM entry").fetchone()[0])

    def _payments(self, db: sqlite3.Connection) -> None:
        rows = db.execute(
            "SELECT id, key, account, mandate, payer, amount_fen, state, coalesce(caps_at_s, created_at_s),"
            " submitted_at_s IS NOT NULL OR gateway_txn IS NOT NULL FROM order_"
        ).fetchall()
        for key, amounts in chain.from_iterable(bank.amounts.items() for bank in self._world.banks.values()):
            if len(amounts) > 1:
                raise Finding("a key names one amount", f"{key} at the gateway: {sorted(amounts)}")
        if rows == self._seen_orders:
            return
        self._seen_orders = rows
        flying = Counter(row[2] for row in rows if row[6] in IN_FLIGHT and row[6] != "succeeded_late")
        for account, count in flying.items():
            if count > 1:
                raise Finding("one order in flight an account", f"{account} has {count}")
        for _, key, _, _, _, amount, _, _, named in rows:  # what was never sent has named nothing yet
            if named and self._orders.setdefault(key, amount) != amount:
                raise Finding("a key names one amount", f"{key}: {self._orders[key]} and {amount}")
        self._caps(db, rows)

    def _caps(self, db: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> None:
        """What was reserved or taken on a local day and in a month, by mandate and by payer, over all partitions.

        What the gateway took after it had said no is beyond anybody's caps.
        """
        late = {row[0] for row in db.execute("SELECT order_id FROM order_step WHERE to_state = 'succeeded_late'")}
        mandates = "SELECT id, cap_day_fen, cap_month_fen, cap_day_count, cap_charge_fen FROM mandate"
        self._terms |= {mandate: terms for mandate, *terms in db.execute(mandates)}
        rules = self._world.settings.autopay
        used: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        limits: dict[tuple[str, str], tuple[int, int]] = {}
        for order, _, _, mandate, payer, amount, state, at_s, _ in rows:
            if state in _DEAD or order in late:
                continue
            day_fen, month_fen, day_count, charge_fen = self._terms[mandate]
            if amount > charge_fen:
                raise Finding("caps hold", f"order {order}: {amount} is more than one charge of {mandate} may be")
            day = datetime.fromtimestamp(at_s, self._zone).date().isoformat()
            month = day[:7]
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

    def _audit(self) -> None:
        """Every balance, posted and live, computed from the readings by the auditor, in the middle of it all.

        And what people are shown at that moment.
        """
        world = self._world
        kept = world.folder / "audited"
        kept.mkdir(exist_ok=True)
        for partition in range(world.settings.partitions):
            done = audit_partition(Task(world.data, partition, world.settings.rating, None, kept))
            if done.differences:
                raise Finding("the audit is zero", "; ".join(map(str, done.differences[:5])))
        rmtree(kept, ignore_errors=True)
        readers = reader_engine(Paths(world.data).ledger)
        with snapshot(readers) as connection:
            for partition in range(world.settings.partitions):
                self._followed.shown(partition, balances(connection, partition, ARRAYS).live_fen.tolist())
        readers.dispose()
        world.counts["audits on the way"] += 1

    # -- after a death -------------------------------------------------------------------------------------------
    def after_death(self) -> None:
        """What was acknowledged or said to be held is in the log or the archive."""
        world = self._world
        acknowledged, world.broker.acknowledged = world.broker.acknowledged, []
        paths = Paths(world.data)
        if not paths.log.exists() or self._ledger() is None:
            return
        kept = self._kept(paths)
        if not world.restored:
            for stream, sequence in world.truth.sent():
                if sequence <= world.broker.told_held.get(stream, 0) and (stream, sequence) not in kept:
                    raise Finding("held is durable", f"stream {stream}, message {sequence}")
        for message in acknowledged:
            number = _number_of(message)
            if number is not None and number not in kept:
                raise Finding("acknowledged is durable", f"stream {number[0]}, message {number[1]}")

    def _kept(self, paths: Paths) -> set[tuple[str, int]]:
        """(stream, sequence) of every record of a message in log and archive, refused ones too."""
        with closing(sqlite3.connect(f"file:{paths.log}?mode=ro", uri=True)) as log:
            found = set(log.execute("SELECT stream, sequence FROM record WHERE sequence > 0"))
        for file in paths.archive.glob("*/*.parquet"):
            stat = file.stat()
            name = str(file), stat.st_ino, stat.st_mtime_ns
            if name not in self._archived:
                with pq.ParquetFile(file) as parquet:
                    table = parquet.read(columns=["stream", "sequence"], use_threads=False)
                columns = table["stream"].to_pylist(), table["sequence"].to_pylist()
                self._archived[name] = set(zip(*columns, strict=True))
            found |= self._archived[name]
        return found

    def after_restore(self) -> None:
        """Back to a backup: what was held since then is gone as detail, and people may hear things again."""
        world = self._world
        self.close()
        self._entry = 0
        self._followed = Followed(world)
        self._orders.clear()
        self._seen_orders = []
        world.broker.acknowledged.clear()
        for bank in world.banks.values():
            bank.after_restore()


def _number_of(message: Message) -> tuple[str, int] | None:
    """Stream and sequence, where the message says them outside its payload."""
    topic = parse_topic(message.topic) if message.topic is not None else None
    if topic is None or topic.kind != "reads":
        return None
    if topic.format is None:
        named = dict(message.properties)
        return (named["stream"], int(named["sequence"])) if "sequence" in named else None
    return topic.stream, topic.sequence
