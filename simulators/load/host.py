"""I/O: a daemon, a payment gateway and a city of our own, in one folder, for a load test that names no broker.

The city is one of `meterd registry generate`, as big as the load. Some of its homes use much and have little money,
with a mandate to top it up, so that orders and notices happen all through the run.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from config.clock import RealClock, ScaledClock
from config.settings import ArchiveSettings, IngestSettings
from registry.generate import TIMEZONE, generate
from simulators.fleet import instant_of
from simulators.load.asked import Target, begin_s, starts_at, uses_s
from simulators.load.population import THIRSTY_W, csv_table
from simulators.load.processes import DAEMON
from simulators.load.schedule import Wish
from simulators.quiet import quiet_of
from simulators.rig import Rig, Story

THIRSTY_SHARE: Final = 0.02
ORDERS_A_SECOND: Final = 5.0  # six million homes that pay twice a month
TRIGGER_FEN: Final = 2000
ENOUGH_YUAN: Final = 200  # three days of a backlog leave more than any limit
PRICE_FEN_KWH: Final = 58.9  # of the first tier, to spread the crossings over the run
SHARDS: Final = ("0", "1", "2", "3")  # the embedded broker lets a session have 100 messages under way, no more
PARTITIONS: Final = 4  # as docs/operating.md advises for one machine
DEADLINE_A_METER_S: Final = 0.0005  # of an import, a start, an audit: several times what they take
_ZONE: Final = ZoneInfo(TIMEZONE)


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
            partitions=PARTITIONS,
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
        self.own_sessions = True
        self.deadline_real_s = max(self.deadline_real_s, wish.meters * DEADLINE_A_METER_S)
        first_s = starts_at(wish, int(now.timestamp()), _ZONE) + begin_s(wish)
        first = datetime.fromtimestamp(first_s, _ZONE)
        if wish.pattern == "backfill":
            first -= timedelta(days=1)
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

    def begin(self) -> Target:
        """Gateway and daemon of the prepared city are up; where a load finds them.

        A daemon takes readings before it knows a city's meters: those would be exceptions, and no measurement.
        """
        self.start_gateway()
        self.start_daemon()
        self.await_active()
        assert self.daemon is not None
        assert self.gateway is not None
        return Target(
            "127.0.0.1", self.mqtt_port, self.registry, self.data, self.book, self.data / "notices.jsonl",
            processes={DAEMON: self.daemon.pid, "gateway": self.gateway.pid},
        )  # fmt: skip

    def await_active(self) -> None:
        """All that was imported is in force."""
        self._await(lambda: not quiet_of(self.data)["inbox"], self.deadline_real_s, "daemon's registry")

    def _furnish(self) -> None:
        """Some homes have a little more than the limit at which their mandate pays."""
        wish, registry = self.wish, self.registry
        count = max(1, round(min(wish.meters * THIRSTY_SHARE, wish.seconds * ORDERS_A_SECOND)))
        chosen = np.unique(np.linspace(0, wish.meters - 1, count).astype(int))
        homes = csv_table(registry / "accounts.csv").select(["account", "metering_point"]).take(chosen)
        self.thirsty = homes["metering_point"].to_pylist()
        poor = homes["account"].combine_chunks()
        dice = np.random.default_rng([wish.seed, 3])
        before_fen, spend_fen = (THIRSTY_W / 1000 * PRICE_FEN_KWH / 3600 * each_s for each_s in uses_s(wish))
        fen = TRIGGER_FEN + 1 + int(before_fen) + dice.uniform(0, max(1.0, 0.9 * spend_fen), len(chosen)).astype(int)
        few = pa.array([f"{one // 100}.{one % 100:02d}" for one in fen.tolist()])
        _set_balances(registry / "opening_accounts.csv", poor, few)
        _add_mandates(registry / "mandates.csv", poor)


def _set_balances(path: Path, accounts: Any, balances: Any) -> None:
    """`accounts`, `balances`: pyarrow strings, in the order in which the accounts stand in the file.

    Nobody else is near a limit: of a made-up city one home in thirty is, which a daemon that sees it for the first
    time would tell all at once: that is a night's work of its own, and no part of the load.
    """
    table = csv_table(path)
    few = pc.less(pc.cast(table["balance"], pa.float64()), ENOUGH_YUAN)
    enough = pc.if_else(few.combine_chunks(), f"{ENOUGH_YUAN}.00", table["balance"].combine_chunks())
    known = pc.is_in(table["account"].combine_chunks(), value_set=accounts)
    column = pc.replace_with_mask(enough, known, balances)
    _write(path, table.set_column(table.column_names.index("balance"), "balance", column))


def _add_mandates(path: Path, accounts: Any) -> None:
    """Each of the accounts has one that the daughter pays, and no other."""
    table = csv_table(path)
    own = {"payer": "daughter", "token": "tok-daughter", "amount": "20.00", "trigger": "20.00"}
    own |= {"cap_charge": "", "cap_day": "", "cap_month": "", "cap_day_count": ""}
    pattern = table.slice(0, 1).to_pylist()[0] | own
    added = [pattern | {"mandate": f"L-{name}", "account": name} for name in sorted(accounts.to_pylist())]
    rest = table.filter(pc.invert(pc.is_in(table["account"], value_set=accounts)))
    _write(path, pa.concat_tables([rest, pa.Table.from_pylist(added, rest.schema)]))


def _write(path: Path, table: Any) -> None:
    pacsv.write_csv(table, path, pacsv.WriteOptions(quoting_style="none"))
