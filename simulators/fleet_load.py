"""Pure: what every register of the fleet shows at every interval's end: the truth, and what of it is sent.

True registers are exact Wh and never wrap. A register shows its step's multiples and rolls over at its digits:
`shown = (true // step * step) % 10^digits units`. A replaced meter stops at the change; its successor goes on
from its own first register.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from config.units import REGISTER_CODE, Register
from registry.address import address
from simulators.faults import Plan
from simulators.fleet_registry import ChangeoutRow, FleetChannel
from simulators.profiles import Ints, Shapes, annual_kwh, registers_wh

# What a register counts of the energy drawn, in thousandths. By-rate registers add up to less than the total:
# they are floored each by itself, and nobody bills them.
SHARE_PERMILLE: Final[dict[str, int]] = {
    "1.8.0": 1000,
    "1.8.1": 400,
    "1.8.2": 300,
    "1.8.3": 200,
    "1.8.4": 100,
    "2.8.0": 50,
    "3.8.0": 300,
    "4.8.0": 20,
    "24.2.1": 40,
}


@dataclass(slots=True)
class Load:
    """The whole run in columns; channels in list order, concentrator after concentrator."""

    channels: tuple[FleetChannel, ...]
    start_s: int
    interval_s: int
    true: Ints  # (channels, intervals)
    shown: Ints  # (intervals, channels): a frame is a slice of a row
    alive: npt.NDArray[np.bool_]  # (intervals, channels)
    address: npt.NDArray[np.uint64]
    register: npt.NDArray[np.uint8]
    lists: dict[str, tuple[int, int]]  # concentrator -> [first, end) of its channels
    changes: tuple[ChangeoutRow, ...]

    @property
    def intervals(self) -> int:
        return int(self.true.shape[1])

    def end_s(self, interval: int) -> int:
        """The instant at which interval `interval` ends and its registers are read."""
        return self.start_s + (interval + 1) * self.interval_s


def ends_s(start_s: int, intervals: int, interval_s: int) -> Ints:
    """The ends of all intervals."""
    return start_s + interval_s * np.arange(1, intervals + 1, dtype=np.int64)


def capacity(channel: FleetChannel) -> int:
    """Thousandths at which the register is 0 again; 0 when it never is."""
    units: int = 10**channel.digits
    return units * 1000 if channel.digits else 0


def build(
    channels: Sequence[FleetChannel],
    plan: Plan,
    shapes: Shapes,
    seed: int,
    start_s: int,
    intervals: int,
    interval_s: int,
    offset_s: int,
    at_text: Mapping[int, str],
) -> Load:
    """All registers of the run. `at_text[interval]` is how a change-out at that interval's end is written."""
    channels, drawn = (
        _with_successors(channels, plan),
        _energy(channels, plan, shapes, seed, start_s, intervals, interval_s, offset_s),
    )
    ends = ends_s(start_s, intervals, interval_s)
    true = np.empty((len(channels), intervals), np.int64)
    alive = np.empty((len(channels), intervals), bool)
    successors = {c.new_meter: c for c in plan.changeouts}
    replaced = {c.old_meter: c for c in plan.changeouts}
    fixed: list[FleetChannel] = []
    finals: dict[str, tuple[FleetChannel, int]] = {}
    for row, channel in enumerate(channels):
        share = SHARE_PERMILLE.get(channel.register, 1000)
        base = successors[channel.meter].old_meter if channel.meter in successors else channel.meter
        used = drawn[base] * share // 1000
        live = (ends > max(channel.from_s, channel.opening_at_s)) & (ends < channel.until_s)
        before = int(used[live.argmax() - 1]) if live.any() and live.argmax() else 0
        true[row] = channel.opening + used - before
        if channel.meter in replaced:
            at = replaced[channel.meter].interval
            finals[channel.meter] = channel, int(true[row, at]) // channel.resolution * channel.resolution
            live = live & (np.arange(intervals) < at)
        if channel.meter in successors:
            change = successors[channel.meter]
            true[row] = channel.opening + used - int(used[change.interval])
            live = np.arange(intervals) > change.interval
            channel = replace(channel, from_s=int(ends[change.interval]), opening_at_s=int(ends[change.interval]))
        if channel.meter in plan.dead:
            first, end = plan.dead[channel.meter]
            live = live.copy()
            live[first:end] = False
        alive[row] = live
        fixed.append(channel)
    return Load(
        tuple(fixed),
        start_s,
        interval_s,
        true,
        _shown(true, fixed),
        np.ascontiguousarray(alive.T),
        np.array([c.address for c in fixed], np.uint64),
        np.array([REGISTER_CODE[Register(c.register)] for c in fixed], np.uint8),
        _lists(fixed),
        _changes(plan, finals, ends, at_text),
    )


def _changes(
    plan: Plan,
    finals: Mapping[str, tuple[FleetChannel, int]],
    ends: npt.NDArray[np.int64],
    at_text: Mapping[int, str],
) -> tuple[ChangeoutRow, ...]:
    """The run's change-outs as the registry will tell them; `finals`: each old meter's channel and final read."""
    return tuple(
        ChangeoutRow(
            finals[c.old_meter][0].point,
            int(ends[c.interval]),
            at_text[c.interval],
            c.old_meter,
            _wrapped(finals[c.old_meter][1], finals[c.old_meter][0]),
            c.new_meter,
            c.new_initial,
        )
        for c in plan.changeouts
    )


def _wrapped(value: int, channel: FleetChannel) -> int:
    return value % capacity(channel) if channel.digits else value


def _with_successors(channels: Sequence[FleetChannel], plan: Plan) -> tuple[FleetChannel, ...]:
    """The channels, each new meter's right behind the old one's."""
    new = {c.old_meter: c for c in plan.changeouts}
    found = []
    for channel in channels:
        found.append(channel)
        if channel.meter in new:
            change = new[channel.meter]
            found.append(
                replace(
                    channel, meter=change.new_meter, address=address(change.new_meter), opening=change.new_initial
                )
            )
    return tuple(found)


def _energy(
    channels: Sequence[FleetChannel],
    plan: Plan,
    shapes: Shapes,
    seed: int,
    start_s: int,
    intervals: int,
    interval_s: int,
    offset_s: int,
) -> dict[str, Ints]:
    """Cumulative Wh drawn behind each meter since the start (before its multiplier)."""
    meters = {c.meter: c for c in channels}
    addresses = np.array([c.address for c in meters.values()], np.uint64)
    cap_w = np.array([0.8 * c.power_max_w / max(1, c.multiplier) for c in meters.values()])
    annual = annual_kwh(seed, addresses)
    annual[[name in plan.vacant for name in meters]] = 0.0
    ends = ends_s(start_s, intervals, interval_s)
    table = registers_wh(shapes, seed, addresses, annual, cap_w, ends, interval_s, offset_s)
    return dict(zip(meters, table, strict=True))


def _shown(true: Ints, channels: Sequence[FleetChannel]) -> Ints:
    step = np.array([c.resolution for c in channels], np.int64)
    top = np.array([capacity(c) or 2**62 for c in channels], np.int64)
    return np.ascontiguousarray((true // step[:, None] * step[:, None] % top[:, None]).T)


def _lists(channels: Sequence[FleetChannel]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for row, channel in enumerate(channels):
        first, _ = found.get(channel.concentrator, (row, row))
        found[channel.concentrator] = (first, row + 1)
    return found


def rollover_openings(channels: Sequence[FleetChannel], plan: Plan) -> dict[tuple[str, str], int]:
    """Opening registers of the meters that are to roll over: 5 units below the end of their digits and less."""
    found = {}
    for channel in channels:
        if channel.meter in plan.rollover and channel.digits:
            below = 5_000 + channel.address % 40 * 1_000
            found[channel.meter, channel.register] = (
                (capacity(channel) - below) // channel.resolution * channel.resolution
            )
    return found
