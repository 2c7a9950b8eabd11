"""Pure: builders of balanced entries, from columns to `ledger.effects.Entry`; the account names are here.

Sign convention (docs/ledger.md): a posting is positive when it is in the customer's favour on a customer
account, and an entry's postings sum to zero. Every builder derives the other side from the customer's rows, so
that they cannot disagree; `Entry.check` says so again before anything is written.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ledger.effects import BILL, CHARGES, COMPONENT_NAME, SUBLEDGER, Component, Entry, exact_sum

Ints = npt.ArrayLike
Rows = npt.NDArray[np.void]
CUSTOMER: Final = "customer"
CUSTOMER_ARREARS: Final = "customer_arrears"
REVENUE_ENERGY: Final = "revenue:energy"
REVENUE_TIER_ADDER: Final = "revenue:tier_adder"
NO_CHARGES: Final[Rows] = np.zeros(0, SUBLEDGER)
REVENUE_OF: Final = {number: f"revenue:{COMPONENT_NAME[number]}" for number in CHARGES}
ROUNDING: Final = "rounding"
ADJUSTMENT: Final = "adjustment"
OPENING: Final = "opening"
CLEARING_PREFIX: Final = "clearing:"
DAY_S: Final = 86_400


def clearing(gateway: str) -> str:
    """Name of the cash clearing account of a gateway, or of a desk that takes cash."""
    return CLEARING_PREFIX + gateway


def _rows(count: int, component: int, **columns: Any) -> Rows:
    rows = np.zeros(count, SUBLEDGER)
    rows["component"] = component
    rows["channel"] = -1
    for name, values in columns.items():
        rows[name] = values
    return rows


def _lines(*lines: tuple[str, int]) -> list[tuple[str, int]]:
    return [(name, amount) for name, amount in lines if amount]


def usage_entry(
    *,
    offset: int,
    booked_at_s: int,
    slots: Ints,
    channels: Ints,
    days: Ints,
    quantity: Ints,
    energy_fen: Ints,
    adder_fen: Ints,
) -> Entry | None:
    """Days that channels crossed, one element each: charges in fen (positive: the customer pays), energy in Wh.

    A day without money and without energy leaves no row; None when nothing is left.
    """
    slot, channel, day, wh, energy, adder = (
        np.asarray(column, np.int64) for column in (slots, channels, days, quantity, energy_fen, adder_fen)
    )
    used, added = (energy != 0) | (wh != 0), adder != 0
    base = _rows(
        int(used.sum()),
        Component.ENERGY,
        slot=slot[used],
        channel=channel[used],
        day=day[used],
        quantity=wh[used],
        amount_fen=-energy[used],
    )
    tier = _rows(
        int(added.sum()),
        Component.TIER_ADDER,
        slot=slot[added],
        channel=channel[added],
        day=day[added],
        amount_fen=-adder[added],
    )
    rows = np.concatenate((base, tier))
    if not len(rows):
        return None
    energy_total, adder_total = -exact_sum(base["amount_fen"]), -exact_sum(tier["amount_fen"])
    postings = _lines(
        (CUSTOMER, -energy_total - adder_total),
        (REVENUE_ENERGY, energy_total),
        (REVENUE_TIER_ADDER, adder_total),
    )
    return Entry("usage", offset, booked_at_s, postings, rows)


def bill_entry(*, offset: int, booked_at_s: int, bills: Rows, days: Ints, charges: Rows = NO_CHARGES) -> Entry | None:
    """Bill cycles that closed (BILL rows; `days`: each cycle's last local day). `rounding_fen` positive: charged.

    `charges`: SUBLEDGER rows of theirs, as `charge_rows` makes them.
    """
    if not len(bills):
        return None
    assert bills.dtype == BILL
    some = bills["rounding_fen"] != 0
    day = np.broadcast_to(np.asarray(days, np.int64), bills.shape)
    rows = _rows(
        int(some.sum()),
        Component.ROUNDING,
        slot=bills["slot"][some],
        day=day[some],
        amount_fen=-bills["rounding_fen"][some],
    )
    total = exact_sum(rows["amount_fen"])
    lines = [(ROUNDING, -total)]
    for component in np.unique(charges["component"]).tolist():
        of = exact_sum(charges["amount_fen"][charges["component"] == component])
        lines.append((REVENUE_OF[component], -of))
        total += of
    postings = _lines((CUSTOMER, total), *lines)
    return Entry("bill", offset, booked_at_s, postings, np.concatenate((rows, charges)), bills=bills)


def charge_rows(
    component: int,
    *,
    slots: Ints,
    ladders: Ints,
    day: int,
    version: int,
    place: int,
    quantity: Ints,
    amount_fen: Ints,
) -> Rows:
    """Rows of one charge of one tariff version, of many accounts; `amount_fen` positive: charged."""
    return _rows(
        len(np.asarray(slots)),
        component,
        slot=slots,
        channel=ladders,
        day=day,
        version=version,
        place=place,
        quantity=quantity,
        amount_fen=-np.asarray(amount_fen, np.int64),
    )


def _single(
    kind: str,
    component: int,
    slot: int,
    signed_fen: int,
    other: str,
    offset: int,
    booked_at_s: int,
    day: int,
    key: str,
) -> Entry:
    rows = _rows(1, component, slot=slot, day=day, amount_fen=signed_fen)
    return Entry(kind, offset, booked_at_s, [(CUSTOMER, signed_fen), (other, -signed_fen)], rows, reference=key)


def credit_entry(
    slot: int, amount_fen: int, clearing_name: str, reference: str, *, offset: int, booked_at_s: int, day: int
) -> Entry:
    """Money received for account `slot`: `clearing_name` as from `clearing(gateway)`; `day`: local day booked."""
    assert amount_fen > 0
    return _single("credit", Component.CREDIT, slot, amount_fen, clearing_name, offset, booked_at_s, day, reference)


def reversal_entry(
    slot: int, amount_fen: int, clearing_name: str, reference: str, *, offset: int, booked_at_s: int, day: int
) -> Entry:
    """Takes a credit of `amount_fen` (positive) back; `reference` is the reversal's own, never the credit's."""
    assert amount_fen > 0
    return _single(
        "reversal", Component.REVERSAL, slot, -amount_fen, clearing_name, offset, booked_at_s, day, reference
    )


def adjustment_entry(slot: int, amount_fen: int, reference: str, *, offset: int, booked_at_s: int, day: int) -> Entry:
    """A correction by hand or by re-rating, signed: positive is in the customer's favour."""
    return _single(
        "adjustment", Component.ADJUSTMENT, slot, amount_fen, ADJUSTMENT, offset, booked_at_s, day, reference
    )


def opening_entry(
    balances: Ints,
    arrears: Ints,
    *,
    offset: int,
    booked_at_s: int,
    days: Ints,
    reference: str,
    slots: Ints | None = None,
) -> Entry | None:
    """Opening state of `slots` (all of them when None): balance (credit positive) and arrears (debt positive).

    Arrears have no subledger row: each account's are in the state and in the registry that brought them.
    """
    balance, debt = np.asarray(balances, np.int64), np.asarray(arrears, np.int64)
    slot = np.arange(len(balance)) if slots is None else np.asarray(slots, np.int64)
    day = np.broadcast_to(np.asarray(days, np.int64), balance.shape)
    some = balance != 0
    rows = _rows(int(some.sum()), Component.OPENING, slot=slot[some], day=day[some], amount_fen=balance[some])
    total, owed = exact_sum(rows["amount_fen"]), exact_sum(debt)
    if not len(rows) and not np.any(debt):
        return None
    postings = _lines((CUSTOMER, total), (CUSTOMER_ARREARS, -owed), (OPENING, owed - total))
    return Entry("opening", offset, booked_at_s, postings, rows, reference=reference)
