"""What the house rules look at: every file that git tracks or would track, and our modules, parsed once."""

import ast
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("config", "registry", "ledger", "rating", "ingest", "autopay", "audit", "simulators", "meterd")


@dataclass(frozen=True)
class Module:
    """One Python file of ours: its path from the root, and what stands in it."""

    path: str
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        return self.path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")

    @property
    def doc(self) -> str:
        return ast.get_docstring(self.tree) or ""


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def files() -> list[str]:
    """Paths from the root: tracked, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return sorted(path for path in set(listed.stdout.split("\0")) if path and (ROOT / path).is_file())


@pytest.fixture(scope="session")
def texts(files: list[str]) -> dict[str, str]:
    """Text of every text file."""
    bodies = {path: (ROOT / path).read_bytes() for path in files}
    return {path: body.decode("utf-8") for path, body in bodies.items() if b"\0" not in body}


@pytest.fixture(scope="session")
def modules(texts: dict[str, str]) -> list[Module]:
    """Modules of our packages; generated migrations are not ours to shape."""
    ours = [
        path
        for path in texts
        if path.endswith(".py") and path.split("/")[0] in PACKAGES and "/migrations/versions/" not in path
    ]
    return [Module(path, texts[path], ast.parse(texts[path], path)) for path in ours]
