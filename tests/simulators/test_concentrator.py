"""What a concentrator believes of `held`."""

import pytest

from simulators.concentrator import Stream


@pytest.mark.parametrize(
    ("held", "believed"),
    [(3, False), (4, False), (5, True), (9, True), (10, False), (2**53 - 1, False)],
)
def test_held_never_goes_back_and_never_beyond_what_was_numbered(held: int, believed: bool) -> None:
    stream = Stream("s", "C1", next_sequence=10, held=4, boot=1)
    assert stream.confirm(held) is believed
    assert stream.held == (held if believed else 4)
