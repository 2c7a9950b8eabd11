"""Pure: the files of a registry directory: their columns, and what each column holds (docs/registry.md tells it)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class FileLayout:
    """One CSV file. `few` are the columns with few distinct values: they are read dictionary-encoded."""

    name: str
    columns: tuple[str, ...]
    few: frozenset[str]
    required: bool = True

    @property
    def file(self) -> str:
        return f"{self.name}.csv"


def _file(name: str, columns: str, few: str = "", *, required: bool = True) -> FileLayout:
    return FileLayout(name, tuple(columns.split()), frozenset(few.split()), required)


PARTIES: Final = _file("parties", "party name language notify", "language")
POINTS: Final = _file("points", "metering_point commodity timezone", "commodity timezone")
ACCOUNTS: Final = _file("accounts", "account party metering_point from to", "from to")
METERS: Final = _file(
    "meters",
    "meter metering_point concentrator position from to digits multiplier power_max_w",
    "concentrator position from to digits multiplier power_max_w",
)
REGISTERS: Final = _file("registers", "meter register role resolution unit", "register role resolution unit")
CONCENTRATORS: Final = _file("concentrators", "concentrator shard", "shard")
TARIFFS: Final = _file("tariffs", "account tariff from to", "tariff from to")
ATTRIBUTES: Final = _file("attributes", "account name value from", "name value from", required=False)
CHANGEOUTS: Final = _file("changeouts", "metering_point at old_meter old_final new_meter new_initial", required=False)
MANDATES: Final = _file(
    "mandates",
    "mandate payer account gateway token priority trigger amount target cap_charge cap_day cap_month"
    " cap_day_count cooldown_s window_from window_to valid_from valid_to",
    "gateway priority trigger amount target cap_charge cap_day cap_month cap_day_count cooldown_s"
    " window_from window_to valid_from valid_to",
    required=False,
)
OPENING_REGISTERS: Final = _file(
    "opening_registers", "meter register value read_at quality", "register read_at quality"
)
OPENING_ACCOUNTS: Final = _file("opening_accounts", "account balance arrears cycle_energy", "arrears", required=False)

FILES: Final = (
    PARTIES,
    POINTS,
    CONCENTRATORS,
    METERS,
    REGISTERS,
    OPENING_REGISTERS,
    CHANGEOUTS,
    ACCOUNTS,
    TARIFFS,
    OPENING_ACCOUNTS,
    ATTRIBUTES,
    MANDATES,
)
COMMODITIES: Final = ("electricity", "water", "gas", "heat")
LANGUAGES: Final = ("zh", "en")
