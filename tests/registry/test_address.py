"""Addresses: the same alone and in columns, and never in each other's half."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.address import (
    TEXT_BIT,
    BadSerial,
    address,
    address_text,
    addresses,
    partition_of,
    route_unknown,
    route_unknown_many,
)

SERIALS = st.text("abzAZ019._-", min_size=1, max_size=32) | st.from_regex(r"[0-9]{12}", fullmatch=True)


@pytest.mark.parametrize(
    ("serial", "expected"),
    [
        ("440100000001", 440_100_000_001),
        ("000000000000", 0),
        ("999999999999", 999_999_999_999),
        ("WX-77.a", TEXT_BIT + (int.from_bytes(hashlib.blake2b(b"WX-77.a", digest_size=8).digest(), "big") >> 1)),
    ],
)
def test_addresses(serial: str, expected: int) -> None:
    assert address(serial) == expected


@pytest.mark.parametrize("text", ["", "a" * 33, "a b", "a\n", "１２", "é", "a/b"])
def test_what_is_no_serial(text: str) -> None:
    with pytest.raises(BadSerial):
        address(text)


def test_eleven_or_thirteen_digits_are_text() -> None:
    assert address("44010000001") >= TEXT_BIT
    assert address("4401000000012") >= TEXT_BIT


@settings(deadline=None)
@given(st.lists(SERIALS, max_size=20))
def test_a_column_is_as_one_by_one(serials: list[str]) -> None:
    assert addresses(pa.array(serials, pa.string())).tolist() == [address(serial) for serial in serials]


def test_decimal_addresses_read_back() -> None:
    assert address_text(address("000100000001")) == "000100000001"
    half = int.from_bytes(hashlib.blake2b(b"WX", digest_size=8).digest(), "big") >> 1
    assert address_text(address("WX")) == f"#{half:016x}"


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(1, 1024))
def test_unknown_addresses_have_one_home(number: int, partitions: int) -> None:
    home = route_unknown(number, partitions)
    assert 0 <= home < partitions
    assert home == route_unknown_many(np.array([number], np.uint64), partitions)[0]


def test_first_partitions_never_change() -> None:
    """Written down: another answer would tear points from their partitions."""
    assert [partition_of(f"C{number:06d}", 16) for number in range(8)] == PINNED
    spread = np.bincount([partition_of(f"C{number:06d}", 16) for number in range(6000)], minlength=16)
    assert spread.min() > 300
    assert spread.max() < 450


PINNED = [1, 14, 2, 1, 11, 13, 11, 1]
