"""What every partition's engine is attached to: a tariff that changed under a registry that uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.tariff_files import tariff_texts
from meterd.city import City

LEVY = '\n[[version.charge]]\nname = "fund"\nkind = "levy"\nprice = "0.02"\n'


def city(village: Any, folder: Path, changed: str, more: str) -> City:
    """The village's registry, over shipped tariffs of which one has something more."""
    for name, text in tariff_texts().items():
        (folder / f"{name}.toml").write_text(text + more if name == changed else text, encoding="utf-8")
    settings = village.settings.rating.model_copy(update={"tariffs_dir": folder})
    return City(village.paths.registry, village.city.digest, settings)


def test_a_charge_that_comes_into_a_version_is_another_timeline(village: Any, tmp_path: Path) -> None:
    """By its digest a start is refused: what was rated without the charge would be billed with it."""
    used = village.city.image.tariffs
    assert city(village, tmp_path, used[0], LEVY).book.digest != village.city.book.digest
    assert "beijing-water" not in used
    assert city(village, tmp_path, "beijing-water", LEVY).book.digest == village.city.book.digest


@pytest.mark.parametrize(("old", "new"), [('level = "bill"', 'level = "line"'), ('"block"', '"slab"')])
def test_so_are_other_words_of_a_close(village: Any, tmp_path: Path, old: str, new: str) -> None:
    used = village.city.image.tariffs[0]
    changed = city(village, tmp_path, used, "")
    text = (tmp_path / f"{used}.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / f"{used}.toml").write_text(text.replace(old, new, 1).replace("carry_over", "start_anew"))
    settings = village.settings.rating.model_copy(update={"tariffs_dir": tmp_path})
    again = City(village.paths.registry, village.city.digest, settings)
    assert again.book.digest != changed.book.digest
