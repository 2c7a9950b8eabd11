"""The harness: the file of results, and that a benchmark's check would notice a wrong kernel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as main
from benchmarks.city import Runner, make_city, next_round, order_of
from benchmarks.harness import Result, choose, collect, merge, result


def test_results_are_merged_by_name(tmp_path: Path) -> None:
    path = tmp_path / "results" / "latest.json"
    merge([result("b", "readings/s", "X", [20.0], [10.0]), result("a", "s", "Y", [1.0], [4.0])], path)
    merge([result("b", "readings/s", "X", [30.00004], [10.0])], path)
    written = json.loads(path.read_text(encoding="utf-8"))
    assert all(row["date"] >= "2026-11-27" and "cores" in row["machine"] for row in written)
    assert [(row["name"], row["value"], row["baseline"], row["ratio"]) for row in written] == [
        ("a", 1.0, 4.0, 0.25),
        ("b", 30.0, 10.0, 3.0),
    ]


def test_names_and_groups() -> None:
    names = collect().keys()
    assert {"kernel.neighbours", "kernel.random", "kernel.vs_batch", "scale.flatness"} <= names
    assert choose(names, "kernel.random") == ["kernel.random"]
    assert set(choose(names, "kernel")) == {n for n in names if n.startswith("kernel.")}
    assert set(choose(names, None)) == names
    assert choose(names, "kern") == []
    assert choose(names, "latency.city.held_p99") == ["latency.city"]  # a row: what it comes from
    assert choose(names, "registry.import_6m") == ["registry"]
    assert choose(names, "stream.frames") == ["stream.frames"]


def test_one_that_fails_writes_nothing_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[str] = []
    monkeypatch.setattr(main, "merge", lambda results: written.extend(r.name for r in results))
    monkeypatch.setattr(main, "write", lambda: None)

    def wrong() -> list[Result]:
        raise AssertionError("the charges are not what the tariffs say")

    assert main._run({"a": wrong, "b": lambda: [result("b", "s", "X", [1.0], [2.0])]}) == 1
    assert written == ["b"]
    assert "FAILED, and not written: a" in capsys.readouterr().err
    assert main._run({"b": lambda: [result("b", "s", "X", [1.0], [2.0])]}) == 0


@pytest.mark.parametrize("neighbours", [True, False])
def test_the_kernel_charges_the_city_as_the_tariff_says(neighbours: bool) -> None:
    city = make_city(2000)
    city.ladder["used"][::7] = 599_900 + city.ladder["used"][::7] % 400  # some at the upper bound
    city.ladder["used"][::11] = 259_900 + city.ladder["used"][::11] % 200
    city.opening_used = city.ladder["used"].copy()
    city.value = city.channel_opening.copy()
    city.channel["value"] = city.value
    runner = Runner(city)
    for _ in range(6):  # over the start of peak
        runner.run(next_round(city, order_of(city, neighbours=neighbours)))
    assert runner.accepted == 6 * 2000
    assert city.digest() == city.expected_digest()
    city.ladder["used"][3] += 1
    assert city.digest() != city.expected_digest()
