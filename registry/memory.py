"""I/O: gives memory back to the system: what is free, and what is mapped and not looked at any more.

Arrow's pool and the C library both keep what was freed; the next phase of an import asks for other sizes and would
stand beside the holes of the one before (measured at 6 million meters: 0.7 GB of holes). A version's arrays are
mapped, and stay resident once they were read, although their files can bring them again at any time.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def release() -> None:
    """Both pools; where the C library is not glibc, only Arrow's."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def unload(array: npt.NDArray[Any]) -> None:
    """Whole pages of a mapped array leave the process's memory; the next look reads them again from the file.

    Nothing happens to an array that is not mapped. What was written into a mapped one is forgotten: nobody does.
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, mmap.mmap) or not array.nbytes or not array.flags.c_contiguous:
        return
    begins = np.frombuffer(base, np.uint8).ctypes.data
    first = -(-(array.ctypes.data - begins) // mmap.PAGESIZE) * mmap.PAGESIZE
    past = (array.ctypes.data - begins + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if past > first:
        base.madvise(mmap.MADV_DONTNEED, first, past - first)
