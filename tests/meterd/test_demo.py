"""What the demo says at its end, without running it: tests/whole and `make demo` do that."""

import pytest

from ledger.reads import StatementRow
from meterd.demo.figures import STORY_TRIGGER_FEN, Figures, story_faults


def _figures(left_fen: int) -> Figures:
    opening = StatementRow(1, "opening", 0, 0, None, 0, "opening", 0, 0, left_fen)
    return Figures({}, {}, {}, {}, charges=[], notices=[], statement=[opening])


@pytest.mark.parametrize(
    ("left_fen", "told"),
    [
        (6901, "the daughter's mandate was never charged: the parents still have 69.01 yuan; give it more --days"),
        (STORY_TRIGGER_FEN, "the daughter's mandate was never charged"),  # that is a defect, and no hint hides it
    ],
)
def test_a_month_too_short_for_the_story_is_told_from_a_charge_that_is_missing(left_fen: int, told: str) -> None:
    assert story_faults(_figures(left_fen)) == [told]
