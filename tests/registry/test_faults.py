"""Every kind of fault, alone in an otherwise good directory: where it is told, and in which words."""

from pathlib import Path
from typing import Any

import pytest

from registry.faults import LISTED_MAX, Faults, ImportFaults

M = (
    "mandate,payer,account,gateway,token,priority,trigger,amount,target,cap_charge,cap_day,cap_month,"
    "cap_day_count,cooldown_s,window_from,window_to,valid_from,valid_to\n"
)
C = "metering_point,at,old_meter,old_final,new_meter,new_initial\n"
FIRST = "440100000001,p1,c1,1,2026-01-01,,6,1,13200\n"

TABLE: list[tuple[dict[str, Any], str, int, str]] = [
    # files and headers
    ({"points": None}, "points.csv", 0, "missing"),
    ({"parties": [("notify", "notfy")]}, "parties.csv", 1, "unknown column 'notfy'"),
    ({"parties": [("notify", "party")]}, "parties.csv", 1, "column 'party' more than once"),
    ({"parties": [(",language", "")]}, "parties.csv", 1, "column 'language' is missing"),
    ({"parties": [("li,李伟,zh,", "li,李伟,zh")]}, "parties.csv", 2, "3 cells, 4 expected"),
    ({"accounts": [("a3,", "\na3,")]}, "accounts.csv", 4, "account '' is no id"),
    # ids and keys
    ({"parties": [("li,李", "l i,李"), ("zh,", "zh,")]}, "parties.csv", 2, "party 'l i' is no id"),
    ({"parties": [("wang,", "li,")]}, "parties.csv", 3, "party 'li' stands more than once"),
    ({"parties": [(",en,", ",fr,")]}, "parties.csv", 4, "language 'fr' is none of zh, en"),
    ({"parties": [("Ann Lee", "")]}, "parties.csv", 4, "is not 1 to 100 printable"),
    (
        {"points": [("p2,electricity,", "p2,electricity,Mars/Olympus")]},
        "points.csv",
        3,
        "'Mars/Olympus' is not known",
    ),
    ({"points": [("p2,electricity", "p2,steam")]}, "points.csv", 3, "commodity 'steam' is none of"),
    ({"meters": [("WX-77.a", "WX 77")]}, "meters.csv", 4, "meter 'WX 77' is no id"),
    ({"concentrators": [("c2,1", "c1,1")]}, "concentrators.csv", 3, "'c1' stands more than once"),
    # references
    ({"accounts": [("a1,li", "a1,nobody")]}, "accounts.csv", 2, "party 'nobody' is not in parties.csv"),
    ({"accounts": [("a1,li,p1", "a1,li,p9")]}, "accounts.csv", 2, "metering_point 'p9' is not in points.csv"),
    ({"meters": [("p1,c1", "p1,c9")]}, "meters.csv", 2, "concentrator 'c9' is not in concentrators.csv"),
    ({"registers": [("WX-77.a,", "WX-78,")]}, "registers.csv", 4, "meter 'WX-78' is not in meters.csv"),
    ({"registers": [("WX-77.a,", "440100000001,")]}, "registers.csv", 4, "register 1.8.0 of that meter stands twice"),
    ({"registers": [("WX-77.a,1.8.0,bill,0.001,kWh\n", "")]}, "meters.csv", 4, "WX-77.a has no row in registers.csv"),
    ({"tariffs": [("a3,tou", "a3,tuo")]}, "tariffs.csv", 4, "tariff 'tuo' is none of plain, tou"),
    # spans
    ({"accounts": [("p1,2026-01-01,", "p1,2026-13-01,")]}, "accounts.csv", 2, "'2026-13-01' is neither a date"),
    ({"accounts": [("p1,2026-01-01,", "p1,2026-01-01T00:00:00,")]}, "accounts.csv", 2, "nor an instant with offset"),
    ({"accounts": [("p1,2026-01-01,", "p1,2026-01-01,2025-12-31")]}, "accounts.csv", 2, "to 2025-12-31 is not after"),
    ({"accounts": [("a2,wang,p2", "a2,wang,p1")]}, "accounts.csv", 3, "another account is at point p1"),
    ({"meters": [("440100000002,p2", "440100000002,p1")]}, "meters.csv", 3, "another meter is at point p1"),
    ({"meters": [(FIRST, FIRST + FIRST.replace("p1", "p2"))]}, "meters.csv", 3, "a meter serves one point"),
    ({"meters": [(FIRST, FIRST + FIRST)]}, "meters.csv", 3, "overlaps another span of meter 440100000001"),
    ({"tariffs": [("2025-01-01,", "2025-01-01,2026-05-01")]}, "accounts.csv", 3, "a2 has no tariff in a part"),
    ({"tariffs": [("a2,plain,2025", "a2,plain,2027")]}, "accounts.csv", 3, "a2 has no tariff in a part"),
    ({"tariffs": [("a2,", "a1,tou,2026-03-01,\na2,")]}, "tariffs.csv", 3, "overlaps another tariff of account a1"),
    # registers
    ({"registers": [("bill,0.001", "bill,0.5")]}, "registers.csv", 4, "resolution '0.5' is none of"),
    ({"registers": [("0.001,kWh", "0.001,m3")]}, "registers.csv", 4, "unit m3 is not that of register 1.8.0"),
    (
        {"registers": [("WX-77.a,1.8.0,bill,0.001,kWh", "WX-77.a,24.2.1,bill,0.001,m3")]},
        "registers.csv",
        4,
        "does not count",
    ),
    ({"registers": [("WX-77.a,1.8.0", "WX-77.a,2.8.1")]}, "registers.csv", 4, "2.8.1 can only have the role check"),
    (
        {"registers": [("WX-77.a,", "440100000002,1.8.1,bill,0.01,kWh\nWX-77.a,")]},
        "registers.csv",
        4,
        "1.8.1 is billed beside the total",
    ),
    ({"opening_registers": [("1000.73", "1000.735")]}, "opening_registers.csv", 2, "finer than the register's resol"),
    ({"opening_registers": [("7.001", "7.0015")]}, "opening_registers.csv", 4, "finer than 3 decimals"),
    ({"opening_registers": [("1000.73", "1e3")]}, "opening_registers.csv", 2, "no plain decimal"),
    ({"opening_registers": [("1000.73", "-1")]}, "opening_registers.csv", 2, "no plain decimal"),
    ({"opening_registers": [("1000.73", "１０００")]}, "opening_registers.csv", 2, "no plain decimal"),
    ({"opening_registers": [("1000.73", "1000000.00")]}, "opening_registers.csv", 2, "more digits than the meter"),
    ({"opening_registers": [("08:00,E", "08:00,N")]}, "opening_registers.csv", 3, "quality 'N' is none of"),
    ({"opening_registers": [("3,2026-03-01,A\n4", "3,,A\n4")]}, "opening_registers.csv", 2, "read_at '' is neither"),
    (
        {"opening_registers": [("440100000001,1.8.0,1000.73,2026-03-01,A\n", "")]},
        "registers.csv",
        2,
        "no opening reg",
    ),
    (
        {"opening_registers": [("0.73,2026-03-01", "0.73,2025-03-01")]},
        "opening_registers.csv",
        2,
        "no account with a",
    ),
    (
        {"opening_registers": [("WX-77.a", "440100000001,1.8.0,1001.00,2026-04-01,A\nWX-77.a")]},
        "opening_registers.csv",
        4,
        "is counted already",
    ),
    # change-outs
    (
        {"changeouts": C + "p1,2026-04-01,440100000001,1,WX-77.a,0\n"},
        "changeouts.csv",
        2,
        "WX-77.a is not at point p1",
    ),
    (
        {"changeouts": C + "p1,2026-04-01,440100000001,1,WX-77.a,0\n"},
        "changeouts.csv",
        2,
        "0000001 is not at point p1 unt",
    ),
    ({"changeouts": C + "p1,2026-09-01,440100000001,1,WX-77.a,0\n"}, "changeouts.csv", 2, "in the future"),
    ({"changeouts": C + "p1,2026-04-01,440100000001,1.001,WX-77.a,0\n"}, "changeouts.csv", 2, "finer than its resol"),
    # money and mandates
    ({"opening_accounts": [("85.00", "85.001")]}, "opening_accounts.csv", 2, "balance '85.001' is finer than 2"),
    (
        {"opening_accounts": [("4.05", "-4.05")]},
        "opening_accounts.csv",
        3,
        "arrears '-4.05' is no plain decimal of 0",
    ),
    ({"opening_accounts": [("a2,", "a9,")]}, "opening_accounts.csv", 3, "account 'a9' is not in accounts.csv"),
    ({"attributes": "account,name,value,from\na1,Household,5,2026-01-01\n"}, "attributes.csv", 2, "lower_case_words"),
    ({"attributes": "account,name,value,from\na1,size,five,2026-01-01\n"}, "attributes.csv", 2, "no whole number"),
    (
        {"attributes": "account,name,value,from\na1,n,5,2026-01-01\na1,n,6,2026-01-01\n"},
        "attributes.csv",
        3,
        "set twice",
    ),
    ({"mandates": M + "m,li,a9,g,t,1,,,,,,,,,,,2026-01-01,\n"}, "mandates.csv", 2, "account 'a9' is not in accounts"),
    ({"mandates": M + "m,xu,a1,g,t,1,,,,,,,,,,,2026-01-01,\n"}, "mandates.csv", 2, "payer 'xu' is not in parties"),
    ({"mandates": M + "m,li,a1,g,t,1,,5,9,,,,,,,,2026-01-01,\n"}, "mandates.csv", 2, "exclude each other"),
    (
        {"mandates": M + "m,li,a1,g,t,1,20,,15,,,,,,,,2026-01-01,\n"},
        "mandates.csv",
        2,
        "target 15 is not above the tr",
    ),
    ({"mandates": M + "m,li,a1,g,t,1,,0,,,,,,,,,2026-01-01,\n"}, "mandates.csv", 2, "amount is 0"),
    (
        {"mandates": M + "m,li,a1,g,t,1,,,,,,,,,7:00,22:00,2026-01-01,\n"},
        "mandates.csv",
        2,
        "window_from '7:00' is no",
    ),
    ({"mandates": M + "m,li,a1,g,t,1,,,,,,,,,07:00,,2026-01-01,\n"}, "mandates.csv", 2, "go together"),
]


@pytest.mark.parametrize(("changes", "file", "line", "what"), TABLE)
def test_a_fault_is_told(
    town: Any, staging: Any, root: Path, changes: dict[str, Any], file: str, line: int, what: str
) -> None:
    with pytest.raises(ImportFaults) as refused:
        staging(town(**changes))
    told = [(fault.file, fault.line) for fault in refused.value.faults if what in fault.what]
    assert told == [(file, line)], [str(fault) for fault in refused.value.faults]
    assert list(root.iterdir()) == []


def test_all_faults_are_told_at_once(town: Any, staging: Any) -> None:
    with pytest.raises(ImportFaults) as refused:
        staging(
            town(
                parties=[(",en,", ",fr,")],
                meters=[("p1,c1", "p1,c9")],
                opening_accounts=[("85.00", "x")],
                mandates=M + "m,xu,a9,g,t,1,,,,,,,,,,,2026-01-01,\n",
            )
        )
    assert [(fault.file, fault.line) for fault in refused.value.faults] == [
        ("mandates.csv", 2), ("mandates.csv", 2), ("meters.csv", 2), ("opening_accounts.csv", 2), ("parties.csv", 4),
    ]  # fmt: skip
    assert refused.value.count == 5


def test_bad_utf8_is_a_fault_of_the_file(town: Any, staging: Any) -> None:
    folder = town()
    (folder / "parties.csv").write_bytes(b"party,name,language,notify\nli,\xff\xfe,zh,\n")
    with pytest.raises(ImportFaults, match=r"parties\.csv:2: is not UTF-8"):
        staging(folder)


# pyarrow itself prints that it could not show the row to our handler
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_line_that_is_no_utf8_is_named_when_it_is_no_row_either(town: Any, staging: Any) -> None:
    folder = town()
    with (folder / "parties.csv").open("ab") as file:
        file.write("老王".encode("gbk") + b"\n")
    with pytest.raises(ImportFaults) as caught:
        staging(folder)
    assert str(caught.value.faults[0]) == "parties.csv:5: is not UTF-8"


def test_a_file_from_a_spreadsheet_in_utf16_is_one_fault(town: Any, staging: Any) -> None:
    folder = town()
    text = (folder / "parties.csv").read_text(encoding="utf-8")
    (folder / "parties.csv").write_text(text, encoding="utf-16")
    with pytest.raises(ImportFaults) as caught:
        staging(folder)
    assert str(caught.value.faults[0]) == "parties.csv:1: the header is not plain UTF-8 text"
    assert [fault.file for fault in caught.value.faults].count("parties.csv") == 1


def test_a_misspelt_optional_file_is_a_fault_and_not_an_absent_one(town: Any, staging: Any) -> None:
    folder = town()
    (folder / "opening_account.csv").write_text("account,balance,arrears,cycle_energy\na1,85.00,0,0\n")
    with pytest.raises(ImportFaults) as caught:
        staging(folder)
    assert str(caught.value.faults[0]).startswith("opening_account.csv: is no file of a registry; there are")


def test_two_serials_with_one_address(town: Any, staging: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No two real serials are known to collide: the digest is made to."""
    monkeypatch.setattr("registry.address._digest", lambda text: 440100000001 << 1)
    monkeypatch.setattr("registry.address.TEXT_BIT", 0)
    with pytest.raises(ImportFaults, match=r"meters.csv:4: meter WX-77.a has the address of another meter"):
        staging(town())


def test_the_list_is_capped_and_the_rest_counted() -> None:
    import numpy as np

    faults = Faults()
    faults.add("a.csv", 1, "first")
    faults.rows("b.csv", np.arange(5000), np.ones(5000, bool), "bad")
    with pytest.raises(ImportFaults) as refused:
        faults.check()
    assert (len(refused.value.faults), refused.value.count, refused.value.unlisted) == (LISTED_MAX, 5001, 4001)
