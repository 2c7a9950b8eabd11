"""The checker finds what is planted, and nothing where there is nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simulators.fleet_check import DETAILS_MAX, Charge, Credit, Result, check, check_money, last_held, uses
from simulators.truth import Book, ChannelRow, MessageRow

STREAM = "s"
BILLED = True


def _channel(address: int, registers: list[int], **more: Any) -> ChannelRow:
    facts = ChannelRow(
        str(address), address, "1.8.0", "C0", "P", 10, 1, 6, BILLED, 1000, None, None, np.array(registers, np.int64)
    )
    return replace(facts, **more)


def _message(sequence: int, interval: int, absent: tuple[int, ...] = (), kind: str = "frame") -> MessageRow:
    return MessageRow(STREAM, sequence, "C0", kind, interval, 0, 2, absent, 2 - len(absent))


def _book(held: int) -> Book:
    channels = [_channel(1, [1005, 1019, 1040]), _channel(2, [1100, 1200, 1399], multiplier=2)]
    messages = [_message(1, 0), _message(2, 1), _message(3, 0, kind="bad:empty"), _message(4, 2, absent=(0,))]
    return Book({}, channels, messages, {}, {STREAM: held})


@pytest.mark.parametrize(
    ("held", "last", "first_wh", "second_wh"),
    [(0, [-1, -1], 0, 0), (1, [0, 0], 0, 200), (2, [1, 1], 10, 400), (3, [1, 1], 10, 400), (4, [1, 2], 10, 780)],
)
def test_use_is_counted_to_the_last_held_reading(held: int, last: list[int], first_wh: int, second_wh: int) -> None:
    book = _book(held)
    assert last_held(book).tolist() == last
    assert {a: use.wh for a, use in uses(book).items()} == {1: first_wh, 2: second_wh}


def test_agreement_is_clean() -> None:
    result = check(_book(4), {1: 10, 2: 780}, {(STREAM, n) for n in range(1, 5)})
    assert result.clean
    assert (result.meters, result.used_wh, result.billed_wh) == (2, 790, 790)


def test_energy_that_is_missing_is_a_difference_and_lost_readings() -> None:
    result = check(_book(4), {1: 10, 2: 400})
    assert (result.checker_difference_wh, result.readings_lost) == (380, 1)
    assert not result.clean


def test_differences_do_not_cancel() -> None:
    assert check(_book(4), {1: 20, 2: 770}).checker_difference_wh == 20
    assert check(_book(4), {1: 20, 2: 780}).readings_lost == 0  # billed too much is not lost


def test_energy_of_a_stranger_is_a_difference() -> None:
    assert check(_book(4), {1: 10, 2: 780, 99: 5}).checker_difference_wh == 5


def test_a_held_message_that_no_log_has_is_lost() -> None:
    result = check(_book(4), {1: 10, 2: 780}, {(STREAM, 1), (STREAM, 3), (STREAM, 4)})
    assert result.readings_lost == 2
    assert result.details[0]["sequence"] == 2


def test_a_message_that_was_never_held_is_lost() -> None:
    result = check(_book(3), {1: 10, 2: 400}, {(STREAM, n) for n in range(1, 5)})
    assert (result.checker_difference_wh, result.readings_lost) == (0, 1)


def test_what_is_left_in_the_outbox_is_not_clean() -> None:
    assert not check(_book(4), {1: 10, 2: 780}, outbox_left=1).clean


def test_a_replaced_meter_is_billed_to_its_final_register_once_the_new_one_is_read() -> None:
    old = _channel(1, [1005, 1019, 1040], replaced_by="2", final=1010)
    new = _channel(2, [0, 0, 30], opening=0)
    book = Book({}, [old, new], [_message(1, 0, absent=(1,)), _message(2, 2, absent=(0,))], {}, {STREAM: 1})
    assert {a: use.wh for a, use in uses(book).items()} == {1: 0, 2: 0}
    book.held[STREAM] = 2
    assert {a: use.wh for a, use in uses(book).items()} == {1: 10, 2: 30}


def test_check_registers_are_not_billed() -> None:
    book = Book({}, [_channel(1, [1100]), _channel(1, [1050], billed=False)], [_message(1, 0)], {}, {STREAM: 1})
    assert {a: use.wh for a, use in uses(book).items()} == {1: 100}


def _money(charges: list[Charge], credits_: list[Credit]) -> tuple[int, int]:
    result = Result()
    check_money(charges, credits_, result)
    return result.double_charges, result.uncredited_charges


def _charge(key: str, amount: int = 10_000) -> Charge:
    return Charge(key, f"t-{key}", "token", amount)


@pytest.mark.parametrize(
    ("charges", "credits_", "found"),
    [
        ([], [], (0, 0)),
        ([_charge("a")], [Credit("a", "A", 1, 10_000, 1)], (0, 0)),
        ([], [Credit("a", "A", 1, 10_000, 0)], (0, 0)),  # declined
        ([_charge("a"), _charge("a")], [Credit("a", "A", 1, 10_000, 1)], (1, 0)),
        ([_charge("a"), _charge("b")], [Credit("a", "A", 1, 10_000, 1), Credit("b", "A", 1, 10_000, 1)], (1, 0)),
        ([_charge("a"), _charge("b")], [Credit("a", "A", 1, 10_000, 1), Credit("b", "A", 2, 10_000, 1)], (0, 0)),
        ([_charge("a")], [Credit("a", "A", 1, 10_000, 2)], (1, 0)),
        ([_charge("a")], [Credit("a", "A", 1, 10_000, 0)], (0, 1)),
        ([_charge("a")], [], (0, 1)),
        ([_charge("a", 9_999)], [Credit("a", "A", 1, 10_000, 1)], (0, 1)),
        ([], [Credit("a", "A", 1, 10_000, 1)], (0, 1)),
    ],
)
def test_money(charges: list[Charge], credits_: list[Credit], found: tuple[int, int]) -> None:
    assert _money(charges, credits_) == found


def test_many_details_of_one_kind_hide_none_of_another() -> None:
    lost = [_message(number, 0) for number in range(1, 200)]
    book = Book({}, _book(0).channels, lost, {}, {STREAM: 0})
    result = check(book, {}, set(), [Charge("key-1", "txn-1", "token", 2000)])
    kinds = [detail["what"] for detail in result.details]
    assert kinds.count("never held") == DETAILS_MAX
    assert "charged and not credited" in kinds
