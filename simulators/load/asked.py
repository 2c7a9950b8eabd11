"""Pure: what a load test is asked to be: where the load goes, and what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from math import ceil
from pathlib import Path
from typing import Final

from simulators.load.figures import Objective
from simulators.load.schedule import (
    BACKFILL_S,
    FREEZE_AGE_S,
    QUARTER_S,
    NoSchedule,
    Wish,
    midnight,
    schedule,
    sweep_s,
)

READ_AGAIN_S: Final = 10  # a meter is read no more often: its register moves in steps
PEAKS: Final = {"ramp": 2.0, "morning": 2.0}


class LoadFailed(Exception):
    """The test could not be run to its end; the message says why."""


@dataclass(slots=True)
class Target:
    """Where the load goes. `registry`: the directory whose meters are sent for; `data`: of a daemon on this machine.

    `cafile`, `cert`, `key`: files for TLS; `processes`: whose processor and memory are noted, by name;
    `broker`: the broker's process, when it is not to be looked for; `config`, `books`: for the audit of a daemon that
    is not ours, its settings and what its gateways say that they have charged. `book` is one that can be watched.
    """

    host: str
    port: int
    registry: Path
    data: Path | None = None
    book: Path | None = None
    notices: Path | None = None
    user: str = ""
    password: str = ""
    cafile: str = ""
    cert: str = ""
    key: str = ""
    processes: dict[str, int] = field(default_factory=dict)
    broker: int | None = None
    config: Path | None = None
    books: Sequence[Path] = ()


@dataclass(slots=True)
class Test:
    """What is to be run. `numbers`: one of `packets.NUMBERS`; a daemon of MQTT 3.1.1 hears no properties."""

    wish: Wish
    format: str = "arrow"
    connections: int = 8
    processes: int = 1
    wait_s: float = 60.0
    faults: dict[str, float] = field(default_factory=dict)
    objectives: Sequence[Objective] = ()
    audit: bool = True
    numbers: str = "properties"

    def check(self) -> None:
        """Raise `NoSchedule` for what cannot be."""
        schedule(self.wish)
        peak = PEAKS.get(self.wish.pattern, 1.0)
        again_s = self.wish.meters / self.wish.rate / peak
        if again_s < READ_AGAIN_S and _reads_by_the_second(self.wish):
            most = f"{peak:g} times as many at the peak, " if peak > 1.0 else ""
            raise NoSchedule(
                f"{self.wish.meters} meters at {self.wish.rate:g} readings a second, {most}are read every"
                f" {again_s:.1f} s: at least {READ_AGAIN_S} s, or a register's last digit is more power than a"
                f" connection has. Ask for --meters {ceil(self.wish.rate * peak * READ_AGAIN_S)} or more, or for"
                f" --rate {self.wish.meters / peak / READ_AGAIN_S:g} or less"
            )
        if self.processes > self.wish.senders:
            raise NoSchedule(f"{self.wish.senders} concentrators are too few for {self.processes} processes")


def _reads_by_the_second(wish: Wish) -> bool:
    """Whether meters are read as often as messages come; what a midnight has is of quarter hours, but the rest."""
    return wish.pattern != "midnight" or midnight(wish).rest > wish.senders


def begin_s(wish: Wish) -> int:
    """Second of the run from which registers move: a quarter of an hour before it, or a backlog's beginning.

    So the first reading of every meter has energy, as that of a meter that is read every quarter of an hour. At a
    midnight that is a quarter of an hour before the oldest reading.
    """
    if wish.pattern == "midnight":
        night = midnight(wish)
        return night.read_s - QUARTER_S * max(night.quarters, night.rounds + 1)
    return -BACKFILL_S if wish.pattern == "backfill" else -QUARTER_S


def uses_s(wish: Wish) -> tuple[int, float]:
    """How long meters have used energy before what they send is to make balances low, and how long from then on."""
    if wish.pattern == "midnight":  # the freeze has the quarter of an hour after the last one
        return midnight(wish).read_s - QUARTER_S - begin_s(wish), QUARTER_S + FREEZE_AGE_S
    return QUARTER_S, wish.seconds


def starts_at(wish: Wish, now_s: int, zone: tzinfo) -> int:
    """UTC of the run's second 0 by the meters' clocks: now; a midnight sweep was at 00:05 of the last midnight."""
    if wish.pattern != "midnight":
        return now_s
    now = datetime.fromtimestamp(now_s, zone)
    sweep = now.replace(hour=0, minute=5, second=0)
    if sweep > now:
        sweep = (sweep - timedelta(days=1)).replace(hour=0, minute=5)
    return int(sweep.timestamp()) - sweep_s(wish)
