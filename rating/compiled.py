"""Pure: how our loops are compiled, and the bundles of arrays that they pass around.

`_nrt=False` switches off numba's reference counting: our compiled functions allocate nothing, and counting the
references of the arrays in every inner call took two thirds of the kernel's time (measured 2026-11, numba 0.68).
`cache=True` keeps machine code beside the module, so only the first start of an installation compiles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from numba import njit

_options: Final[dict[str, Any]] = {"nogil": True, "cache": True, "error_model": "numpy", "_nrt": False}
jit: Final[Callable[[Any], Any]] = njit(**_options)
inlined: Final[Callable[[Any], Any]] = njit(inline="always", **_options)


class Homes(NamedTuple):
    """A partition's state inside compiled code: rating.state arrays and their uint8 dirty marks."""

    channel: Any
    cold: Any
    ladder: Any
    dirty_channel: Any
    dirty_ladder: Any


class Lines(NamedTuple):
    """A book inside compiled code (rating.book): segments with their prices, stages with their bounds."""

    seg_start: Any
    seg_day: Any
    seg_cycle: Any
    seg_price: Any
    stage_start: Any
    stage_end: Any
    stage_cycle: Any
    stage_bounds: Any
    bounds: Any
