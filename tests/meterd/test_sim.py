"""`meterd sim`: what it prints, how it ends, and that its own commands repeat what they name."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from meterd import cli
from meterd.exits import Exit
from meterd.simulation import Found, Wish, search


def sim(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = cli.run(["sim", *words])
    return code, capsys.readouterr().out


def test_a_clean_history_tells_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = sim(capsys, "--seed", "14")
    assert code == Exit.OK
    assert re.search(r"seed 14: [\d,]+ events in \d+ days \([\d,]+ turns\), digest [0-9a-f]{32}", said)
    assert "1 history" in said
    assert "no rule is broken" in said
    assert re.search(r"^ +\d+  audited amounts$", said, re.MULTILINE)


def test_many_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = sim(capsys, "--seeds", "14..16", "--jobs", "2", "--days", "6")
    assert code == Exit.OK
    assert re.search(r"^3 histories, [\d,]+ events: no rule is broken$", said, re.MULTILINE)


def test_a_broken_rule_names_itself_and_how_to_see_it_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, said = sim(capsys, "--seed", "4", "--planted", "credit-doubled")
    assert code == Exit.NO
    broken = re.search(r"^seed 4, step \d+, day \d+: (?P<rule>.+)$", said, re.MULTILINE)
    again = re.search(r"^again, with its trace: meterd (?P<words>.+) --trace FILE$", said, re.MULTILINE)
    assert broken is not None
    assert again is not None
    trace = tmp_path / "trace"
    assert cli.run([*shlex.split(again["words"]), "--trace", str(trace)]) == Exit.NO
    assert broken[0] in capsys.readouterr().out
    lines = trace.read_text(encoding="utf-8").splitlines()
    assert lines[-1] == broken["rule"]
    assert all(re.match(r"\d+ \d+ ", line) for line in lines[:-1])


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--seed", "1", "--seeds", "1..2"),
        ("--seeds", "5..1"),
        ("--seeds", "1-5"),
        ("--seed", "1", "--world", "galaxy"),
        ("--seed", "1", "--planted", "gremlin"),
        ("--seed", "1", "--without", "luck"),
    ],
)
def test_what_there_is_not_is_wrong_usage(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    code, said = sim(capsys, *words)
    assert (code, said) == (Exit.USAGE, "")


def test_a_fault_that_no_seed_finds_is_said_to_be_missed() -> None:
    wish = Wish(range(14, 15), "smallest", 3, frozenset(), "all", 1, None, shrink=False)
    assert search("household-bound-forgotten", wish) == Found("household-bound-forgotten", 0, "")
