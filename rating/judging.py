"""Pure: which of the touched accounts are low, at a checkpoint (rule 8 of docs/ARCHITECTURE.md), compiled.

Judged on the live balance at the end of a batch, never per reading, so a top-up and a day's use that arrive
together are seen together.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from rating.compiled import jit
from rating.partition import Partition, Rows
from rating.state import AccountFlag, ChannelFlag
from rating.touched import Slots, accounts_of
from registry.image import NO_TRIGGER

JUDGED: Final = np.dtype(
    [("balance_fen", np.int64), ("slot", np.int32), ("arm", np.uint32), ("kind", np.uint8), ("pad", np.uint8, (7,))]
)
ALERT, LOW, RECOVERED = 1, 2, 3
KIND_NAME: Final = {ALERT: "alert", LOW: "low_balance", RECOVERED: "recovered"}
_ALERT_ARMED, _TRIGGER_ARMED, _OPEN = AccountFlag.ALERT_ARMED, AccountFlag.TRIGGER_ARMED, AccountFlag.OPEN
_BILL, _ESTIMATE, _NO_TRIGGER = ChannelFlag.BILL, 1, NO_TRIGGER


@jit
def open_now(channel: Any, cold: Any, slot: int, as_of_s: int) -> bool:
    """Does the register still count in this span? One that has ended, or whose meter is gone, says nothing now."""
    row = channel[slot]
    if row.value < 0 or row.at_s >= row.until_s:
        return False
    after = cold[slot].next
    return bool(row.until_s > as_of_s or (after >= 0 and channel[after].value < 0))


@jit
def _judge(
    touched: Any,
    account: Any,
    channel: Any,
    cold: Any,
    account_start: Any,
    account_channels: Any,
    hysteresis: int,
    minor: int,
    as_of_s: int,
    out: Any,
    dirty_account: Any,
) -> int:
    count = 0
    for i in range(touched.shape[0]):
        a = touched[i]
        row = account[a]
        if not row.flags & _OPEN:
            continue
        accrued = row.carry_energy_e11 + row.carry_adder_e11 + row.pending_e11
        estimated = False
        for j in range(account_start[a], account_start[a + 1]):
            of = channel[account_channels[j]]
            accrued += of.accrued_energy_e11 + of.accrued_adder_e11
            if of.flags & _BILL and of.quality == _ESTIMATE:
                estimated |= open_now(channel, cold, account_channels[j], as_of_s)
        live = row.balance_fen + (-accrued) // minor
        kind = 0
        if row.flags & _ALERT_ARMED:
            if live <= row.alert_fen:
                row.flags &= ~_ALERT_ARMED
                kind = ALERT
        elif live > row.alert_fen + hysteresis:
            row.flags |= _ALERT_ARMED
            dirty_account[a] = 1
        if kind != 0:
            out[count].balance_fen, out[count].slot = live, a
            out[count].arm, out[count].kind = row.arm, kind
            dirty_account[a] = 1
            count += 1
        if row.trigger_fen == _NO_TRIGGER:
            continue
        kind = 0
        if row.flags & _TRIGGER_ARMED:
            if live <= row.trigger_fen and not estimated:
                row.flags &= ~_TRIGGER_ARMED
                row.arm += 1
                kind = LOW
        elif live > row.trigger_fen + hysteresis:
            row.flags |= _TRIGGER_ARMED
            kind = RECOVERED
        if kind != 0:
            out[count].balance_fen, out[count].slot = live, a
            out[count].arm, out[count].kind = row.arm, kind
            dirty_account[a] = 1
            count += 1
    return count


def judge(part: Partition, channels: Slots, hysteresis_fen: int, minor: int, as_of_s: int) -> Rows:
    """Judge every account whose channels or row are dirty; returns JUDGED rows and moves the armed flags.

    `channels`: the dirty ones.
    """
    if part.image is None:
        return np.zeros(0, JUDGED)
    touched = accounts_of(channels, part.cold, part.dirty_account)
    out = np.zeros(2 * len(touched), JUDGED)
    count = _judge(
        touched,
        part.account,
        part.channel,
        part.cold,
        part.image.account_start,
        part.image.account_channels,
        hysteresis_fen,
        minor,
        as_of_s,
        out,
        part.dirty_account,
    )
    return out[:count]
