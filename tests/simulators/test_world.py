"""Histories of the simulated world: no rule is broken, everything happens, a seed is one history, and it shrinks."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from config.reasons import Reason
from meterd.node import Nodes
from simulators.faults import BAD_READINGS
from simulators.fleet_bad import BAD_MESSAGES
from simulators.world.history import Outcome
from simulators.world.seeds import Ask, Theatre, play_all
from simulators.world.shrink import Shrinker
from simulators.world.weather import Cut

SEEDS = range(1, 41)
PINNED = {14: "0125655c3189d4ca017ad651463fcdc2", 37: "73094fe7282828ac70857e9f86a2b918"}  # a calm one, and a storm
NO_ROWS = {"duplicate", "replaced", "late", "sequence_gap", "sequence_leap", "command"}  # counted, or never sent
Play = Callable[[Ask], Outcome]


@pytest.fixture(scope="module")
def theatre() -> Iterator[Theatre]:
    with Theatre(Nodes()) as theatre:
        yield theatre


@pytest.fixture(scope="module")
def play(theatre: Theatre) -> Play:
    """Every history is played once, whoever asks for it."""
    known: dict[Ask, Outcome] = {}

    def one(ask: Ask) -> Outcome:
        if ask not in known:
            known[ask] = theatre.play(ask)
        return known[ask]

    return one


@pytest.mark.parametrize("seed", SEEDS)
def test_no_rule_is_broken(play: Play, seed: int) -> None:
    found = play(Ask(seed, keep=30))
    assert not found.rule, "\n".join([*found.trace, found.finding])
    assert found.turns > 1_000
    assert found.events > 200
    assert found.counts["audited amounts"] > 100


def test_all_that_can_go_wrong_does(play: Play) -> None:
    counts: Counter[str] = sum((play(Ask(seed, keep=30)).counts for seed in SEEDS), Counter())
    missing = [name for name in HAPPENS if not counts[name]]
    assert not missing
    # An order takes each of its steps a dozen times a history, one in a thousand ends there: some of them, in forty.
    # `tests/crash` kills at every one. A restore and a comparison of books are rarer still.
    for kind in ("order", "archive", "backup", "registry"):
        assert any(name.startswith(f"killed at {kind}.") for name in +counts), kind
    sent = {f"fleet:bad_message:{name}" for name in BAD_MESSAGES} | {
        f"fleet:bad_reading:{name}" for name in BAD_READINGS
    }
    assert not sent - set(+counts)
    assert not {f"refused:{reason.value}" for reason in Reason if reason not in NO_ROWS} - set(+counts)


def test_a_seed_is_one_history(play: Play) -> None:
    """Also in another process, whose sets and dictionaries of text are in another order."""
    script = (
        "from meterd.node import Nodes\n"
        "from simulators.world.seeds import Ask, Theatre\n"
        "with Theatre(Nodes()) as theatre: print('digest', theatre.play(Ask(19)).digest)\n"
    )
    there = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONHASHSEED": "7"}, capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    assert f"digest {play(Ask(19, keep=30)).digest}" in there.stdout


@pytest.mark.parametrize(("seed", "digest"), PINNED.items())
def test_a_seed_is_one_history_on_every_machine(play: Play, seed: int, digest: str) -> None:
    """Whoever changes the world, its dice, or what the daemon does in it on purpose, writes the new digests into
    `PINNED`; whoever did not mean to, or sees others on another machine, has found a choice that no die makes."""
    assert play(Ask(seed, keep=30)).digest == digest


def test_processes_play_the_same(play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    asks = [Ask(seed) for seed in (1, 2)]
    played = list(play_all(asks, Nodes(), jobs=2))
    assert not list(tmp_path.iterdir())  # they take their folders with them
    assert [ask for ask, _ in played] == asks
    assert [o.digest for _, o in played] == [play(replace(ask, keep=30)).digest for ask in asks]


def test_a_bigger_world_keeps_the_rules(play: Play) -> None:
    found = play(Ask(1, "village", Cut(days=12), keep=30))
    assert not found.rule, "\n".join([*found.trace, found.finding])
    assert found.days >= 12


def test_what_breaks_is_shrunk_to_less_that_breaks_the_same(theatre: Theatre, play: Play) -> None:
    """Broken: a top-up of an order counts twice. It needs one charge, and nothing that goes wrong."""
    ask = Ask(4, fault="credit-doubled", keep=None)
    whole = play(ask)
    shorter, found = Shrinker(theatre.play).shrunk(ask, whole)
    assert found.rule == whole.rule != ""
    assert found.turns < whole.turns or len(shorter.cut.without) > 10
    assert len(found.trace) <= len(whole.trace)
    again = theatre.play(shorter)
    assert (again.digest, again.rule, again.how) == (found.digest, found.rule, found.how)
    assert f"--seed 4 --without {','.join(sorted(shorter.cut.without))}" in shorter.command()


def test_what_is_left_out_does_not_happen(play: Play) -> None:
    whole = play(Ask(24, keep=30))
    assert whole.counts["deaths"] > 0
    assert whole.counts["line:lost"] > 0
    deadly = frozenset({"crash", "lose", "log_torn", "log_broken", "ledger_broken", "clock_step"})
    less = play(Ask(24, cut=Cut(deadly, days=10)))
    assert not less.rule
    assert less.counts["deaths"] == less.counts["line:lost"] == 0
    assert less.days < whole.days


HAPPENS = (
    "line:lost", "line:delayed", "line:duplicated", "line:reordered", "line:overtaken", "line:fleet cut",
    "line:daemon cut", "line:broker restart", "line:broker forgets", "line:cut before an ack", "line:stale ack",
    "fleet:duplicate_message", "fleet:duplicate_reading", "fleet:reorder", "fleet:backfill", "fleet:outage",
    "fleet:lost_sequence", "fleet:restart", "deaths", "disk:log full", "disk:log sync failed", "disk:log broken",
    "disk:log torn", "disk:ledger full", "disk:ledger broken", "disk:slow commit", "disk:inbox id out of order",
    "clock:wrong", "start refused: clock", "restore", "registry versions",
    "registry:mandate cancelled, order in flight", "calendar:clocks go forward", "calendar:clocks go back",
    "calendar:cycle's end", "meter:rollover", "meter:change-out", "payer:daughter in both partitions",
    "payer:son in both partitions", "payer:daughter at the cap of a day", "payer:a holder at the cap of a day",
    "people:top-up", "people:reversal", "people:hold", "people:release", "bank:outage", "bank:decline storm",
    "bank:decline",
    "bank:timeout before", "bank:timeout after", "bank:error", "bank:slow", "bank:change of mind", "bank:deaf",
    "bank:call lost with its process", "bank:key expired", "event:bank charges after all", "webhook:lost",
    "webhook:early", "webhook:late", "webhook:twice", "webhook:forged", "event:webhook again", "notice:failed",
    "killed at ack.log_written", "killed at checkpoint.before_commit", "killed at checkpoint.committed",
    "killed at notice.sent", "killed at webhook.taken", "killed at inbox.submitted", "audits on the way",
    "low balance seen", "low at the end",
)  # fmt: skip
