"""The command line: help without weight, exit codes, and the settings commands."""

import inspect
import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from meterd import cli
from meterd.commands import COMMANDS, GROUPS, Command
from meterd.exits import MEANING, Exit, Stop

OPERATING = (Path(__file__).parents[2] / "docs" / "operating.md").read_text(encoding="utf-8")
HEAVY = {"numba", "numpy", "sqlalchemy", "pydantic", "pyarrow", "fastapi", "pandas", "matplotlib", "httpx", "paho"}


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("METERD_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    path = tmp_path / "meterd.toml"
    path.write_text('data_dir = "d"\n[mqtt]\npassword = "correct-horse"\n')
    return path


def test_help_imports_nothing_heavy() -> None:
    script = f"""
import sys
from meterd.cli import run
code = run(["--help"])
print(sorted(sys.modules.keys() & set({sorted(HEAVY)!r})), code)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.splitlines()[-1] == "[] 0"
    for name in COMMANDS:
        if " " not in name:
            assert name in ended.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_where_the_table_says_with_that_help(name: str) -> None:
    command = COMMANDS[name]
    function = getattr(import_module(command.module), command.function)
    assert (inspect.getdoc(function) or "").splitlines()[0] == command.help
    assert command.help.endswith(".")
    assert name.count(" ") <= 1
    assert " " not in name or name.split(" ")[0] in GROUPS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_operator_s_table(name: str) -> None:
    rows = [line.split("|")[1:] for line in OPERATING.splitlines() if line.startswith("| `")]
    told = [re.findall(r"[a-z-]+", "|".join(row)) for row in rows]
    assert any(all(word in words for word in name.split(" ")) for words in told), f"docs/operating.md lacks {name}"


def test_the_operator_s_exit_codes_are_those_of_the_code() -> None:
    for code, meaning in MEANING.items():
        assert f"| {code.value} | {meaning} |" in OPERATING


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*name.split(" "), "--help"]) == Exit.OK
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Usage: meterd {name}" in shown
    assert COMMANDS[name].help in shown


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--version"], Exit.OK),
        (["--help"], Exit.OK),
        (["docs", "--help"], Exit.OK),
        (["docs", "exits"], Exit.OK),
        ([], Exit.USAGE),
        (["docs"], Exit.USAGE),
        (["nosuch"], Exit.USAGE),
        (["docs", "nosuch"], Exit.USAGE),
        (["--nosuch"], Exit.USAGE),
        (["config", "--nosuch"], Exit.USAGE),
        (["config"], Exit.NO),
        (["check-config", "missing.toml"], Exit.NO),
    ],
)
def test_exit_codes(arguments: list[str], code: Exit, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == code
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    assert shown.out or shown.err


@pytest.mark.parametrize(
    ("ending", "code", "told"),
    [
        (Stop(Exit.REFUSED, "page 3 is damaged: restore a backup"), Exit.REFUSED, "meterd: page 3 is damaged"),
        (Stop(Exit.NOT_RUNNING, "no daemon"), Exit.NOT_RUNNING, "meterd: no daemon"),
        (ZeroDivisionError("ours"), Exit.DEFECT, "ZeroDivisionError: ours"),
        (
            OSError(30, "Read-only file system", "d/x"),
            Exit.REFUSED,
            "meterd: d/x: Read-only file system. Make it writable\n",
        ),
        (
            OSError(28, "No space left on device"),
            Exit.REFUSED,
            "meterd: the disk: No space left on device. Make room\n",
        ),
        (OSError(27, "File too large", "d/y"), Exit.REFUSED, "meterd: d/y: File too large. Make room\n"),
        (OSError(5, "Input/output error", "d/z"), Exit.REFUSED, "meterd: d/z: Input/output error. Check the disk\n"),
        (FileNotFoundError(2, "No such file", "x"), Exit.DEFECT, "FileNotFoundError"),
        (KeyboardInterrupt(), 130, ""),
        (SystemExit(5), Exit.TIMED_OUT, ""),
        (None, Exit.OK, ""),
    ],
)
def test_how_a_command_ends_is_its_code(
    ending: BaseException | None,
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command() -> None:
        if ending is not None:
            raise ending

    monkeypatch.setitem(COMMANDS, "try", Command("tests_made_up", "command", "Try."))
    monkeypatch.setattr(cli, "import_module", lambda _name: type("Made", (), {"command": staticmethod(command)}))
    assert cli.run(["try"]) == code
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["run"], ["balances"], ["audit"]])
def test_a_log_on_a_full_disk_does_not_cost_the_exit_code(arguments: list[str], tmp_path: Path) -> None:
    """Supervisors go by it: without, a start that is refused looked like an answer of no."""
    told = [sys.executable, "-m", "meterd.cli", *arguments, "--config", str(tmp_path / "no.toml")]
    with Path("/dev/full").open("w") as full:
        assert subprocess.run(told, stderr=full, timeout=60, check=False).returncode == Exit.USAGE


def test_check_config_of_a_good_file(settings_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["check-config", str(settings_file)]) == Exit.OK
    assert capsys.readouterr().out.startswith("ok: 2 of ")
    assert cli.run(["check-config", str(settings_file), "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == []


def test_check_config_prints_every_fault(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings_file.write_text("data_dir = 'd'\npartitions = 0\nbogus = 1\nmqtt.password = ['correct-horse']\n")
    monkeypatch.setenv("METERD_MQTT__PORT", "no")
    monkeypatch.setenv("METERD_CONFIG", str(settings_file))
    assert cli.run(["check-config"]) == Exit.NO
    shown = capsys.readouterr().out
    assert [row.split("\t")[1] for row in shown.splitlines()] == [
        "key",
        "partitions",
        "bogus",
        "mqtt.password",
        "mqtt.port",
    ]
    assert "correct-horse" not in shown
    assert cli.run(["check-config", "--json"]) == Exit.NO
    assert {fault["key"] for fault in json.loads(capsys.readouterr().out)} == {
        "partitions",
        "bogus",
        "mqtt.password",
        "mqtt.port",
    }


def test_check_config_reads_the_tariff_files(
    settings_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/tariffs.md promises it; nothing else says so before the daemon needs them."""
    with settings_file.open("a") as file:
        file.write(f'[rating]\ntariffs_dir = "{tmp_path / "tariffs"}"\n')
    assert cli.run(["check-config", str(settings_file)]) == Exit.NO
    assert "rating.tariffs_dir\tcannot be read: No such file" in capsys.readouterr().out
    (tmp_path / "tariffs").mkdir()
    assert cli.run(["check-config", str(settings_file)]) == Exit.NO
    assert "no tariff files" in capsys.readouterr().out
    (tmp_path / "tariffs" / "plain.toml").write_text("id = 'plain'\n")
    (tmp_path / "tariffs" / "tou.toml").write_text("id =\n")
    assert cli.run(["check-config", str(settings_file), "--json"]) == Exit.NO
    faults = json.loads(capsys.readouterr().out)
    assert {fault["where"] for fault in faults} == {f"{settings_file}:5"}
    assert {fault["what"].split(": ")[0] for fault in faults} == {"plain.toml:1", "tou.toml:1"}


def test_config_prints_values_and_origins_and_no_secret(
    settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["config", str(settings_file)]) == Exit.OK
    shown = capsys.readouterr().out
    assert f"data_dir\td\t{settings_file}:1\n" in shown
    assert f"mqtt.password\t********\t{settings_file}:3\n" in shown
    assert "mqtt.port\t1883\tdefault\n" in shown
    assert "correct-horse" not in shown
    assert cli.run(["config", str(settings_file), "--json"]) == Exit.OK
    rows = json.loads(capsys.readouterr().out)
    assert {"key": "mqtt.password", "value": "********", "origin": f"{settings_file}:3"} in rows


def test_other_commands_stop_on_a_faulty_configuration(settings_file: Path) -> None:
    from meterd.commands.config import settings_or_stop

    assert str(settings_or_stop(settings_file).data_dir) == "d"
    settings_file.write_text("partitions = 0\n")
    with pytest.raises(Stop) as caught:
        settings_or_stop(settings_file)
    assert caught.value.code == Exit.USAGE
    assert "partitions" in caught.value.message
    assert "data_dir" in caught.value.message


def test_the_page_of_exit_codes_names_every_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["docs", "exits", "--json"]) == Exit.OK
    rows = json.loads(capsys.readouterr().out)
    assert [row["code"] for row in rows] == [code.value for code in Exit]
    assert all(row["meaning"] for row in rows)


def test_a_reader_that_leaves_is_no_defect(settings_file: Path) -> None:
    script = f"{sys.executable} -m meterd.cli config {settings_file} | true; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr
