"""What a good directory becomes, and that nothing of a bad one is kept."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from registry.address import address, partition_of
from registry.generate import generate
from registry.image import FOREVER, NO_TRIGGER
from registry.importer import ImportFaults, check
from registry.store import RegistryReader, load_image

CHANGEOUT = "metering_point,at,old_meter,old_final,new_meter,new_initial\n"
MANDATES = (
    "mandate,payer,account,gateway,token,priority,trigger,amount,target,cap_charge,cap_day,cap_month,"
    "cap_day_count,cooldown_s,window_from,window_to,valid_from,valid_to\n"
)

FOURTH: dict[str, Any] = {
    "points": [("p3,", "p4,water,\np6,water,\np3,")],
    "tariffs": [("a1,plain", "a9,plain,2026-02-01,\na1,plain")],
}


def at(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}+08:00").timestamp())


def channels_of(root: Path, digest: str, meter: str) -> list[dict[str, Any]]:
    rows = pq.read_table(root / digest / "channels.parquet").to_pylist()
    return sorted((row for row in rows if row["meter"] == meter), key=lambda row: row["from_s"])


def test_the_town_in_integers(town: Any, staging: Any, root: Path) -> None:
    staged = staging(town())
    image = load_image(root, staged.digest)
    reader = RegistryReader(root, staged.digest)
    partition, slot = reader.find_account("a1")
    part = image.partitions[partition]
    account = part.accounts[slot]
    assert (account["opening_balance_fen"], account["opening_arrears_fen"]) == (8500, 0)
    assert (account["alert_fen"], account["trigger_fen"]) == (3000, NO_TRIGGER)
    assert (account["from_s"], account["until_s"]) == (at("2026-01-01T00:00:00"), FOREVER)
    (channel,) = part.channels[part.account_channels[part.account_start[slot] : part.account_start[slot + 1]]]
    assert (channel["meter"], channel["opening_value"], channel["resolution"]) == (440100000001, 1_000_730, 10)
    assert (channel["opening_at_s"], channel["until_s"]) == (at("2026-03-01T00:00:00"), FOREVER)
    assert (channel["next"], channel["closing_value"], channel["bill"], channel["opening_quality"]) == (-1, -1, 1, 4)
    assert part.ladders[channel["ladder"]]["opening_used"] == 12_500
    assert image.tariffs[channel["tariff"]] == "plain"
    assert image.tariffs[account["tariff"]] == "plain"

    partition, slot = reader.find_account("a2")
    account = image.partitions[partition].accounts[slot]
    assert (account["opening_balance_fen"], account["opening_arrears_fen"]) == (-320, 405)
    (third,) = channels_of(root, staged.digest, "WX-77.a")
    channel = image.partitions[third["partition"]].channels[third["slot"]]
    assert (channel["meter"], channel["multiplier"], channel["opening_value"]) == (address("WX-77.a"), 40, 7001)


def test_points_follow_their_concentrator_and_lists_their_position(town: Any, staging: Any, root: Path) -> None:
    image = load_image(root, staging(town()).digest)
    part = image.partitions[partition_of("c1", 4)]
    low, high = part.lists["c1"]
    assert part.list_meter[low:high].tolist() == [440100000002, 440100000001]
    assert part.channels["meter"][part.list_channel[low:high]].tolist() == [440100000002, 440100000001]
    assert part.list_register[low:high].tolist() == [1, 1]


def test_the_same_files_are_the_same_version(town: Any, staging: Any, root: Path) -> None:
    first = staging(town())
    assert staging(town()) == first
    assert staging(town(), previous=first.digest) == first
    assert [path.name for path in root.iterdir()] == [first.digest]
    other = staging(town("other", parties=[("Ann Lee", "Ann Li")]), previous=first.digest)
    assert other.digest != first.digest


def test_a_move_a_tariff_change_and_a_vacancy(town: Any, staging: Any, root: Path) -> None:
    """
    account  |----- a1 -----|     vacant     |-- a4 -->
    tariff   |- plain -|tou-|                |- plain -
    """
    folder = town(
        accounts=[("p1,2026-01-01,\n", "p1,2026-01-01,2026-04-20\na4,wang,p1,2026-05-01,\n")],
        tariffs=[
            ("a1,plain,2026-01-01,\n", "a1,plain,2026-01-01,2026-04-01\na1,tou,2026-04-01,\na4,plain,2026-01-01,\n")
        ],
        opening_registers=[("0.73,2026-03-01,A\n", "0.73,2026-03-01,A\n440100000001,1.8.0,1300,2026-05-01,A\n")],
    )
    staged = staging(folder)
    first, second, third = channels_of(root, staged.digest, "440100000001")
    assert [(c["account"], c["tariff"]) for c in (first, second, third)] == [
        ("a1", "plain"), ("a1", "tou"), ("a4", "plain"),
    ]  # fmt: skip
    part = load_image(root, staged.digest).partitions[first["partition"]]
    one, two, three = (part.channels[c["slot"]] for c in (first, second, third))
    assert (one["next"], two["next"], three["next"]) == (second["slot"], third["slot"], -1)
    assert (one["until_s"], two["until_s"], three["until_s"]) == (
        at("2026-04-01T00:00:00"), at("2026-04-20T00:00:00"), FOREVER,
    )  # fmt: skip
    assert (two["opening_value"], two["opening_at_s"]) == (-1, at("2026-04-01T00:00:00"))
    assert (three["opening_value"], three["opening_at_s"]) == (1_300_000, at("2026-05-01T00:00:00"))
    assert one["ladder"] != two["ladder"]
    assert [int(part.ladders[c["ladder"]]["opening_used"]) for c in (one, two, three)] == [12_500, 0, 0]
    low, high = part.lists["c1"]
    assert part.list_channel[low:high][part.list_meter[low:high] == 440100000001].tolist() == [first["slot"]]


def test_a_change_out_closes_one_register_and_opens_the_other(town: Any, staging: Any, root: Path) -> None:
    """Old final 5,430.0, new initial 0.0 (the facts' own example)."""
    out = "2026-05-10T10:30:00+08:00"
    folder = town(
        meters=[
            (
                "440100000001,p1,c1,1,2026-01-01,,",
                f"440100000009,p1,c1,1,{out},,6,1,13200\n440100000001,p1,c1,1,2026-01-01,{out},",
            )
        ],
        registers=[("WX-77.a,", "440100000009,1.8.0,bill,0.1,kWh\nWX-77.a,")],
        changeouts=CHANGEOUT + "p1,2026-05-10T10:30:00+08:00,440100000001,5430.0,440100000009,0.0\n",
    )
    staged = staging(folder)
    (old,) = channels_of(root, staged.digest, "440100000001")
    (new,) = channels_of(root, staged.digest, "440100000009")
    part = load_image(root, staged.digest).partitions[old["partition"]]
    assert new["partition"] == old["partition"]
    before, after = part.channels[old["slot"]], part.channels[new["slot"]]
    assert (before["closing_value"], before["until_s"], before["next"]) == (5_430_000, at("2026-05-10T10:30:00"), -1)
    assert (after["opening_value"], after["opening_at_s"], after["resolution"]) == (0, before["until_s"], 100)
    assert before["account"] == after["account"]
    assert before["ladder"] == after["ladder"]
    low, high = part.lists["c1"]
    # what is gone stands behind what is there
    assert part.list_meter[low:high].tolist() == [440100000002, 440100000009, 440100000001]


def test_mandates_set_the_trigger(town: Any, staging: Any, root: Path) -> None:
    rows = (
        "m1,li,a2,gw,tok,1,15.00,100.00,,,,,,,07:00,22:00,2026-01-01,\n"
        "m2,ann,a2,gw,tok,2,,,200.00,50.00,,,,86401,,,2026-01-01,\n"
        "m3,ann,a2,gw,tok,3,90.00,10,,,,,,,,,2026-01-01,2026-05-01\n"
    )
    staged = staging(town(mandates=MANDATES + rows))
    reader = RegistryReader(root, staged.digest)
    partition, slot = reader.find_account("a2")
    assert reader.image.partitions[partition].accounts[slot]["trigger_fen"] == 2000  # m3 has ended
    from config.settings import AutopaySettings

    first, second, _ = reader.mandates(AutopaySettings())
    assert (first["trigger_fen"], first["amount_fen"], first["target_fen"]) == (1500, 10_000, 0)
    assert (first["window_from"], first["window_to"]) == ("07:00", "22:00")
    assert (second["trigger_fen"], second["amount_fen"], second["target_fen"]) == (2000, 0, 20_000)
    assert (second["cap_charge_fen"], second["cooldown_s"]) == (5000, 86_401)
    assert first["cap_charge_fen"] == AutopaySettings().cap_charge_fen


def test_attributes_become_shared_histories(town: Any, staging: Any, root: Path) -> None:
    rows = (
        "a1,household_size,5,2026-03-01\na2,household_size,5,2026-03-01\n"
        "a1,household_size,4,2026-05-01\na3,household_size,5,2026-03-01\n"
    )
    staged = staging(town(attributes="account,name,value,from\n" + rows))
    reader = RegistryReader(root, staged.digest)

    def history(account: str) -> list[tuple[str, int, int]]:
        partition, slot = reader.find_account(account)
        part = reader.image.partitions[partition]
        channel = part.channels[part.account_channels[part.account_start[slot]]]
        found = reader.image.histories[part.ladders[channel["ladder"]]["history"]]
        return [(change.name, change.from_s, change.value) for change in found]

    five = ("household_size", at("2026-03-01T00:00:00"), 5)
    assert history("a2") == history("a3") == [five]
    assert history("a1") == [five, ("household_size", at("2026-05-01T00:00:00"), 4)]
    assert reader.image.histories[0] == ()
    assert len(reader.image.histories) == 3


def test_slots_stay_and_new_ones_go_behind(town: Any, staging: Any, root: Path) -> None:
    first = staging(town())
    grown = town(
        "grown",
        points=[("p1,", "p0,electricity,\np1,")],
        meters=[("440100000001,p1", "440100000000,p0,c1,0,2026-04-01,,6,1,13200\n440100000001,p1")],
        registers=[("440100000001", "440100000000,1.8.0,bill,0.01,kWh\n440100000001")],
        opening_registers=[("440100000001", "440100000000,1.8.0,0,2026-04-01,A\n440100000001")],
        accounts=[("a1,li", "a0,li,p0,2026-04-01,\na1,li")],
        tariffs=[
            ("a1,plain,2026-01-01,\n", "a0,plain,2026-04-01,\na1,plain,2026-01-01,2026-05-01\na1,aaa,2026-05-01,\n")
        ],
    )
    second = staging(grown, previous=first.digest, tariffs_known=None)
    before, after = load_image(root, first.digest), load_image(root, second.digest)
    assert after.tariffs[: len(before.tariffs)] == before.tariffs
    for old, new in zip(before.partitions, after.partitions, strict=True):
        assert (new.channels["meter"][: len(old.channels)] == old.channels["meter"]).all()
        assert (new.accounts["opening_balance_fen"][: len(old.accounts)] == old.accounts["opening_balance_fen"]).all()
        assert (new.ladders["account"][: len(old.ladders)] == old.ladders["account"]).all()
    reader = RegistryReader(root, second.digest)
    home = partition_of("c1", 4)
    assert reader.find_account("a0") == (home, len(before.partitions[home].accounts))
    assert reader.account_id(*reader.find_account("a0")) == "a0"
    changed, added = channels_of(root, second.digest, "440100000001")
    assert after.partitions[home].channels[changed["slot"]]["next"] == added["slot"]
    assert added["slot"] >= len(before.partitions[home].channels)


def ladders_of(root: Path, digest: str, account: str) -> dict[str, tuple[int, int]]:
    """(opening_used, opening_at_s) of an account's ladders by tariff."""
    image = load_image(root, digest)
    partition, slot = RegistryReader(root, digest).find_account(account)
    rows = image.partitions[partition].ladders
    return {
        image.tariffs[row["tariff"]]: (int(row["opening_used"]), int(row["opening_at_s"]))
        for row in rows[rows["account"] == slot]
    }


HEAD = "account,balance,arrears,cycle_energy\n"
CHECK = [("WX-77.a,1.8.0", "440100000001,2.8.0,check,0.01,kWh\nWX-77.a,1.8.0")]
EARLIER = [("WX-77.a,1.8.0", "440100000001,2.8.0,0,2026-02-01,A\nWX-77.a,1.8.0")]


@pytest.mark.parametrize(
    "changes",
    [
        {"opening_accounts": None},
        {"opening_accounts": HEAD},
        {"opening_accounts": HEAD + "a1,85.00,0,\n"},
        {"opening_accounts": HEAD + "a1,99.00,1,12.500\n"},  # another balance changes nothing, as ever
        {"opening_accounts": None, "registers": CHECK, "opening_registers": EARLIER},
    ],
)
def test_what_an_account_brought_stays_in_later_versions(
    town: Any, staging: Any, root: Path, changes: dict[str, Any]
) -> None:
    """Left out, left empty, told again; and when another register comes that counted a month before."""
    first = staging(town())
    second = staging(town("second", **changes), previous=first.digest)
    third = staging(town("third"), previous=second.digest) if len(changes) == 1 else second
    for version in (first, second, third):
        assert ladders_of(root, version.digest, "a1") == {"plain": (12_500, at("2026-03-01T00:00:00"))}


def test_a_further_ladder_of_an_open_account_brings_nothing(town: Any, staging: Any, root: Path) -> None:
    """Also where it opens before the one that has the energy."""
    tariffs = [("a1,plain,2026-01-01,", "a1,tou,2026-01-01,2026-02-15\na1,plain,2026-02-15,")]
    first = staging(town(tariffs=tariffs))
    grown = town("second", tariffs=tariffs, registers=CHECK, opening_registers=EARLIER)
    second = staging(grown, previous=first.digest)
    assert ladders_of(root, second.digest, "a1") == {
        "plain": (12_500, at("2026-03-01T00:00:00")),
        "tou": (0, at("2026-02-01T00:00:00")),
    }
    assert ladders_of(root, staging(grown).digest, "a1")["tou"][0] == 12_500  # told at once it is the first one's


def test_an_account_that_counts_nothing_yet_may_still_be_told_what_it_brings(
    town: Any, staging: Any, root: Path
) -> None:
    first = staging(
        town(
            meters=[("440100000001,p1,c1,1,2026-01-01,,6,1,13200\n", "")],
            registers=[("440100000001,1.8.0,bill,0.01,kWh\n", "")],
            opening_registers=[("440100000001,1.8.0,1000.73,2026-03-01,A\n", "")],
        )
    )
    assert ladders_of(root, first.digest, "a1") == {}
    told = town("second", opening_accounts=HEAD + "a1,85.00,0,33\n")
    second = staging(told, previous=first.digest)
    assert ladders_of(root, second.digest, "a1") == {"plain": (33_000, at("2026-03-01T00:00:00"))}


def test_another_cycle_energy_of_an_open_account_is_refused_by_its_line(town: Any, staging: Any) -> None:
    first = staging(town())
    told = HEAD + "a3,,,7\na2,0,0,0\na1,85.00,0,150\n"
    with pytest.raises(ImportFaults) as refused:
        staging(town("second", opening_accounts=told), previous=first.digest)
    counted = "that is counted and does not change"
    assert [str(fault) for fault in refused.value.faults] == [
        f"opening_accounts.csv:2: cycle_energy 7.000 of account a3, which was opened with 0.000: {counted}",
        f"opening_accounts.csv:4: cycle_energy 150.000 of account a1, which was opened with 12.500: {counted}",
    ]


def test_a_point_stays_in_its_partition_when_its_concentrator_changes(town: Any, staging: Any, root: Path) -> None:
    first = staging(town())
    assert partition_of("c1", 4) != partition_of("c2", 4)
    moved = town(
        "moved",
        meters=[
            (
                "440100000001,p1,c1,1,2026-01-01,,6,1,13200\n",
                "440100000001,p1,c1,1,2026-01-01,2026-05-01,6,1,13200\n440100000001,p1,c2,7,2026-05-01,,6,1,13200\n",
            )
        ],
    )
    second = staging(moved, previous=first.digest)
    reader = RegistryReader(root, second.digest)
    assert reader.find_account("a1") == RegistryReader(root, first.digest).find_account("a1")
    routes = reader.routes()
    assert routes.home_of("c1") == partition_of("c1", 4)
    both = np.array([address("WX-77.a"), 440100000001], np.uint64)
    assert routes.home_of("c2") is None
    assert routes.partitions_of("c2", both).tolist() == [partition_of("c2", 4), partition_of("c1", 4)]
    assert (routes.shard["c1"], routes.shard["c2"]) == ("0", "1")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {
                "accounts": [("a3,ann,p3,2026-02-01,\n", "")],
                "tariffs": [("a3,tou,2026-02-01,\n", "")],
                "opening_registers": [("WX-77.a,1.8.0,7.001,2026-03-01,A\n", "")],
            },
            "a3 has disap",
        ),
        ({"opening_registers": [("1000.73", "1000.74")]}, "opening_value changed"),
        ({"registers": [("WX-77.a,1.8.0,bill,0.001", "WX-77.a,1.8.0,check,0.001")]}, "bill changed"),
        ({"accounts": [("p1,2026-01-01", "p1,2026-01-02")]}, "for account a1 has disappeared"),
    ],
)
def test_what_a_version_may_not_change(town: Any, staging: Any, changes: dict[str, Any], told: str) -> None:
    first = staging(town())
    with pytest.raises(ImportFaults) as refused:
        staging(town("second", **changes), previous=first.digest)
    assert any(told in str(fault) for fault in refused.value.faults), refused.value


def test_what_every_partition_lost_is_told_at_once(town: Any, staging: Any) -> None:
    assert partition_of("c1", 4) != partition_of("c2", 4)
    first = staging(town())
    changed = town("second", opening_registers=[("1000.73", "1000.74"), ("7.001", "7.002")])
    with pytest.raises(ImportFaults) as refused:
        staging(changed, previous=first.digest)
    assert sorted(str(fault) for fault in refused.value.faults) == [
        "opening_registers.csv: the channel of meter 440100000001 for account a1: opening_value changed",
        "opening_registers.csv: the channel of meter WX-77.a for account a3: opening_value changed",
    ]


def test_an_account_may_not_move_to_a_point_of_another_partition(town: Any, staging: Any) -> None:
    """Its balance lives in the partition of the point that it had."""
    first = staging(town(accounts=[("a1,li", "a9,li,p4,2026-02-01,\na1,li")], **FOURTH))
    moved = town("moved", accounts=[("a1,li", "a9,li,p6,2026-02-01,\na1,li")], **FOURTH)
    partitions = {partition_of(point, 4) for point in ("p4", "p6")}
    assert len(partitions) == 2
    with pytest.raises(ImportFaults, match="account a9 has disappeared, or its point has changed"):
        staging(moved, previous=first.digest)


def test_rows_in_any_order_are_the_same_people(town: Any, staging: Any, root: Path) -> None:
    """Slots follow concentrators and positions, not the order of the files."""
    plain = staging(town())
    folder = town("turned")
    for path in folder.glob("*.csv"):
        head, *rows = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join([head, *reversed(rows)]) + "\n", encoding="utf-8")
    turned = staging(folder)
    assert turned.digest != plain.digest
    one, other = load_image(root, plain.digest), load_image(root, turned.digest)
    for a, b in zip(one.partitions, other.partitions, strict=True):
        assert (a.accounts == b.accounts).all()
        assert (a.channels == b.channels).all()
        assert (a.list_meter == b.list_meter).all()
        assert a.lists == b.lists
    assert RegistryReader(root, turned.digest).find_account("a2") == RegistryReader(root, plain.digest).find_account(
        "a2"
    )


def test_tables_that_carry_slots_stand_in_their_order(staging: Any, root: Path, tmp_path: Path) -> None:
    """The next import reads them a partition at a time."""
    generate(tmp_path / "city", meters=700, seed=5)
    staged = staging(tmp_path / "city", tariffs_known=None)
    image = load_image(root, staged.digest)
    for name, sizes in (
        ("channels", [len(part.channels) for part in image.partitions]),
        ("ladders", [len(part.ladders) for part in image.partitions]),
    ):
        rows = pq.read_table(root / staged.digest / f"{name}.parquet", columns=["partition", "slot"]).to_pydict()
        assert rows["partition"] == [number for number, size in enumerate(sizes) for _ in range(size)]
        assert rows["slot"] == [slot for size in sizes for slot in range(size)]
    again = staging(tmp_path / "city", previous=staged.digest, tariffs_known=None, alert_fen=1)
    after = load_image(root, again.digest)
    for a, b in zip(image.partitions, after.partitions, strict=True):
        assert (a.channels == b.channels).all()
        assert (a.ladders == b.ladders).all()
        assert (a.accounts["opening_balance_fen"] == b.accounts["opening_balance_fen"]).all()


def test_other_partitions_are_refused(town: Any, staging: Any) -> None:
    first = staging(town())
    with pytest.raises(ImportFaults, match="8 partitions, but the active version has 4"):
        staging(town(), previous=first.digest, partitions=8)


def test_an_empty_town_is_a_version_to_grow_from(town: Any, staging: Any, root: Path) -> None:
    folder = town("empty")
    for path in folder.glob("*.csv"):
        path.write_text(path.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    first = staging(folder)
    assert (first.counts["meters"], first.counts["channels"]) == (0, 0)
    assert [len(part.accounts) for part in load_image(root, first.digest).partitions] == [0, 0, 0, 0]
    second = staging(town(), previous=first.digest)
    assert second.counts["channels"] == 3


def test_a_version_of_another_format_is_no_base(town: Any, staging: Any, root: Path) -> None:
    first = staging(town())
    file = root / first.digest / "version.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps({**told, "format": 1}))
    with pytest.raises(ImportFaults, match="the active version has format 1"):
        staging(town("other", parties=[("Ann Lee", "Ann Li")]), previous=first.digest)
    assert [path.name for path in root.iterdir()] == [first.digest]


def test_nothing_of_a_bad_directory_is_kept(town: Any, staging: Any, root: Path) -> None:
    with pytest.raises(ImportFaults):
        staging(town(accounts=[("a1,li", "a1,nobody")]))
    assert list(root.iterdir()) == []


def test_check_keeps_nothing_and_counts(town: Any, root: Path) -> None:
    counts = check(town(), partitions=4, timezone="Asia/Shanghai", tariffs_known=None, now_s=0)
    assert (counts["meters"], counts["channels"], counts["mandates"]) == (3, 3, 0)
    assert not root.exists()
