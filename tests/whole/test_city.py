"""The whole system as real processes: a small city with every fault, then truth books, audit and replay.

One run of a city (about 20 s) is shared by the tests; each looks at another promise.
"""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.load import load
from meterd.replay import replay
from simulators.fleet_bad import BAD_MESSAGES, FORGED, Sender
from simulators.fleet_keys import read_keys
from simulators.rig import Rig, Story
from simulators.truth import read_book

GATEWAY_FAULTS = "decline=0.2,timeout_after=0.1,duplicate_webhook=0.3,early_webhook=0.2,late_webhook=0.2"
STORY = Story(
    meters=60,
    days=10,
    seed=5,
    faults="all",
    gateway_faults=GATEWAY_FAULTS,
    factor=60_000,
    partitions=4,
    lead_real_s=10,
)


class TwoConcentrators(Rig):
    """Every second meter is read by another concentrator: one signs what it sends, the other does not."""

    def furnish(self, source: Path) -> None:
        for name in ("concentrators", "meters"):
            file = source / f"{name}.csv"
            with file.open(newline="", encoding="utf-8") as text:
                rows = list(csv.DictReader(text))
            if name == "concentrators":
                assert len(rows) == 1
                rows.append(rows[0] | {"concentrator": "second"})
            else:
                for row in rows[1::2]:
                    row["concentrator"] = "second"
            with file.open("w", newline="", encoding="utf-8") as text:
                out = csv.DictWriter(text, list(rows[0]))
                out.writeheader()
                out.writerows(rows)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, dict[str, Any], dict[str, Any]]]:
    """(the stopped rig, the checker's result, the auditor's report)."""
    with TwoConcentrators(tmp_path_factory.mktemp("city"), STORY) as rig:
        rig.prepare()
        rig.start_gateway()
        rig.start_daemon()
        rig.start_fleet()
        assert rig.wait_fleet(150) == 0, (rig.folder / "fleet.log").read_text()
        quiet = rig.wait_quiet(60)
        assert quiet["quiet"], quiet
        _release_one_in_doubt(rig)
        assert rig.stop_daemon() == 0, (rig.folder / "daemon.log").read_text()
        yield rig, rig.check(), rig.audit()


def _release_one_in_doubt(rig: Rig) -> None:
    """By command, through the running daemon; what it does is in the ledger that every test looks at."""
    queue = ["--config", str(rig.config), "--json"]
    listed = json.loads(rig.meterd("exceptions", "list", "--reason", "spoof", *queue).stdout)
    release = ["exceptions", "release", str(listed[0]["id"])]
    assert rig.meterd(*release, *queue, check=False).returncode == 1
    done = rig.meterd(*release, "--trust", "--why", "a test", *queue, check=False)
    told = json.loads(done.stdout)
    assert (done.returncode, told["state"], told["refused"]) == (1, "open", {"late": 1}), told


def test_energy_billed_is_energy_used_and_nobody_is_charged_twice(city: Any) -> None:
    _rig, checked, _audited = city
    assert checked["clean"], checked
    assert checked["used_wh"] == checked["billed_wh"] > 0
    assert checked["outbox_left"] == 0


def test_the_independent_audit_is_zero(city: Any) -> None:
    _, _, audited = city
    assert audited["ok"], audited
    assert audited["difference_fen"] == 0
    assert audited["counts"]["accounts"] == STORY.meters
    assert audited["counts"]["verdict.accepted"] > 50_000


def test_every_kind_of_bad_input_has_its_row(city: Any) -> None:
    rig, _, _ = city
    with sqlite3.connect(f"file:{rig.data / 'ledger.db'}?mode=ro", uri=True) as ledger:
        reasons = {reason for (reason,) in ledger.execute("SELECT DISTINCT reason FROM exception")}
        keys = ledger.execute("SELECT count(*), count(DISTINCT key) FROM exception").fetchone()
        assert ledger.execute("SELECT count(*) FROM exception WHERE length(bytes) = 0").fetchone()[0] <= 3
    assert len(reasons) > 20, sorted(reasons)
    assert keys[0] == keys[1]


def test_every_bad_message_has_the_row_that_it_earned(city: Any) -> None:
    """Message by message, from a concentrator that signs and from one that does not. Forged ones are an outsider's,
    under a number that the concentrator uses as well, and no messages of its own."""
    rig, _, _ = city
    book = read_book(rig.truth)
    bad = {(m.stream, m.sequence): m for m in book.messages if m.kind.startswith("bad:")}
    anyone = Sender("C", "s", 2, 1, "000000000001", 1, 1_782_864_450)
    earned = {key: BAD_MESSAGES[m.kind.removeprefix("bad:")](anyone).reason.value for key, m in bad.items()}
    with sqlite3.connect(f"file:{rig.data / 'ledger.db'}?mode=ro", uri=True) as ledger:
        rows = ledger.execute("SELECT stream, sequence, reason FROM exception WHERE meter IS NULL").fetchall()
    forged = {reason.value for reason in FORGED}
    assert {(s, n): r for s, n, r in rows if (s, n) in bad and r not in forged} == earned
    assert {r for _, _, r in rows} >= forged
    assert rig.keys is not None
    signers = read_keys(rig.keys)
    seen = {(m.kind.removeprefix("bad:"), m.concentrator in signers) for m in bad.values()}
    assert {kind for kind, _ in seen} == {n for n, make in BAD_MESSAGES.items() if make(anyone).reason not in FORGED}
    assert {signed for _, signed in seen} == {True, False}
    frames = {m.concentrator for m in book.messages if m.kind == "frame"}
    assert frames & set(signers)
    assert frames - set(signers)


def test_the_change_out_was_imported_while_the_daemon_ran(city: Any) -> None:
    rig, _, _ = city
    with sqlite3.connect(f"file:{rig.data / 'ledger.db'}?mode=ro", uri=True) as ledger:
        active = ledger.execute("SELECT count(*) FROM registry_version WHERE activated_at_s IS NOT NULL").fetchone()
    assert active == (2,)


@pytest.mark.parametrize("batch", [1, 64])
def test_log_inbox_and_checkpoints_give_the_same_state_bytes(city: Any, batch: int) -> None:
    """From empty, under other batch boundaries, across a registry version that came in while it ran, and over
    checkpoints whose rows went meanwhile."""
    rig, _, _ = city
    with sqlite3.connect(f"file:{rig.data / 'ledger.db'}?mode=ro", uri=True) as ledger:
        gone = ledger.execute("SELECT sum(count) FROM thinned_page").fetchone()[0]
    assert gone > STORY.partitions
    found = replay(load(rig.config, {}).settings, batch=batch)
    assert [r.differences for r in found] == [()] * STORY.partitions
    assert sum(r.records for r in found) > 1_000


def test_a_replay_notices_an_inbox_that_was_changed(city: Any, tmp_path: Path) -> None:
    rig, _, _ = city
    copy = tmp_path / "data"
    shutil.copytree(rig.data, copy)
    with sqlite3.connect(copy / "ledger.db") as ledger:
        row = ledger.execute("SELECT id, body FROM inbox WHERE kind = 'credit' LIMIT 1").fetchone()
        assert row is not None
        body = {**json.loads(row[1]), "amount_fen": 1}
        ledger.execute("UPDATE inbox SET body = ? WHERE id = ?", (json.dumps(body), row[0]))
    settings = load(rig.config, {}).settings.model_copy(update={"data_dir": copy})
    assert any(r.differences for r in replay(settings, batch=50))
