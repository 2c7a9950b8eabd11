"""I/O: reads our own sources, so that machine code kept on disk is never that of other sources.

numba keeps compiled functions beside their module and knows them by a digest of that one file. But a compiled
function holds what it calls, and the constants that it uses, from other files: after a change of `rating/spread.py`
alone the kernel on disk would go on as it was. Here the digest is of all the files that can be in it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numba
from numba.core import caching

ROOT: Final = Path(__file__).parents[1]
FOLDERS: Final = ("config", "ledger", "registry", "rating")  # of what compiled functions call and use


@lru_cache(maxsize=1)
def sources_digest() -> str:
    """A digest of every Python file in `FOLDERS`, by name and content."""
    digest = sha256()
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*.py")):
            body = file.read_bytes()
            digest.update(f"{file.relative_to(ROOT)} {len(body)}\n".encode())
            digest.update(body)
    return digest.hexdigest()


_PLACES: Final[Any] = caching.CacheImpl._locator_classes  # noqa: SLF001 - numba has no public name for it


class OwnSources(caching._CacheLocator):  # noqa: SLF001
    """Where numba would keep a function of `FOLDERS`, with `sources_digest` in its stamp; other files not at all."""

    def __init__(self, place: Any) -> None:
        self._place = place

    def get_cache_path(self) -> str:
        return str(self._place.get_cache_path())

    def get_source_stamp(self) -> tuple[Any, str]:
        return self._place.get_source_stamp(), sources_digest()

    def get_disambiguator(self) -> str:
        return str(self._place.get_disambiguator())

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> OwnSources | None:
        if not any(Path(file).resolve().is_relative_to(ROOT / folder) for folder in FOLDERS):
            return None
        places = (place.from_function(function, file) for place in _PLACES)
        return next((cls(place) for place in places if place is not None), None)

    @classmethod
    def come_first(cls) -> None:
        """Let numba look here first, and for other files where it always does; before anything is compiled."""
        others = ",".join(place.__name__ for place in _PLACES)
        settings: Any = numba.config
        settings.CACHE_LOCATOR_CLASSES = f"{cls.__module__}.{cls.__name__},{others}"
