"""I/O: the command `python -m simulators.checker`: truth books against a daemon's data directory.

Exit 0 when everything agrees, 1 when something does not, 2 when a file cannot be read.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

from simulators.fleet_check import Result, check
from simulators.fleet_ledger import NotReadable, billed_wh, gateway_charges, logged, order_credits
from simulators.truth import read_book


def outbox_left(path: Path) -> int:
    """Messages that an outbox file still holds."""
    if not path.exists():
        raise NotReadable(f"{path} is missing")
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return int(db.execute("SELECT count(*) FROM message").fetchone()[0])
    finally:
        db.close()


def check_files(
    truth: Path, data_dir: Path, gateway_books: Sequence[Path] = (), outbox: Path | None = None
) -> Result:
    """Read everything and compare; `NotReadable` when something is missing."""
    if not truth.exists():
        raise NotReadable(f"{truth} is missing")
    return check(
        read_book(truth),
        billed_wh(data_dir),
        logged(data_dir),
        [charge for book in gateway_books for charge in gateway_charges(book)],
        order_credits(data_dir) if gateway_books else (),
        outbox_left(outbox) if outbox is not None else 0,
    )


def main(argv: list[str] | None = None) -> int:
    """See the module's head."""
    parser = argparse.ArgumentParser(prog="python -m simulators.checker", description=__doc__)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--gateway-book", type=Path, action="append", default=[])
    parser.add_argument("--outbox", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    try:
        result = check_files(args.truth, args.data_dir, args.gateway_book, args.outbox)
    except (NotReadable, sqlite3.Error) as wrong:
        sys.stderr.write(f"checker: {wrong}\n")
        return 2
    if args.json:
        sys.stdout.write(json.dumps(result.as_json()) + "\n")
    else:
        for name, value in result.as_json().items():
            if name != "details":
                sys.stdout.write(f"{name:24} {value}\n")
        for detail in result.details:
            sys.stdout.write(f"  {json.dumps(detail, ensure_ascii=False)}\n")
    return 0 if result.clean else 1


if __name__ == "__main__":
    sys.exit(main())
