"""`meterd rate`: a file under a tariff, by the daemon's engine; every row rated or with its verdict."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv, parquet

from config.tariff_files import tariff_texts
from meterd import cli
from meterd.exits import Exit
from meterd.rate.columns import NAMES, columns_of
from meterd.rate.cycles import rate_columns
from rating.tariff.reading import parse_tariffs

HEAD = ",".join(NAMES) + "\n"
TARIFFS = {tariff.id: tariff for tariff in parse_tariffs(tariff_texts())}
GUANGZHOU, TOU = "guangzhou-residential", "guangzhou-residential-tou"


def row(at: str, value: str, point: str = "p", register: str = "1.8.0", unit: str = "kWh", quality: str = "A") -> str:
    return f"{point},{register},{at},{value},{unit},{quality}\n"


def json_of(
    folder: Path, capsys: pytest.CaptureFixture[str], tariff: str, rows: str, *options: str
) -> dict[str, Any]:
    file = folder / "readings.csv"
    file.write_text(HEAD + rows, encoding="utf-8")
    assert cli.run(["rate", "--tariff", tariff, "--readings", str(file), "--json", *options]) == Exit.OK
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def rated(folder: Path, capsys: pytest.CaptureFixture[str], tariff: str, rows: str, *options: str) -> dict[str, Any]:
    told = json_of(folder, capsys, tariff, rows, *options)
    for cycle in told["cycles"]:
        assert sum(Decimal(line["amount"]) for line in cycle["lines"]) == Decimal(cycle["total"]), (
            "lines are the bill"
        )
        assert sum(Decimal(line["amount"]) for line in cycle["lines"][:-1]) == Decimal(cycle["exact"])
        energy = [line for line in cycle["lines"] if line["component"] == "energy"]
        assert all(Decimal(e["quantity"]) * Decimal(e["price"]) == Decimal(e["amount"]) for e in energy)
    return told


KWH, WATER, HEAT = ("1.8.0", "kWh"), ("24.2.1", "m3"), ("24.2.1", "kWh")
JULY = "2026-07-01T00:00+08:00", "2026-08-01T00:00+08:00"
DECEMBER = "2026-12-01T00:00+08:00", "2027-01-01T00:00+08:00"
JANUARY = "2026-01-01T00:00+08:00", "2026-02-01T00:00+08:00"
# Domain 1 and 2: (tariff, register, unit, first and last moment, use, attributes, exact, as billed).
FIGURES = [
    (GUANGZHOU, *KWH, *JULY, "600", "", "370.32125", "370.32"),
    (GUANGZHOU, *KWH, *DECEMBER, "600", "", "423.32125", "423.32"),
    (GUANGZHOU, *KWH, *JULY, "602", "", "372.0989875", "372.10"),
    (GUANGZHOU, *KWH, *JULY, "600", "multi_person=true", "365.32125", "365.32"),
    (GUANGZHOU, *KWH, *JULY, "600", "household_size=5", "365.32125", "365.32"),
    ("guangzhou-water", *WATER, *JULY, "30", "", "99.42", "99.42"),
    ("beijing-heating-kwh", *HEAT, *JANUARY, "1000", "", "160", "160.00"),
    # 1,000 x 0.120 + 100 x 0.142 = 134.20, less the rebate of 31.54
    ("ontario-tiered", *KWH, "2026-01-01T00:00-05:00", "2026-02-01T00:00-05:00", "1100", "", "102.66", "102.66"),
    # 12 yuan for each of 90 m2 and the season's 121 days: 276.694... for January's 31
    ("beijing-heating-kwh", *HEAT, *JANUARY, "1000", "heated_area=90", "436.69", "436.69"),
    ("beijing-heating-gj", "24.2.1", "GJ", *JANUARY, "3.6", "", "160.02", "160.02"),
]


@pytest.mark.parametrize(
    ("tariff", "register", "unit", "first", "last", "use", "attribute", "exact", "total"), FIGURES
)
def test_figures_of_one_month(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tariff: str, register: str, unit: str, first: str, last: str,
    use: str, attribute: str, exact: str, total: str,
) -> None:  # fmt: skip
    rows = row(first, "1000.000", register=register, unit=unit)
    rows += row(last, str(1000 + Decimal(use)), register=register, unit=unit)
    told = rated(tmp_path, capsys, tariff, rows, *(["--attributes", attribute] if attribute else []))
    assert [(cycle["exact"], cycle["total"]) for cycle in told["cycles"]] == [(exact, total)]
    assert told["exceptions"] == []


# Annual tiers, monthly bills (domain 9): a year's bills sum to what the year costs.
YEARS = [
    ("beijing-residential", "1.8.0", "kWh", 300, "1793.88"),
    ("beijing-water", "24.2.1", "m3", 25, "1820"),
    ("beijing-gas", "24.2.1", "m3", 50, "1761"),
]


@pytest.mark.parametrize(("tariff", "register", "unit", "monthly", "exact"), YEARS)
def test_a_year_of_months(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tariff: str,
    register: str,
    unit: str,
    monthly: int,
    exact: str,
) -> None:
    rows = "".join(
        row(f"{2026 + m // 12}-{m % 12 + 1:02}-01T00:00+08:00", str(monthly * m), register=register, unit=unit)
        for m in range(13)
    )
    told = rated(tmp_path, capsys, tariff, rows)
    assert len(told["cycles"]) == 12
    assert sum(Decimal(cycle["exact"]) for cycle in told["cycles"]) == Decimal(exact)


def test_lines_by_period_and_tier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    #  1 July: 8 h valley at 1 kWh/h, then 4 h flat, 7 h peak, 5 h flat, and the same again for 30 days more
    rows = row("2026-07-01T00:00+08:00", "0") + row("2026-08-01T00:00+08:00", "744")
    told = rated(tmp_path, capsys, TOU, rows)
    (cycle,) = told["cycles"]
    quantity: dict[str, Decimal] = {}
    for line in cycle["lines"][:-1]:
        quantity[line["period"]] = quantity.get(line["period"], Decimal(0)) + Decimal(line["quantity"])
    assert quantity == {"valley": 248, "flat": 279, "peak": 217}
    tiers = {t: sum(Decimal(e["quantity"]) for e in cycle["lines"][:-1] if e["tier"] == t) for t in (1, 2, 3)}
    assert tiers == {1: 260, 2: 340, 3: 144}
    assert cycle["from"] == "2026-07-01T00:00:00+08:00"
    assert cycle["to"] == "2026-08-01T00:00:00+08:00"


BAD = [
    (row("2026-07-02T00:00:00", "1"), "time_range"),
    (row("2026-02-30T00:00:00+08:00", "1"), "time_range"),
    (row("2206-07-02T00:00:00+08:00", "1"), "time_range"),
    (row("2026-07-02T00:00:00+08:00", "1,5"), None),  # another column: the file as a whole
    (row("2026-07-02T00:00:00+08:00", "1_000"), "number_form"),
    (row("2026-07-02T00:00:00+08:00", "１"), "number_form"),
    (row("2026-07-02T00:00:00+08:00", "1e3"), "number_form"),
    (row("2026-07-02T00:00:00+08:00", "NaN"), "number_form"),
    (row("2026-07-02T00:00:00+08:00", ""), "number_form"),
    (row("2026-07-02T00:00:00+08:00", "0.0001"), "resolution"),
    (row("2026-07-02T00:00:00+08:00", "9" * 15), "overflow"),
    (row("2026-07-02T00:00:00+08:00", "1", unit="Wh"), "unit"),
    (row("2026-07-02T00:00:00+08:00", "1", unit="m3"), "unit"),
    (row("2026-07-02T00:00:00+08:00", "1", quality="N"), "wrong_type"),
    (row("2026-07-02T00:00:00+08:00", "1", point=""), "malformed"),
    (row("2026-07-02T00:00:00+08:00", "1", register="total"), "unknown_register"),
    (row("2026-07-02T00:00:00+08:00", "-1"), "negative"),
    (row("2026-07-02T00:00:00+08:00", "0.5"), None),  # nothing wrong
]


@pytest.mark.parametrize(("bad", "reason"), [one for one in BAD if "1,5" not in one[0]])
def test_a_bad_row_has_its_verdict_and_the_rest_are_rated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: str, reason: str | None
) -> None:
    rows = row("2026-07-01T00:00+08:00", "0") + bad + row("2026-08-01T00:00+08:00", "600")
    told = rated(tmp_path, capsys, GUANGZHOU, rows)
    assert [cycle["exact"] for cycle in told["cycles"] if cycle["metering_point"] == "p"] == ["370.32125"]
    assert [(one["line"], one["reason"]) for one in told["exceptions"]] == ([(3, reason)] if reason else [])


def test_unsorted_rows_are_rated_in_their_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    several = [row(f"2026-07-{day:02}T00:00+08:00", str(10 * day)) for day in range(1, 32)]
    told = rated(tmp_path, capsys, TOU, "".join(several))
    mixed = rated(tmp_path, capsys, TOU, "".join([*several[:5], several[6], several[5], *several[7:]]))
    assert mixed["cycles"] == told["cycles"]
    assert [(one["line"], one["reason"]) for one in mixed["exceptions"]] == [(8, "unsorted")]


def test_duplicates_and_conflicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        row("2026-07-01T00:00+08:00", "0"),
        row("2026-07-10T00:00+08:00", "100"),
        row("2026-08-01T00:00+08:00", "600"),
    ]
    twice = "".join([*rows, rows[1], row("2026-07-10T00:00+08:00", "150")])
    told = rated(tmp_path, capsys, GUANGZHOU, twice)
    assert [cycle["exact"] for cycle in told["cycles"]] == ["370.32125"]
    reasons = [(one["line"], one["reason"]) for one in told["exceptions"]]
    assert reasons == [(5, "unsorted"), (5, "duplicate"), (6, "unsorted"), (6, "conflict")]


def test_intervals_are_summed_and_a_gap_holds_no_energy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    #  quarter hours of 0.25 kWh on 1 July; those from 10:00 to 12:00 (peak) are missing
    hours = [h / 4 for h in range(1, 97) if not 40 < h <= 48]
    rows = "".join(
        row(f"2026-07-01T{int(h):02}:{int(h % 1 * 60):02}+08:00" if h < 24 else "2026-07-02T00:00+08:00", "250",
            register="1-0:1.29.0*255", unit="Wh")
        for h in hours
    )  # fmt: skip
    (cycle,) = rated(tmp_path, capsys, TOU, rows)["cycles"]
    quantity = {line["period"]: Decimal(line["quantity"]) for line in cycle["lines"][:-1]}
    assert quantity == {"valley": 8, "flat": 9, "peak": 5}


def test_two_registers_of_one_meter_are_billed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Domain 9: 1.8.0 and the sum of 1.8.1 to 1.8.4 both rise by 20: bill 20, check the other.
    rows = "".join(
        row(at, value, register=register)
        for register, low, high in (("1.8.0", "100", "120"), ("1.8.1", "60", "72"), ("1.8.2", "40", "48"))
        for at, value in (("2026-07-01T00:00+08:00", low), ("2026-07-02T00:00+08:00", high))
    )
    (cycle,) = rated(tmp_path, capsys, GUANGZHOU, rows)["cycles"]
    assert [line["quantity"] for line in cycle["lines"][:-1]] == ["20"]


def test_from_and_to_are_local_days(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(row(f"2026-07-{day:02}T00:00+08:00", str(10 * day)) for day in range(1, 32))
    told = rated(tmp_path, capsys, GUANGZHOU, rows, "--from", "2026-07-10", "--to", "2026-07-12")
    assert [line["quantity"] for line in told["cycles"][0]["lines"][:-1]] == ["20"]


def test_compare_puts_tariffs_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "readings.csv"
    file.write_text(HEAD + row("2026-07-01T00:00+08:00", "0") + row("2026-08-01T00:00+08:00", "600"))
    asked = ["rate", "--compare", GUANGZHOU, "--compare", "guangzhou-residential-flat", "--readings", str(file)]
    assert cli.run(asked) == Exit.OK
    assert capsys.readouterr().out.splitlines()[1] == "p\t370.32\t375.52\tguangzhou-residential"
    assert cli.run([*asked, "--json"]) == Exit.OK
    totals = [one["cycles"][0]["total"] for one in json.loads(capsys.readouterr().out)["compared"]]
    assert totals == ["370.32", "375.52"]


def test_parquet_is_read_and_floats_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = pa.array([1_782_835_200, 1_785_513_600], pa.timestamp("s", "UTC"))  # 1 July and 1 August in Guangzhou
    columns = {
        "metering_point": ["p", "p"], "register": ["1.8.0", "1.8.0"], "read_at": at,
        "value": pa.array([Decimal("0.000"), Decimal("600.000")]), "unit": ["kWh", "kWh"], "quality": ["A", "A"],
    }  # fmt: skip
    file = tmp_path / "r.parquet"
    parquet.write_table(pa.table(columns), file)
    asked = ["rate", "--tariff", GUANGZHOU, "--readings", str(file), "--json"]
    assert cli.run(asked) == Exit.OK
    assert json.loads(capsys.readouterr().out)["cycles"][0]["exact"] == "370.32125"
    parquet.write_table(pa.table({**columns, "value": [0.0, 600.0]}), file)
    assert cli.run(asked) == Exit.NO
    assert "values are floats" in capsys.readouterr().err


WRONG = [
    (["--tariff", "no-such"], Exit.NO, "there is no tariff 'no-such'"),
    ([], Exit.USAGE, "say --tariff NAME, or --compare"),
    (["--compare", GUANGZHOU], Exit.USAGE, "say --tariff NAME, or --compare"),
    (
        ["--tariff", GUANGZHOU, "--attributes", "people=5"],
        Exit.USAGE,
        "the tariff knows household_size, multi_person",
    ),
    (["--tariff", GUANGZHOU, "--attributes", "household_size=five"], Exit.USAGE, "write NAME=NUMBER"),
    (["--tariff", GUANGZHOU, "--from", "yesterday"], Exit.USAGE, "'yesterday' is no day"),
]


@pytest.mark.parametrize(("options", "code", "told"), WRONG)
def test_what_is_wrong_with_the_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: Exit, told: str
) -> None:
    file = tmp_path / "readings.csv"
    file.write_text(HEAD + row("2026-07-01T00:00+08:00", "0"))
    assert cli.run(["rate", "--readings", str(file), *options]) == code
    assert told in capsys.readouterr().err


FILES = [
    ("", "Empty CSV file"),
    ("a,b\n1,2\n", "no column metering_point, register"),
    (HEAD + "p,1.8.0,2026-07-01T00:00+08:00,1,kWh\n", "Expected 6 columns, got 5"),
    (HEAD + "p,1.8.0,2026-07-01T00:00+08:00,1,5,kWh,A\n", "Expected 6 columns, got 7"),
]


@pytest.mark.parametrize(("text", "told"), FILES)
def test_a_file_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: str) -> None:
    file = tmp_path / "readings.csv"
    file.write_text(text)
    assert cli.run(["rate", "--tariff", GUANGZHOU, "--readings", str(file)]) == Exit.NO
    assert told in capsys.readouterr().err
    assert cli.run(["rate", "--tariff", GUANGZHOU, "--readings", str(tmp_path / "none.csv")]) == Exit.NO


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 200_000), st.integers(0, 9_000)), min_size=1, max_size=12), st.integers(0, 9)
)
def test_where_readings_lie_does_not_change_use_of_a_flat_price(steps: list[tuple[int, int]], people: int) -> None:
    at, value, rows = 1_782_835_200, 0, [(1_782_835_200, 0)]
    for dt, wh in steps:
        at, value = at + dt, value + wh
        rows.append((at, value))
    table = pa.table(
        {
            "metering_point": ["p"] * len(rows), "register": ["1.8.0"] * len(rows),
            "read_at": [f"{np.datetime64(s, 's')}Z" for s, _ in rows],
            "value": [str(v) for _, v in rows], "unit": ["Wh"] * len(rows), "quality": ["A"] * len(rows),
        }
    )  # fmt: skip
    tariff = TARIFFS["guangzhou-residential-flat"]
    whole = rate_columns(columns_of(table, "kWh"), tariff, {"household_size": people})
    assert sum(line.quantity for cycle in whole.cycles for line in cycle.lines) == value
    assert sum(cycle.exact_e11 for cycle in whole.cycles) == value * 62_586_875


# -- charges beside the energy ---------------------------------------------------------------------------------------


def test_a_month_with_a_baseline_credit_and_a_daily_charge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """744 kWh, one an hour: 155 in the peak; the credit is for 31 x 13.5 kWh."""
    rows = row("2026-07-01T00:00-07:00", "0") + row("2026-08-01T00:00-07:00", "744")
    (cycle,) = rated(tmp_path, capsys, "pge-e-tou-c", rows)["cycles"]
    told = {
        (one["component"], one["period"]): (one["quantity"], one["unit"], one["amount"]) for one in cycle["lines"]
    }
    assert told["energy", "summer-peak"] == ("155", "kWh", "80.972")
    assert told["energy", "summer-off-peak"] == ("589", "kWh", "235.2466")
    assert told["baseline-credit", None] == ("418.5", "kWh", "-34.0659")
    assert told["base-services", None] == ("31", "day", "24.59633")
    assert (cycle["exact"], cycle["total"]) == ("306.74903", "306.75")


def charged(folder: Path, *charges: str) -> str:
    """A flat tariff of 1 yuan/kWh, with charges."""
    text = tariff_texts()["guangzhou-residential-flat"].replace('"guangzhou-residential-flat"', '"charged"')
    head, _, version = text.partition("[[version]]")
    version = version.split("[[version]]")[0].replace('"0.62586875"', '"1"')
    file = folder / "charged.toml"
    file.write_text(head + "[[version]]" + version + "".join(f"\n[[version.charge]]\n{one}" for one in charges))
    return str(file)


def test_a_standing_charge_runs_from_the_day_of_the_first_reading(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """22 days of July, all of an August in which nothing was used, 9 of September: a day counts for its beginning."""
    tariff = charged(tmp_path, 'name = "line"\nkind = "standing"\namount = "0.5"\nper = "day"\n')
    rows = row("2026-07-10T12:00+08:00", "5") + row("2026-08-01T00:00+08:00", "15")
    rows += row("2026-09-01T00:00+08:00", "15") + row("2026-09-10T18:00+08:00", "15")
    cycles = rated(tmp_path, capsys, tariff, rows)["cycles"]
    assert [cycle["exact"] for cycle in cycles] == ["21", "15.5", "4.5"]
    assert [cycle["lines"][-2]["quantity"] for cycle in cycles] == ["22", "31", "9"]


def test_what_is_contained_stands_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cent = 'step = "0.01"\nmode = "half_up"\n'
    tariff = charged(
        tmp_path,
        f'name = "vat"\nkind = "percent"\nrate = "13"\nbase = ["energy"]\nincluded = true\n{cent}',
        f'name = "fund"\nkind = "percent"\nrate = "2"\nbase = ["energy"]\nincluded = false\n{cent}',
    )
    rows = row("2026-07-01T00:00+08:00", "0") + row("2026-08-01T00:00+08:00", "113")
    (cycle,) = rated(tmp_path, capsys, tariff, rows)["cycles"]
    assert [(one["component"], one["amount"]) for one in cycle["contained"]] == [("vat", "13")]
    told = [(one["component"], one["quantity"], one["unit"], one["price"], one["amount"]) for one in cycle["lines"]]
    assert told[:-1] == [("energy", "113", "kWh", "1", "113"), ("fund", "113", "%", "2", "2.26")]
    assert cycle["total"] == "115.26"


def test_a_bill_rounded_line_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Domain 9: 602 kWh in summer are 153.11 + 217.22 + 1.78 = 372.11; rounded once 372.10."""
    text = tariff_texts()[GUANGZHOU].replace(f'"{GUANGZHOU}"', '"lines"')
    file = tmp_path / "lines.toml"
    file.write_text(text.replace('level = "bill"', 'level = "line"'))
    rows = row(JULY[0], "0") + row(JULY[1], "602")
    told = json_of(tmp_path, capsys, str(file), rows)
    (cycle,) = told["cycles"]
    assert [one["amount"] for one in cycle["lines"]] == ["153.11", "217.22", "1.78", "0"]
    assert (cycle["exact"], cycle["total"]) == ("372.0989875", "372.11")


TWO = """
[[version.period]]
name = "p1"
at = ["00:00-12:00"]
prices = ["0.10", "0.20"]
[[version.period]]
name = "p2"
at = "rest"
prices = ["0.30", "0.60"]
[version.tiers]
per = "cycle"
length = "none"
[[version.tiers.bounds]]
upto = ["300"]
"""


@pytest.mark.parametrize(
    ("kind", "allocation", "first", "total"),
    [
        ("block", "chronological", "p1", "110.00"),
        ("block", "chronological", "p2", "90.00"),
        ("block", "proportional", "p1", "100.00"),
        ("block", "proportional", "p2", "100.00"),
        ("block", "per_period", "p1", "80.00"),
        ("slab", "chronological", "p2", "160.00"),
    ],
)
def test_tier_times_period(  # domain 9
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, allocation: str, first: str, total: str
) -> None:
    """200 kWh in each of two periods, the one before the other."""
    head = tariff_texts()["guangzhou-residential"].partition("[[version]]")[0]
    head = head.replace('"guangzhou-residential"', '"two"').replace('"block"', f'"{kind}"')
    head = head.replace('"carry_over"', '"start_anew"')
    version = '[[version]]\nfrom = 2026-01-01\nsource = "domain 9"\ndated = "2026"\n'
    file = tmp_path / "two.toml"
    file.write_text(head.replace('"chronological"', f'"{allocation}"') + version + TWO)
    hours = ("00:00", "12:00", "24:00") if first == "p1" else ("12:00", "24:00", "36:00")
    at = [np.datetime64("2026-07-01T00:00") + np.timedelta64(int(hour[:2]), "h") for hour in hours]
    rows = "".join(row(f"{moment}+08:00", str(200 * n)) for n, moment in enumerate(at))
    (cycle,) = rated(tmp_path, capsys, str(file), rows)["cycles"]
    assert cycle["total"] == total


# -- into a file, and meanwhile --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_bills_go_into_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str) -> None:
    rows = row("2026-07-01T00:00-07:00", "0") + row("2026-08-01T00:00-07:00", "744")
    file, out = tmp_path / "readings.csv", tmp_path / f"bills.{ending}"
    file.write_text(HEAD + rows, encoding="utf-8")
    words = ["rate", "--tariff", "pge-e-tou-c", "--readings", str(file), "--out", str(out)]
    assert cli.run(words) == Exit.OK
    assert capsys.readouterr().out == ""
    as_text = csv.ConvertOptions(column_types={"amount": pa.string(), "quantity": pa.string()})
    table = parquet.read_table(out) if ending == "parquet" else csv.read_csv(out, convert_options=as_text)
    told = {(one["component"], one["period"] or ""): one for one in table.to_pylist()}
    assert Decimal(told["energy", "summer-peak"]["amount"]) == Decimal("80.972")
    assert Decimal(told["baseline-credit", ""]["quantity"]) == Decimal("418.5")
    assert sum(Decimal(one["amount"]) for one in told.values()) == Decimal("306.75")
    assert {one["currency"] for one in told.values()} == {"USD"}
    assert cli.run([*words[:-1], str(tmp_path / "bills.xls")]) == Exit.USAGE
    assert cli.run([*words, "--json"]) == Exit.USAGE
    assert cli.run([*words[:-1], str(tmp_path / "nowhere" / "bills.csv")]) == Exit.NO


def test_a_bar_is_shown_for_what_takes_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "readings.csv"
    file.write_text(HEAD + "".join(row(f"2026-07-{n:02}T00:00+08:00", str(n)) for n in range(1, 20)))
    words = ["rate", "--tariff", GUANGZHOU, "--readings", str(file), "--json"]
    assert cli.run(words) == Exit.OK
    whole = capsys.readouterr()
    assert whole.err == ""
    monkeypatch.setattr("meterd.rate.cycles.AT_ONCE", 5)
    monkeypatch.setattr("meterd.commands.rate.BAR_AFTER_S", 0.0)
    assert cli.run(words) == Exit.OK
    told = capsys.readouterr()
    assert GUANGZHOU in told.err
    assert told.out == whole.out, "rated in pieces is rated"


def test_whole_units_leave_the_fraction_in_the_register(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Domain 9: 1,000.73 to 1,260.94 is 260.21 kWh, and 260 by whole units; the rest is counted with the next."""
    text = tariff_texts()["guangzhou-residential"].replace('"guangzhou-residential"', '"whole"')
    file = tmp_path / "whole.toml"
    file.write_text(text.replace("[rounding]", 'quantity_step = "1"\n\n[rounding]', 1))
    rows = row("2026-07-01T00:00+08:00", "1000.73") + row("2026-08-01T00:00+08:00", "1260.94")
    rows += row("2026-09-01T00:00+08:00", "1261.01")
    both = [rated(tmp_path, capsys, name, rows)["cycles"] for name in ("guangzhou-residential", str(file))]
    use = [
        [sum(Decimal(line["quantity"]) for line in c["lines"] if line["component"] == "energy") for c in told]
        for told in both
    ]
    assert use == [[Decimal("260.21"), Decimal("0.07")], [260, 1]]
    bad = tmp_path / "bad.toml"
    bad.write_text(text.replace("[rounding]", 'quantity_step = "5"\n\n[rounding]', 1))
    assert cli.run(["tariff", "check", str(bad)]) == Exit.NO
    assert "quantity_step: a power of ten" in capsys.readouterr().out


FED_IN = '[[version.charge]]\nname = "fed-in"\nkind = "export"\nprice = "0.453"\n'


@pytest.mark.parametrize(
    ("word", "fed_in", "exact", "total"),
    [
        ("cycle_total", "180", "129.551125", "129.55"),  # domain 9: netted before the tiers
        ("none", "180", "161.0075", "161.01"),  # gross, with a credit
        ("cycle_by_period", "180", "129.551125", "129.55"),
        ("cycle_total", "500", "-45.3", "-45.30"),  # 100 kWh beyond what was taken are paid for
    ],
)
def test_what_is_fed_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, fed_in: str, exact: str, total: str
) -> None:
    """Guangzhou in summer, 400 kWh taken."""
    text = tariff_texts()["guangzhou-residential"].replace('"guangzhou-residential"', '"roof"')
    head, version = text.replace('"carry_over"', '"start_anew"').rsplit("[[version]]", 1)
    head = head.replace("[rounding]", f'netting = "{word}"\n\n[rounding]', 1)
    file = tmp_path / "roof.toml"
    file.write_text(f"{head}[[version]]{version}\n{FED_IN}")
    rows = row("2026-07-01T00:00+08:00", "0") + row("2026-08-01T00:00+08:00", "400")
    rows += row("2026-07-01T00:00+08:00", "7", register="2.8.0")
    rows += row("2026-08-01T00:00+08:00", str(7 + Decimal(fed_in)), register="2.8.0")
    told = rated(tmp_path, capsys, str(file), rows)
    (cycle,) = told["cycles"]
    assert (cycle["exact"], cycle["total"], told["exceptions"]) == (exact, total, [])
    paid = [line for line in cycle["lines"] if line["component"] == "fed-in"]
    left = Decimal(fed_in) if word == "none" else max(Decimal(fed_in) - 400, Decimal(0))
    assert [(Decimal(line["quantity"]), line["unit"], line["price"]) for line in paid] == [(left, "kWh", "-0.453")]


NETTING_FAULTS = [
    ('netting = "none"\n', "", "netting: a charge of the kind 'export' needs it"),
    (FED_IN, "", "netting: it needs a charge of the kind 'export'"),
    ('netting = "none"', 'netting = "interval"', "netting: 'interval' is not built"),
    ('commodity = "electricity"', 'commodity = "heat"', "netting: only electricity is fed in"),
    ('netting = "none"', 'netting = "cycle_total"', "netting: there is more than one period: say cycle_by_period"),
]


@pytest.mark.parametrize(("old", "new", "fault"), NETTING_FAULTS)
def test_what_is_wrong_with_netting_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, fault: str
) -> None:
    text = tariff_texts()["guangzhou-residential-tou"].replace('"carry_over"', '"start_anew"')
    text = text.replace("[rounding]", 'netting = "none"\n\n[rounding]', 1) + "\n" + FED_IN
    assert old in text
    file = tmp_path / "guangzhou-residential-tou.toml"
    file.write_text(text)
    assert cli.run(["tariff", "check", str(file)]) == Exit.OK, capsys.readouterr().out
    file.write_text(text.replace(old, new))
    assert cli.run(["tariff", "check", str(file)]) == Exit.NO
    assert fault in capsys.readouterr().out
