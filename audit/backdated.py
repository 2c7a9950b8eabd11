"""Pure: registers that had gone on behind a date which a registry version brings: a correction is due [9]."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from audit.meter import Channel, Ladder
from audit.tariffs import History, Tariff, month_of, month_start
from audit.world import address

Key = tuple[str, int, int]  # serial, register code, from_s
LadderKey = tuple[str, str]  # account, tariff


@dataclass(slots=True)
class Before:
    """What a registry version found: ends of spans, dated attributes of ladders, the latest register on each."""

    until_s: dict[Key, int]
    histories: dict[LadderKey, History]
    furthest_s: dict[LadderKey, int]


def before(channels: Mapping[Key, Channel], ladders: Mapping[LadderKey, Ladder]) -> Before:
    """As the version that ruled until now has it."""
    found = Before(
        {key: channel.until_s for key, channel in channels.items()},
        {key: ladder.history for key, ladder in ladders.items()},
        {},
    )
    for channel in channels.values():
        if channel.value >= 0:
            key = channel.span.account, channel.span.tariff
            found.furthest_s[key] = max(channel.at_s, found.furthest_s.get(key, 0))
    return found


def overtaken(
    was: Before, channels: Mapping[Key, Channel], ladders: Mapping[LadderKey, Ladder]
) -> Iterator[tuple[Channel, int]]:
    """[9] Each register whose span now ends earlier, behind it; and of each ladder whose bounds differ before its
    latest register the channel with that one. With the instant from which on it is so."""
    for key, until_s in was.until_s.items():
        channel = channels[key]
        if channel.value >= 0 and channel.until_s < min(channel.at_s, until_s):
            yield channel, channel.until_s
    moved: dict[LadderKey, int] = {}
    for ladder_key, history in was.histories.items():
        ladder = ladders[ladder_key]
        if ladder.history != history and ladder_key in was.furthest_s:
            since_s = _parted_s(ladder.tariff, history, ladder.history, was.furthest_s[ladder_key])
            if since_s is not None:
                moved[ladder_key] = since_s
    latest: dict[LadderKey, Channel] = {}
    for channel in channels.values() if moved else ():
        ladder_key = channel.span.account, channel.span.tariff
        if ladder_key in moved and channel.value >= 0:
            known = latest.setdefault(ladder_key, channel)
            latest[ladder_key] = max(known, channel, key=_order)
    for ladder_key, channel in latest.items():
        yield channel, moved[ladder_key]


def _order(channel: Channel) -> tuple[int, int, int]:
    return channel.at_s, address(channel.span.key[0]), channel.span.key[1]


def _parted_s(tariff: Tariff, old: History, new: History, before_s: int) -> int | None:
    """First instant before `before_s` on which two histories give other bounds."""
    changed_s = min(at_s for _, at_s, _ in set(old) ^ set(new))
    day = max(tariff.first_day, month_start(tariff.tier_cycle(month_of(tariff.day_of(changed_s)))))
    while (since_s := tariff.day_start_s(day)) < before_s:
        if tariff.bounds_on(day, old) != tariff.bounds_on(day, new):
            return since_s
        day += 1
    return None
