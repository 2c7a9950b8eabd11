"""kill -9 at random moments, again and again: daemon, fleet, gateway; then checker and audit at zero.

`make chaos` runs 300; fewer with `pytest tests/chaos -m chaos --kills 40 --storm-seed 2`. The figures of the last
run go into docs/RELIABILITY.md. Which part dies and after how long is drawn from the seed; what it was doing just
then is the machine's, so a seed repeats the plan and not the moment.
"""

import json
import random
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.clock import RealClock

FASTER = 20_000.0  # business seconds in a real one
FAULTS = "duplicate_message,duplicate_reading,reorder,backfill,outage,restart,bad_message,bad_reading,dead,vacant"
GATEWAY_FAULTS = (
    "decline=0.05,timeout_before=0.05,timeout_after=0.05,slow=0.1,error=0.05,"
    "duplicate_webhook=0.1,early_webhook=0.1,late_webhook=0.1"
)
SETTINGS = {
    "autopay": {"cooldown_s": 0, "cap_day_count": 1000, "cap_day_fen": 10**7, "cap_month_fen": 10**8},
    "archive": {"records_per_file": 64, "keep_records": 16, "age_max_s": int(FASTER)},
}
WHILE_STARTING = 0.25  # of the daemon's kills
START_REAL_S, UP_REAL_S = 3.0, 2.0
PAGE = Path(__file__).parents[2] / "docs" / "RELIABILITY.md"
BEGIN, END = "<!-- last storm: begin -->", "<!-- last storm: end -->"


class Storm:
    """Kills and restarts the parts of one rig."""

    def __init__(self, crash, rig, seed):
        self.crash, self.rig, self.dice = crash, rig, random.Random(seed)
        self.kills = Counter()

    def strike(self):
        """One kill, and whoever died comes back."""
        part = self.dice.choices(("daemon", "fleet", "gateway"), (0.7, 0.15, 0.15))[0]
        if part == "daemon" and self.dice.random() < WHILE_STARTING:
            part = "daemon, starting"
        getattr(self, f"_{part.partition(',')[0]}")(part)
        self.kills[part] += 1

    def _daemon(self, part):
        rig = self.rig
        if part == "daemon, starting":
            self._end_daemon()
            rig.start_daemon(wait=False)
            time.sleep(self.dice.uniform(0, START_REAL_S))
        else:
            time.sleep(self.dice.uniform(0, UP_REAL_S))
        self._end_daemon()
        rig.start_daemon()

    def _end_daemon(self):
        assert self.rig.daemon.poll() is None, f"the daemon ended by itself with {self.rig.daemon.returncode}"
        self.rig.kill_daemon()
        self.crash.holds(self.crash.moment(self.rig))

    def _fleet(self, _):
        time.sleep(self.dice.uniform(0, UP_REAL_S))
        assert self.rig.fleet.poll() is None, "the fleet ended by itself"
        self.rig.fleet.kill()
        self.rig.fleet.wait(10)
        self.rig.start_fleet()

    def _gateway(self, _):
        time.sleep(self.dice.uniform(0, UP_REAL_S))
        self.rig.gateway.kill()
        self.rig.gateway.wait(10)
        self.rig.start_gateway()


@pytest.mark.chaos
def test_storm(crash, request, tmp_path):
    kills = request.config.getoption("kills", 300)
    seed = request.config.getoption("storm_seed", 1)
    started = time.monotonic()
    told = crash.story(
        meters=120,
        days=400,
        seed=seed,
        factor=FASTER,
        partitions=4,
        lead_real_s=3.0,
        faults=FAULTS,
        gateway_faults=GATEWAY_FAULTS,
        settings=SETTINGS,
    )
    with crash.city(tmp_path, told) as rig:
        rig.prepare()
        rig.start_gateway()
        rig.start_daemon()
        rig.start_fleet()
        storm = Storm(crash, rig, seed)
        for _ in range(kills):
            storm.strike()
        end = crash.ends_at_zero(rig, deadline_real_s=240)
    report(kills, seed, storm.kills, end, time.monotonic() - started)


def report(kills, seed, by_part, end, real_s):
    """Write the block of the last storm into the page."""
    counts, checked = end["audited"]["counts"], end["checked"]
    date = datetime.fromtimestamp(RealClock().now_s(), UTC).date()
    rows = [
        ("command", f"`python -m pytest tests/chaos -m chaos --kills {kills} --storm-seed {seed}`"),
        ("date", f"{date}"),
        ("kills", f"{kills}: " + ", ".join(f"{count} {part}" for part, count in sorted(by_part.items()))),
        ("took", f"{real_s:.0f} s"),
        ("readings in the log", f"{counts['readings']:,}"),
        ("energy used = billed", f"{checked['used_wh']:,} Wh = {checked['billed_wh']:,} Wh"),
        ("charges = credits", f"{counts['charges']} = {counts['credits']}"),
        ("orders by state", json.dumps(Counter(end["now"].orders.values()), sort_keys=True)),
        ("notices told", f"{len(end['now'].told)}, each once"),
        ("checker: lost readings, double charges", f"{checked['readings_lost']}, {checked['double_charges']}"),
        ("audit: difference", f"{end['audited']['difference_fen']} fen"),
    ]
    block = "\n".join([BEGIN, "", "| | |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows), "", END])
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(before + block + after, encoding="utf-8")
