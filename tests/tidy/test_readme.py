"""House rules: what README says to type, works. A fenced block opened with ```sh run is executed, in order and in
one temporary folder, by bash -euo pipefail; `sh run 120` gives the block 120 seconds instead of 60."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

DEADLINE_S = 60
_BLOCK = re.compile(r"^```sh run(?: +(\d+))? *\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One tagged block: the line it opens at, what to run, and how long it may take."""

    line: int
    script: str
    deadline_s: int


def blocks(text: str) -> list[Block]:
    return [
        Block(text.count("\n", 0, found.start()) + 1, found.group(2), int(found.group(1) or DEADLINE_S))
        for found in _BLOCK.finditer(text)
    ]


def run(block: Block, folder: Path, environ: Mapping[str, str]) -> tuple[int, str]:
    """Exit code and output; past the deadline the block's whole process group ends, and the code is 124."""
    started = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", block.script],
        cwd=folder,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        out, _ = started.communicate(timeout=block.deadline_s)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        out, _ = started.communicate(timeout=10)
        return 124, out
    return started.returncode, out


def clean_environ(folder: Path) -> dict[str, str]:
    """The environment a stranger has: this venv's commands, no METERD_ variable of the person who runs tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("METERD_")}
    here = Path(sys.executable).parent
    return {**kept, "PATH": f"{here}{os.pathsep}{kept.get('PATH', '')}", "TMPDIR": str(folder)}


def test_the_tagged_commands_of_the_readme_work(root: Path, tmp_path: Path) -> None:
    for block in blocks((root / "README.md").read_text(encoding="utf-8")):
        code, out = run(block, tmp_path, clean_environ(tmp_path))
        assert code == 0, f"README.md:{block.line} ended with {code}\n{block.script}\n{out}"


def test_no_tagged_block_is_overlooked(root: Path) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    assert len(blocks(text)) == len(re.findall(r"^\s*(?:```|~~~)\s*sh\s+run", text, re.MULTILINE))


def test_blocks_are_found_with_line_and_deadline() -> None:
    text = "# A\n\n```sh\nno\n```\n\n```sh run\necho a\necho b\n```\n\n```sh run 5\nfalse\n```\n"
    assert blocks(text) == [Block(7, "echo a\necho b\n", DEADLINE_S), Block(12, "false\n", 5)]


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("echo a > made; test -e made", 0),
        ("false\ntrue", 1),
        ("false | true", 1),
        ("echo $UNSET_NAME", 1),
        ("meterd --version", 0),
        ("meterd nosuch", 2),
    ],
)
def test_a_block_fails_when_any_of_its_lines_does(script: str, code: int, tmp_path: Path) -> None:
    assert run(Block(1, script, 30), tmp_path, clean_environ(tmp_path))[0] == code


def alive(pid: int) -> bool:
    try:
        stat = (Path("/proc") / str(pid) / "stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def test_a_block_past_its_deadline_is_ended_with_its_children(tmp_path: Path) -> None:
    code, out = run(Block(1, "sleep 600 & echo $!; wait", 1), tmp_path, clean_environ(tmp_path))
    assert code == 124
    give_up = time.monotonic() + 10
    while alive(int(out)) and time.monotonic() < give_up:
        time.sleep(0.01)
    assert not alive(int(out))
