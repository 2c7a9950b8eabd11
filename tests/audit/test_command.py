"""`meterd audit` as a person runs it: the difference in words, the exit code, two processes."""

import json
from pathlib import Path
from typing import Any

import pytest

from audit.run import audit
from meterd.cli import run


@pytest.fixture
def settings(tmp_path: Path) -> str:
    file = tmp_path / "meterd.toml"
    file.write_text(f'data_dir = "{tmp_path}"\n')
    return str(file)


def test_a_right_directory_exits_0(disk: Any, summer: Any, settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    summer.write(disk)
    assert run(["audit", "--config", settings, "--json", "--jobs", "1"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["difference_fen"], told["differences"]) == (True, 0, [])
    assert told["counts"]["readings"] == 31


def test_a_difference_exits_1_and_is_printed(
    disk: Any, summer: Any, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    summer.write(disk, [row for row in summer.days() if row[:2] != ("tier_adder", "2026-07-20")])
    assert run(["audit", "--config", settings, "--jobs", "1"]) == 1
    assert "A\t2026-07-20\ttier_adder\t-100\t0\t" in capsys.readouterr().out


def test_a_missing_directory_and_an_unknown_checkpoint_exit_2(
    disk: Any, summer: Any, settings: str, tmp_path: Path
) -> None:
    summer.write(disk)
    assert run(["audit", "--config", settings, "--data-dir", str(tmp_path / "none")]) == 2
    assert run(["audit", "--config", settings, "--since", "77"]) == 2


def test_processes_give_the_same_answer(disk: Any, summer: Any) -> None:
    """A second partition without accounts makes two tasks; the workers are processes of their own."""
    summer.write(disk)
    disk.checkpoint(partition=1, slots=0)
    done: list[int] = []
    report = audit(disk.root, jobs=2, progress=done.append)
    assert report.differences == []
    assert report.counts["readings"] == 31
    assert done == [1, 1]


def test_a_registry_that_cannot_be_read_exits_2(
    disk: Any, summer: Any, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    summer.write(disk)
    (disk.root / "registry" / "v1" / "meters.parquet").write_bytes(b"PAR1")
    assert run(["audit", "--config", settings, "--jobs", "1"]) == 2
    assert "meters.parquet" in capsys.readouterr().err
