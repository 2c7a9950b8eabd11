"""I/O (reads registry versions): what a broken rule raises, and the registry versions that rules look names up in."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from registry.store import RegistryReader


class Finding(Exception):
    """A rule that does not hold."""

    def __init__(self, rule: str, how: str) -> None:
        super().__init__(f"{rule}: {how}")
        self.rule, self.how = rule, how


@lru_cache(maxsize=64)
def version_of(registry: Path, digest: str) -> RegistryReader:
    """A version of a scene, which no history changes."""
    return RegistryReader(registry, digest)
