"""I/O: what the daemon's files say was billed, credited and logged, for the checker; everything is opened read-only.

The ledger's packed rows are read under the formats of `ledger.effects` and `rating.state`, in one snapshot; the
daemon may be running. Nothing here judges.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from config.reasons import Reason
from config.settings import Paths
from ledger.effects import PAGE_SLOTS, SUBLEDGER, Component
from rating.state import CHANNEL
from registry.store import load_image
from simulators.fleet_bad import FORGED
from simulators.fleet_check import Charge, Credit

_Name = tuple[int, int]  # meter address, register code
_Rows = npt.NDArray[np.void]  # SUBLEDGER
BUSY_DEADLINE_S: Final = 10.0
_STEPS: Final = 1000  # of SQLite's machine, from one look at the clock to the next
_NO_MESSAGE: Final = tuple(f"{reason.value}:" for reason in (Reason.SEQUENCE_LOST, *FORGED))
_NEWEST: Final = (
    "SELECT partition, registry_digest, counters FROM checkpoint"
    " WHERE id IN (SELECT max(id) FROM checkpoint GROUP BY partition)"
)


class NotReadable(Exception):
    """The data directory does not hold what a daemon leaves."""


@contextmanager
def _snapshot(path: Path, most_real_s: float | None = None) -> Iterator[sqlite3.Connection]:
    """`most_real_s`: then questions fail (sqlite3.OperationalError): a daemon's files grow while it is read."""
    if not path.exists():
        raise NotReadable(f"{path} is missing")
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=BUSY_DEADLINE_S, isolation_level=None)
    try:
        if most_real_s is not None:
            until = time.monotonic() + most_real_s
            db.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
        db.execute("BEGIN")
        yield db
    finally:
        db.close()


def billed_wh(data_dir: Path, most_real_s: float | None = None) -> dict[int, int]:
    """Energy billed by meter address: posted days, and the days that are still open.

    Without what was estimated for a bill and no reading has made good yet: no meter has said that.
    """
    paths = Paths(data_dir)
    found: dict[int, int] = defaultdict(int)
    with _snapshot(paths.ledger, most_real_s) as db:
        for partition, digest, _ in db.execute(_NEWEST).fetchall():
            if not digest:
                continue
            channels = load_image(paths.registry, digest).partitions[partition].channels
            names = list(zip(channels["meter"].tolist(), channels["register"].tolist(), strict=True))
            billed, guessed = _posted(db, partition, names)
            for slot, energy in _open_days(db, partition).items():
                billed[names[slot]] += energy
                if energy:
                    guessed[names[slot]] = 0
            for (meter, register), energy in billed.items():
                found[meter] += energy - guessed[meter, register]
    return dict(found)


def _posted(db: sqlite3.Connection, partition: int, names: list[_Name]) -> tuple[dict[_Name, int], dict[_Name, int]]:
    """Wh by meter and register in the subledger's energy rows; and of that, what was estimated since the last use.

    By register, not by span: an estimate at a move is one account's last register and the next one's first, and
    the reading that makes it good is the next one's.
    """
    found: dict[_Name, int] = defaultdict(int)
    guessed: dict[_Name, int] = defaultdict(int)
    pages = db.execute(
        "SELECT e.offset, e.booked_at_s, e.kind, s.body FROM subledger s JOIN entry e ON e.id = s.entry_id"
        " WHERE s.partition = ? ORDER BY e.id",
        (partition,),
    )
    for _, together in groupby(pages, key=itemgetter(0, 1)):
        for is_guess, rows in _in_time([(kind == "estimate", _energy(body)) for _, _, kind, body in together]):
            slots, place = np.unique(rows["channel"], return_inverse=True)
            sums = np.zeros(len(slots), np.int64)
            np.add.at(sums, place, rows["quantity"])
            for slot, energy in zip(slots.tolist(), sums.tolist(), strict=True):
                name = names[slot]
                found[name] += energy
                guessed[name] = guessed[name] + energy if is_guess else 0
    return found, guessed


def _energy(body: bytes) -> _Rows:
    rows: _Rows = np.frombuffer(body, SUBLEDGER)
    kept: _Rows = rows[(rows["component"] == Component.ENERGY) & (rows["channel"] >= 0)]
    return kept


def _in_time(pages: list[tuple[bool, _Rows]]) -> Iterator[tuple[bool, _Rows]]:
    """What one checkpoint posted, in the order of time: whether it is an estimate, and its rows.

    One checkpoint may close a bill with an estimate and take the readings after it, which make it good: its pages
    are by kind. An estimate ends with a day or an account, so what makes it good is posted with a later day.
    """
    if not any(is_guess for is_guess, _ in pages):
        yield from pages
        return
    for day in np.unique(np.concatenate([rows["day"] for _, rows in pages])).tolist():
        for is_guess, rows in sorted(pages, key=itemgetter(0)):
            yield is_guess, rows[rows["day"] == day]


def _open_days(db: sqlite3.Connection, partition: int) -> dict[int, int]:
    """Wh of the open day by channel slot, of the newest state: pages, then the deltas that are newer."""
    energy: dict[int, int] = {}
    version_of: dict[int, int] = {}
    for page, version, body in db.execute(
        "SELECT page, version, body FROM state_page WHERE partition = ? AND array = 'channel'", (partition,)
    ):
        version_of[page] = version
        rows = np.frombuffer(body, CHANNEL)["day_energy"].tolist()
        energy.update(enumerate(rows, page * PAGE_SLOTS))
    for version, count, body in db.execute(
        "SELECT version, count, body FROM state_delta WHERE partition = ? AND array = 'channel' ORDER BY version, id",
        (partition,),
    ):
        slots = np.frombuffer(body, "<i4", count)
        rows = np.frombuffer(body, CHANNEL, count, offset=4 * count)["day_energy"]
        pairs = zip(slots.tolist(), rows.tolist(), strict=True)
        energy.update((s, value) for s, value in pairs if version_of.get(s // PAGE_SLOTS, -1) < version)
    return energy


def logged(data_dir: Path) -> set[tuple[str, int]]:
    """(stream, sequence) of every message of the fleet that the log or the archive holds."""
    paths = Paths(data_dir)
    found: set[tuple[str, int]] = set()
    with _snapshot(paths.log) as db:
        rows = list(db.execute("SELECT stream, sequence, detail FROM record WHERE sequence > 0"))
    for file in sorted(paths.archive.glob("*/*.parquet")):
        with pq.ParquetFile(file) as parquet:  # read_table makes a data set of it first, which takes longer
            table = parquet.read(columns=["stream", "sequence", "detail"], use_threads=False)
        rows += zip(*(table[name].to_pylist() for name in ("stream", "sequence", "detail")), strict=True)
    # A declared loss and a forged message stand under a number of the stream, and are not its message.
    found.update((stream, number) for stream, number, detail in rows if not detail.startswith(_NO_MESSAGE))
    return found


def order_credits(data_dir: Path) -> list[Credit]:
    """Every order, and how many credits the inbox has of it: its own, and any other that names its transaction."""
    with _snapshot(Paths(data_dir).ledger) as db:
        rows = db.execute(
            "SELECT o.key, o.account, o.arm, o.amount_fen, count(i.id), o.gateway, o.gateway_txn FROM order_ o"
            " LEFT JOIN inbox i ON i.kind = 'credit' AND i.key = 'order:' || o.id || ':' || o.attempt"
            " GROUP BY o.id"
        ).fetchall()
        others = Counter(
            (str(body.get("gateway")), str(body.get("reference")))
            for (text,) in db.execute("SELECT body FROM inbox WHERE kind = 'credit' AND key NOT LIKE 'order:%'")
            for body in (json.loads(text),)
        )
    return [
        Credit(key, account, arm, amount_fen, own + others[gateway, txn])
        for key, account, arm, amount_fen, own, gateway, txn in rows
    ]


def gateway_charges(path: Path) -> list[Charge]:
    """The gateway simulator's own book: each row of its table `charge` is money that it took."""
    with _snapshot(path) as db:
        return [Charge(*row) for row in db.execute("SELECT key, txn, token, amount_fen FROM charge")]


def exceptions(data_dir: Path) -> dict[str, int]:
    """Rows of the exceptions queue by reason."""
    with _snapshot(Paths(data_dir).ledger) as db:
        return dict(db.execute("SELECT reason, count(*) FROM exception GROUP BY reason"))


def counters(data_dir: Path) -> dict[str, int]:
    """The daemon's own counters, summed over partitions."""
    found: dict[str, int] = defaultdict(int)
    with _snapshot(Paths(data_dir).ledger) as db:
        for _, _, text in db.execute(_NEWEST):
            for name, value in json.loads(text).items():
                found[name] += value
    return dict(found)
