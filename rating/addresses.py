"""Pure: meter addresses to channel slots inside one concentrator's list, compiled.

Called once a frame, for microseconds: it keeps Python's global lock, for which it would else queue each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

jit: Callable[[Any], Any] = numba.njit(cache=True)


@jit
def resolve(
    list_meter: Any, list_register: Any, list_channel: Any, start: int, end: int, meter: Any, register: Any, out: Any
) -> int:
    """Guess "the next one of the list"; returns how many readings were not found so.

    list_* are columns of the partition, [start, end) is the concentrator's part; meter uint64[n], register
    uint8[n]; out int32[n] gets the slot, or -1 where the guess failed (`search` looks those up). The place moves
    on with every hit, so a frame in list order costs one comparison a reading.
    """
    place = start
    missed = 0
    for i in range(meter.shape[0]):
        if place >= end:
            place = start
        if end > start and list_meter[place] == meter[i] and list_register[place] == register[i]:
            out[i] = list_channel[place]
            place += 1
        elif place + 1 < end and list_meter[place + 1] == meter[i] and list_register[place + 1] == register[i]:
            out[i] = list_channel[place + 1]  # one reading of the list is missing
            place += 2
        else:
            out[i] = -1
            missed += 1
    return missed


@jit
def search(
    order: Any, list_meter: Any, list_register: Any, list_channel: Any, meter: Any, register: Any, out: Any
) -> None:
    """Fill out[i] == -1 by binary search; `order` holds places sorted by meter. -2: that meter, no such register."""
    n = order.shape[0]
    for i in range(meter.shape[0]):
        if out[i] != -1:
            continue
        low, high = 0, n
        while low < high:
            middle = (low + high) >> 1
            if list_meter[order[middle]] < meter[i]:
                low = middle + 1
            else:
                high = middle
        while low < n and list_meter[order[low]] == meter[i]:
            out[i] = -2
            if list_register[order[low]] == register[i]:
                out[i] = list_channel[order[low]]
                break
            low += 1
