"""Fixtures: a town of three meters as text, changed by a test, and staged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.importer import Staged, stage

NOW_S = 1_780_000_000  # 2026-05-28

TOWN = {
    "parties": "party,name,language,notify\nli,李伟,zh,\nwang,王芳,zh,\nann,Ann Lee,en,\n",
    "points": "metering_point,commodity,timezone\n"
    "p1,electricity,Asia/Shanghai\np2,electricity,\np3,electricity,Asia/Shanghai\n",
    "concentrators": "concentrator,shard\nc1,0\nc2,1\n",
    "meters": "meter,metering_point,concentrator,position,from,to,digits,multiplier,power_max_w\n"
    "440100000001,p1,c1,1,2026-01-01,,6,1,13200\n"
    "440100000002,p2,c1,0,2026-01-01,,6,1,13200\n"
    "WX-77.a,p3,c2,0,2026-01-01,,5,40,\n",
    "registers": "meter,register,role,resolution,unit\n"
    "440100000001,1.8.0,bill,0.01,kWh\n440100000002,1.8.0,bill,0.01,kWh\nWX-77.a,1.8.0,bill,0.001,kWh\n",
    "opening_registers": "meter,register,value,read_at,quality\n"
    "440100000001,1.8.0,1000.73,2026-03-01,A\n"
    "440100000002,1.8.0,50,2026-03-01T00:00:00+08:00,E\n"
    "WX-77.a,1.8.0,7.001,2026-03-01,A\n",
    "accounts": "account,party,metering_point,from,to\n"
    "a1,li,p1,2026-01-01,\na2,wang,p2,2026-01-01,\na3,ann,p3,2026-02-01,\n",
    "tariffs": "account,tariff,from,to\na1,plain,2026-01-01,\na2,plain,2025-01-01,\na3,tou,2026-02-01,\n",
    "opening_accounts": "account,balance,arrears,cycle_energy\na1,85.00,0,12.5\na2,-3.20,4.05,0\n",
}


@pytest.fixture
def town(tmp_path: Path) -> Callable[..., Path]:
    """Write the town; keyword = list of (old text, new text) for a file, or the file's whole text, or None."""

    def write(name: str = "town", **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for file in {**TOWN, **changes}:
            text, change = TOWN.get(file), changes.get(file, [])
            if change is None:
                continue
            if isinstance(change, str):
                text = change
            else:
                for old, new in change:
                    assert old in (text or ""), (file, old)
                    assert text is not None
                    text = text.replace(old, new)
            assert text is not None
            (folder / f"{file}.csv").write_text(text, encoding="utf-8")
        return folder

    return write


@pytest.fixture
def staging(tmp_path: Path) -> Callable[..., Staged]:
    """Stage a folder under tmp_path/registry, four partitions."""

    def run(folder: Path, previous: str | None = None, **options: Any) -> Staged:
        given: dict[str, Any] = {
            "partitions": 4,
            "timezone": "Asia/Shanghai",
            "previous_digest": previous,
            "tariffs_known": frozenset({"plain", "tou"}),
            "now_s": NOW_S,
            "alert_fen": 3000,
            "trigger_fen_default": 2000,
        }
        return stage(folder, tmp_path / "registry", **{**given, **options})

    return run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where `staging` puts versions."""
    return tmp_path / "registry"
