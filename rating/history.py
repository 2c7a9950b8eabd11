"""Pure: a register's own history, and what is out of the ordinary against it, compiled: `high` and `low`.

The mean of a day's energy moves by an eighth of the difference whenever a whole local day closes; it is an integer
and lives off the common path. Both are warnings beside the verdict: the energy is charged all the same. A spike
needs the day's intervals, which only the archive has, and is no warning here.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from rating.compiled import Homes, jit
from rating.state import ChannelFlag
from rating.verdicts import Warn

DAYS_LEAST: Final = 7  # before a mean says anything
FACTOR: Final = 3  # three times the mean, or a third of it
NOTEWORTHY: Final = 1_000  # thousandths: below a whole unit a day nobody is out of the ordinary
_WEIGHT: Final = 8
_MEAN_MAX: Final = 2**32 - 1
_DAYS_MAX: Final = 60_000
_PART, _DISCONNECTED = ChannelFlag.PART, ChannelFlag.DISCONNECTED
_HIGH, _LOW = Warn.HIGH, Warn.LOW


@jit
def note_day(homes: Homes, slot: int, warnings: Any) -> None:
    """A local day ends under the register, with its energy still in the row."""
    row, cold = homes.channel[slot], homes.cold[slot]
    if row.flags & _PART:  # some of the day was posted before: what is left is not the day
        return
    day = np.int64(min(max(row.day_energy, 0), _MEAN_MAX))
    mean = np.int64(cold.mean_day)
    if cold.days >= DAYS_LEAST:
        if day > FACTOR * mean and day >= NOTEWORTHY:
            warnings[_HIGH] += 1
        elif FACTOR * day < mean and mean >= NOTEWORTHY:
            warnings[_LOW] += 1
    cold.mean_day = day if cold.days == 0 else mean + (day - mean) // _WEIGHT
    cold.days = min(cold.days + 1, _DAYS_MAX)


@jit
def hand_on(homes: Homes, slot: int, after: int) -> None:
    """The span that takes over knows what the one before knew: the supply's state, and of one account its mean."""
    homes.channel[after].flags |= homes.channel[slot].flags & _DISCONNECTED
    if homes.cold[slot].account == homes.cold[after].account:
        homes.cold[after].mean_day = homes.cold[slot].mean_day
        homes.cold[after].days = homes.cold[slot].days
