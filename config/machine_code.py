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

from numba.core.caching import InTreeCacheLocator, UserProvidedCacheLocator, UserWideCacheLocator

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDERS: Final = ("config", "ledger", "registry", "rating", "ingest")  # of compiled functions, and what they use
_OTHERS: Final = (  # numba's own, in its order
    "UserProvidedCacheLocator",
    "InTreeCacheLocator",
    "UserWideCacheLocator",
    "IPythonCacheLocator",
    "ZipCacheLocator",
)


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


class _OfAllSources:
    """One of numba's places for a function of `FOLDERS`, known by `sources_digest`, too; none for other files."""

    def get_source_stamp(self) -> tuple[Any, str]:
        place: Any = super()
        return place.get_source_stamp(), sources_digest()

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> Any:
        if not any(Path(file).resolve().is_relative_to(ROOT / folder) for folder in FOLDERS):
            return None
        place: Any = super()
        return place.from_function(function, file)


class UserProvided(_OfAllSources, UserProvidedCacheLocator):
    """In the folder that NUMBA_CACHE_DIR names."""


class InTree(_OfAllSources, InTreeCacheLocator):
    """Beside the module."""


class UserWide(_OfAllSources, UserWideCacheLocator):
    """In the user's folder, where the module's cannot be written."""


# numba's setting: look into ours first, and for other files where it always does.
LOCATORS: Final = ",".join(
    [*(f"{place.__module__}.{place.__name__}" for place in (UserProvided, InTree, UserWide)), *_OTHERS]
)
