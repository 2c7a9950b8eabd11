"""Decimal text, scales and rounding, worked by hand and compared with Decimal."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.units import CNY, INT64_MAX, ROUNDING, NotExact, decimal_text, round_ratio, scaled


@pytest.mark.parametrize(
    ("text", "digits", "value"),
    [
        ("0.58886875", 8, 58_886_875),
        ("13423.7", 3, 13_423_700),
        ("-0.5", 3, -500),
        ("+1", 3, 1_000),
        ("1.5000", 1, 15),
        ("0", 0, 0),
        ("9223372036854775.807", 3, INT64_MAX),
    ],
)
def test_plain_decimals_are_exact(text: str, digits: int, value: int) -> None:
    assert scaled(text, digits) == value


@pytest.mark.parametrize(
    "text",
    [
        "", " 1", "1 ", "1_000", "1e3", "NaN", "Infinity", "\uff11", "1.", ".5", "1.2.3", "--1", "+", "0x1", "1,5",
        "1.2345", "9" * 5_000, "9223372036854775.808", "\u0661",
    ],
)  # fmt: skip
def test_whatever_else_is_refused(text: str) -> None:
    with pytest.raises(NotExact):
        scaled(text, 3)


@given(st.integers(-INT64_MAX, INT64_MAX), st.integers(0, 9))
def test_text_and_integer_are_each_others_inverse(value: int, digits: int) -> None:
    assert scaled(decimal_text(value, digits), digits) == value


@given(st.integers(-(10**15), 10**15), st.integers(1, 10**12), st.sampled_from(sorted(ROUNDING)))
def test_rounding_is_that_of_decimal(numerator: int, denominator: int, mode: str) -> None:
    # tenths are exact in Decimal, and ties are among them
    expected = int((Decimal(numerator) / 10).to_integral_value(ROUNDING[mode]))
    assert round_ratio(numerator, 10, mode) == expected
    result = round_ratio(numerator, denominator, mode)
    assert abs(result * denominator - numerator) < denominator


@pytest.mark.parametrize(
    ("mode", "results"),
    [
        ("half_up", [3, 2, -2, -3]),
        ("half_even", [2, 2, -2, -2]),
        ("down", [2, 1, -1, -2]),
        ("up", [3, 2, -2, -3]),
        ("floor", [2, 1, -2, -3]),
        ("ceiling", [3, 2, -1, -2]),
    ],
)
def test_rounding_is_defined_for_ties_and_below_zero(mode: str, results: list[int]) -> None:
    assert [round_ratio(n, 10, mode) for n in (25, 15, -15, -25)] == results


def test_amounts_as_text() -> None:
    assert [CNY.text(fen) for fen in (12_345, 5, 0, -5)] == ["123.45", "0.05", "0.00", "-0.05"]
    assert CNY.accrual_per_minor == 10**9
