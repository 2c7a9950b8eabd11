"""Storms over real processes: daemon, fleet and gateway are killed and put to sleep; then checker and audit at zero.

`make test` runs one of 20 kills. `make chaos` runs 1,000, as cities side by side in two workers, each city with its
own seed, and writes what came of it into docs/RELIABILITY.md; fewer with `--kills 200 --storm-seed 2`.
"""

import json
import random
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.clock import RealClock
from config.steps import OUTSIDE_STEPS, STEPS
from simulators.storm import ASLEEP, KINDS, Storm, plan

FASTER = 20_000.0  # business seconds in a real one
KEEPALIVE_S = 2  # of daemon and fleet: the broker gives a session up after one and a half
GATEWAY_DEADLINE_S = 1  # so long does the daemon wait for its answer
ASLEEP_S = 2 * KEEPALIVE_S + 1
FAULTS = "duplicate_message,duplicate_reading,reorder,backfill,outage,restart,bad_message,bad_reading,dead,vacant"
GATEWAY_FAULTS = (
    "decline=0.05,timeout_before=0.05,timeout_after=0.05,slow=0.1,error=0.05,"
    "duplicate_webhook=0.1,early_webhook=0.1,late_webhook=0.1"
)
SETTINGS = {
    "autopay": {"cooldown_s": 0, "cap_day_count": 1000, "cap_day_fen": 10**7, "cap_month_fen": 10**8},
    "archive": {"records_per_file": 64, "keep_records": 16, "age_max_s": int(FASTER)},
    "mqtt": {"keepalive_real_s": KEEPALIVE_S},
    "gateways.simulated": {
        "deadline_real_s": GATEWAY_DEADLINE_S,
        # A charge that waits in a sleeping gateway's socket is made when it wakes: "not found" is no answer before.
        "settlement_horizon_s": int(2 * ASLEEP_S * FASTER),
    },
}
WORKERS, CITY_KILLS = 2, 125
PAGE = Path(__file__).parents[2] / "docs" / "RELIABILITY.md"
BEGIN, END = "<!-- last storm: begin -->", "<!-- last storm: end -->"


def city(crash, folder, seed, kills, meters):
    """One city under its storm, to its end: (what happened, how it ended)."""
    told = crash.story(
        meters=meters,
        days=400,
        seed=seed,
        factor=FASTER,
        partitions=4,
        lead_real_s=3.0,
        fleet_keepalive_real_s=KEEPALIVE_S,
        faults=FAULTS,
        gateway_faults=GATEWAY_FAULTS,
        settings=SETTINGS,
    )
    dice = random.Random(seed)
    with crash.city(folder, told) as rig:
        rig.prepare()
        rig.start_gateway()
        rig.start_daemon()
        rig.start_fleet()
        storm = Storm(rig, dice, lambda: crash.holds(crash.moment(rig)), asleep_real_s=ASLEEP_S)
        for kind in plan(kills, dice):
            storm.strike(kind)
        return storm.counts, crash.ends_at_zero(rig, deadline_real_s=240)


def test_twenty_kills(crash, tmp_path):
    counts, end = city(crash, tmp_path, seed=20, kills=20, meters=40)
    assert all(counts[kind] for kind in KINDS)
    assert sum(counts[kind] for kind in KINDS if kind not in ASLEEP) == 20
    assert counts["line lost"] == counts["daemon, asleep"] + counts["fleet, asleep"]
    assert end["audited"]["counts"]["readings"] > 1_000
    assert end["audited"]["counts"]["charges"] > 0
    assert end["now"].told


@pytest.mark.chaos
def test_a_thousand_kills(crash, request, tmp_path):
    kills, seed = request.config.getoption("kills", 1000), request.config.getoption("storm_seed", 1)
    started, code = time.monotonic(), code_of()
    sizes = [CITY_KILLS] * (kills // CITY_KILLS) + ([kills % CITY_KILLS] if kills % CITY_KILLS else [])
    with ThreadPoolExecutor(WORKERS) as pool:
        asked = [
            pool.submit(city, crash, tmp_path / f"city{place}", 1000 * seed + place, size, 120)
            for place, size in enumerate(sizes)
        ]
        ended = [one.result() for one in asked]
    report(code, kills, seed, ended, time.monotonic() - started)


def code_of():
    """The commit that a storm ran on, where this is a git clone, and whether files differ from it."""

    def asked(*arguments):
        return subprocess.run(["git", *arguments], cwd=PAGE.parent, capture_output=True, text=True, check=False)

    try:
        commit, changed = asked("rev-parse", "--short", "HEAD"), asked("status", "--porcelain", "-uno", "--", "..")
    except OSError:
        return "no git here"
    if commit.returncode:
        return "no git clone"
    others = [line for line in changed.stdout.splitlines() if not line.endswith(f"docs/{PAGE.name}")]
    return f"{commit.stdout.strip()}{', and what was not committed' if others else ''}"


def report(code, kills, seed, ended, real_s):
    """Write the block of the last storm into the page."""
    counts = sum((struck for struck, _ in ended), Counter())
    audited = sum((Counter(end["audited"]["counts"]) for _, end in ended), Counter())
    figures = ("used_wh", "billed_wh", "readings_lost", "double_charges")
    checked = {name: sum(end["checked"][name] for _, end in ended) for name in figures}
    orders = sum((Counter(end["now"].orders.values()) for _, end in ended), Counter())
    date = datetime.fromtimestamp(RealClock().now_s(), UTC).date()
    steps = ", ".join(f"{step} {counts[f'at {step}']}" for step in STEPS + OUTSIDE_STEPS)
    deaths = {kind: counts[kind] for kind in KINDS if kind not in ASLEEP}
    rows = [
        ("code", code),
        ("command", f"`python -m pytest tests/chaos -m chaos --kills {kills} --storm-seed {seed}`"),
        ("date, took", f"{date}, {real_s:.0f} s, {len(ended)} cities in {WORKERS} workers"),
        ("kills", f"{sum(deaths.values())}: " + ", ".join(f"{count} {kind}" for kind, count in deaths.items())),
        ("asleep", ", ".join(f"{counts[kind]} {kind.split(',')[0]}" for kind in ASLEEP)),
        ("lines lost to the keep-alive", f"{counts['line lost']}, of all daemons and fleets that slept"),
        ("calls ran out", f"while {counts['call ran out']} of the gateways slept"),
        ("died at", f"{steps}; {counts['at no step in time']} did not come to their step and were killed"),
        ("readings in the log", f"{audited['readings']:,}"),
        ("energy used = billed", f"{checked['used_wh']:,} Wh = {checked['billed_wh']:,} Wh"),
        ("charges = credits", f"{audited['charges']} = {audited['credits']}"),
        ("orders by state", json.dumps(orders, sort_keys=True)),
        ("notices told", f"{sum(len(end['now'].told) for _, end in ended)}, each once"),
        ("checker: lost readings, double charges", f"{checked['readings_lost']}, {checked['double_charges']}"),
        ("audit: difference", f"{sum(end['audited']['difference_fen'] for _, end in ended)} fen"),
    ]
    block = "\n".join([BEGIN, "", "| | |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows), "", END])
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(before + block + after, encoding="utf-8")
