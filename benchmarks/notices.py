"""I/O: `notices.backlog`: how fast notices leave the outbox, and how long charges wait behind a midnight's alerts.

Puts 190,000 alerts into an empty ledger, then 500 charges (of the accounts that were told last), and steps a
dispatcher until all are out: no daemon around it. The baseline writes the same lines, as many with one sync, and
keeps no book; of the wait it is the time in which all were out. RUNS outboxes, each a ledger of its own. TMPDIR
decides what a sync costs.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from sqlalchemy import insert

from autopay.channels import FileChannel
from autopay.notices import Party
from autopay.outbox import HAND_MAX, NoticeDispatcher
from benchmarks.harness import Benchmark, Result, repeated, result, timed
from config.clock import RealClock
from config.settings import LedgerSettings, NoticeSettings
from ledger.schema import notice
from ledger.store import LedgerStore

ALERTS: Final = 190_000
CHARGES: Final = 500
DEADLINE_S: Final = 600
RUNS: Final = 3
WHY: Final = {
    "notices.backlog": "the bare file keeps no book: here each batch is fanned out, and marked when it is out",
    "notices.backlog.last_charge": "charges go before alerts, though they were written last",
}


def rows(alerts: int, charges: int, now_s: int) -> list[dict[str, Any]]:
    """Alerts, then charges, as rating and autopay write them."""
    same = {"party": "", "created_at_s": now_s, "next_at_s": now_s}
    low = json.dumps({"balance_fen": 1900, "as_of_s": now_s})
    paid = json.dumps({"amount_fen": 10_000, "order_id": 1, "payer": "daughter"})
    accounts = [f"A{number:07d}" for number in range(alerts)]
    told = [
        {"key": f"low_balance:{a}:0:{now_s}", "template": "low_balance", "account": a, "params": low} | same
        for a in accounts
    ]
    charged = [
        {"key": f"charged:{a}:1:1:holder", "template": "charged", "account": a, "params": paid} | same
        for a in accounts[-charges:]
    ]
    return told + charged


def whole_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines that are whole by now; the rest of a file that grows is read the next time."""
    while (line := file.readline()).endswith(b"\n"):
        yield line
    file.seek(-len(line), os.SEEK_CUR)


def measure(folder: Path, alerts: int, charges: int) -> tuple[float, float]:
    """Seconds until all were out, and until the last charge was; AssertionError when one was told twice."""
    clock = RealClock()
    store = LedgerStore.open(
        folder / "ledger.db", settings=LedgerSettings(), clock=clock, log_id="log", partitions=1, arrays={}
    )
    values = rows(alerts, charges, clock.now_s())
    store.write(lambda connection: connection.execute(insert(notice), values))
    path, holder = folder / "notices.jsonl", Party("parents", "父母", "zh")
    sender = NoticeDispatcher(store, [FileChannel(path)], lambda _party, _account: holder, clock, NoticeSettings())
    begun_s, charged_s = clock.monotonic_s(), 0.0
    keys: list[str] = []
    charged = 0
    with path.open("rb") as file:
        while len(keys) < len(values):
            assert clock.monotonic_s() - begun_s < DEADLINE_S, f"{len(keys)} of {len(values)} are out"
            sender.step()
            for line in whole_lines(file):
                keys.append(json.loads(line)["key"])
                charged += keys[-1].startswith("charged")
            if charged == charges and not charged_s:
                charged_s = clock.monotonic_s() - begun_s
    took_s = clock.monotonic_s() - begun_s
    while sender.step():  # what is out is marked
        pass
    assert len(set(keys)) == len(keys) == sender.counts["sent"], "a notice was told twice"
    sender.stop()
    store.close()
    return took_s, charged_s


def bare(path: Path) -> float:
    """Seconds for the same lines into a file, HAND_MAX with one sync, and nothing else."""
    lines = path.read_bytes().splitlines(keepends=True)
    with path.with_suffix(".bare").open("wb", buffering=0) as file:

        def write() -> None:
            for first in range(0, len(lines), HAND_MAX):
                file.write(b"".join(lines[first : first + HAND_MAX]))
                os.fsync(file.fileno())

        return timed(write)


def backlog() -> list[Result]:
    """A midnight's alerts and the charges behind them."""
    count = ALERTS + CHARGES

    def once() -> tuple[float, float, float]:
        with tempfile.TemporaryDirectory(prefix="meterd-notices-") as name:
            took_s, charged_s = measure(Path(name), ALERTS, CHARGES)
            return took_s, charged_s, bare(Path(name) / "notices.jsonl")

    took_s, charged_s, bare_s = zip(*repeated(RUNS, once), strict=True)
    rates = ([count / seconds for seconds in side] for side in (took_s, bare_s))
    return [
        result("notices.backlog", "messages/s", "the same lines into a file, a sync a batch", *rates, paired=True),
        result("notices.backlog.last_charge", "s", "until all messages are out", charged_s, took_s, paired=True),
    ]


BENCHMARKS: dict[str, Benchmark] = {"notices.backlog": backlog}
