"""What every partition's engine is attached to: a tariff that changed under a registry that uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.tariff_files import tariff_texts
from meterd.city import City, NotBilled

LEVY = '\n[[version.charge]]\nname = "fund"\nkind = "levy"\nprice = "0.02"\n'


def city(village: Any, folder: Path, changed: str, more: str) -> City:
    """The village's registry, over shipped tariffs of which one has something more."""
    for name, text in tariff_texts().items():
        (folder / f"{name}.toml").write_text(text + more if name == changed else text, encoding="utf-8")
    settings = village.settings.rating.model_copy(update={"tariffs_dir": folder})
    return City(village.paths.registry, village.city.digest, settings)


def test_a_charge_that_the_daemon_does_not_bill_is_not_passed_over(village: Any, tmp_path: Path) -> None:
    used = village.city.image.tariffs
    with pytest.raises(NotBilled, match=used[0]):
        city(village, tmp_path, used[0], LEVY)
    assert "beijing-water" not in used
    assert city(village, tmp_path, "beijing-water", LEVY).image.tariffs == used
