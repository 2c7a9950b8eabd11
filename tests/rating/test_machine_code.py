"""Machine code on disk is that of the sources as they are, also where only a function that is called has changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from config.machine_code import FOLDERS, ROOT, sources_digest
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


def test_a_caller_is_compiled_anew_when_only_what_it_calls_has_changed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "rating").mkdir()
    shutil.copy(ROOT / "rating" / "compiled.py", tmp_path / "rating")
    (tmp_path / "rating" / "__init__.py").write_text("")
    (tmp_path / "rating" / "calling.py").write_text(CALLING)
    said = []
    for step in (1, 1, 2):
        (tmp_path / "rating" / "called.py").write_text(CALLED.replace("STEP", str(step)))
        done = subprocess.run(
            [sys.executable, "-m", "rating.calling"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)},
            check=True, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        said.append(done.stdout.split())
    assert said == [["20", "0"], ["20", "1"], ["30", "0"]], "compiled; taken from the disk; compiled anew"


def test_the_kernel_is_known_by_all_of_them() -> None:
    stamp = rate._cache._impl.locator.get_source_stamp()
    assert stamp[-1] == sources_digest()
    files = {file.relative_to(ROOT).parts[0] for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")}
    assert files == set(FOLDERS)
