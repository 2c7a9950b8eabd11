"""Pure: from what the generators and the observer saw to answers: latencies, throughput, objectives, the verdict."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from simulators.load.answers import Answered, Floats, Ints, per_second, summed
from simulators.load.histogram import PERCENTILES, Histogram

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


@dataclass(slots=True, eq=False)
class Times:
    """Of every message of a generator, in seconds of the run; NaN where it did not come to that."""

    due: Floats
    sent: Floats
    acked: Floats
    held: Floats
    readings: Ints  # 0: a bad one, or not sent

    @classmethod
    def of(cls, due_s: Floats) -> Times:
        none = np.full(len(due_s), np.nan)
        return cls(due_s.copy(), none, none.copy(), none.copy(), np.zeros(len(due_s), np.int64))

    def upto(self, place: int) -> Times:
        """Of the first so many."""
        return Times(*(getattr(self, each.name)[:place] for each in fields(self)))


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
            raise NoObjective(
                f"{text!r}: write NAME.pN=TIME or NAME.max=TIME, the time in us, ms or s, as in"
                f" reading_to_balance.p99=100ms; names are {names}"
            )
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
class Sent:
    """What generators sent and heard, added up; `address`, `used`: their meters, and thousandths that each used.

    `good`: messages that went out with readings. `over_time`: readings by second of the run.
    """

    messages: int
    sent: int
    unheld: int
    good: int
    readings: int
    histograms: dict[str, Histogram]
    over_time: dict[str, Ints]
    address: npt.NDArray[np.uint64]
    used: Ints
    counts: dict[str, int]

    @classmethod
    def of(cls, times: Times, address: npt.NDArray[np.uint64], used: Ints, counts: dict[str, int]) -> Sent:
        """Of one generator."""
        good = times.readings > 0
        answers = {"late": times.sent, "published": times.acked, "held": times.held}
        seconds = {"due": times.due, "published": times.acked, "held": times.held}
        histograms = {name: Histogram() for name in answers}
        for name, at_s in answers.items():
            histograms[name].add(at_s - times.due)
        return cls(
            messages=len(times.due),
            sent=int((~np.isnan(times.sent)).sum()),
            unheld=int(np.isnan(times.held).sum()),
            good=int(good.sum()),
            readings=int(times.readings.sum()),
            histograms=histograms,
            over_time={name: per_second(at_s[good], times.readings[good]) for name, at_s in seconds.items()},
            address=address,
            used=used,
            counts=counts,
        )

    @classmethod
    def merged(cls, parts: Sequence[Sent]) -> Sent:
        """Of all generators."""
        histograms = {name: Histogram() for name in parts[0].histograms}
        for part in parts:
            for name, one in part.histograms.items():
                histograms[name].merge(one)
        return cls(
            **_totals({name: sum(getattr(part, name) for part in parts) for name in _TOTALS}),
            histograms=histograms,
            over_time={name: summed([part.over_time[name] for part in parts]) for name in parts[0].over_time},
            address=np.concatenate([part.address for part in parts]),
            used=np.concatenate([part.used for part in parts]),
            counts={name: sum(part.counts[name] for part in parts) for name in parts[0].counts},
        )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """For a file; `from_arrays` makes the same of it."""
        found: dict[str, npt.NDArray[Any]] = {name: np.array(getattr(self, name)) for name in _TOTALS}
        found |= {f"latency_{name}": one.array() for name, one in self.histograms.items()}
        found |= {f"second_{name}": counts for name, counts in self.over_time.items()}
        found |= {f"count_{name}": np.array(count) for name, count in self.counts.items()}
        return found | {"address": self.address, "used": self.used}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Sent:
        def named(prefix: str) -> dict[str, npt.NDArray[Any]]:
            return {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}

        return cls(
            **_totals(arrays),
            histograms={name: Histogram.of_array(array) for name, array in named("latency_").items()},
            over_time=named("second_"),
            address=arrays["address"],
            used=arrays["used"],
            counts={name: int(count) for name, count in named("count_").items()},
        )


def _totals(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: int(values[name]) for name in _TOTALS}


_TOTALS: Final = ("messages", "sent", "unheld", "good", "readings")


@dataclass(slots=True, eq=False)
class Figures:
    """What a run came to."""

    histograms: dict[str, Histogram] = field(default_factory=lambda: {name: Histogram() for name in MEASURES})
    over_time: dict[str, Ints] = field(default_factory=dict)  # per second of the run
    put_off: int = 0  # low balances for which autopay makes no order now
    waits: dict[str, int] = field(default_factory=dict)  # what was expected and never seen, by measure


def figures(sent: Sent, answered: Answered | None) -> Figures:
    """Every latency from when its message was due; without a daemon to be watched what the wire says."""
    found = Figures(over_time=dict(sent.over_time))
    found.histograms |= sent.histograms
    if answered is not None:
        found.histograms |= {
            "reading_to_balance": answered.balance,
            "reading_to_order": answered.order,
            "reading_to_notice": answered.notice,
        }
        found.over_time["balance"] = answered.over_time
        found.put_off = answered.put_off
        past = sent.counts.get("past", 0)  # no balance shows what is older than its register
        found.waits = {"reading_to_balance": sent.good - past - answered.good}
        found.waits |= {f"reading_to_{name}": count for name, count in answered.orders_without.items()}
    return found


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
