"""Arithmetic that takes numbers close to zero for zero, for as long as a library computes.

The softmax of masked positions gives numbers below the smallest normal one (denormals), with which
the processors of some makers compute many times slower; nothing depends on them. What a processor
does with them is a setting of each thread, and other code of this thread may rely on them, so it
is changed for one call and set back.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_FLUSH: Final = 0x8000 | 0x0040
"""Bits of MXCSR: results (FTZ) and operands (DAZ) that are denormal count as zero."""


class _Environment(ctypes.Structure):
    """fenv_t of the C libraries for x86-64 on Linux: that of the x87, then MXCSR."""

    _fields_ = (('x87', ctypes.c_uint32 * 7), ('mxcsr', ctypes.c_uint32))


def _library() -> Any:
    """Return the C library's mathematics where its fenv_t is known, None elsewhere."""
    if sys.platform != 'linux' or platform.machine() != 'x86_64':
        return None
    try:
        library = ctypes.CDLL('libm.so.6')
    except OSError:
        return None
    return library if hasattr(library, 'fegetenv') and hasattr(library, 'fesetenv') else None


_LIBRARY: Final = _library()


def known() -> bool:
    """Return whether it is known here how to set a thread, and how to set it back."""
    return _LIBRARY is not None


@contextmanager
def flushed() -> Iterator[None]:
    """Let this thread take denormal numbers for zero meanwhile, where that is known how to do.

    Whatever is changed of the floating-point environment within is set back at the end.
    """
    if _LIBRARY is None:
        yield
        return
    before = _Environment()
    _LIBRARY.fegetenv(ctypes.byref(before))
    flushing = _Environment.from_buffer_copy(before)
    flushing.mxcsr |= _FLUSH
    _LIBRARY.fesetenv(ctypes.byref(flushing))
    try:
        yield
    finally:
        _LIBRARY.fesetenv(ctypes.byref(before))
