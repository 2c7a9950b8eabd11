"""I/O: how fast notices leave the outbox into the file, and how long charges wait behind the alerts of a midnight.

    python -m benchmarks.notices DIR [--alerts 190000] [--charges 500]

Puts the alerts into an empty ledger, then the charges (of the accounts that were told last), and steps a dispatcher
until all are out: no daemon around it. DIR decides what a sync costs. Ends with an error when one was told twice.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from autopay.channels import FileChannel
from autopay.notices import Party
from autopay.outbox import NoticeDispatcher
from config.clock import RealClock
from config.settings import LedgerSettings, NoticeSettings
from ledger.schema import notice
from ledger.store import LedgerStore


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


def measure(folder: Path, alerts: int, charges: int) -> str:
    """One run; what it came to."""
    clock = RealClock()
    store = LedgerStore.open(
        folder / "ledger.db", settings=LedgerSettings(), clock=clock, log_id="log", partitions=1, arrays={}
    )
    values = rows(alerts, charges, clock.now_s())
    store.write(lambda connection: connection.execute(insert(notice), values))
    path, holder = folder / "notices.jsonl", Party("parents", "父母", "zh")
    sender = NoticeDispatcher(store, [FileChannel(path)], lambda _party, _account: holder, clock, NoticeSettings())
    begun, processor = clock.monotonic_s(), time.process_time()
    keys: list[str] = []
    charged, last_real_s = 0, 0.0
    with path.open(encoding="utf-8") as file:
        while len(keys) < len(values):
            sender.step()
            for line in file:
                keys.append(json.loads(line)["key"])
                charged += keys[-1].startswith("charged")
            if charged == charges and not last_real_s:
                last_real_s = clock.monotonic_s() - begun
    took, processor = clock.monotonic_s() - begun, time.process_time() - processor
    while sender.step():  # what is out is marked
        pass
    assert len(set(keys)) == len(keys) == sender.counts["sent"], "a notice was told twice"
    sender.stop()
    store.close()
    a_second, each_us = len(keys) / took, processor / len(keys) * 1e6
    return f"{a_second:.0f} a second, {each_us:.0f} us of processor each; the last charge after {last_real_s:.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--alerts", type=int, default=190_000)
    parser.add_argument("--charges", type=int, default=500)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        print(measure(Path(folder), asked.alerts, asked.charges))


if __name__ == "__main__":
    main()
