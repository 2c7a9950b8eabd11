"""The made-up city: the same for a seed, good to import, and with the story in it."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pacsv
import pytest

from config.settings import AutopaySettings
from registry.generate import TARIFF, TARIFF_FLAT, TARIFF_TOU, generate
from registry.image import NO_TRIGGER
from registry.importer import Staged
from registry.store import RegistryReader

TARIFFS = frozenset({TARIFF, TARIFF_TOU, TARIFF_FLAT})


@pytest.fixture
def city(tmp_path: Path, staging: Any, root: Path) -> RegistryReader:
    generate(tmp_path / "city", meters=3000, seed=7, start="2026-03-10")
    staged: Staged = staging(tmp_path / "city", tariffs_known=TARIFFS, partitions=16)
    return RegistryReader(root, staged.digest)


def test_the_same_seed_is_the_same_city(tmp_path: Path) -> None:
    for name, seed in (("one", 7), ("two", 7), ("three", 8)):
        generate(tmp_path / name, meters=250, seed=seed)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    one, two, three = ({f: (tmp_path / name / f).read_bytes() for f in files} for name in ("one", "two", "three"))
    assert one == two
    assert one["opening_registers.csv"] != three["opening_registers.csv"]


@pytest.mark.parametrize("meters", [1, 2, 3])
def test_the_smallest_cities_can_be_imported(tmp_path: Path, staging: Any, meters: int) -> None:
    generate(tmp_path / "city", meters=meters, seed=1)
    assert staging(tmp_path / "city", tariffs_known=TARIFFS).counts["channels"] == meters


def test_the_story_is_in_it(city: RegistryReader) -> None:
    partition, slot = city.find_account("parents")
    account = city.image.partitions[partition].accounts[slot]
    assert account["opening_balance_fen"] == 8500
    assert account["trigger_fen"] == 2000
    assert city.image.tariffs[account["tariff"]] == TARIFF
    assert city.holder("parents") == city.holder_of_slot(partition, slot) == "parents"
    assert (city.party("daughter").name, city.party("daughter").language) == ("陈静怡", "zh")
    (mandate,) = (m for m in city.mandates(AutopaySettings()) if m["account"] == "parents")
    assert (mandate["payer"], mandate["amount_fen"], mandate["trigger_fen"]) == ("daughter", 10_000, 2000)


def test_it_looks_like_a_city(city: RegistryReader) -> None:
    accounts = np.concatenate([part.accounts for part in city.image.partitions])
    assert len(accounts) == 3000
    share = {name: (accounts["tariff"] == place).mean() for place, name in enumerate(city.image.tariffs)}
    assert 0.06 < share[TARIFF_TOU] < 0.10
    assert 0.01 < share[TARIFF_FLAT] < 0.03
    assert 0.08 < (accounts["trigger_fen"] != NO_TRIGGER).mean() < 0.12
    assert accounts["opening_balance_fen"].min() >= 3000
    assert accounts["opening_balance_fen"].max() <= 40_000
    sizes = {change.value for history in city.image.histories for change in history}
    assert sizes == {5, 6, 7, 8}
    used = np.concatenate([part.ladders["opening_used"] for part in city.image.partitions])
    assert used.min() > 0, "the tenth of a month has nine days behind it"


def test_no_payer_pays_for_himself(city: RegistryReader) -> None:
    rows = city.mandates(AutopaySettings())
    assert all(row["payer"] != city.holder(row["account"]) for row in rows)


def test_every_slot_and_id_find_each_other(city: RegistryReader) -> None:
    seen = set()
    for number, part in enumerate(city.image.partitions):
        ids = city.account_ids(number, range(len(part.accounts)))
        seen.update(ids)
        for slot in range(0, len(ids), 97):
            assert city.find_account(ids[slot]) == (number, slot)
            assert city.account_id(number, slot) == ids[slot]
        assert (part.channels["account"] == np.arange(len(part.accounts))).all(), "neighbours in memory"
        assert (part.list_channel == np.arange(len(part.channels))).all(), "in reading order"
        low, high = part.account_start[:-1], part.account_start[1:]
        assert (high - low == 1).all()
        assert (part.channels["account"][part.account_channels] == np.repeat(np.arange(len(ids)), high - low)).all()
    assert len(seen) == 3000


def test_unknown_names_are_key_errors(city: RegistryReader) -> None:
    for ask in (city.find_account, city.holder, city.party):
        with pytest.raises(KeyError):
            ask("nobody")
    with pytest.raises(KeyError):
        city.account_id(0, 10**6)
    with pytest.raises(KeyError):
        city.account_ids(0, [-1])


def test_routes_send_every_meter_to_its_partition(city: RegistryReader, tmp_path: Path) -> None:
    routes = city.routes()
    rows = pacsv.read_csv(tmp_path / "city" / "meters.csv")
    homes = {}
    for number, part in enumerate(city.image.partitions):
        homes.update(dict.fromkeys(part.channels["meter"].tolist(), number))
    for meter, concentrator in zip(rows["meter"].to_pylist(), rows["concentrator"].to_pylist(), strict=True):
        assert routes.home_of(concentrator) == homes[meter]
    assert routes.home_of("nowhere") is None
    strange = routes.partitions_of("nowhere", np.arange(1000, dtype=np.uint64))
    assert set(strange.tolist()) == set(range(16))
    assert set(routes.shard) == set(rows["concentrator"].to_pylist())
