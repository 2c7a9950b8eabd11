"""I/O: orders, the credits that were applied for them, and the gateway's book, read at one moment and compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from audit import orders
from audit.compare import Difference
from audit.sources import connect
from config.settings import Paths

_CREDITS: Final = (
    "SELECT i.body FROM inbox i JOIN inbox_applied a ON a.inbox_id = i.id"
    " WHERE i.kind = 'credit' AND a.outcome = '' AND i.body LIKE '%\"order_id\"%'"
)
_WAITING: Final = (
    "SELECT i.body FROM inbox i WHERE i.kind = 'credit' AND i.body LIKE '%\"order_id\"%'"
    " AND NOT EXISTS (SELECT 1 FROM inbox_applied a WHERE a.inbox_id = i.id)"
)
_ORDERS: Final = (
    "SELECT id, account, arm, key, amount_fen, state, created_at_s, caps_at_s, mandate, payer FROM order_"
)
_MANDATES: Final = "SELECT id, cap_charge_fen, cap_day_fen, cap_month_fen, cap_day_count FROM mandate"
_UNTOLD: Final = (
    "WITH alert AS (SELECT 'low_balance:' || account || ':' || arm || ':' || as_of_s AS key FROM event"
    " WHERE kind = 'alert') SELECT key FROM alert WHERE key NOT IN (SELECT key FROM notice)"
)
_BESIDE: Final = (  # other credits of what an order's own credit has already brought
    "SELECT o.account, i.key, o.gateway_txn, json_extract(i.body, '$.amount_fen') AS amount_fen FROM inbox i"
    " JOIN order_ o ON o.gateway = json_extract(i.body, '$.gateway')"
    " AND o.gateway_txn = json_extract(i.body, '$.reference')"
    " WHERE i.kind = 'credit' AND json_extract(i.body, '$.order_id') IS NULL"
)
_STEPS: Final = "SELECT order_id, at_s, from_state, to_state, evidence FROM order_step ORDER BY id"


def compared(paths: Paths, gateway_books: Sequence[Path], zone: ZoneInfo, counts: dict[str, int]) -> list[Difference]:
    """Orders against applied credits, their steps and the caps; the gateways' books against both; alerts told."""
    with closing(connect(paths.ledger)) as db:
        db.execute("BEGIN")
        rows = [dict(row) for row in db.execute(_ORDERS)]
        moves = [dict(row) for row in db.execute(_STEPS)]
        mandates = {row["id"]: dict(row) for row in db.execute(_MANDATES)}
        used = {row[0]: (row[1], row[2]) for row in db.execute("SELECT scope, amount_fen, count FROM cap_use")}
        (ruling_s,) = db.execute("SELECT COALESCE(MAX(activated_at_s), 0) FROM registry_version").fetchone()
        untold = [row[0] for row in db.execute(_UNTOLD)]
        (alerts,) = db.execute("SELECT COUNT(*) FROM event WHERE kind = 'alert'").fetchone()
        (notices,) = db.execute("SELECT COUNT(*) FROM notice WHERE template = 'low_balance'").fetchone()
        bodies = (json.loads(row["body"]) for row in db.execute(_CREDITS))
        keep = ("order_id", "amount_fen")
        applied = [{name: body[name] for name in keep} for body in bodies if body.get("order_id") is not None]
        beside = [tuple(row) for row in db.execute(_BESIDE)]
        orders_of = (json.loads(row["body"]).get("order_id") for row in db.execute(_WAITING))
        waiting = frozenset(int(number) for number in orders_of if number is not None)
    counts["credits_waiting"] = len(waiting)
    counts["orders"], counts["credits"] = len(rows), len(applied)
    counts["alerts"] = alerts
    out = orders.orders(rows, applied) + orders.steps(rows, moves) + orders.in_flight(rows, moves)
    out += orders.caps(rows, moves, used, mandates, ruling_s, zone) + orders.alerts(untold, alerts, notices)
    out += [
        Difference(account, "", "order", 0, int(fen), f"credit {key} of transaction {txn}, beside its order's own")
        for account, key, txn, fen in beside
    ]
    if gateway_books:
        charges = [charge for book in gateway_books for charge in charges_of(book)]
        counts["charges"] = sum(orders.took_money(charge) for charge in charges)
        refused = orders.refused_by_gateway(moves)
        keys = {str(charge["key"]) for charge in charges if orders.took_money(charge)}
        counts["charged_after_refusal"] = sum(str(row["key"]) in keys for row in rows if row["id"] in refused)
        out += orders.gateway(charges, rows, applied, waiting, refused)
    return out


def charges_of(path: Path) -> list[dict[str, Any]]:
    """Rows of a gateway's book: table `charge` of an SQLite file, or a JSON list (or {"charges": [...]})."""
    if path.suffix == ".json":
        told = json.loads(path.read_text())
        return list(told["charges"] if isinstance(told, dict) else told)
    with closing(connect(path)) as db:
        return [dict(row) for row in db.execute("SELECT * FROM charge")]
