"""What every call checks of its numbers and names; an error names the argument.

Arrays are the business of :mod:`native_simd.arrays`. A bool is an integer here, as it is in Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

_INTEGERS = (int, np.integer)
_MOST_THREADS = 2**31 - 1  # int32_t in C


def require_integer(value: object, name: str, *, least: int | None = None) -> int:
    """Return a Python or NumPy integer as Python's, which does not wrap."""
    if not isinstance(value, _INTEGERS):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if least is not None and value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


def require_real(value: object, name: str) -> float:
    """Return a Python or NumPy real number as float64."""
    if not isinstance(value, (float, int, np.floating, np.integer)):
        raise TypeError(f"{name} must be a real number, got {value!r}")
    try:
        return float(value)
    except OverflowError as too_large:
        raise ValueError(f"{name} must fit into float64") from too_large


def require_flag(value: object, name: str) -> bool:
    """Return True or False, of Python or of NumPy."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def require_code(value: object, codes: Mapping[str, int], name: str) -> int:
    """Return the library's number of a name."""
    if not isinstance(value, str) or value not in codes:
        raise ValueError(f"{name} must be one of {', '.join(codes)}, got {value!r}")
    return codes[value]


def require_pair(value: object, name: str) -> tuple[Any, Any]:
    """Return the two items of a tuple."""
    if not isinstance(value, tuple) or len(value) != 2:
        raise TypeError(f"{name} must be a pair (first, stop), got {value!r}")
    return value


def require_threads(threads: object) -> int:
    """Return a number of threads."""
    if not isinstance(threads, _INTEGERS) or not 1 <= threads <= _MOST_THREADS:
        raise ValueError(f"threads must be a positive integer below 2**31, got {threads!r}")
    return int(threads)
