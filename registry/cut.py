"""Pure: the tables of one partition, cut out of the tables of all.

Everything about a point is in its partition: meters, their registers and first registers, accounts, tariffs.
So a partition is compiled as if it were a registry of its own, and what compiling needs on the way is a
sixteenth of what the whole would need. Rows keep their order and get new numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from registry import columns
from registry.address import partition_of
from registry.devices import Meters, Openings, Points, Registers
from registry.people import Accounts, TariffSpans

Rows = npt.NDArray[np.int64]


@dataclass(slots=True)
class Tables:
    """The validated tables, names resolved to rows; `history` is one number per account."""

    concentrators: Any
    meters: Meters
    registers: Registers
    openings: Openings
    accounts: Accounts
    tariffs: TariffSpans
    history: npt.NDArray[np.int32]


def point_partitions(
    points: Points, meters: Meters, concentrators: Any, partitions: int, before: npt.NDArray[np.int16] | None
) -> npt.NDArray[np.int16]:
    """A point's partition: the one it has (`before`, else -1); that of its first meter's concentrator; by its id."""
    by_concentrator = np.array([partition_of(name, partitions) for name in concentrators.to_pylist()], np.int16)
    found = np.full(len(points.ids), -1, np.int16)
    good = (meters.row_concentrator >= 0) & (meters.point[meters.row_meter] >= 0)
    rows = np.flatnonzero(good)[::-1]  # the first row is written last
    found[meters.point[meters.row_meter[rows]]] = by_concentrator[meters.row_concentrator[rows]]
    if before is not None:
        found[before >= 0] = before[before >= 0]
    for row in np.flatnonzero(found < 0).tolist():
        found[row] = partition_of(points.ids[row].as_py(), partitions)
    return found


def cut(whole: Tables, home: npt.NDArray[np.int16], number: int) -> tuple[Tables, Rows]:
    """(the tables of the points whose `home` is `number`, rows of its accounts in the whole)."""
    here = home == number
    points = np.flatnonzero(here)
    meters, meter_rows, is_meter = _meters(whole.meters, here, points)
    registers, register_rows = _registers(whole.registers, is_meter, meter_rows)
    known = whole.openings.register >= 0
    chosen = np.zeros(len(whole.registers.meter), bool)
    chosen[register_rows] = True
    rows = np.flatnonzero(chosen[whole.openings.register] & known) if len(chosen) else np.zeros(0, np.int64)
    openings = whole.openings
    openings = Openings(
        _renumbered(openings.register[rows], register_rows),
        openings.value[rows],
        openings.at_s[rows],
        openings.quality[rows],
        openings.given[rows],
        openings.lines[rows],
    )
    accounts, account_rows, is_account = _accounts(whole.accounts, here, points)
    rows = np.flatnonzero(is_account[whole.tariffs.account])
    tariffs = whole.tariffs
    tariffs = TariffSpans(
        tariffs.names,
        _renumbered(tariffs.account[rows], account_rows),
        tariffs.tariff[rows],
        tariffs.from_s[rows],
        tariffs.to_s[rows],
    )
    history = whole.history[account_rows]
    return Tables(whole.concentrators, meters, registers, openings, accounts, tariffs, history), account_rows


def _meters(whole: Meters, here: npt.NDArray[np.bool_], points: Rows) -> tuple[Meters, Rows, npt.NDArray[np.bool_]]:
    is_meter = here[whole.point]
    meters = np.flatnonzero(is_meter)
    rows = np.flatnonzero(is_meter[whole.row_meter])
    cut_meters = Meters(
        columns.take(whole.ids, meters),
        whole.address[meters],
        _renumbered(whole.point[meters], points),
        _renumbered(whole.row_meter[rows], meters),
        whole.row_concentrator[rows],
        whole.row_position[rows],
        whole.row_from_s[rows],
        whole.row_to_s[rows],
        whole.row_digits[rows],
        whole.row_multiplier[rows],
        whole.row_power_max_w[rows],
    )
    return cut_meters, meters, is_meter


def _registers(whole: Registers, is_meter: npt.NDArray[np.bool_], meters: Rows) -> tuple[Registers, Rows]:
    rows = np.flatnonzero(is_meter[whole.meter])
    cut_registers = Registers(
        _renumbered(whole.meter[rows], meters),
        whole.code[rows],
        whole.bill[rows],
        whole.resolution[rows],
        whole.closing[rows],
        whole.lines[rows],
    )
    return cut_registers, rows


def _accounts(
    whole: Accounts, here: npt.NDArray[np.bool_], points: Rows
) -> tuple[Accounts, Rows, npt.NDArray[np.bool_]]:
    is_account = here[whole.point]
    rows = np.flatnonzero(is_account)
    cut_accounts = Accounts(
        columns.take(whole.ids, rows),
        _renumbered(whole.point[rows], points),
        whole.from_s[rows],
        whole.to_s[rows],
        whole.balance_fen[rows],
        whole.arrears_fen[rows],
        whole.cycle_energy_wh[rows],
        whole.opening_line[rows],
        whole.trigger_fen[rows],
        whole.lines[rows],
    )
    return cut_accounts, rows, is_account


def _renumbered(numbers: npt.NDArray[np.int32], chosen: Rows) -> npt.NDArray[np.int32]:
    """Row numbers of the whole as places in `chosen` (rising), which has them all."""
    return np.searchsorted(chosen, numbers).astype(np.int32)
