"""Ids as text: repeated ones and places, against lists."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import lookup


@settings(deadline=None)
@given(st.lists(st.text("ab", max_size=3), max_size=12))
def test_repeated_marks_all_but_the_first(texts: list[str]) -> None:
    expected = [text in texts[:row] for row, text in enumerate(texts)]
    assert lookup.repeated(pa.array(texts, pa.string())).tolist() == expected


@settings(deadline=None)
@given(
    st.lists(st.text("abc", min_size=1, max_size=3), unique=True, max_size=40),
    st.lists(st.text("abc", min_size=1, max_size=3), max_size=40),
    st.booleans(),
)
def test_places_are_right_in_any_order(ids: list[str], others: list[str], mostly: bool) -> None:
    """Also across slices, and where the guess that files are in the same order is wrong."""
    needles = [*ids[: len(ids) // 2], *others, *ids[len(ids) // 2 :]] if mostly else others
    expected = [ids.index(needle) if needle in ids else -1 for needle in needles]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup, "_SLICE", 4)
        patch.setattr(lookup, "_HASHED", 3)
        found = lookup.places(pa.array(needles, pa.string()), pa.array(ids, pa.string()))
    assert found.tolist() == expected


@settings(deadline=None)
@given(st.lists(st.text(max_size=4), max_size=30), st.integers(0, 3))
def test_repeated_across_slices_and_by_chance(texts: list[str], skipped: int) -> None:
    column = pa.array(texts, pa.string()).slice(skipped)
    expected = [text in texts[skipped:row] for row, text in enumerate(texts) if row >= skipped]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup, "_DIGESTED", 3)
        assert lookup.repeated(column).tolist() == expected
        # equal digests of unequal texts are no repetition
        patch.setattr(lookup, "_FACTOR", 1)
        patch.setattr(lookup, "_UNFACTOR", 1)
        assert lookup.repeated(column).tolist() == expected
