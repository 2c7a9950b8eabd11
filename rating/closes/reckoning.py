"""Pure: the charges of a version in their order, each on what those before it came to; many accounts at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from rating.closes import credit, export, levy, minimum, percent, standing
from rating.closes.stretch import Share
from rating.tariff.charges import ENERGY, Charge

Int64s = npt.NDArray[np.int64]


class Reckoned(NamedTuple):
    """What one charge comes to for each account. `quantity`: days, thousandths of the unit, or 1e-11 of the base."""

    charge: Charge
    quantity: Int64s
    amount_e11: Int64s


Close = Callable[[Charge, int, Share, Int64s], tuple[Int64s, Int64s]]  # (charge, place, share, base) -> the two
_CLOSES: Final[Mapping[str, Close]] = {
    "standing": standing.close,
    "levy": levy.close,
    "credit": credit.close,
    "percent": percent.close,
    "minimum": minimum.close,
    "export": export.close,
}


def reckon(charges: Sequence[Charge], share: Share) -> list[Reckoned]:
    """Every charge of a version; one that is contained in its base adds nothing to what comes after it."""
    sums = {ENERGY: share.energy_e11}
    found: list[Reckoned] = []
    for place, charge in enumerate(charges):
        base = np.zeros(len(share.energy_e11), np.int64)
        for name in charge.base or ():
            base = base + sums[name]
        quantity, amount_e11 = _CLOSES[charge.kind](charge, place, share, base)
        if not charge.included:
            sums[charge.name] = amount_e11
        found.append(Reckoned(charge, quantity, amount_e11))
    return found
