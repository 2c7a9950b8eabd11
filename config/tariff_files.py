"""I/O: reads tariff files and files of days, those that meterd ships or a directory of one's own.

Parsing them is `rating.tariff.reading`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Final

FILE_BYTES_MAX: Final = 1 << 20
DAYS: Final = ".days.csv"
KEPT: Final = "tariffs"  # in the folder of a registry version


def tariff_texts(directory: Path | None = None) -> dict[str, str]:
    """`{name without .toml: text}`, sorted by name; None: the shipped ones. Files of days keep their whole name.

    Raises OSError when the directory or a file cannot be read, ValueError when a file is too big, is not
    UTF-8, or there is none at all.
    """
    root = resources.files("config").joinpath("tariffs") if directory is None else directory
    texts: dict[str, str] = {}
    for file in sorted(root.iterdir(), key=lambda f: f.name):
        if not file.name.endswith((".toml", DAYS)) or not file.is_file():
            continue
        body = file.read_bytes()
        if len(body) > FILE_BYTES_MAX:
            raise ValueError(f"{file.name}: larger than {FILE_BYTES_MAX} bytes")
        try:
            texts[file.name.removesuffix(".toml")] = body.decode("utf-8")
        except UnicodeDecodeError as fault:
            raise ValueError(f"{file.name}: not UTF-8: {fault}") from None
    if all(name.endswith(DAYS) for name in texts):
        raise ValueError(f"no tariff files (*.toml) in {directory}")
    return texts


def tariff_ids(directory: Path | None, currency: str) -> frozenset[str]:
    """Ids that a registry's tariffs.csv may use: those in its currency. Raises as `tariff_texts`."""
    texts = tariff_texts(directory)
    told = {name: tomllib.loads(text) for name, text in texts.items() if not name.endswith(DAYS)}
    return frozenset(str(one.get("id", name)) for name, one in told.items() if one.get("currency") == currency)


def keep_texts(texts: Mapping[str, str], folder: Path) -> None:
    """Write texts, by name as `tariff_texts` gives them, into a folder of a registry version."""
    (folder / KEPT).mkdir()
    for name, text in texts.items():
        file = folder / KEPT / (name if name.endswith(DAYS) else f"{name}.toml")
        file.write_text(text, encoding="utf-8")


def kept_texts(folder: Path, directory: Path | None) -> dict[str, str]:
    """The texts that a registry version was imported with; of one that has none, those of the settings."""
    kept = folder / KEPT
    return tariff_texts(kept if kept.is_dir() else directory)
