"""Pure: every reason why a message or a reading is not simply accepted, and what happens to it.

One table for the code, the docs (docs/bad-input.md is printed from it) and the tests. A *class* is one of the
25 of the domain's list of bad input; a *place* is where an event of it ends:

- `reject`    the whole message becomes a REJECT record in the log (bytes verbatim), rating makes it one
              exceptions-queue row; the sequence number counts as held, unless nobody knows who sent it
              (spoof, auth) or the number itself is no good (sequence_leap)
- `exception` one reading of a good message becomes an exceptions-queue row; the others go on
- `counted`   a counter and nothing else: it is normal and changes nothing
- `listed`    counted, and listed by channel and day for the later re-rating from the archive
- `applied`   it changes the register as a correction and is counted
- `signal`    not a message: the daemon noticed something (a gap) and acted
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Reason codes, as in counters, the exceptions queue, and `exceptions list --reason`."""

    # judged by ingest, on the message
    MALFORMED = "malformed"
    ENCODING = "encoding"
    NONFINITE = "nonfinite"
    DUPLICATE_KEY = "duplicate_key"
    WRONG_TYPE = "wrong_type"
    NUMBER_FORM = "number_form"
    NUMBER_SIZE = "number_size"
    NESTING = "nesting"
    OVERSIZED = "oversized"
    BAD_ID = "bad_id"
    RESOLUTION = "resolution"
    TIME_RANGE = "time_range"
    OVERFLOW = "overflow"
    UNIT = "unit"
    KIND = "kind"
    INTERVAL_SIZE = "interval_size"
    SUM_CHECK = "sum_check"
    UNKNOWN_FORMAT = "unknown_format"
    SPOOF = "spoof"
    AUTH = "auth"
    REPLAY = "replay"
    SEQUENCE_GAP = "sequence_gap"
    SEQUENCE_LOST = "sequence_lost"
    SEQUENCE_LEAP = "sequence_leap"
    # judged by rating, on the reading
    NEGATIVE = "negative"
    RESET = "reset"
    IMPLAUSIBLE = "implausible"
    UNCONFIRMED_JUMP = "unconfirmed_jump"
    FUTURE = "future"
    FROZEN = "frozen"
    UNKNOWN_METER = "unknown_meter"
    UNKNOWN_REGISTER = "unknown_register"
    NOT_INSTALLED = "not_installed"
    CONFLICT = "conflict"
    DUPLICATE = "duplicate"
    LATE = "late"
    REPLACED = "replaced"
    # found when a registry version or another inbox row was applied
    BACKDATED = "backdated"
    COMMAND = "command"


class Place(StrEnum):
    """Where an event of a class ends (see the module's head)."""

    REJECT = "reject"
    EXCEPTION = "exception"
    COUNTED = "counted"
    LISTED = "listed"
    APPLIED = "applied"
    SIGNAL = "signal"


@dataclass(frozen=True, slots=True)
class BadInput:
    """One of the 25 classes: its reasons, where it lands, and what the operator is told."""

    number: int
    name: str
    reasons: tuple[Reason, ...]
    place: Place
    what_happens: str


R = Reason
BAD_INPUTS: Final[tuple[BadInput, ...]] = (
    BadInput(1, "malformed: empty or truncated", (R.MALFORMED,), Place.REJECT, "the message is set aside whole"),
    BadInput(2, "encoding: invalid UTF-8, UTF-16 or BOM", (R.ENCODING,), Place.REJECT, "only plain UTF-8 is read"),
    BadInput(3, "nonfinite: NaN, Infinity, 1e999", (R.NONFINITE,), Place.REJECT, "no such number is energy"),
    BadInput(4, "duplicate key", (R.DUPLICATE_KEY,), Place.REJECT, "neither of the two values is believed"),
    BadInput(5, "a bool where a number belongs", (R.WRONG_TYPE,), Place.REJECT, "true is not 1"),
    BadInput(6, "full-width digits, 1_000, padded strings", (R.NUMBER_FORM,), Place.REJECT, "plain decimals only"),
    BadInput(
        7,
        "a number of thousands of digits",
        (R.NUMBER_SIZE,),
        Place.REJECT,
        "refused by length, before parsing",
    ),
    BadInput(8, "nesting of 100,000", (R.NESTING,), Place.REJECT, "refused by depth, before parsing"),
    BadInput(9, "oversized", (R.OVERSIZED,), Place.REJECT, "the first 64 KiB and the digest of the whole are kept"),
    BadInput(10, "ids with NUL, lone surrogates, homoglyphs", (R.BAD_ID,), Place.REJECT, "ids are printable ASCII"),
    BadInput(
        11,
        "negative or decreasing register",
        (R.NEGATIVE, R.RESET),
        Place.EXCEPTION,
        "0 Wh; the last good register stays",
    ),
    BadInput(
        12,
        "implausible",
        (R.IMPLAUSIBLE, R.UNCONFIRMED_JUMP),
        Place.EXCEPTION,
        "0 Wh; a jump waits for the next reading to confirm it",
    ),
    BadInput(13, "overflow (int64 wraps in silence)", (R.OVERFLOW,), Place.REJECT, "refused where values enter"),
    BadInput(14, "finer than the register's resolution", (R.RESOLUTION,), Place.EXCEPTION, "never rounded"),
    BadInput(15, "future by more than 5 minutes", (R.FUTURE,), Place.EXCEPTION, "against received_at"),
    BadInput(
        16,
        "time out of range, naive, year 0",
        (R.TIME_RANGE,),
        Place.REJECT,
        "UTC seconds of this century or ISO 8601 with offset",
    ),
    BadInput(
        17,
        "closed period",
        (R.LATE,),
        Place.LISTED,
        "archived, counted and listed; the register total is right already",
    ),
    BadInput(18, "exact duplicate", (R.DUPLICATE,), Place.COUNTED, "no row"),
    BadInput(19, "same time, other value, equal quality", (R.CONFLICT,), Place.EXCEPTION, "the first stands"),
    BadInput(
        20,
        "a higher quality replaces",
        (R.REPLACED,),
        Place.APPLIED,
        "the difference is charged at that interval's price",
    ),
    BadInput(
        21,
        "sequence gap",
        (R.SEQUENCE_GAP, R.SEQUENCE_LOST),
        Place.SIGNAL,
        "resend is asked; after N times the gap is an exception",
    ),
    BadInput(
        22,
        "unknown meter",
        (R.UNKNOWN_METER, R.UNKNOWN_REGISTER, R.NOT_INSTALLED),
        Place.EXCEPTION,
        "0 Wh; released once the registry knows it",
    ),
    BadInput(
        23,
        "topic, payload and certificate disagree",
        (R.SPOOF,),
        Place.REJECT,
        "nothing of the message is believed, its number neither",
    ),
    BadInput(
        24,
        "bad signature",
        (R.AUTH,),
        Place.REJECT,
        "nothing of the message is believed, its number neither",
    ),
    BadInput(
        25,
        "replayed counter",
        (R.REPLAY,),
        Place.REJECT,
        "an old boot count or an old message under a new number",
    ),
)

PLACE_TEXT: Final[dict[Place, str]] = {
    Place.REJECT: "the whole message is a reject in the log, bytes verbatim, and one row of the exceptions queue",
    Place.EXCEPTION: "that one reading becomes a row of the exceptions queue; the others of its message go on",
    Place.COUNTED: "a counter and nothing else: it is normal and changes nothing",
    Place.LISTED: "counted, and listed by channel and day for the re-rating from the archive",
    Place.APPLIED: "it changes the register as a correction and is counted",
    Place.SIGNAL: "not a message: the daemon noticed something and acted, or asks a person to",
}
_PLACES: Final[dict[Reason, Place]] = {reason: bad.place for bad in BAD_INPUTS for reason in bad.reasons} | {
    R.UNIT: Place.REJECT,  # a record has no column for units: only the decoder sees one
    R.KIND: Place.REJECT,
    R.INTERVAL_SIZE: Place.REJECT,
    R.SUM_CHECK: Place.REJECT,
    R.UNKNOWN_FORMAT: Place.REJECT,
    R.SEQUENCE_LEAP: Place.REJECT,  # nothing is missing in between, and its number is not noted
    R.FROZEN: Place.EXCEPTION,
    R.BACKDATED: Place.SIGNAL,
    R.COMMAND: Place.SIGNAL,
}


OTHER_TEXT: Final[dict[Reason, str]] = {
    R.UNIT: "a reading in a unit that its register does not have is not converted",
    R.KIND: "neither a register nor an interval with a register read at an end of its chain: not read",
    R.INTERVAL_SIZE: "an interval without a period of 1 s to 25 h, or two of one register that overlap",
    R.SUM_CHECK: "two register reads and the intervals between them disagree: neither is believed",
    R.UNKNOWN_FORMAT: "no codec has that name",
    R.SEQUENCE_LEAP: "a number far beyond what its stream sent: it is not noted, and nothing is missed in between",
    R.FROZEN: "the reading is accepted; the register has not moved for too long",
    R.BACKDATED: "a registry version dated a change behind the last accepted reading: what was charged between stays"
    " where it is, the span that follows goes on from that reading, and a correction is due",
    R.COMMAND: "an inbox row (credit, re-baseline, release, registry) that changed nothing; its outcome says why",
}


RELEASE_TEXT: Final = """\
A row of the queue is *open* until a person releases or discards it. `exceptions release ID` has it judged again,
now, by the same rules; a message is read again from its bytes, under today's limits, keys and registry.

| What it is | Released when |
|---|---|
| one reading | its verdict is good now: the registry knows it, its time has come, the register was re-baselined |
| a message that could not be read | it can be now: a newer version, a raised limit, or `--as FORMAT` |
| spoof, replay | a person believes it: `--trust --why TEXT`; `--source C` when it is another concentrator's |
| bad signature | its signature is right under the key that is known now; or `--trust --why TEXT` |
| oversized, only a part kept | never: the rest is gone |
| a gap declared lost | never: there are no bytes; if it comes after all, it is taken by itself |

A reading stands when it moved the register, or when the register stood there already. If any is refused again, the
row stays open and says how many and why; asked again, only those are judged again. The oldest comes
first: once a register has gone on, an older reading is late. That loses detail, not energy, and such a row can be
discarded. `exceptions release 4 5 6` and `exceptions release --reason unknown_meter` (also `--source`, `--meter`,
`--before`, `--limit`) keep to that order by themselves: by the reading's own time, a message's by when it came.
"""


def place_of(reason: Reason) -> Place:
    """Where an event of `reason` ends."""
    return _PLACES[reason]


def table_markdown() -> str:
    """The text of docs/bad-input.md; `meterd docs bad-input` prints it, and a test compares the two."""
    classed = {reason for bad in BAD_INPUTS for reason in bad.reasons}
    lines = [
        "# Bad input",
        "",
        "Bad input is data: it never stops the stream and is never dropped in silence. Each of the 25 classes lands",
        "in one place, once per distinct event, with reason, bytes and source where there is a row, and a counter.",
        "This page is printed by `meterd docs bad-input` from `config/reasons.py`; a test compares the two.",
        "",
        "| # | Class | Reasons | Place | What happens |",
        "|--:|---|---|---|---|",
    ]
    for bad in BAD_INPUTS:
        codes = ", ".join(f"`{reason.value}`" for reason in bad.reasons)
        lines.append(f"| {bad.number} | {bad.name} | {codes} | {bad.place.value} | {bad.what_happens} |")
    lines += ["", "## Places", "", "| Place | Meaning |", "|---|---|"]
    lines += [f"| {place.value} | {text} |" for place, text in PLACE_TEXT.items()]
    lines += ["", "## Reasons outside the classes", "", "| Reason | Place | What happens |", "|---|---|---|"]
    others = [reason for reason in Reason if reason not in classed]
    lines += [f"| `{reason.value}` | {place_of(reason).value} | {OTHER_TEXT[reason]} |" for reason in others]
    lines += ["", "## Release", "", RELEASE_TEXT.rstrip()]
    return "\n".join(lines) + "\n"
