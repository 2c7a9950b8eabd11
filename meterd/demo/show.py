"""I/O: the demo in real processes: prepares, runs the month with live progress, then checks, audits and reports."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from config.settings import AutopaySettings
from meterd import output
from meterd.demo.figures import STORY_ACCOUNT, Figures, figures_of, story_faults
from meterd.demo.picture import draw_balance
from simulators.rig import Rig, RigFailed, Story

READINGS_PER_S = 150_000  # the pace that the month is run at: about a third of what two cores can do
WITH_FAULTS_PER_S = 30_000  # mixed formats and resends cost more; a clock that outran its fleet would be a fault too
GATEWAY_FAULTS = (
    "decline=0.05,timeout_before=0.03,timeout_after=0.03,slow=0.05,error=0.03,"
    "duplicate_webhook=0.1,early_webhook=0.05,late_webhook=0.1"
)
DEADLINE_REAL_S = 900


def factor_of(meters: int, days: int, faults: str, interval_s: int = 900) -> float:
    """Business seconds in a real one, so that the readings come at a pace that is kept; 10 s or more in all."""
    readings = meters * days * 86_400 / interval_s
    pace = READINGS_PER_S if faults == "none" else WITH_FAULTS_PER_S
    return days * 86_400 / max(10.0, readings / pace)


def show(folder: Path, *, meters: int, days: int, seed: int, faults: str, json_file: Path | None) -> bool:
    """Run the demo in `folder`; True when the story happened, the checker agrees and the audit is zero."""
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    output.line("compiling the kernel, if this is its first run on this machine (up to 30 s)")
    subprocess.run([sys.executable, "-m", "meterd.warm"], check=True, timeout=300)
    story = Story(
        meters=meters,
        days=days,
        seed=seed,
        faults=faults,
        gateway_faults=GATEWAY_FAULTS if faults != "none" else "",
        factor=factor_of(meters, days, faults),
    )
    with Rig(work, story) as rig:
        output.line(f"a city of {meters} households, {days} days of quarter hours, seed {seed}, faults {faults}")
        rig.prepare()
        rig.start_gateway()
        rig.start_daemon()
        rig.start_fleet()
        ran = time.monotonic()
        _follow(rig)
        quiet = rig.wait_quiet(60)
        month_real_s = time.monotonic() - ran
        code = rig.stop_daemon()
        output.line("the month is over; checking the truth books, then auditing every balance")
        checked, audited = rig.check(), rig.audit()
    figures = figures_of(rig.data)
    _files(rig, figures, folder)
    summary = _summary(rig, figures, checked, audited, quiet, month_real_s, started)
    faults_found = story_faults(figures)
    summary["story"] = faults_found or "happened"
    summary["ok"] = bool(not faults_found and checked["clean"] and audited["ok"] and quiet["quiet"] and code == 0)
    for path in filter(None, (folder / "summary.json", json_file)):
        path.write_text(json.dumps(summary, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    _tell(figures, summary, checked, audited, folder)
    return bool(summary["ok"])


def _follow(rig: Rig) -> None:
    """Live progress until the fleet says that everything is sent and held."""
    assert rig.fleet is not None
    assert rig.daemon is not None
    intervals = rig.story.days * 86_400 // rig.story.interval_s
    until, shown = time.monotonic() + DEADLINE_REAL_S, 0
    with output.progress("quarter hours", intervals) as advance:
        while rig.fleet.poll() is None:
            if rig.daemon.poll() is not None:
                raise RigFailed(f"the daemon ended with {rig.daemon.returncode}: see {rig.folder / 'daemon.log'}")
            if time.monotonic() > until:
                raise RigFailed(f"the month did not end in {DEADLINE_REAL_S} s")
            time.sleep(0.2)
            now = max((line.get("interval", 0) for line in rig.fleet_lines[-3:]), default=0)
            advance(max(0, now - shown))
            shown = max(shown, now)
        advance(max(0, intervals - shown))
    if rig.fleet.returncode != 0:
        raise RigFailed(f"the fleet ended with {rig.fleet.returncode}: see {rig.folder / 'fleet.log'}")


def _files(rig: Rig, figures: Figures, folder: Path) -> None:
    """The parents' statement and the picture of their balance."""
    page = str(folder / "statement.html")
    rig.meterd("statement", STORY_ACCOUNT, "--out", page, "--config", str(rig.config))
    defaults = AutopaySettings()
    draw_balance(
        figures.statement, folder / "balance.png", trigger_fen=defaults.trigger_fen, alert_fen=defaults.alert_fen
    )


def _summary(
    rig: Rig,
    figures: Figures,
    checked: dict[str, Any],
    audited: dict[str, Any],
    quiet: dict[str, Any],
    month_real_s: float,
    started: float,
) -> dict[str, Any]:
    readings = sum(figures.verdicts.values())
    return {
        "meters": rig.story.meters,
        "days": rig.story.days,
        "seed": rig.story.seed,
        "faults": rig.story.faults,
        "audit_difference_fen": audited["difference_fen"],
        "checker_difference_wh": checked["checker_difference_wh"],
        "double_charges": checked["double_charges"],
        "readings_lost": checked["readings_lost"],
        "readings": readings,
        "readings_by_verdict": figures.verdicts,
        "exception_reasons": figures.exceptions,
        "money_fen": figures.money_fen,
        "orders_by_state": figures.orders,
        "fleet": rig.fleet_lines[-1] if rig.fleet_lines else {},
        "checker": checked,
        "audit": {name: audited[name] for name in ("ok", "difference_fen", "counts")},
        "quiet": quiet,
        "month_real_s": round(month_real_s, 1),
        "readings_per_real_s": round(readings / month_real_s),
        "total_real_s": round(time.monotonic() - started, 1),
    }


def _tell(
    figures: Figures, summary: dict[str, Any], checked: dict[str, Any], audited: dict[str, Any], folder: Path
) -> None:
    for notice in figures.notices:
        output.line(f"{notice['name']} ({notice['party']}): {notice['text']}")
    rows: list[tuple[str, str, object]] = []
    rows += [("readings", verdict, count) for verdict, count in sorted(figures.verdicts.items())]
    rows += [("exceptions", reason, count) for reason, count in sorted(figures.exceptions.items())]
    rows += [("money, yuan", name, f"{fen / 100:.2f}") for name, fen in sorted(figures.money_fen.items())]
    rows += [("orders", state, count) for state, count in sorted(figures.orders.items())]
    rows += [
        ("rates", "readings/s, over MQTT to the ledger", summary["readings_per_real_s"]),
        ("rates", "the month took, s", summary["month_real_s"]),
        ("rates", "everything took, s", summary["total_real_s"]),
    ]
    output.table(("what", "which", "figure"), rows)
    output.line(
        f"checker: {checked['checker_difference_wh']} Wh difference over {checked['meters']} meters,"
        f" {checked['readings_lost']} readings lost, {checked['double_charges']} double charges"
    )
    output.line(
        f"audit: {audited['difference_fen']} fen difference over {audited['counts'].get('accounts', 0)} accounts"
    )
    story = summary["story"]
    output.line("the story happened" if story == "happened" else "the story failed: " + "; ".join(story))
    output.line(f"files: {folder / 'statement.html'}, {folder / 'balance.png'}, {folder / 'summary.json'}")
