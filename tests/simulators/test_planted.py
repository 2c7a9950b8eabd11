"""Faults planted in the real code: each is found, by the seed that docs/planted-faults.md names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from autopay.gateways.signing import authentic
from meterd.node import Nodes
from rating.schedule import bounds_of
from simulators.world.planted import PLANTED
from simulators.world.planting import Edit, Planted, Stale, planted
from simulators.world.seeds import Ask, Theatre

PAGE = Path(__file__).parents[2] / "docs" / "planted-faults.md"
ROW = re.compile(r"^\| (?P<name>[a-z-]+) \| (?P<what>.+) \| (?P<seed>\d+) \| (?P<rule>.+) \|$", re.MULTILINE)
KNOWN = {row["name"]: row for row in ROW.finditer(PAGE.read_text(encoding="utf-8"))}


@pytest.fixture(scope="module")
def theatre() -> Iterator[Theatre]:
    with Theatre(Nodes()) as theatre:
        yield theatre


def test_the_page_has_every_fault() -> None:
    assert list(KNOWN) == list(PLANTED)
    assert [row["what"] for row in KNOWN.values()] == [fault.what for fault in PLANTED.values()]
    assert len(KNOWN) >= 15


@pytest.mark.parametrize("name", PLANTED)
def test_it_is_found(theatre: Theatre, name: str) -> None:
    found = theatre.play(Ask(int(KNOWN[name]["seed"]), fault=name))
    assert found.rule == KNOWN[name]["rule"], found.finding


def test_the_code_is_whole_again() -> None:
    before = bounds_of.__code__, authentic.__code__
    with planted(PLANTED["household-bound-forgotten"]), planted(PLANTED["webhook-unsigned"]):
        assert bounds_of.__code__ is not before[0]
        assert authentic(b"secret", {"Meterd-Signature": "t=5,v1=forged"}, b"{}", 5)
    assert (bounds_of.__code__, authentic.__code__) == before
    assert not authentic(b"secret", {"Meterd-Signature": "t=5,v1=forged"}, b"{}", 5)


@pytest.mark.parametrize(
    "edit",
    [
        Edit("rating.schedule:bounds_of", "no such words", ""),
        Edit("rating.schedule:bounds_of", "bound", "b"),  # more than once
        Edit("rating.schedule:TIERS_MAX", "6", "5"),  # no function
    ],
)
def test_a_fault_that_has_gone_stale_says_so(edit: Edit) -> None:
    with pytest.raises(Stale), planted(Planted("stale", "", (edit,))):
        pass
