"""Estimates of bills that close by the window: the auditor's own rule by hand, and against the engine.

tier cycle  |======|==========x . . . . .|
       brought in  opening    silent     end of the bill cycle
"""

import csv
import json
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.accounts import PartitionAudit
from audit.dump import Position, dump, restore
from audit.run import audit
from audit.tariffs import read_tariffs
from audit.world import build
from config.settings import RatingSettings
from config.tariff_files import tariff_texts
from registry.layout import FILES
from tests.audit.test_engine import House, at, write_csv

TARIFFS = read_tariffs(tariff_texts(), 2020, 2040)
RESIDENTIAL, TOU, FLAT = "guangzhou-residential", "guangzhou-residential-tou", "guangzhou-residential-flat"
METERS = ("000000000001", "000000000002")


def text(day: int) -> str:
    """A day of July 2026 and the months after, counted from 1."""
    return str(date(2026, 6, 30) + timedelta(day))


def stands(plain_tables: Any, opened: str, cycle_energy: str, readings: list[tuple[int, int]], close: str) -> Any:
    """(value, quality) of the one register, opened with 0, after these readings and a tick."""
    tables = plain_tables(
        opening_registers=[
            {"meter": METERS[0], "register": "1.8.0", "value": "0", "read_at": opened, "quality": "A"}
        ],
        opening_accounts=[{"account": "A", "balance": "0", "arrears": "", "cycle_energy": cycle_energy}],
    )
    book = PartitionAudit(0, TARIFFS, RatingSettings())
    book.activate(build("v", 1, "Asia/Shanghai", tables))
    for when, value in readings:
        book.readings("c1", when, ([1], [value], [when], [1], [4]))
    book.tick(at(close))
    (channel,) = book.channels.values()
    return channel.value, channel.quality


@pytest.mark.parametrize("cycle_energy", ["", "0", "0.5", "100", "700"])
def test_what_the_import_brought_is_no_use_to_go_by(plain_tables: Any, cycle_energy: str) -> None:
    """The account is older than its opening register: 20 kWh in ten days are 22 in eleven."""
    july = stands(plain_tables, "2026-07-11", cycle_energy, [(at("2026-07-21"), 20_000)], "2026-08-04")
    assert july == (42_000, 1)
    august = [(at("2026-08-01"), 42_000), (at("2026-08-16"), 72_000)]
    assert stands(plain_tables, "2026-07-11", cycle_energy, august, "2026-09-04") == (104_000, 1)


@pytest.mark.parametrize("readings", [[], [(at("2026-07-21"), 0)], [(at("2026-07-11T23:59"), 2_000)]])
def test_what_the_import_brought_makes_no_guess_by_itself(plain_tables: Any, readings: list[tuple[int, int]]) -> None:
    value = readings[0][1] if readings else 0
    assert stands(plain_tables, "2026-07-11", "250", readings, "2026-08-04") == (value, 4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    brought=st.decimals(0, 900, places=3),
    opened_day=st.integers(1, 29),
    after_h=st.integers(1, 700),
    value=st.integers(0, 300_000),
)
def test_no_energy_from_before_the_opening_is_in_a_guess(
    plain_tables: Any, brought: Any, opened_day: int, after_h: int, value: int
) -> None:
    opened_s, end_s = at(text(opened_day)), at("2026-08-01")
    at_s = opened_s + after_h * 3600
    if at_s >= end_s or value * 3600 > 13_200 * 86_400:
        return
    with_it, without = (
        stands(plain_tables, text(opened_day), energy, [(at_s, value)], "2026-08-04") for energy in (str(brought), "")
    )
    assert with_it == without


@pytest.mark.parametrize("later", ["", "150", "250"])
@pytest.mark.parametrize("saved", [False, True])
def test_what_was_brought_is_what_the_first_version_says(plain_tables: Any, later: str, saved: bool) -> None:
    """Whatever a later one says, and when the audit went on from what an earlier one kept."""
    opening = [{"meter": METERS[0], "register": "1.8.0", "value": "0", "read_at": "2026-07-11", "quality": "A"}]
    worlds = {}
    for name, energy in (("v1", "250"), ("v2", later)):
        told = [{"account": "A", "balance": "0", "arrears": "", "cycle_energy": energy}]
        worlds[name] = build(name, 1, "Asia/Shanghai", plain_tables(opening_registers=opening, opening_accounts=told))
    book = PartitionAudit(0, TARIFFS, RatingSettings())
    for world in worlds.values():
        book.activate(world)
    book.readings("c1", at("2026-07-21"), ([1], [20_000], [at("2026-07-21")], [1], [4]))
    if saved:
        lines = json.loads(json.dumps(list(dump(book, Position(digest="v2")))))
        book = PartitionAudit(0, TARIFFS, RatingSettings())
        restore(book, lines, worlds.__getitem__)
    book.tick(at("2026-08-04"))
    (channel,) = book.channels.values()
    assert (channel.value, channel.quality) == (42_000, 1)


# -- the engine says the same ------------------------------------------------------------------------------------


@st.composite
def lives(draw: st.DrawFn) -> dict[str, Any]:
    """One account with one or two registers from some day of July on: what it brings, and what changes when."""
    codes = draw(st.sampled_from([["1.8.0"], ["1.8.1", "1.8.2"]]))
    opened = [draw(st.integers(1, 20)) for _ in codes]
    days = [-400, *sorted(draw(st.sets(st.integers(max(opened) + 1, 45), max_size=2)))]
    tariffs = draw(st.permutations([RESIDENTIAL, TOU, FLAT]))
    tariffs = [*tariffs[:2], draw(st.sampled_from([tariffs[0], tariffs[2]]))]  # there and back again, too
    steps = st.lists(st.tuples(st.integers(1, 400), st.integers(0, 60_000)), max_size=5)
    return {
        "codes": codes,
        "opened": opened,
        "cycle_energy": draw(st.sampled_from(["", "0.001", "90", "700.5"])),
        "tariffs": list(zip(days, tariffs, strict=False)),
        "told_late": draw(st.booleans()),
        "openings_later": draw(st.booleans()),
        "change_out": draw(st.none() | st.integers(opened[0] + 1, 45)) if len(codes) == 1 else None,
        "before": [draw(steps) for _ in codes],
        "after": [draw(steps) for _ in codes],
    }


def write_life(folder: Path, life: dict[str, Any], known: int) -> Path:
    """The registry as it is when the first `known` tariffs, and change-outs only if all, have been told."""
    folder.mkdir()
    write_csv(folder, changed=False)
    spans, out = life["tariffs"][:known], life["change_out"] if known == len(life["tariffs"]) else None
    ends = [*(text(day) for day, _ in spans[1:]), ""]
    first = text(life["tariffs"][0][0])
    row = ["P", "c1", 0, "6", "1", "13200"]
    meters = [[METERS[0], *row[:3], first, text(out) if out else "", *row[3:]]]
    meters += [[METERS[1], *row[:3], text(out), "", *row[3:]]] if out else []
    opened = zip(life["codes"], life["opened"], strict=True)
    rows: dict[str, list[list[Any]]] = {
        "points": [["P", "electricity", ""]],
        "meters": meters,
        "registers": [[m[0], code, "bill", "0.001", "kWh"] for m in meters for code in life["codes"]],
        "opening_registers": [[METERS[0], code, "0", text(day), "A"] for code, day in opened],
        "changeouts": [["P", text(out), METERS[0], "200", METERS[1], "0"]] if out else [],
        "accounts": [["A", "x", "P", first, ""]],
        "tariffs": [["A", name, text(day), end] for (day, name), end in zip(spans, ends, strict=True)],
        "opening_accounts": [["A", "0", "0", life["cycle_energy"]]],
        "attributes": [],
    }
    for layout in FILES:
        if layout.name in rows:
            with (folder / layout.file).open("w", newline="") as file:
                csv.writer(file).writerows([layout.columns, *rows[layout.name]])
    return folder


def walk(house: House, life: dict[str, Any], part: str, stands: dict[int, tuple[int, int]], close: str) -> None:
    """Each register goes its steps as far as the bill's close, which comes after all of them."""
    for code, steps in zip(stands, life[part], strict=True):
        for hours, energy in steps:
            at_s, value = stands[code]
            if at_s + hours * 3600 < at(close):
                stands[code] = at_s + hours * 3600, value + energy
                rows = [(int(meter), stands[code][1], stands[code][0], 4) for meter in METERS]
                house.send(rows, max(stands[code][0], house.engine.as_of_s), code)
    house.tick(at(close))
    house.checkpoint()


@settings(max_examples=25, deadline=None)
@given(life=lives())
def test_engine_and_auditor_guess_the_same(life: dict[str, Any]) -> None:
    """Whatever was brought in, wherever tariff or meter change, whoever is silent, told in time or afterwards."""
    with TemporaryDirectory() as name:
        root = Path(name)
        (root / "data").mkdir()
        house = House(root / "data")
        known = len(life["tariffs"])
        try:
            house.register(write_life(root / "v1", life, 1 if life["told_late"] else known))
            codes = {"1.8.0": 1, "1.8.1": 2, "1.8.2": 3}
            stands = {codes[c]: (at(text(day)), 0) for c, day in zip(life["codes"], life["opened"], strict=True)}
            walk(house, life, "before", stands, "2026-08-04")
            if life["told_late"]:
                folder = write_life(root / "v2", life, known)
                if not life["openings_later"]:
                    (folder / "opening_accounts.csv").unlink()
                house.register(folder)
            walk(house, life, "after", stands, "2026-09-04")
            house.tick(at("2026-10-04"))
            house.checkpoint()
        finally:
            house.close()
        assert audit(house.root).differences == []


@pytest.mark.parametrize("since", [None, "last"])
def test_a_version_without_openings_guesses_as_the_first(tmp_path: Path, since: str | None) -> None:
    """100 kWh brought and 20 used in ten days are 22 in eleven, also when a second version says nothing of the 100;
    the ladder's register of the night counts before the first one's opening and moves nothing."""
    life = {
        "codes": ["1.8.0"], "opened": [11], "cycle_energy": "100", "tariffs": [(-400, RESIDENTIAL)],
        "change_out": None,
    }  # fmt: skip
    (tmp_path / "data").mkdir()
    house = House(tmp_path / "data")
    try:
        house.register(write_life(tmp_path / "v1", life, 1))
        house.send([(1, 10_000, at("2026-07-16"), 4)], at("2026-07-16"))
        folder = write_life(tmp_path / "v2", life, 1)
        (folder / "opening_accounts.csv").unlink()
        for name, row in (("registers", "2.8.0,check,0.001,kWh"), ("opening_registers", "2.8.0,0,2026-06-05,A")):
            with (folder / f"{name}.csv").open("a") as file:
                file.write(f"{METERS[0]},{row}\n")
        house.register(folder)
        house.send([(1, 20_000, at("2026-07-21"), 4)], at("2026-07-21"))
        house.checkpoint()
        if since:
            assert audit(house.root).differences == []
        house.tick(at("2026-08-04"))
        house.checkpoint()
        assert house.engine.part.channel["value"].tolist() == [42_000, 0]
    finally:
        house.close()
    assert audit(house.root, since=since).differences == []
