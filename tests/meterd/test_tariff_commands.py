"""`meterd tariff`: what an analyst sees of a tariff file, and of what is wrong with it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from config.tariff_files import tariff_texts
from meterd import cli
from meterd.exits import Exit

TOU = tariff_texts()["ontario-tou"]


def written(folder: Path, text: str, name: str = "ontario-tou") -> str:
    file = folder / f"{name}.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_check_says_every_fault_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = written(tmp_path, TOU)
    assert cli.run(["tariff", "check", right]) == Exit.OK
    assert capsys.readouterr().out == "ok: 1 tariff file\n"
    lines = TOU.splitlines()
    at = [n for n, line in enumerate(lines, start=1) if line == 'price = "0.203"']
    wrong = written(tmp_path, TOU.replace('price = "0.203"', "price = 0.203"))
    assert cli.run(["tariff", "check", wrong, "--json"]) == Exit.NO
    faults = [row["fault"] for row in json.loads(capsys.readouterr().out)]
    assert [int(fault.split(":")[1]) for fault in faults] == at


@pytest.mark.parametrize("name", ["there-is-none.toml", "not-a-tariff.txt"])
def test_check_of_what_is_no_tariff_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert cli.run(["tariff", "check", str(tmp_path / name)]) == Exit.NO
    assert name in capsys.readouterr().out


def test_a_file_of_days_beside_the_tariff_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = TOU.replace('unknown_year = "provisional"', 'unknown_year = "provisional"\ndays_file = "own"')
    file = written(tmp_path, text)
    assert cli.run(["tariff", "check", file]) == Exit.NO
    assert "there is no own.days.csv" in capsys.readouterr().out
    (tmp_path / "own.days.csv").write_text("date,type,name\n2026-07-15,holiday,made up\n", encoding="utf-8")
    assert cli.run(["tariff", "show", file, "--year", "2026", "--json"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert sum(day["days"] for day in told["days"] if day["day_type"] == "holiday") == 12
    assert sum(day["days"] for day in told["days"]) == 365


def test_list_names_every_shipped_tariff(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["tariff", "list", "--json"]) == Exit.OK
    rows = {row["tariff"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(tariff_texts())
    assert rows["guangzhou-residential-tou"]["versions"] == "2020-01-01, 2021-10-01"
    assert rows["guangzhou-residential-tou"]["tiers"] == "3 by month"
    assert rows["beijing-residential"]["tiers"] == "3 by year"
    assert rows["ontario-tou"]["holidays until"] == "2050-12-31"


def test_show_draws_the_year(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    png = tmp_path / "tou.png"
    command = ["tariff", "show", "guangzhou-residential-tou", "--year", "2021", "--attribute", "household_size=5"]
    assert cli.run([*command, "--png", str(png)]) == Exit.OK
    out = capsys.readouterr().out
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "2021-10-01\t2021-12-31\tevery day\t92" in out
    picture = "".join(mark * n for mark, n in (("░", 16), ("▒", 4), ("█", 4), ("▒", 4), ("█", 10), ("▒", 10)))
    assert picture in out
    assert "2021-05-01\t2\t360\t700\t1.01596875\t0.34876875\t0.63886875" in out
    assert cli.run([*command, "--json"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert told["days"][1]["spans"][2] == {
        "from": "10:00",
        "to": "12:00",
        "period": "peak",
        "price": ["0.99496875", "1.04496875", "1.29496875"],
    }
    assert told["ladder"][0]["upto"] == "300"


def test_show_says_what_is_charged_beside_the_energy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tariff_texts()["pge-e-tou-c"].replace('"pge-e-tou-c"', '"own"')
    cent = 'step = "0.01"\nmode = "half_up"\n'
    base = 'base = ["energy", "base-services"]\n'
    text += f'[[version.charge]]\nname = "tax"\nkind = "percent"\nrate = "7.5"\n{base}included = false\n{cent}'
    text += f'[[version.charge]]\nname = "vat"\nkind = "percent"\nrate = "20"\n{base}included = true\n{cent}'
    text += f'[[version.charge]]\nname = "least"\nkind = "minimum"\namount = "12"\nper = "month"\n{base}{cent}'
    text += '[[version.charge]]\nname = "fund"\nkind = "levy"\nprice = "0.003"\n'
    file = tmp_path / "own.toml"
    file.write_text(text)
    assert cli.run(["tariff", "show", str(file), "--year", "2027", "--json"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)["charges"]
    assert {one["from"] for one in told} == {"2027-01-01"}
    assert {one["charge"]: one["is"] for one in told} == {
        "baseline-credit": (
            "0.0814 USD per kWh off the first 13.5 kWh a day in summer; 11 kWh a day in winter; pooled"
        ),
        "base-services": "0.79343 USD a day",
        "tax": "7.5 % of energy + base-services",
        "vat": "20 % contained in energy + base-services",
        "least": "12 USD a month, less energy + base-services",
        "fund": "0.003 USD per kWh",
    }
    assert cli.run(["tariff", "show", str(file), "--year", "2026"]) == Exit.OK
    assert "0.79343 USD a day" in capsys.readouterr().out


def test_show_of_a_tariff_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["tariff", "show", "ontario-free", "--year", "2026"]) == Exit.NO
    assert "there is no tariff 'ontario-free'; there are beijing-gas" in capsys.readouterr().err
    assert cli.run(["tariff", "show", "ontario-tou", "--year", "2026", "--attribute", "five"]) == Exit.USAGE
    assert "write NAME=NUMBER" in capsys.readouterr().err


def test_the_schema_on_the_page_is_the_model_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["tariff", "schema"]) == Exit.OK
    printed = capsys.readouterr().out
    page = Path(__file__).parents[2] / "docs" / "tariff.schema.json"
    assert page.read_text(encoding="utf-8") == printed, "meterd tariff schema > docs/tariff.schema.json"
    told = json.loads(printed)
    assert set(told["properties"]) >= set(tomllib.loads(TOU))
    assert told["$defs"]["Rounding"]["properties"]["mode"]["enum"][0] == "half_up"
    assert told["$defs"]["Period"]["properties"]["at"]["anyOf"][0] == {"const": "rest"}


def test_diff_speaks_the_files_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new").mkdir()
    new = written(tmp_path / "new", TOU.replace('price = "0.203"', 'price = "0.211"').replace("-10-17", "-10-18"))
    assert cli.run(["tariff", "diff", "ontario-tou", "ontario-tou"]) == Exit.OK
    assert cli.run(["tariff", "diff", "ontario-tou", new, "--json"]) == Exit.NO
    lines = capsys.readouterr().out.splitlines()
    source = "Ontario Energy Board, Regulated Price Plan prices for 1 November 2025, announced"
    assert json.loads("\n".join(lines[1:])) == [
        {
            "key": "version[2025-11-01].source",
            "ontario-tou": f"{source} 2025-10-17",
            new: f"{source} 2025-10-18",
        },
        {"key": "version[2025-11-01].dated", "ontario-tou": "2025-10-17", new: "2025-10-18"},
        {"key": "version[2025-11-01].period[on].price", "ontario-tou": "0.203", new: "0.211"},
        {"key": "version[2025-11-01].period[on 2].price", "ontario-tou": "0.203", new: "0.211"},
    ]
