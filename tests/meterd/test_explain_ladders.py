"""Registers that share a ladder, explained to the fen whatever order they come in.

ladder (month)   ====================|== bound ==|=======>
register 1.8.1     day 9    day 9          day 10            which of them takes the kWh that passes the bound
register 1.8.2         day 8     day 9            day 9      is decided by the order in which they were rated
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from audit.run import audit
from config.tariff_files import tariff_texts
from config.units import REGISTER_CODE, Register
from ingest.archive import read_archive
from meterd.evidence import Evidence
from meterd.lookup import opened
from rating.readings import RecordKind
from registry.address import address

ZONE = ZoneInfo("Asia/Shanghai")
METER = "440100000001"
CODES = [REGISTER_CODE[Register(name)] for name in ("1.8.1", "1.8.2")]
START = date(2026, 7, 1)
TWO = {
    f"{METER},1.8.0,bill,0.01,kWh": f"{METER},1.8.1,bill,0.01,kWh\n{METER},1.8.2,bill,0.01,kWh",
    f"{METER},1.8.0,1000.73,2026-07-01,A": f"{METER},1.8.1,1000.73,2026-07-01,A\n{METER},1.8.2,100,2026-07-01,A",
}
SWITCH = {
    "a1,guangzhou-residential,2026-01-01,": "a1,guangzhou-residential,2026-01-01,2026-07-20\n"
    "a1,guangzhou-residential-tou,2026-07-20,"
}


def local(day: int, minute: int) -> str:
    at = datetime.combine(START, datetime.min.time(), ZONE) + timedelta(days=day, minutes=minute)
    return f"{at:%Y-%m-%dT%H:%M:%S}"


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp())


def live(village: Any, seed: int, days: int) -> None:
    """Two registers of one home, each behind by some days of its own, now and then silent, estimated, replaced."""
    chance = Random(f"ladders-{seed}")
    value = {CODES[0]: 1_000_730, CODES[1]: 100_000}
    done = dict.fromkeys(CODES, 0)  # minutes since the start, of each register's last reading
    lag_days = {code: chance.choice([0, 0, 1, 3, 9]) for code in CODES}
    silent = {code: chance.choice([(99, 99), (99, 99), (12, 36), (25, 40)]) for code in CODES}
    for day in range(days):
        for minute in (200, 560, 1_220):
            now = day * 1_440 + minute
            order = chance.sample(CODES, 2)
            for code in order:
                if silent[code][0] <= day < silent[code][1] or chance.random() < 0.2:
                    continue
                at = now - lag_days[code] * 1_440 - chance.randrange(60) if chance.random() < 0.9 else day * 1_440
                if at <= done[code]:
                    continue
                value[code] += chance.randrange(1 + (at - done[code]) * 12) // 10 * 10
                done[code] = at
                qualities, shown = ([1, 4] if chance.random() < 0.1 else [4]), value[code]
                for quality in qualities:
                    shown = value[code] + (chance.randrange(400) * 10 if quality == 1 else 0)
                    came = f"{max(seconds(local(0, at)), village.engines[village.home].as_of_s)}"
                    stamp = f"{datetime.fromtimestamp(int(came), ZONE):%Y-%m-%dT%H:%M:%S}"
                    village.read([(METER, shown, local(0, at))], quality=quality, received=stamp, register=code)
        if chance.random() < 0.3:
            at_s = seconds(local(day, 1_300))
            village.clock.set(max(village.clock.now_s(), at_s))
            village.record(RecordKind.TICK, max(at_s, village.engines[village.home].as_of_s))
        if chance.random() < 0.3:
            village.checkpoint()
    village.checkpoint()


def differences(village: Any, days: Iterable[int]) -> tuple[list[Any], set[int], int]:
    """(days whose explanation is not what the ledger says, days on which a bound was passed, guesses that follow)."""
    wrong, passed, guesses = [], set(), set()
    with opened(village.config) as view:
        evidence = Evidence(view.account("a1"))
        for number in days:
            for slot, channel in evidence.days((START - date(1970, 1, 1)).days + number):
                if not channel.agrees:
                    wrong.append((slot, number, channel.energy_wh, channel.ledger_wh, channel.components))
                if len({line.tier for line in channel.lines}) > 1:
                    passed.add(number)
                guesses |= {(guess.from_s, guess.made_at_s) for guess in channel.guesses if guess.follows}
    return wrong, passed, len(guesses)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_order_they_come_in(seed: int, make_village: Callable[..., Any], tmp_path: Path) -> None:
    village = make_village(tmp_path, TWO | (SWITCH if seed % 3 == 2 else {}), now="2026-07-01T00:00")
    live(village, seed, 45)
    if seed % 2:
        village.archive(village.log.bounds(village.home)[1] - 20)
    wrong, passed, _ = differences(village, range(45))
    assert not wrong, (len(wrong), wrong[:2])
    assert passed
    assert audit(village.settings.data_dir).differences == []


def test_a_ladder_of_the_year(
    make_village: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the ladder stood in October is taken from what was posted: no file of the summer is read for it."""
    tariffs = tmp_path / "tariffs"
    tariffs.mkdir()
    for name, text in tariff_texts(None).items():
        yearly = text.replace('\ncycle = "calendar_month"', '\ncycle = "calendar_year"\ncycle_begins = 1')
        for bounds in ('"260", "600"', '"200", "400"'):
            yearly = yearly.replace(bounds, '"900", "1900"')
        (tariffs / f"{name}.toml").write_text(yearly)
    village, days = make_village(tmp_path, TWO, tariffs=tariffs, now="2026-07-01T00:00"), 215  # into February
    live(village, 3, days)
    end = village.log.bounds(village.home)[1]
    for last in range(end // 12, end, end // 12):
        village.archive(last)
    read: list[Path] = []

    def counted(path: Path, **more: Any) -> Any:
        read.append(path)
        return read_archive(path, **more)

    monkeypatch.setattr("meterd.register_log.read_archive", counted)
    wrong, passed, _ = differences(village, range(days))
    assert not wrong, (len(wrong), wrong[:2])
    assert passed
    read.clear()
    assert not differences(village, [100])[0]
    assert 0 < len(set(read)) < 11  # of 13
    assert audit(village.settings.data_dir, settings=village.settings).differences == []


@pytest.mark.parametrize("silent_until", [24, 36])
@pytest.mark.parametrize("rebaselined", [False, True])
def test_a_guess_over_a_change_of_tariff(
    silent_until: int, rebaselined: bool, make_village: Callable[..., Any], tmp_path: Path
) -> None:
    """Silent from 11 July to the day of a word on where it stands, or of the next reading; the tariff changes on the
    20th, and the bill of July closes on 5 August."""
    village = make_village(tmp_path, TWO | SWITCH, now="2026-07-01T00:00")
    value = {CODES[0]: 1_000_730, CODES[1]: 100_000}
    for day in range(45):
        for place, code in enumerate(CODES):
            value[code] += 7_370 if place else 3_410
            if place == 0 or not 10 <= day < silent_until:
                village.read([(METER, value[code], local(day, 600 + place))], register=code)
        village.clock.set(seconds(local(day, 700)))
        village.record(RecordKind.TICK, seconds(local(day, 700)))
        village.checkpoint()
        if rebaselined and day in (8, silent_until):
            value[CODES[1]] -= 30_000
            where = {"concentrator": "c1", "meter": address(METER), "register": "1.8.2"}
            body = where | {"value": value[CODES[1]], "at_s": seconds(local(day, 650)), "reason": "new display"}
            row = village.submit("rebaseline", f"rebaseline:{day}", body, village.home)
            assert village.wait_applied(row, 0) == ""
    wrong, _, guesses = differences(village, range(45))
    assert not wrong, (len(wrong), wrong[:2])
    assert guesses == (1 if silent_until == 36 else 0)
    assert audit(village.settings.data_dir).differences == []
