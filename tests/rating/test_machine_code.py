"""Machine code on disk is that of the sources as they are, also where only a function that is called has changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from config.machine_code import FOLDERS, ROOT, sources_digest
from ingest import bounds
from rating.judging import open_now
from rating.kernel import rate

CALLED = """
from rating.compiled import jit

@jit
def called(x):
    return x + STEP
"""
CALLING = """
from rating.compiled import jit
from rating.called import called

@jit
def calling(x):
    return called(x) * 10

if __name__ == "__main__":
    print(calling(1), sum(calling.stats.cache_hits.values()))
"""


@pytest.mark.parametrize("linked", [False, True])
def test_a_caller_is_compiled_anew_when_only_what_it_calls_has_changed(tmp_path: Path, linked: bool) -> None:
    real = tmp_path / "real"
    shutil.copytree(ROOT / "config", real / "config", ignore=shutil.ignore_patterns("__pycache__"))
    (real / "rating").mkdir()
    shutil.copy(ROOT / "rating" / "compiled.py", real / "rating")
    (real / "rating" / "__init__.py").write_text("")
    (real / "rating" / "calling.py").write_text(CALLING)
    (tmp_path / "link").symlink_to(real)
    place = tmp_path / "link" if linked else real
    said = []
    for step in (1, 1, 2):
        (real / "rating" / "called.py").write_text(CALLED.replace("STEP", str(step)))
        done = subprocess.run(
            [sys.executable, "-m", "rating.calling"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(place)},
            check=True, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        said.append(done.stdout.split())
    assert said == [["20", "0"], ["20", "1"], ["30", "0"]], "compiled; taken from the disk; compiled anew"


@pytest.mark.parametrize("function", [rate, open_now, bounds._compiled])
def test_what_is_compiled_is_known_by_all_of_them(function: Any) -> None:
    stamp = function._cache._impl.locator.get_source_stamp()
    assert stamp[-1] == sources_digest()
    files = {file.relative_to(ROOT).parts[0] for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")}
    assert files == set(FOLDERS)
