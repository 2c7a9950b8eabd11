"""I/O (reads the files of a history): what must be true after every step, after every death, and at the end.

A rule that is broken raises `Finding`. The rules ask the files and the books of the world, never the daemon.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from datetime import datetime
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq
from sqlalchemy import Engine

from config.settings import Paths
from ingest.pipeline import Message
from ingest.wire import parse_topic
from ledger.database import reader_engine, snapshot
from ledger.reads import account_state, statement_rows
from ledger.schema import IN_FLIGHT
from rating.state import ARRAYS
from registry.store import RegistryReader

if TYPE_CHECKING:
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
        self._seen_orders: list[tuple[Any, ...]] = []  # as they were when they were last looked at
        self._archived: dict[tuple[str, int, int], set[tuple[str, int]]] = {}  # file -> (stream, sequence) in it

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
        terms = {
            row[0]: row[1:]
            for row in db.execute(
                "SELECT id, payer, cap_day_fen, cap_month_fen, cap_day_count, cap_charge_fen FROM mandate"
            )
        }
        rules = self._world.settings.autopay
        used: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        limits: dict[tuple[str, str], tuple[int, int]] = {}
        for order, _, _, mandate, payer, amount, state, at_s, _ in rows:
            if state in _DEAD or order in late or mandate not in terms:
                continue
            _, day_fen, month_fen, day_count, charge_fen = terms[mandate]
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

    def _reader(self, digest: str) -> RegistryReader:
        return version_of(self._world.registry, digest)

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
        self._orders.clear()
        self._seen_orders = []
        world.broker.acknowledged.clear()
        for bank in world.banks.values():
            bank.after_restore()


@lru_cache(maxsize=64)
def version_of(registry: Path, digest: str) -> RegistryReader:
    """A version of a scene, which no history changes."""
    return RegistryReader(registry, digest)


def _number_of(message: Message) -> tuple[str, int] | None:
    """Stream and sequence, where the message says them outside its payload."""
    topic = parse_topic(message.topic) if message.topic is not None else None
    if topic is None or topic.kind != "reads" or topic.sequence <= 0:
        return None
    return topic.stream, topic.sequence
