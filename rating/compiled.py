"""Pure: how our loops are compiled, and the bundles of arrays that they pass around.

`_nrt=False` switches off numba's reference counting: our compiled functions allocate nothing, and counting the
references of the arrays in every inner call took two thirds of the kernel's time (measured 2026-11, numba 0.68).
`cache=True` keeps machine code beside the module, so only the first start of an installation compiles; it is known by
all the sources that are in it (config.machine_code).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numba
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from config.machine_code import LOCATORS

_settings: Any = numba.config
_settings.CACHE_LOCATOR_CLASSES = LOCATORS  # before anything is compiled
_options: Final[dict[str, Any]] = {"nogil": True, "cache": True, "error_model": "numpy", "_nrt": False}
jit: Final[Callable[[Any], Any]] = njit(**_options)
holding: Final[Callable[[Any], Any]] = njit(
    **_options | {"nogil": False}
)  # keeps Python's lock: for loops of moments
inlined: Final[Callable[[Any], Any]] = njit(inline="always", **_options)


class Homes(NamedTuple):
    """A partition's state inside compiled code: rating.state arrays and their uint8 dirty marks."""

    channel: Any
    cold: Any
    ladder: Any
    dirty_channel: Any
    dirty_ladder: Any
    sheet_of: Any  # int32[ladders]: the sheet of a ladder whose channels are under TALLY (rating.sheets)
    sheet: Any
    cell: Any
    dirty_cell: Any


class Batch(NamedTuple):
    """Readings in columns, in the order of arrival; runs are the records that they came in."""

    slots: Any  # int32[n]: first span of the register; -1 unknown meter, -2 unknown register
    value: Any  # int64[n]
    read_at_s: Any  # uint32[n]
    quality: Any  # uint8[n]
    run_end: Any  # int64[runs]: where each run ends; rising, the last one is n
    run_limit_s: Any  # int64[runs]: what is read after it (received_at + tolerance) is of the future


class Lines(NamedTuple):
    """A book inside compiled code (rating.book): segments with their prices, stages with their bounds."""

    seg_start: Any
    seg_day: Any
    seg_cycle: Any
    seg_price: Any
    seg_cell: Any  # int32: the cell of a sheet's cycle where its energy is tallied (rating.bins)
    seg_fed_in: Any  # int32: the same for energy that is fed in
    stage_start: Any
    stage_end: Any
    stage_cycle: Any
    stage_bounds: Any
    bounds: Any
    seg_plain: Any  # book.SEGMENT_PLAIN and STAGE_PLAIN: what the plain reading asks, side by side
    stage_plain: Any


def _prefetch(_context: Any, rows: Any, _index: Any) -> Any:
    """Ask the processor for rows[index] (to be written) and go on; `rows` is one array of records, index in range."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        stride = builder.extract_value(array.strides, 0)
        base = builder.ptrtoint(array.data, stride.type)
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        place = builder.inttoptr(builder.add(base, builder.mul(arguments[1], stride)), pointer)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")  # type: ignore[no-untyped-call]
        builder.call(call, [place, number(1), number(3), number(1)])  # for writing, into every cache, data
        return context.get_dummy_value()

    return types.void(rows, types.intp), generate


prefetch: Final[Any] = intrinsic(_prefetch)
