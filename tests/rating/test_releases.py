"""The outcome of a release says which readings were refused again, and is read back exactly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rating.releases import refused, stands, told
from rating.verdicts import Verdict

V = Verdict


@pytest.mark.parametrize(
    ("verdicts", "outcome", "places"),
    [
        ([], "", {}),
        ([V.ACCEPTED, V.ROLLOVER, V.CONFIRMED, V.REPLACED, V.FROZEN], "", {}),
        ([V.DUPLICATE, V.ACCEPTED], "", {}),  # the register stands there already: nothing is left to do
        ([V.CONFLICT], "judged again: conflict 1 (1)", {0: "conflict"}),
        (
            [V.ACCEPTED, V.LATE, V.LATE, V.DUPLICATE, V.LATE, V.UNKNOWN_METER],
            "judged again: accepted 1, duplicate 1, late 3 (2-3 5), unknown_meter 1 (6)",
            {1: "late", 2: "late", 4: "late", 5: "unknown_meter"},
        ),
        ([V.LATE] * 1000, "judged again: late 1000 (1-1000)", dict.fromkeys(range(1000), "late")),
    ],
)
def test_an_outcome(verdicts: list[Verdict], outcome: str, places: dict[int, str]) -> None:
    assert told(verdicts) == outcome
    assert refused(outcome, len(verdicts)) == places


@given(st.lists(st.sampled_from(Verdict), max_size=40))
def test_an_outcome_is_read_back(verdicts: list[Verdict]) -> None:
    expected = {n: v.name.lower() for n, v in enumerate(verdicts) if not stands(v)}
    assert refused(told(verdicts), len(verdicts)) == expected


@pytest.mark.parametrize(
    "outcome", ["judged again: conflict", "no account a", "judged again: late 1 (1)", "late 2 (1-2)"]
)
def test_what_cannot_be_read_refuses_all(outcome: str) -> None:
    """Outcomes of older versions, or of fewer readings: nothing is taken for accepted that may not be."""
    assert set(refused(outcome, 2)) == {0, 1}
