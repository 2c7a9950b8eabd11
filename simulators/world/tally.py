"""I/O (reads the ledger of a history): what happened in it that no fault's own dice tell: counted for whoever asks.

fleet:...      what the concentrators sent that is wrong, by class (simulators.fleet_bad, simulators.fleet_frames)
refused:...    what the daemon made of it, by reason
calendar:...   a cycle's end, and days on which Berlin's clocks change, that went by while meters were read
meter:...      registers that rolled over, meters that were replaced
payer:...      whose cap was used up when a balance was low, and who was charged in both partitions
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import datetime, timedelta, timezone
from hashlib import blake2b
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import numpy as np

from config.settings import Paths
from simulators.world.scene import PAYERS

if TYPE_CHECKING:
    from simulators.world.world import World

_BERLIN: Final = ZoneInfo("Europe/Berlin")
_HERE: Final = timezone(timedelta(hours=8))


def of_the_round(world: World, interval: int) -> None:
    """What the meters and the calendar came to since the round before."""
    load, counts = world.scene.load, world.counts
    to_s = load.end_s(interval)
    from_s = to_s - load.interval_s
    before, after = (datetime.fromtimestamp(s, _BERLIN).utcoffset() or timedelta() for s in (from_s, to_s))
    counts["calendar:clocks go forward"] += after > before
    counts["calendar:clocks go back"] += after < before
    months = [datetime.fromtimestamp(s, _HERE).month for s in (from_s, to_s)]
    counts["calendar:cycle's end"] += months[0] != months[1]
    counts["meter:change-out"] += sum(from_s < change.at_s <= to_s for change in load.changes)
    if interval:
        alive = load.alive[interval] & load.alive[interval - 1]
        counts["meter:rollover"] += int(np.count_nonzero(alive & (load.shown[interval] < load.shown[interval - 1])))


def at_end(world: World) -> None:
    """What fleet and ledger say when all is over; money and orders become part of the history's digest."""
    for name, count in world.fleet.counts.items():
        if name.startswith("fault:"):
            world.counts[f"fleet:{name.removeprefix('fault:')}"] += count
    ledger = Paths(world.data).ledger
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as db:
        for reason, count in db.execute("SELECT reason, count(*) FROM exception GROUP BY 1"):
            world.counts[f"refused:{reason}"] += count
        _payers(world.counts, db)
        books = blake2b(digest_size=16)
        for asked in ("SELECT * FROM posting ORDER BY 1", "SELECT * FROM order_ ORDER BY 1"):
            for row in db.execute(asked):
                books.update(repr(row).encode())
        world.note(f"books {books.hexdigest()}")


def _payers(counts: Counter[str], db: sqlite3.Connection) -> None:
    """Somebody who pays for their own home alone is "a holder"."""
    for (detail,) in db.execute("SELECT detail FROM decision WHERE reason = 'caps'"):
        for why in json.loads(detail)["skipped"].values():
            kind, _, scope = why.partition(" payer:")
            if kind == "cap":
                payer, period = scope.split(":")[:2]
                counts[f"payer:{payer if payer in PAYERS else 'a holder'} at the cap of a {period}"] += 1
    charged = "SELECT payer FROM order_ WHERE gateway_txn IS NOT NULL GROUP BY 1 HAVING count(DISTINCT partition) > 1"
    for (payer,) in db.execute(charged):
        counts[f"payer:{payer} in both partitions"] += 1
