"""I/O (writes two files): report.json, and report.html, which needs nothing beside it: its plots are SVG inside."""

from __future__ import annotations

import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from config.clock import RealClock
from simulators.load.asked import Test
from simulators.load.figures import MEASURES, table
from simulators.load.processes import Sample
from simulators.load.run import Result

MISSING = {"not_checked": "not checked", "not_measured": "not measured"}  # of the verdict
_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:62em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #ccc;padding:.2em .6em;text-align:right}"
    "td:first-child,th:first-child{text-align:left}.no{color:#b00020;font-weight:bold}.yes{color:#1b5e20}"
    "svg{max-width:100%;height:auto}"
)


def as_json(test: Test, result: Result) -> dict[str, Any]:
    """Everything that was measured, in milliseconds, readings and bytes."""
    return {
        "date": datetime.fromtimestamp(RealClock().now_s(), UTC).isoformat(),
        "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "test": asdict(test.wish)
        | {
            "format": test.format,
            "connections": test.connections,
            "processes": test.processes,
            "faults": test.faults,
        },
        "good": result.good,
        "verdict": result.verdict,
        "objectives": result.objectives,
        "latency_ms": {name: one.as_json() for name, one in result.figures.histograms.items()},
        "looks_ms": result.seen.looks.as_json() if result.seen is not None else {},
        "sent": result.sent.counts,
        "resources": resources(result),
        "daemon": result.usage.daemon,
        "broker": result.usage.broker,
        "growth": growth(result),
        "over_time": {name: counts.tolist() for name, counts in result.figures.over_time.items()},
    }


def resources(result: Result) -> dict[str, dict[str, float]]:
    """By process: mean cores, most resident bytes, bytes written a reading, over the time of the observation."""
    readings = max(1, result.sent.readings)
    found = {}
    for name, samples in _by_name(result.usage.samples).items():
        first, last = samples[0], samples[-1]
        span_s = max(1e-9, last.at_s - first.at_s)
        used_s = sum(max(0.0, b.cpu_s - a.cpu_s) for a, b in pairwise(samples))  # one that came anew begins at 0
        wrote = sum(max(0, b.written - a.written) for a, b in pairwise(samples))
        found[name] = {
            "cores": round(used_s / span_s, 3),
            "rss_most": max(sample.rss for sample in samples),
            "rss_first": first.rss,
            "rss_last": last.rss,
            "written_a_reading": round(wrote / readings, 1),
        }
    return found


def growth(result: Result) -> dict[str, float]:
    """How many times what it was after a third of the run something is at its end: memory by process, files.

    By then what is bounded is full, in a run of half an hour: the broker's window, the log up to its archive's age.
    """
    if result.seen is None or not result.seen.files:
        return {}
    files = result.seen.files
    begun_s = files[0][0] + (files[-1][0] - files[0][0]) / 3
    found = {}
    for name, samples in _by_name(result.usage.samples).items():
        after = [sample.rss for sample in samples if sample.at_s >= begun_s]
        found[f"memory of {name}"] = round(after[-1] / after[0], 3) if after else 1.0
    late = [row for row in files if row[0] >= begun_s]
    for place, name in ((1, "log"), (2, "ledger")):
        found[name] = round(late[-1][place] / max(1, late[0][place]), 3)
    return found


def _by_name(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.rss:  # a process that has ended says nothing
            found.setdefault(sample.name, []).append(sample)
    return found


def write(folder: Path, test: Test, result: Result) -> None:
    """Both files."""
    folder.mkdir(parents=True, exist_ok=True)
    told = as_json(test, result)
    (folder / "report.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(_html(told, test, result), encoding="utf-8")


def _html(told: Mapping[str, Any], test: Test, result: Result) -> str:
    wish = test.wish
    head = (
        f"{wish.pattern}: {wish.meters:,} meters, {wish.rate:,g} readings a second for {wish.seconds:g} s, "
        f"{wish.per_message} a message as {test.format}, {_many(test.connections, 'connection')} in"
        f" {'each of ' if test.processes > 1 else ''}{_many(test.processes, 'generator process', 'es')}"
        + (f"; faults: {', '.join(f'{name} {rate:g}' for name, rate in test.faults.items())}" if test.faults else "")
    )
    parts = [
        f"<p>{escape(head)}<br>{escape(told['date'])}, {escape(_machine(told['machine']))}</p>",
        f"<p class={'yes' if result.verdict['good'] else 'no'}>{escape(_said(result.verdict))}</p>",
    ]
    if missing(result.verdict):
        parts += ["<ul>", *(f"<li>{escape(text)}</li>" for text in missing(result.verdict)), "</ul>"]
    if result.objectives:
        missed = sum(not one["met"] for one in result.objectives)
        rows = [["objective", "measured", "met"]]
        rows += [[o["objective"], _measured(o), "yes" if o["met"] else "NO"] for o in result.objectives]
        met = f"{missed} of {len(result.objectives)} missed" if missed else "all are met"
        parts += ["<h2>Objectives</h2>", f"<p class={'no' if missed else 'yes'}>{met}</p>", _table(rows)]
    parts += ["<h2>Latency, from when a message was due</h2>", _table(table(result.figures.histograms))]
    parts += ["<ul>", *(f"<li><b>{name}</b>: {escape(what)}</li>" for name, what in MEASURES.items()), "</ul>"]
    parts += [_latency_plot(result), "<h2>Throughput</h2>", _throughput_plot(result)]
    parts += [
        "<h2>Verdict</h2>",
        _table([[str(k), _cell(v)] for k, v in result.verdict.items() if k not in MISSING], head=False),
    ]
    if told["resources"]:
        rows = [["process", "cores, mean", "memory at most, MB", "bytes written a reading"]]
        rows += [
            [name, f"{one['cores']:.2f}", f"{one['rss_most'] / 1e6:,.0f}", f"{one['written_a_reading']:,}"]
            for name, one in told["resources"].items()
        ]
        parts += ["<h2>Processor, memory and disk</h2>", _table(rows)]
        parts += [
            f"<p>Daemon: {escape(told['daemon'])}<br>Broker: {escape(told['broker'])}</p>",
            _resource_plot(result),
        ]
    if told["growth"]:
        grown = [["from a third of the run to its end", "times"]]
        parts.append(_table(grown + [[name, f"{value:g}"] for name, value in told["growth"].items()]))
    parts += ["<h2>Sent</h2>", _table([[k, f"{v:,}"] for k, v in result.sent.counts.items()], head=False)]
    body = "\n".join(parts)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>meterd load</title><style>{_STYLE}</style>'
        f"<body><h1>Load test</h1>\n{body}\n</body></html>\n"
    )


def missing(verdict: Mapping[str, Any]) -> list[str]:
    """What was not checked or not measured, and why: a line each."""
    return [f"{words}: {name}: {why}" for key, words in MISSING.items() for name, why in verdict.get(key, {}).items()]


def _said(verdict: Mapping[str, Any]) -> str:
    if verdict.get("interrupted"):
        return "interrupted: this is what was measured until then"
    if not verdict["good"]:
        return "something is lost, late or wrong"
    if verdict.get("not_checked"):
        return "everything is held, and what could be checked is right; the rest is named below"
    return "everything is held, seen and right"


def _measured(objective: Mapping[str, Any]) -> str:
    return "nothing" if objective["measured_ms"] is None else f"{objective['measured_ms']} ms"


def _cell(value: Any) -> str:
    """Of the verdict, for people."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_cell(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _many(count: int, what: str, plural: str = "s") -> str:
    return f"{count:,} {what}{plural if count != 1 else ''}"


def _machine(told: Mapping[str, Any]) -> str:
    return f"{_many(told['cores'], 'core')}, {told['system']}, Python {told['python']}"


def _table(rows: Sequence[Sequence[str]], *, head: bool = True) -> str:
    """`head`: the first row names the columns."""
    kinds = ["th" if head and not place else "td" for place in range(len(rows))]
    lines = [
        "".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in row) for kind, row in zip(kinds, rows, strict=True)
    ]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _svg(figure: Any) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", bbox_inches="tight")
    plt.close(figure)
    text = out.getvalue()
    return text[text.index("<svg") :]


def _latency_plot(result: Result) -> str:
    """Percentiles against latency, the far end drawn wide, as HdrHistogram does."""
    figure, axes = plt.subplots(figsize=(9, 4))
    for name, one in result.figures.histograms.items():
        if len(one):
            curve = np.array(one.curve())
            axes.plot(1.0 / np.maximum(1e-5, 1 - curve[:, 0] / 100.0), curve[:, 1] * 1000, label=name)
    ticks = (1, 2, 10, 100, 1000, 10_000)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(ticks, [f"{100 * (1 - 1 / tick):g} %" for tick in ticks])
    axes.set_ylabel("ms")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize=8)
    return _svg(figure)


def _throughput_plot(result: Result) -> str:
    figure, axes = plt.subplots(figsize=(9, 3))
    for name, counts in result.figures.over_time.items():
        axes.plot(np.arange(len(counts)), counts, label=name, linewidth=1)
    axes.set_ylabel("readings a second")
    axes.set_xlabel("second of the run")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    return _svg(figure)


def _resource_plot(result: Result) -> str:
    figure, (above, below) = plt.subplots(2, 1, figsize=(9, 4.5), sharex=True)
    for name, samples in _by_name(result.usage.samples).items():
        at = np.array([sample.at_s - result.start_s for sample in samples])
        cpu = np.array([sample.cpu_s for sample in samples])
        if len(at) > 1:
            above.plot(at[1:], np.diff(cpu) / np.maximum(1e-9, np.diff(at)), label=name, linewidth=1)
        below.plot(at, np.array([sample.rss for sample in samples]) / 1e6, label=name, linewidth=1)
    above.set_ylabel("cores")
    below.set_ylabel("resident MB")
    below.set_xlabel("second of the run")
    below.set_ylim(bottom=0)
    above.legend(fontsize=8)
    return _svg(figure)
