"""Days around bills that closed by the settlement window, explained to the fen: what was guessed, what made it good.

|  July ....x. . . . . .|    x         | 5 August: the window is over, the bill closes upon a guess
        last register    the next actual register, which takes it back or adds to it
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from audit.run import audit
from config.tariff_files import tariff_texts
from config.units import REGISTER_CODE, Register
from ledger import reads
from ledger.statements import date_of
from meterd import cli
from meterd.evidence import Evidence
from meterd.lookup import opened
from meterd.views.explaining import MINOR
from rating.readings import RecordKind

ZONE = ZoneInfo("Asia/Shanghai")
ACCOUNTS = ("a1", "a2", "a3")

OPENING = {"440100000001": 1_000_730, "440100000002": 50_000, "WX-77.a": 7_001}
E, S, A = 1, 2, 4
Step = tuple[int, str] | tuple[int, str, int] | str  # (thousandths since the opening, time[, quality]), or a tick
JULY = [(470 * n + 130 * (n % 3), f"2026-07-{1 + n // 2:02}T{9 + 11 * (n % 2):02}:20") for n in range(1, 30)]
UPTO = JULY[-1][0]
CLOSE = "2026-08-05T12:00"

SCENARIOS: dict[str, list[Step]] = {
    "the next actual is above the guess": [*JULY, CLOSE, (UPTO + 30_010, "2026-08-06T10:20")],
    "below it: the guess is taken back": [*JULY, CLOSE, (UPTO + 2_010, "2026-08-06T10:20")],
    "taken back over days, then use again": [
        *JULY, CLOSE, (UPTO + 500, "2026-08-09T00:00"), (UPTO + 9_000, "2026-08-10T13:00"), "2026-08-14T00:00",
    ],
    "the boundary register itself comes late": [
        *JULY, CLOSE, (UPTO + 9_990, "2026-08-01T00:00"), (UPTO + 12_010, "2026-08-06T10:20"),
    ],
    "the boundary register confirms nothing and days go on": [
        *JULY, CLOSE, (UPTO + 25_990, "2026-08-01T00:00"), (UPTO + 26_000, "2026-08-01T06:00"),
        (UPTO + 31_010, "2026-08-03T10:20"), (UPTO + 42_010, "2026-08-09T10:20"),
    ],
    "the last register stood at midnight": [
        *JULY[:-1], (UPTO, "2026-07-16T00:00"), CLOSE, (UPTO + 9_990, "2026-08-06T10:20"),
    ],
    "no guess upon an estimate, and the remainder goes to the bill": [
        *JULY, (UPTO + 1_230, "2026-07-17T13:20", E), CLOSE, (UPTO + 9_990, "2026-08-07T10:20"),
    ],
    "the same, and a better reading of that time comes after the close": [
        *JULY, (UPTO + 1_230, "2026-07-17T13:20", E), CLOSE, (UPTO + 1_330, "2026-07-17T13:20"),
        (UPTO + 9_990, "2026-08-07T10:20"),
    ],
    "dead for two months": [*JULY, CLOSE, "2026-09-05T12:00", (UPTO + 70_010, "2026-09-06T10:20")],
    "silent in the first month, dead in the second": [
        *JULY, CLOSE, (UPTO + 29_990, "2026-08-12T10:20"), "2026-09-05T12:00", (UPTO + 90_010, "2026-09-08T10:20"),
    ],
    "days are posted by ticks before": [*JULY, "2026-07-25T12:00", CLOSE, (UPTO + 9_990, "2026-08-06T10:20")],
    "better readings replace within days and over them": [
        *JULY[:-4], (JULY[-4][0] + 500, JULY[-4][1], E), (JULY[-4][0], JULY[-4][1]),
        (UPTO + 900, "2026-07-20T09:20", E), (UPTO + 1_000, "2026-07-20T09:20", S),
        (UPTO + 1_200, "2026-07-20T09:20"), (UPTO + 3_000, "2026-07-22T00:00", S), (UPTO + 3_100, "2026-07-22T00:00"),
        (UPTO + 4_000, "2026-07-23T01:00"),
        CLOSE, (UPTO + 20_010, "2026-08-06T10:20"),
    ],
    "nothing has come since": [*JULY, CLOSE],
}  # fmt: skip


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp())


def live(village: Any, steps: list[Step], *, every: int = 7) -> None:
    """The village's three meters all do the same; a checkpoint after so many steps."""
    for number, step in enumerate(steps):
        if isinstance(step, str):
            village.clock.set(max(village.clock.now_s(), seconds(step)))
            village.record(RecordKind.TICK, seconds(step))
        else:
            more, at, quality = (*step, A)[:3]
            rows = [(meter, value + more - more % 10, at) for meter, value in OPENING.items()]
            come_s = max(seconds(at), village.engines[village.home].as_of_s)
            village.read(rows, quality=quality, received=f"{datetime.fromtimestamp(come_s, ZONE):%Y-%m-%dT%H:%M:%S}")
        if number % every == 0:
            village.checkpoint()
    village.checkpoint()


def explained(village: Any, capsys: pytest.CaptureFixture[str], account: str, day: date) -> tuple[int, Any]:
    code = cli.run(["explain", account, str(day), "--config", str(village.config), "--json"])
    return code, json.loads(capsys.readouterr().out)


def posted(village: Any, account: str) -> dict[tuple[str, str], int]:
    partition, slot = village.registry().find_account(account)
    found: dict[tuple[str, str], int] = {}
    with village.store.reader() as connection:
        for row in reads.statement_rows(connection, partition, slot):
            if row.kind in ("usage", "estimate"):
                key = (str(date_of(row.day)), row.component)
                found[key] = found.get(key, 0) - row.amount_fen
    return found


def days(last: str) -> list[date]:
    first, end = date(2026, 7, 12), date.fromisoformat(last)
    return [first + timedelta(n) for n in range((end - first).days + 1)]


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_day_is_explained_to_the_fen(name: str, make_village: Callable[..., Any], tmp_path: Path) -> None:
    steps = SCENARIOS[name]
    village = make_village(tmp_path)
    live(village, steps)
    assert village.engines[village.home].counters["bills.by_window"] >= len(ACCOUNTS)
    wrong = []
    last = "2026-09-09" if "2026-09-05T12:00" in steps else "2026-08-11"
    with opened(village.config) as view:
        for account in ACCOUNTS:
            told, evidence = posted(village, account), Evidence(view.account(account))
            for day in days(last):
                ((_, channel),) = evidence.days((day - date(1970, 1, 1)).days)
                for one in channel.components:
                    parts_e11 = one.posted_fen * MINOR + one.billed_e11 + one.carried_e11
                    assert one.brought_e11 + one.amount_e11 == parts_e11
                    if one.ledger_fen is not None:
                        assert one.ledger_fen == told.pop((str(day), one.name), 0)
                if not channel.agrees:
                    wrong.append((account, str(day), channel.energy_wh, channel.ledger_wh, channel.components))
    assert not wrong, (len(wrong), wrong[:3])


@pytest.mark.parametrize("opened", [1, 6])
def test_the_line_of_a_guess_names_its_figures(
    opened: int, make_village: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also from the archive alone, and whatever the checkpoints: of July 15 days and 20 hours were known, or five
    days less where a1 came to the house on the 6th. The 12.5 kWh that it brought are no part of it."""
    for archive, every in ((False, 1), (True, 1000)):
        steps = SCENARIOS["the next actual is above the guess"]
        row = "440100000001,1.8.0,1000.73,2026-07-{:02},A"
        village = make_village(tmp_path / str(every), {row.format(1): row.format(opened)})
        live(village, steps, every=every)
        if archive:
            village.archive(village.log.bounds(village.home)[1])
        for day in (date(2026, 7, 15), date(2026, 7, 31)):
            code, facts = explained(village, capsys, "a1", day)
            assert code == 0
            (channel,) = facts["channels"]
            (guess,) = channel["estimates"]
            used, known_s, for_s = Decimal(guess["used_kwh"]), guess["known_s"], guess["for_s"]
            assert guess["made_at"].startswith("2026-08-05 12:00:00")
            assert used == Decimal(UPTO - UPTO % 10) / 1000
            whole_s = (32 - opened) * 86_400
            assert (known_s + for_s, guess["registers"], guess["as_the_rule_says"]) == (whole_s, 1, True)
            rule = int(used * 1000) * for_s // known_s
            assert Decimal(guess["energy_kwh"]) * 1000 == rule - rule % 10
            assert {"A", "E"} >= {line["quality"] for line in channel["lines"]}
            assert any("estimate" in reading["note"] for reading in channel["readings"])
        assert explained(village, capsys, "a1", date(2026, 7, 10))[1]["channels"][0]["estimates"] == []
        assert audit(village.settings.data_dir).differences == []


@pytest.mark.parametrize("silent", [(1,), (0, 1), (0,)])
@pytest.mark.parametrize("every", [1, 1000])
def test_registers_that_share_a_ladder(
    silent: tuple[int, ...], every: int, make_village: Callable[..., Any], tmp_path: Path
) -> None:
    """Two registers of a home; one of them, or both, are silent from 13 July to 5 August, and it tiers meanwhile.

    What is guessed for one comes behind all that the other has used in the month by then.
    """
    meter = "440100000001"
    two = "{0},1.8.1,{1}\n{0},1.8.2,{2}"
    village = make_village(
        tmp_path,
        {
            f"{meter},1.8.0,bill,0.01,kWh": two.format(meter, "bill,0.01,kWh", "bill,0.01,kWh"),
            f"{meter},1.8.0,1000.73,2026-07-01,A": two.format(meter, "1000.73,2026-07-01,A", "100,2026-07-01,A"),
        },
    )
    value = {REGISTER_CODE[Register("1.8.1")]: 1_000_730, REGISTER_CODE[Register("1.8.2")]: 100_000}
    first, silent = min(value), tuple(list(value)[place] for place in silent)
    for number in range(40):
        day = date(2026, 7, 1) + timedelta(number)
        if day == date(2026, 8, 4):
            village.record(RecordKind.TICK, seconds("2026-08-04T00:00"))
        for hour in (9, 20):
            for code in value:
                value[code] += 2_410 if code == first else 6_370
            heard = [code for code in value if not (12 <= number < 36 and code in silent)]
            at = f"{day}T{hour:02}:20"
            for code in heard:
                village.read([(meter, value[code], at)], register=code)
        if number % every == 0:
            village.checkpoint()
    village.checkpoint()
    assert village.engines[village.home].counters["estimate.accepted"] == len(silent)
    with opened(village.config) as view:
        evidence, guesses, tiers, wrong = Evidence(view.account("a1")), set(), set(), []
        for number in range(40):
            for slot, channel in evidence.days((date(2026, 7, 1) - date(1970, 1, 1)).days + number):
                if not channel.agrees:
                    wrong.append((slot, number, channel.used_before_wh, channel.components))
                guesses |= {(slot, guess.registers, guess.follows) for guess in channel.guesses}
                tiers |= {line.tier for line in channel.lines if line.quality == E}
    assert not wrong, (len(wrong), wrong[:3])
    assert guesses == {(slot, 2, True) for slot, *_ in guesses}
    assert (len(guesses), max(tiers) > 0) == (len(silent), True)


@pytest.mark.parametrize("every", [1, 1000])
def test_two_bills_that_one_tick_closes(every: int, make_village: Callable[..., Any], tmp_path: Path) -> None:
    """Tiers of the year, two registers: one is silent from 13 July, the other from 20 August, and the next tick after
    that comes in September. August's guess goes by what July's added, over the time that it added."""
    tariffs = tmp_path / "tariffs"
    tariffs.mkdir()
    for name, text in tariff_texts(None).items():
        (tariffs / f"{name}.toml").write_text(
            text.replace('\ncycle = "calendar_month"', '\ncycle = "calendar_year"\ncycle_begins = 1')
        )
    meter = "440100000001"
    rows = {
        f"{meter},1.8.0,bill,0.01,kWh": f"{meter},1.8.1,bill,0.01,kWh\n{meter},1.8.2,bill,0.01,kWh",
        f"{meter},1.8.0,1000.73,2026-07-01,A": f"{meter},1.8.1,1000.73,2026-07-01,A\n{meter},1.8.2,100,2026-07-01,A",
    }
    village = make_village(tmp_path, rows, tariffs=tariffs)
    value = {REGISTER_CODE[Register("1.8.1")]: 1_000_730, REGISTER_CODE[Register("1.8.2")]: 100_000}
    begins = dict(value)
    for number in range(50):
        day = date(2026, 7, 1) + timedelta(number)
        for code, step in zip(value, (2_410, 6_370), strict=True):
            if number < 12 or code == max(value):
                value[code] += step
                village.read([(meter, value[code], f"{day}T20:20")], register=code)
        if number % every == 0:
            village.checkpoint()
    village.record(RecordKind.TICK, seconds("2026-09-05T00:00"))
    village.checkpoint()
    assert village.engines[village.home].counters["estimate.accepted"] == 2
    with opened(village.config) as view:
        evidence, guesses, wrong = Evidence(view.account("a1")), set(), []
        for number in range(62):
            for _, channel in evidence.days((date(2026, 7, 1) - date(1970, 1, 1)).days + number):
                guesses |= set(channel.guesses)
                if not channel.agrees:
                    wrong.append((number, channel.components))
    assert not wrong, (len(wrong), wrong[:2])
    july, august = sorted(guesses, key=lambda guess: guess.to_s)
    used_wh = sum(value[code] - begins[code] for code in value)
    assert (july.follows, august.follows) == (True, True)
    assert (july.used_wh, august.used_wh) == (used_wh, used_wh + july.energy_wh)
    first_s, silent_s = seconds("2026-07-01T00:00"), seconds("2026-07-12T20:20")
    last_s, end_s = seconds("2026-08-19T20:20"), seconds("2026-08-01T00:00")
    assert july.known_s == silent_s - first_s + last_s - first_s
    assert august.known_s == end_s - first_s + last_s - first_s
    assert audit(village.settings.data_dir, settings=village.settings).differences == []
