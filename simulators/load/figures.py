"""Pure: from what the generators and the observer saw to answers: latencies, throughput, objectives, the verdict."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from simulators.load.histogram import PERCENTILES, Histogram
from simulators.load.observe import Seen

MEASURES: Final = {
    "late": "due to handed to the socket: how late the generator itself was",
    "published": "due to acknowledged by the broker (PUBACK)",
    "held": "due to told that it is durable",
    "reading_to_balance": "due to visible in the balance",
    "reading_to_order": "due to charged at the gateway, of the reading that made the balance low",
    "reading_to_notice": "due to somebody told of the charge, of the reading that made the balance low",
}
_OBJECTIVE: Final = re.compile(r"^(\w+)\.(p\d+(?:\.\d+)?|max)=(\d+(?:\.\d+)?)(us|ms|s)$")
_UNITS_S: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class NoObjective(ValueError):
    """What was stated is no objective: the message says why."""


@dataclass(frozen=True, slots=True)
class Objective:
    """`measure` at `percent` (100: the most) is at most `most_s`."""

    text: str
    measure: str
    percent: float
    most_s: float

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Such as reading_to_balance.p99=100ms."""
        found = _OBJECTIVE.match(text)
        if found is None or found[1] not in MEASURES:
            names = ", ".join(MEASURES)
            raise NoObjective(f"{text!r}: as in reading_to_balance.p99=100ms; there are {names}")
        percent = 100.0 if found[2] == "max" else float(found[2][1:])
        if percent > 100.0:
            raise NoObjective(f"{text!r}: a percentile is at most 100")
        return cls(text, found[1], percent, float(found[3]) * _UNITS_S[found[4]])

    def value(self, histograms: Mapping[str, Histogram]) -> float:
        """NaN when nothing was measured, which meets no objective."""
        found = histograms[self.measure]
        if not len(found):
            return float("nan")
        return found.most_s if self.percent == 100.0 else found.percentile(self.percent)


@dataclass(slots=True, eq=False)
class Messages:
    """Of all generators: times in seconds of the run, NaN where it did not come to that."""

    due: Floats
    sent: Floats
    acked: Floats
    held: Floats
    stream: list[str]
    sequence: Ints
    readings: Ints
    address: npt.NDArray[np.uint64]
    used: Ints
    counts: dict[str, int]

    @property
    def unheld(self) -> int:
        return int(np.isnan(self.held).sum())


@dataclass(slots=True, eq=False)
class Figures:
    """What a run came to."""

    histograms: dict[str, Histogram] = field(default_factory=lambda: {name: Histogram() for name in MEASURES})
    over_time: dict[str, Ints] = field(default_factory=dict)  # per second of the run
    waits: dict[str, int] = field(default_factory=dict)  # what was expected and never seen, by measure


def latencies(messages: Messages, seen: Seen | None, start_s: float, stream_of: Mapping[str, str]) -> Figures:
    """Every latency from when its message was due. `stream_of`: the stream of an account's meter."""
    found = Figures()
    good = messages.readings > 0
    found.histograms["late"].add(messages.sent - messages.due)
    found.histograms["published"].add(messages.acked - messages.due)
    found.histograms["held"].add(messages.held - messages.due)
    found.over_time = {
        "due": _per_second(messages.due[good], messages.readings[good]),
        "published": _per_second(messages.acked[good], messages.readings[good]),
        "held": _per_second(messages.held[good], messages.readings[good]),
    }
    if seen is not None:
        visible = _visible(messages, seen, start_s)
        found.histograms["reading_to_balance"].add(visible[good] - messages.due[good])
        found.waits["reading_to_balance"] = int(np.isnan(visible[good]).sum())
        found.over_time["balance"] = _per_second(visible[good], messages.readings[good])
        _payments(found, messages, seen, start_s, stream_of)
    return found


def _per_second(at_s: Floats, weight: Ints) -> Ints:
    known = ~np.isnan(at_s)
    if not known.any():
        return np.zeros(0, np.int64)
    seconds = np.maximum(np.floor(at_s[known]), 0).astype(np.int64)
    return np.bincount(seconds, weight[known]).astype(np.int64)


def _committed(seen: Seen) -> dict[int, tuple[Ints, Floats]]:
    """By partition: the offsets of its checkpoints, rising, and when each was seen."""
    found: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for at_s, partition, offset in seen.checkpoints:
        found[partition].append((offset, at_s))
    return {
        partition: (np.array([o for o, _ in rows], np.int64), np.array([a for _, a in rows], np.float64))
        for partition, rows in found.items()
    }


def _visible(messages: Messages, seen: Seen, start_s: float) -> Floats:
    """When the last of a message's readings was in a committed balance, in seconds of the run."""
    number = {key: place for place, key in enumerate(zip(messages.stream, messages.sequence.tolist(), strict=True))}
    at = np.full(len(messages.due), np.nan)
    missing = np.zeros(len(at), np.bool_)
    by_partition: dict[int, list[tuple[int, int]]] = defaultdict(list)
    known: set[tuple[int, int]] = set()
    for partition, offset, stream, sequence in seen.records:
        place = number.get((stream, sequence))
        if place is not None and (partition, place) not in known:  # the first copy is the one that counts
            known.add((partition, place))
            by_partition[partition].append((offset, place))
    commits = _committed(seen)
    for partition, rows in by_partition.items():
        offsets, times = commits.get(partition, (np.zeros(0, np.int64), np.zeros(0)))
        for offset, place in rows:
            first = int(np.searchsorted(offsets, offset))
            if first == len(offsets):
                missing[place] = True
            elif not at[place] >= times[first] - start_s:
                at[place] = times[first] - start_s
    at[missing] = np.nan
    return at


def _payments(found: Figures, messages: Messages, seen: Seen, start_s: float, stream_of: Mapping[str, str]) -> None:
    """Orders and notices, from the reading that made the balance low: the meter's newest in that checkpoint."""
    keys = zip(messages.stream, messages.sequence.tolist(), strict=True)
    due = dict(zip(keys, messages.due.tolist(), strict=True))
    by_stream: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
    for partition, offset, stream, sequence in seen.records:
        by_stream[partition, stream].append((offset, sequence))
    caused: dict[tuple[str, int], float] = {}  # by account and arm: when the reading was due
    for _, kind, account, arm, partition, offset in seen.events:
        if kind != "low_balance":
            continue
        of = stream_of.get(account, "")
        upto = [row for row in by_stream.get((partition, of), ()) if row[0] <= offset]
        if upto and (of, max(upto)[1]) in due:
            caused[account, arm] = due[of, max(upto)[1]]
    charged: dict[tuple[str, int], float] = {}
    for at_s, reference in seen.charges:
        named, number, _ = reference.rsplit("/", 2)
        charged.setdefault((named, int(number)), at_s - start_s)
    told: dict[tuple[str, int], float] = {}
    for at_s, key in seen.notices:
        kind, _, rest = key.partition(":")
        if kind == "charged":
            of_order = seen.orders.get(rest.partition(":")[0])
            if of_order is not None:
                told.setdefault(of_order, at_s - start_s)
    for measure, answers in (("reading_to_order", charged), ("reading_to_notice", told)):
        late = [answers[key] - since_s for key, since_s in caused.items() if key in answers]
        found.histograms[measure].add(np.array(late, np.float64))
        found.waits[measure] = len(caused) - len(late)


def judged(objectives: Sequence[Objective], histograms: Mapping[str, Histogram]) -> list[dict[str, Any]]:
    """Each objective with what was measured; `met` False also when nothing was."""
    out = []
    for one in objectives:
        value = one.value(histograms)
        measured = None if value != value else round(value * 1000, 3)
        out.append({"objective": one.text, "measured_ms": measured, "met": bool(value <= one.most_s)})
    return out


def table(histograms: Mapping[str, Histogram]) -> list[list[str]]:
    """Rows of text: measure, count, percentiles and the most in milliseconds."""
    rows = [["ms", "count", *(f"p{percent:g}" for percent in PERCENTILES), "max"]]
    for name, one in histograms.items():
        told = one.as_json()
        cells = [f"{told[key]:,.1f}" if key in told else "-" for key in (*rows[0][2:-1], "max")]
        rows.append([name, f"{told['count']:,}", *cells])
    return rows
