"""I/O (reads a registry directory): the concentrator of every account's meter, in arrays: a city has millions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from simulators.load.population import Population, csv_table


@dataclass(frozen=True, slots=True, eq=False)
class Accounts:
    """`names`: pyarrow strings, sorted by their bytes; `concentrator`: number of each one's."""

    names: Any
    concentrator: npt.NDArray[np.int64]

    def concentrator_of(self, account: str) -> int:
        """-1: no meter of ours. Of an account that is there twice, the last row counts."""
        wanted, low, high = account.encode(), 0, len(self.names)
        while low < high:
            middle = (low + high) // 2
            if self.names[middle].as_py().encode() <= wanted:
                low = middle + 1
            else:
                high = middle
        if not low or self.names[low - 1].as_py() != account:
            return -1
        return int(self.concentrator[low - 1])


def accounts_of(registry: Path, town: Population) -> Accounts:
    """Of those that have a meter now."""
    meters, accounts = (csv_table(registry / f"{name}.csv") for name in ("meters", "accounts"))
    place = pc.index_in(accounts["metering_point"], value_set=meters["metering_point"].combine_chunks())
    has = pc.is_valid(place)
    concentrator = meters["concentrator"].take(place.filter(has))
    number = pc.index_in(concentrator, value_set=pa.array(town.concentrators, pa.string()))
    table = pa.table(
        {"account": accounts["account"].filter(has), "number": number, "row": np.arange(len(number))}
    ).sort_by([("account", "ascending"), ("row", "ascending")])
    return Accounts(table["account"].combine_chunks(), table["number"].to_numpy().astype(np.int64))
