"""Pure: ladders of one account that count as one, by the tariffs' word `on_switch` [5]."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Final

from audit.meter import Channel, Ladder
from audit.tariffs import month_of
from audit.world import Span

Key = tuple[str, str]  # account, tariff
_LONG_OVER_S: Final = 400 * 86_400  # after the latest opening, at the next registry version, a ring that is over ends


def opened_s(span: Span) -> int:
    """From when on a span counts."""
    return span.opening[1] if span.opening else span.from_s


def share_ladders(
    ladders: Mapping[Key, Ladder],
    channels: Mapping[tuple[str, int, int], Channel],
    furthest_s: Mapping[Key, int],
    known: Collection[tuple[str, int, int]],
) -> None:
    """[5] Ladders of an account whose tariffs carry over count as one up to the last switch's tier cycle."""
    of_account: dict[str, list[Key]] = defaultdict(list)
    for key in ladders:
        of_account[key[0]].append(key)
    if len(of_account) == len(ladders):
        return
    of_ladder: dict[Key, list[Channel]] = defaultdict(list)
    for channel in channels.values():
        of_ladder[channel.span.account, channel.span.tariff].append(channel)
    for keys in of_account.values():
        while len(keys) > 1:
            ring = [key for key in keys if ladders[keys[0]].tariff.carries_with(ladders[key].tariff)]
            keys = [key for key in keys[1:] if key not in ring]
            if len(ring) > 1:
                mine = [channel for key in ring for channel in of_ladder[key]]
                _share(ladders, ring, mine, furthest_s, known)


def _share(
    ladders: Mapping[Key, Ladder],
    ring: list[Key],
    mine: list[Channel],
    furthest_s: Mapping[Key, int],
    known: Collection[tuple[str, int, int]],
) -> None:
    last_s = max(opened_s(channel.span) for channel in mine)
    counted = [key for key in ring if furthest_s.get(key)]
    now_s = max((furthest_s[key] for key in counted), default=0)
    until = max(ladders[key].ring_until for key in ring)
    if any(channel.span.key not in known for channel in mine):
        last_s = max(last_s, now_s)
    elif max(last_s + _LONG_OVER_S, *(ladders[key].ring_until_s() for key in ring)) <= now_s:
        for key in ring:
            ladders[key].ring, ladders[key].ring_until = [], -1
        return
    source_key = (
        max(counted, key=lambda k: furthest_s[k]) if counted else min(ring, key=lambda k: ladders[k].opened_s)
    )
    source = ladders[source_key]
    if source.reached is None:
        return
    members = [ladders[key] for key in ring]
    tie(members, max(until, source.tariff.tier_cycle(month_of(source.tariff.day_of(last_s)))))
    if source.reached > source.ring_until:
        return
    for ladder in members:
        if ladder is not source:
            ladder.reached = source.reached
            ladder.used = defaultdict(lambda: [0], {cycle: [wh[0]] for cycle, wh in source.used.items()})


def tie(ring: list[Ladder], until: int) -> None:
    """Let these count as one up to the tier cycle `until`."""
    for ladder in ring:
        ladder.ring, ladder.ring_until = ring, until
