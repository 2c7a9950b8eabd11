"""`meterd registry ...` as an operator calls it."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from config.tariff_files import DAYS, tariff_texts
from meterd.commands import registry as commands
from meterd.exits import Exit, Stop
from registry.staged import staged_digest


@pytest.fixture
def call() -> Any:
    app = typer.Typer()
    app.command("generate")(commands.generate)
    app.command("check")(commands.check)
    app.command("import")(commands.import_directory)

    def run(*words: Any) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words])

    return run


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "meterd.toml"
    file.write_text(f'data_dir = "{tmp_path / "data"}"\npartitions = 4\n')
    return file


def test_a_generated_city_is_checked_and_imported(call: Any, config: Path, tmp_path: Path) -> None:
    city = tmp_path / "city"
    assert call("generate", "--meters", 50, "--seed", 3, city).exit_code == 0
    assert call("check", city).exit_code == 0
    done = call("import", city, "--config", config, "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert (answer["meters"], answer["channels"], answer["activated"]) == (50, 50, False)
    assert staged_digest(tmp_path / "data" / "registry") == answer["digest"]
    again = json.loads(call("import", city, "--config", config, "--json").stdout)
    assert again == answer


def test_faults_are_listed_and_nothing_is_staged(call: Any, config: Path, town: Any, tmp_path: Path) -> None:
    folder = town(accounts=[("a1,li", "a1,nobody")], tariffs=None)
    done = call("import", folder, "--config", config, "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert [(fault["file"], fault["line"]) for fault in told] == [("accounts.csv", 2), ("tariffs.csv", 0)]
    assert staged_digest(tmp_path / "data" / "registry") is None
    assert "2 faults: nothing was imported" in done.stderr
    alone = call("check", folder)
    assert alone.exit_code == 1
    assert "2 faults" in alone.stderr
    assert "imported" not in alone.stderr  # nothing was to be


def test_a_folder_that_is_not_there_is_not_a_registry_without_files(call: Any, config: Path, tmp_path: Path) -> None:
    for words in (["check", tmp_path / "none"], ["import", tmp_path / "none", "--config", config]):
        done = call(*words)
        assert isinstance(done.exception, Stop)
        assert (done.exception.code, "is no directory" in done.exception.message) == (Exit.USAGE, True)


def test_a_made_up_city_never_replaces_a_real_one(call: Any, town: Any) -> None:
    folder = town()
    before = (folder / "accounts.csv").read_bytes()
    done = call("generate", "--meters", 5, folder)
    assert isinstance(done.exception, Stop)
    assert done.exception.code == Exit.REFUSED
    assert (folder / "accounts.csv").read_bytes() == before


def test_tariffs_that_nobody_ships_are_faults(call: Any, town: Any) -> None:
    done = call("check", town())
    assert done.exit_code == 1
    assert "guangzhou-residential" in done.stdout


@pytest.fixture
def own_tariffs(config: Path, tmp_path: Path) -> Path:
    """A folder of tariffs that the settings name: the shipped ones."""
    folder = tmp_path / "tariffs"
    folder.mkdir()
    for name, text in tariff_texts().items():
        (folder / (name if name.endswith(DAYS) else f"{name}.toml")).write_text(text)
    config.write_text(f'{config.read_text()}[rating]\ntariffs_dir = "{folder}"\n')
    return folder


def test_nothing_is_imported_under_a_tariff_file_with_a_fault(
    call: Any, config: Path, own_tariffs: Path, tmp_path: Path
) -> None:
    """A version keeps its tariff files for ever: a broken one would stop the daemon at every start."""
    call("generate", "--meters", 5, tmp_path / "city")
    file = own_tariffs / "beijing-water.toml"  # whether an account has it or not
    whole = file.read_text()
    for broken, what in ((whole.replace('"half_up"', '"half_off"', 1), "half_off"), (whole + "[[", "beijing-water")):
        file.write_text(broken)
        done = call("import", tmp_path / "city", "--config", config)
        assert isinstance(done.exception, Stop)
        assert (done.exception.code, what in done.exception.message) == (Exit.NO, True)
        assert not (tmp_path / "data" / "registry").exists()
    file.write_text(whole)
    assert call("import", tmp_path / "city", "--config", config).exit_code == 0


def test_a_tariff_that_writes_the_past_anew_is_refused_before_anything_is_staged(
    call: Any, config: Path, own_tariffs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("generate", "--meters", 5, tmp_path / "city")
    first = json.loads(call("import", tmp_path / "city", "--config", config, "--json").stdout)["digest"]
    monkeypatch.setattr(commands, "active_digest", lambda _: first)
    file = own_tariffs / "guangzhou-residential.toml"
    file.write_text(file.read_text().replace('"0.05"', '"0.06"'))
    done = call("import", tmp_path / "city", "--config", config)
    assert isinstance(done.exception, Stop)
    assert "a change is a new dated version in its file: nothing was imported" in done.exception.message
    assert [one.name for one in (tmp_path / "data" / "registry").iterdir() if one.is_dir()] == [first]
    assert staged_digest(tmp_path / "data" / "registry") == first


def test_a_running_daemon_is_asked_to_activate(
    call: Any, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Client:
        @staticmethod
        def activate(settings: Any, digest: str) -> bool:
            asked.append(digest)
            return True

    monkeypatch.setattr(commands, "import_module", lambda name: Client)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "endpoint.json").write_text("{}")
    call("generate", "--meters", 5, tmp_path / "city")
    answer = json.loads(call("import", tmp_path / "city", "--config", config, "--json").stdout)
    assert answer["activated"] is True
    assert asked == [answer["digest"]]
