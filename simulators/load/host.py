"""I/O: a daemon, a payment gateway and a city of our own, in one folder, for a load test that names no broker.

The city is one of `meterd registry generate`, as big as the load. Some of its homes use much and have little money,
with a mandate to top it up, so that orders and notices happen all through the run.
"""

from __future__ import annotations

import csv
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

import numpy as np

from config.clock import RealClock, ScaledClock
from config.settings import ArchiveSettings, IngestSettings
from registry.generate import generate
from simulators.fleet import instant_of
from simulators.load.population import THIRSTY_W
from simulators.load.schedule import BACKFILL_S, Wish
from simulators.rig import Rig, Story

THIRSTY_SHARE: Final = 0.02
ORDERS_A_SECOND: Final = 5.0  # six million homes that pay twice a month
TRIGGER_FEN: Final = 2000
PRICE_FEN_KWH: Final = 58.9  # of the first tier, to spread the crossings over the run
SHARDS: Final = ("0", "1", "2", "3")  # the embedded broker lets a session have 100 messages under way, no more
_ZONE: Final = timezone(timedelta(hours=8))


class Host(Rig):
    """A rig on real time whose registry is made for one wish. `thirsty`: metering points that run out of money."""

    def __init__(self, folder: Path, wish: Wish) -> None:
        now = datetime.fromtimestamp(RealClock().now_s(), _ZONE)
        story = Story(
            meters=wish.meters,
            seed=wish.seed,
            start=now.isoformat(timespec="seconds"),
            factor=1.0,
            lead_real_s=0.0,
            settings={
                "mqtt": {"shards": SHARDS},
                "ingest": IngestSettings().model_dump(include={"tick_interval_s", "resend_after_s", "resend_times"}),
                "archive": ArchiveSettings().model_dump(include={"age_max_s"}),
                "autopay": {"cap_day_count": 10**6, "cap_day_fen": 10**10, "cap_month_fen": 10**11},
                "gateways.simulated": {"settlement_horizon_s": 3600, "deadline_real_s": 5.0},
            },
        )
        super().__init__(folder, story)
        self.wish = wish
        first = now - timedelta(seconds=BACKFILL_S + 86_400) if wish.pattern == "backfill" else now
        self._first_day = first.date().isoformat()
        self.thirsty: list[str] = []

    def prepare(self) -> None:
        """Registry, settings, the first import."""
        self.folder.mkdir(parents=True, exist_ok=True)
        wish = self.wish
        generate(
            self.registry,
            meters=wish.meters,
            seed=wish.seed,
            start=self._first_day,
            shards=SHARDS,
            concentrator_size=wish.per_message,
        )
        self._furnish()
        (self.folder / "gateway.secret").write_text(self._secret)
        self.start_s = instant_of(self.story.start)
        self.origin_unix = ScaledClock.starting_in(0.0, self.start_s, 1.0).origin_unix
        self.config.write_text(self._settings())
        self.meterd("registry", "import", str(self.registry), "--config", str(self.config))

    def _furnish(self) -> None:
        """Some homes have a little more than the limit at which their mandate pays."""
        accounts = _rows(self.registry / "accounts.csv")
        balances = _rows(self.registry / "opening_accounts.csv")
        mandates = _rows(self.registry / "mandates.csv")
        count = max(1, round(min(len(accounts) * THIRSTY_SHARE, self.wish.seconds * ORDERS_A_SECOND)))
        chosen = np.unique(np.linspace(0, len(accounts) - 1, count).astype(int)).tolist()
        dice = np.random.default_rng([self.wish.seed, 3])
        spend_fen = THIRSTY_W / 1000 * PRICE_FEN_KWH / 3600 * self.wish.seconds
        pattern = mandates[0]
        names = set()
        for place in chosen:
            fen = TRIGGER_FEN + 1 + int(dice.uniform(0, max(1.0, 0.9 * spend_fen)))
            balances[place]["balance"] = f"{fen // 100}.{fen % 100:02d}"
            names.add(accounts[place]["account"])
            self.thirsty.append(accounts[place]["metering_point"])
        own = {"payer": "daughter", "token": "tok-daughter", "amount": "20.00", "trigger": "20.00"}
        own |= {"cap_charge": "", "cap_day": "", "cap_month": "", "cap_day_count": ""}
        rest = [row for row in mandates if row["account"] not in names]
        rest += [pattern | own | {"mandate": f"L-{name}", "account": name} for name in sorted(names)]
        _write(self.registry / "opening_accounts.csv", balances)
        _write(self.registry / "mandates.csv", rest)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        out.writeheader()
        out.writerows(rows)
