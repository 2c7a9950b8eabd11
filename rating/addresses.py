"""Pure: meter addresses to channel slots inside each concentrator's list, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from rating.compiled import jit


@jit
def gather(
    data: Any,
    rows: Any,
    starts: Any,
    lists: Any,
    which: Any,
    hints: Any,
    list_meter: Any,
    list_register: Any,
    list_channel: Any,
    slots: Any,
    value: Any,
    read_at_s: Any,
    quality: Any,
    missed: Any,
) -> None:
    """Columns of many records end to end, their addresses resolved by the guess "the next one of the list".

    data, rows, starts as in rating.readings.Frames. Each record is of one of the batch's concentrators, by number in
    which int64[records]: lists int64[concentrators, 2] is where that one has its part of the partition's list_*
    columns (an empty part where it is not known), hints int64[concentrators] the place that its next reading is
    guessed at. slots, value, read_at_s and quality, of all rows together, are written; slots gets -1 where the guess
    failed, and missed int64[records] how often it did (`search` looks those up). The place moves on with every hit,
    from record to record, so readings in list order cost one comparison each, and a load curve two.
    """
    at = 0
    for record in range(rows.shape[0]):
        n = rows[record]
        of_list = which[record]
        start, end, place = lists[of_list, 0], lists[of_list, 1], hints[of_list]
        of = starts[record]
        meters = data[of[0] : of[0] + 8 * n].view(np.uint64)
        values = data[of[1] : of[1] + 8 * n].view(np.int64)
        times = data[of[2] : of[2] + 4 * n].view(np.uint32)
        registers, qualities = data[of[3] : of[3] + n], data[of[4] : of[4] + n]
        misses = 0
        for i in range(n):  # loops of their own, which the compiler makes wide
            value[at + i] = values[i]
        for i in range(n):
            read_at_s[at + i], quality[at + i] = times[i], qualities[i]
        for i in range(n):
            if place >= end and (
                place == start or list_meter[place - 1] != meters[i] or list_register[place - 1] != registers[i]
            ):
                place = start
            if place < end and list_meter[place] == meters[i] and list_register[place] == registers[i]:
                slots[at + i] = list_channel[place]
                place += 1
            elif place > start and list_meter[place - 1] == meters[i] and list_register[place - 1] == registers[i]:
                slots[at + i] = list_channel[place - 1]  # of the same register as the one before: a load curve
            elif place + 1 < end and list_meter[place + 1] == meters[i] and list_register[place + 1] == registers[i]:
                slots[at + i] = list_channel[place + 1]  # one reading of the list is missing
                place += 2
            else:
                slots[at + i] = -1
                misses += 1
        missed[record] = misses
        hints[of_list] = place
        at += n


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
