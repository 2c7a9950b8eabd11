"""I/O: orders, the credits that were applied for them, and the gateway's book, read at one moment and compared."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from audit import orders
from audit.compare import Difference
from audit.sources import connect
from config.settings import Paths

_CREDITS: Final = (
    "SELECT i.body FROM inbox i JOIN inbox_applied a ON a.inbox_id = i.id"
    " WHERE i.kind = 'credit' AND a.outcome = '' AND i.body LIKE '%\"order_id\"%'"
)


def compared(paths: Paths, gateway_book: Path | None, counts: dict[str, int]) -> list[Difference]:
    """Orders against applied credits, and the gateway's book against both."""
    with closing(connect(paths.ledger)) as db:
        db.execute("BEGIN")
        rows = [dict(row) for row in db.execute("SELECT id, account, arm, key, amount_fen, state FROM order_")]
        bodies = (json.loads(row["body"]) for row in db.execute(_CREDITS))
        keep = ("order_id", "amount_fen")
        applied = [{name: body[name] for name in keep} for body in bodies if body.get("order_id") is not None]
    counts["orders"], counts["credits"] = len(rows), len(applied)
    out = orders.orders(rows, applied)
    if gateway_book is not None:
        charges = charges_of(gateway_book)
        counts["charges"] = sum(orders.took_money(charge) for charge in charges)
        out += orders.gateway(charges, rows, applied)
    return out


def charges_of(path: Path) -> list[dict[str, Any]]:
    """Rows of a gateway's book: table `charge` of an SQLite file, or a JSON list (or {"charges": [...]})."""
    if path.suffix == ".json":
        told = json.loads(path.read_text())
        return list(told["charges"] if isinstance(told, dict) else told)
    with closing(connect(path)) as db:
        return [dict(row) for row in db.execute("SELECT * FROM charge")]
