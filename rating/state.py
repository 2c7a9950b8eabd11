"""Pure: the state of a partition as structured arrays, and what each field means.

Three arrays, neighbours in the common household (slot i of each is the same home):

- *channel*: one register of one meter during one service span (one account, one tariff). A change-out, a
  move or a tariff change ends a channel and opens another; slots are never reused. `next` links the spans
  of one register, so a reading that spans the change is split there.
- *ladder*: energy of an account under one tariff in its tier cycle.
- *account*: the posted balance and what was triggered.

Two more hold what bills need that are not linear in energy (rating.sheets): a *sheet* for a ladder of such a tariff,
and its *cells*, energy and money by bill cycle, bin and tier.

Posted money sits in `account.balance_fen`; money accrued since the last crossing of a day sits in the channel
(per component, 1e-11 of the currency). Live balance = balance_fen - sum of the channels' accruals - carry - pending.
"""

from __future__ import annotations

from typing import Final

import numpy as np

CHANNEL: Final = np.dtype(
    [
        ("value", np.int64),  # last accepted register, thousandths of the unit; what energy is counted from
        ("accrued_energy_e11", np.int64),  # open day, component `energy`
        ("accrued_adder_e11", np.int64),  # open day, component `tier_adder`
        ("day_energy", np.int64),  # energy of the open day, Wh
        ("at_s", np.uint32),  # time of `value`
        ("segment", np.int32),  # global index of the segment that holds the instant after at_s; -1: not rated
        ("ladder", np.int32),
        ("until_s", np.uint32),  # end of the span, 2**32-1 when open
        ("power_max_w", np.uint32),  # I_max x U x phases; 0: not checked
        ("estimate_excess", np.int32),  # value minus the last register that was no estimate
        ("multiplier", np.uint16),
        ("resolution", np.uint16),  # a register step in thousandths: 1, 10, 100, 1000
        ("digits", np.uint8),  # whole digits before rollover; 0: unknown
        ("quality", np.uint8),  # of `value`
        ("flags", np.uint8),  # ChannelFlag
        ("counts", np.uint8),  # how it counts: in steps of 10**(counts & STEP) thousandths; FED_IN
    ]
)
COLD: Final = np.dtype(  # of a channel, touched only off the common path
    [
        ("pending_value", np.int64),  # a jump that waits for confirmation
        ("pending_at_s", np.uint32),  # 0: none
        ("stalled_since_s", np.uint32),  # first reading that did not move, while STALLED
        ("next", np.int32),  # slot of the following span of this register; -1: none
        ("account", np.int32),
        ("mean_day", np.uint32),  # energy of a usual day (rating.history)
        ("estimates", np.uint16),  # in a row
        ("days", np.uint16),  # that the mean has seen
    ]
)
LADDER: Final = np.dtype(
    [
        ("used", np.int64),  # energy in the open tier cycle, Wh
        ("used_before", np.int64),  # energy in the cycle before it, for siblings that lag
        ("stage", np.int32),  # global index of the stage that holds the furthest instant rated
        ("account", np.int32),
        ("ring", np.int32),  # slot + 1 of the next ladder that counts as one with this; 0: none (rating.rings)
        ("ring_until_s", np.uint32),  # energy before this instant moves the whole ring
    ]
)
ACCOUNT: Final = np.dtype(
    [
        ("balance_fen", np.int64),  # posted; credit is positive
        ("arrears_fen", np.int64),  # debt brought in by the opening state
        ("carry_energy_e11", np.int64),  # remainders of days of bill cycles that are not closed yet
        ("carry_adder_e11", np.int64),
        ("alert_fen", np.int64),  # notice at or below
        ("trigger_fen", np.int64),  # autopay at or below; INT64 minimum: no mandate
        ("pending_e11", np.int64),  # what open bill cycles cost beside their energy, if they ended now (rating.bills)
        ("arm", np.uint32),  # how often autopay was triggered
        ("cycle", np.int16),  # open bill cycle (timeline's cycle number)
        ("flags", np.uint8),  # AccountFlag
        ("pad", np.uint8),
    ]
)
SHEET: Final = np.dtype(
    [
        ("ladder", np.int32),
        ("first", np.int32),  # its first cell
        ("width", np.int32),  # cells of a bill cycle (rating.bins)
        ("cycles", np.int32),  # bill cycles it has cells for: that of number n has the place n % cycles
        ("cycle", np.int32),  # open bill cycle of the account, from which on they are
        ("pad", np.int32),
    ]
)
CELL: Final = np.dtype([("wh", np.int64), ("energy_e11", np.int64)])
ARRAYS: Final[dict[str, np.dtype[np.void]]] = {
    "channel": CHANNEL,
    "cold": COLD,
    "ladder": LADDER,
    "account": ACCOUNT,
    "sheet": SHEET,
    "cell": CELL,
}


class ChannelFlag:
    """Bits of channel.flags (plain ints: numba reads them)."""

    BILL: Final = 1  # role bill; otherwise check: validated, never charged
    STALLED: Final = 2  # the last reading did not move
    FROZEN: Final = 4  # said so already, in this stretch
    DISCONNECTED: Final = 8
    SHARED: Final = 16  # energy of the open segment moves a ring of ladders
    PART: Final = 32  # some of the open day is posted already
    DEAR: Final = 128  # its tariff, or one that follows, has prices from rating.spread.CHEAP_E8 on; never plain
    TALLY: Final = 64  # its energy is counted by bin and tier, too (rating.sheets); never plain


STEP: Final = 15  # of channel.counts
FED_IN: Final = 16  # it counts energy that is fed in, which has no price as it comes


class AccountFlag:
    """Bits of account.flags."""

    ALERT_ARMED: Final = 1
    TRIGGER_ARMED: Final = 2
    OPEN: Final = 4


assert (CHANNEL.itemsize, COLD.itemsize, LADDER.itemsize, ACCOUNT.itemsize) == (64, 32, 32, 64)
