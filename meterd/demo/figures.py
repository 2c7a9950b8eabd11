"""I/O (reads the demo's data directory): the figures of the end: verdicts, money, orders, the story's own facts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from config.settings import Paths
from ledger.database import reading
from ledger.reads import (
    StatementRow,
    counters,
    exceptions_by_reason,
    orders_by_state,
    statement_rows,
    trial_balance,
)
from ledger.schema import order, registry_version
from meterd.views.money import yuan
from registry.store import RegistryReader

STORY_ACCOUNT = "parents"
STORY_TRIGGER_FEN = 2000  # of her mandate, as registry.generate writes it


@dataclass(frozen=True, slots=True)
class Figures:
    """What the ledger and the outbox say after the month."""

    verdicts: dict[str, int]
    money_fen: dict[str, int]
    orders: dict[str, int]
    exceptions: dict[str, int]
    charges: list[dict[str, Any]]  # of the story's account
    notices: list[dict[str, Any]]  # about the story's account, as they went out
    statement: list[StatementRow]


def figures_of(data_dir: Path) -> Figures:
    """Read one snapshot of the ledger and the notices file."""
    paths = Paths(data_dir)
    with reading(paths.ledger) as connection:
        version = registry_version
        newest = select(version.c.digest).where(version.c.activated_at_s.is_not(None))
        digest = connection.execute(newest.order_by(version.c.number.desc()).limit(1)).scalar_one()
        partition, slot = RegistryReader(paths.registry, str(digest)).find_account(STORY_ACCOUNT)
        counted = counters(connection)
        charged = select(order).where(order.c.account == STORY_ACCOUNT).order_by(order.c.id)
        return Figures(
            verdicts={k.removeprefix("verdict."): n for k, n in counted.items() if k.startswith("verdict.")},
            money_fen=trial_balance(connection),
            orders=orders_by_state(connection),
            exceptions=exceptions_by_reason(connection),
            charges=[dict(row) for row in connection.execute(charged).mappings()],
            notices=[n for n in _notices(data_dir / "notices.jsonl") if n["account"] == STORY_ACCOUNT],
            statement=statement_rows(connection, partition, slot),
        )


def _notices(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def story_faults(figures: Figures) -> list[str]:
    """What the story lacks; empty when it happened: low, charged once a time, credited, both told the same."""
    faults = []
    credited = [c for c in figures.charges if c["state"] == "credited"]
    if not credited:
        left_fen = sum(row.amount_fen for row in figures.statement)
        never = "the daughter's mandate was never charged"
        low = left_fen <= STORY_TRIGGER_FEN or bool(figures.charges)
        faults.append(never if low else f"{never}: the parents still have {yuan(left_fen)} yuan; give it more --days")
    if len(credited) != len({c["arm"] for c in credited}):
        faults.append("one low balance was charged twice")
    if len([row for row in figures.statement if row.component == "credit"]) != len(credited):
        faults.append("credits on the parents' account differ from the orders")
    told = [n for n in figures.notices if n["template"] == "charged"]
    faults += [
        f"{party} was not told once of every charge"
        for party in ("daughter", "parents")
        if len([n for n in told if n["party"] == party]) != len(credited)
    ]
    if told and not any("已自动缴费100元" in n["text"] for n in told):
        faults.append("the message does not name the amount")
    return faults
