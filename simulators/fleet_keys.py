"""I/O: the signing keys that a fleet's concentrators and the daemon have agreed on, in one file that both read.

TOML lines of `concentrator = "hexadecimal key"`: what `signing.keys_file` of the settings names.
"""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

from simulators.fleet_registry import rows_of

KEY_BYTES = 32


def write_keys(registry: Path, target: Path, seed: int) -> dict[str, bytes]:
    """Keys for every second concentrator of a registry directory, so that a run has signed and unsigned ones."""
    names = sorted(row["concentrator"] for row in rows_of(registry, "concentrators"))
    keys = {name: _key(name, seed) for name in names[::2]}
    target.write_text("".join(f'"{name}" = "{key.hex()}"\n' for name, key in keys.items()), encoding="utf-8")
    target.chmod(0o600)
    return keys


def read_keys(path: Path) -> dict[str, bytes]:
    """The keys of a file; ValueError when it is no such file."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    return {name: bytes.fromhex(key) for name, key in found.items()}


def _key(name: str, seed: int) -> bytes:
    """Made from the seed, so that a run can be repeated: no secret of anything real."""
    return hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=KEY_BYTES).digest()
