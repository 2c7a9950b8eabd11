"""The table of the order machine: what evidence does, keys, references, and the diagram in the docs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopay.orders import (
    TRANSITIONS,
    Declined,
    NotATransition,
    NotFound,
    State,
    Succeeded,
    Unknown,
    diagram,
    judge,
    key_of,
    move,
    parse_reference,
    reference_of,
)

PAID = Succeeded("t", 1)


def test_every_state_is_in_the_table_and_only_credited_ends():
    assert set(TRANSITIONS) == set(State)
    assert [state for state, moves in TRANSITIONS.items() if not moves] == [State.CREDITED]


@pytest.mark.parametrize("old", State)
@pytest.mark.parametrize("new", State)
def test_only_the_tables_moves_are_made(old, new):
    if new in TRANSITIONS[old]:
        assert move(old, new) is new
    else:
        with pytest.raises(NotATransition):
            move(old, new)


@pytest.mark.parametrize(
    ("state", "evidence", "path"),
    [
        ("created", PAID, "submitted succeeded"),
        ("submitted", PAID, "succeeded"),
        ("unknown", PAID, "succeeded"),
        ("declined", PAID, "succeeded_late"),
        ("cancelled", PAID, "succeeded_late"),
        ("succeeded", PAID, ""),
        ("succeeded_late", PAID, ""),
        ("credited", PAID, ""),
        ("submitted", Declined("x"), "declined"),
        ("unknown", Declined("x"), "declined"),
        ("created", Declined("x"), ""),
        ("credited", Declined("x"), ""),
        ("submitted", Unknown("x"), "unknown"),
        ("succeeded", Unknown("x"), ""),
        ("unknown", NotFound(), ""),
    ],
)
def test_what_evidence_does(state, evidence, path):
    assert [new.value for new in judge(State(state), evidence)] == path.split()


@given(st.sampled_from(list(State)), st.sampled_from([PAID, Declined("x"), Unknown("x"), NotFound()]))
def test_any_evidence_meets_any_state_and_twice_is_once(state, evidence):
    for new in judge(state, evidence):
        state = move(state, new)
    assert judge(state, evidence) == ()


@given(st.tuples(st.text(min_size=1, max_size=20), st.integers(0, 99), st.integers(1, 99)))
def test_the_key_is_a_function_and_the_reference_comes_back(what):
    assert key_of(*what) == key_of(*what)
    assert key_of(*what) != key_of(what[0], what[1], what[2] + 1)
    assert parse_reference(reference_of(*what)) == what


def test_the_key_never_changes_between_versions():
    assert key_of("a1", 1, 1) == "mtd-b91d227b8ea235ecc6a6510fdc7279a4fd293c65"


def test_the_diagram_in_the_docs_is_the_table():
    page = (Path(__file__).parents[2] / "docs" / "autopay.md").read_text()
    assert diagram() in page
