"""I/O: the parents' balance over the month as a PNG, with every top-up marked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.dates as mdates
import matplotlib.pyplot as plt

from ledger.reads import StatementRow

_DAY_S = 86_400


def balance_steps(rows: Sequence[StatementRow], offset_s: int) -> list[tuple[int, int]]:
    """(UTC second, balance in fen after it), in order of time: a day's use falls at its end, a credit when booked."""
    moves = sorted(
        (
            row.booked_at_s if row.kind not in ("usage", "estimate") else (row.day + 1) * _DAY_S - offset_s,
            row.amount_fen,
        )
        for row in rows
    )
    steps: list[tuple[int, int]] = []
    balance = 0
    for at_s, amount in moves:
        balance += amount
        steps.append((at_s, balance))
    return steps


def draw_balance(
    rows: Sequence[StatementRow], path: Path, *, trigger_fen: int, alert_fen: int, offset_s: int = 28_800
) -> None:
    """Write the PNG; one step line, the two thresholds, a mark and a label at each top-up."""
    zone = timedelta(seconds=offset_s)
    steps = balance_steps(rows, offset_s)
    times: Any = [datetime.fromtimestamp(at_s, UTC) + zone for at_s, _ in steps]
    yuan = [balance / 100 for _, balance in steps]
    figure, axes = plt.subplots(figsize=(10, 4.5), dpi=120)
    axes.step(times, yuan, where="post", color="#1f5f8b", linewidth=1.8, label="balance")
    axes.axhline(alert_fen / 100, color="#c9a227", linestyle=":", label=f"notice at {alert_fen / 100:.0f} yuan")
    axes.axhline(trigger_fen / 100, color="#b0413e", linestyle="--", label=f"autopay at {trigger_fen / 100:.0f} yuan")
    for row in rows:
        if row.component != "credit":
            continue
        at: Any = datetime.fromtimestamp(row.booked_at_s, UTC) + zone
        after = max(balance for at_s, balance in steps if at_s == row.booked_at_s) / 100
        axes.plot([at], [after], "o", color="#2e8b57", markersize=8)
        axes.annotate(
            f"+{row.amount_fen / 100:.0f} yuan, paid by the daughter",
            (at, after),
            textcoords="offset points",
            xytext=(-10, 6),
            ha="right",
            color="#2e8b57",
        )
    axes.set_title("Prepaid balance of the parents' meter")
    axes.set_ylabel("yuan")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.02, y=0.15)
    formatter: Any = mdates.DateFormatter
    axes.xaxis.set_major_formatter(formatter("%d %b"))
    axes.grid(visible=True, alpha=0.25)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncol=3, frameon=False)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
