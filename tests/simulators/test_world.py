"""Histories of the simulated world: no rule is broken, a seed is one history, and a broken rule is found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from meterd.node import Nodes
from simulators.world.history import History, Outcome
from simulators.world.scene import STARTS, Scene, make

LOST_CALL = "bank:call lost with its process"
SEEDS = {9: "deaths", 17: "deaths", 26: LOST_CALL, 42: LOST_CALL}  # and what must have happened, among much else
Run = Callable[[int], Outcome]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    scenes: dict[int, Scene] = {}

    def one(seed: int) -> Outcome:
        number = seed % len(STARTS)
        if number not in scenes:
            scenes[number] = make(number, tmp_path_factory.mktemp("scene"))
        return History(scenes[number], seed, Nodes(), tmp_path_factory.mktemp("history"), keep=30).run()

    return one


@pytest.mark.parametrize("seed", SEEDS)
def test_no_rule_is_broken(run: Run, seed: int) -> None:
    found = run(seed)
    assert not found.finding, "\n".join([*found.trace, found.finding])
    assert found.events > 3_000
    assert found.counts["audited amounts"] > 100
    assert found.counts[SEEDS[seed]] > 0


def test_a_seed_is_one_history(run: Run, tmp_path: Path) -> None:
    """Also in another process, whose sets and dictionaries of text are in another order."""
    script = (
        "import sys; from pathlib import Path; from meterd.node import Nodes\n"
        "from simulators.world.history import History; from simulators.world.scene import make\n"
        "root = Path(sys.argv[1])\n"
        "(root / 'h').mkdir()\n"
        "print('digest', History(make(1, root / 's'), 9, Nodes(), root / 'h').run().digest)\n"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    there = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env=environment, capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    assert f"digest {run(9).digest}" in there.stdout


@pytest.mark.parametrize(
    ("where", "name", "rule"),
    [
        ("ingest.sequences.Sequences", "commit", "held is durable"),  # marks are forgotten
        ("rating.engine.PartitionEngine", "apply_inbox", "it does not come to rest"),  # credits are forgotten
    ],
)
def test_a_broken_part_is_found(run: Run, monkeypatch: pytest.MonkeyPatch, where: str, name: str, rule: str) -> None:
    monkeypatch.setattr(f"{where}.{name}", lambda *_: None)
    assert rule in run(3).finding
