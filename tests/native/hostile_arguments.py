"""Values that callers pass by mistake or out of malice, in place of a good one."""

from __future__ import annotations

import mmap
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[Any]

HUGE = 2**40  # rows or columns that no memory holds

INTEGERS = [-(2**63) - 1, -(2**63), -(2**31) - 1, -1, 0, 1, 2, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**40]
REALS = [0.0, -0.0, 0.5, 1e-320, -1.0, 1e300, float("nan"), float("inf"), -float("inf")]
NUMPY_NUMBERS = [
    np.int8(3),
    np.int64(-(2**63)),
    np.int64(2**63 - 1),
    np.uint64(2**64 - 1),
    np.float16(0.5),
    np.float32("nan"),
    np.longdouble("1e4000"),
    np.complex64(1j),
    np.bool_(True),
    np.datetime64("2020-01-01"),
    np.array(3),
    np.array([1]),
    np.array([1.0, 2.0]),
]
TUPLES = [(), (0, 1), (1, 0), (0, 2**63), (0.0, 1.0), (None, 1)]
TEXTS = ["", "1", "dot", "cosine", b"1"]
OBJECTS = [None, True, False, [], {}, 1j, object(), Decimal(1), Fraction(1, 2), range(3), np.float32]
SCALARS = (
    st.sampled_from([*INTEGERS, *REALS, *NUMPY_NUMBERS, *TUPLES, *TEXTS, *OBJECTS])
    | st.integers()
    | st.floats()
    | st.text()
)


class Plain(np.ndarray[Any, Any]):
    """A subclass that adds nothing."""


def _spread(x: Array, step: int) -> Array:
    """Return the same values, elements ``step`` apart: strided for 2 and -1."""
    frame = np.zeros((*x.shape[:-1], x.shape[-1] * abs(step)), x.dtype)
    frame[..., ::step] = x
    return frame[..., ::step]


def _gapped(x: Array) -> Array:
    frame = np.zeros((x.shape[0], *(size + 3 for size in x.shape[1:])), x.dtype)
    inner = frame[(slice(None), *(slice(1, 1 + size) for size in x.shape[1:]))]
    inner[...] = x
    return inner


def _unaligned(x: Array) -> Array:
    shifted = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    shifted[...] = x
    return shifted


def _frozen(x: Array) -> Array:
    copy = x.copy()
    copy.flags.writeable = False
    return copy


def _mapped(x: Array) -> Array:
    memory = mmap.mmap(-1, max(x.nbytes, 1), prot=mmap.PROT_READ)
    return np.frombuffer(memory, x.dtype, x.size).reshape(x.shape)


# The same values in other clothes
LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "copy": lambda x: x.copy(),
    "fortran": np.asfortranarray,
    "every second": lambda x: _spread(x, 2),
    "backwards": lambda x: _spread(x, -1),
    "rows backwards": lambda x: x[::-1].copy()[::-1],
    "gaps": _gapped,
    "unaligned": _unaligned,
    "read-only": _frozen,
    "masked": lambda x: np.ma.MaskedArray(x.copy(), mask=np.zeros(x.shape, bool)),
    "subclass": lambda x: x.copy().view(Plain),
    "recarray": lambda x: x.copy().view(np.recarray),
}


def _cast(x: Array, dtype: str) -> Array:
    with np.errstate(all="ignore"):
        return x.astype(dtype)


def _limits(x: Array) -> Any:  # noqa: ANN401 - of floats or of integers
    return np.finfo(x.dtype) if x.dtype.kind == "f" else np.iinfo(x.dtype if x.dtype.kind != "b" else np.int8)


# Other values, types and shapes
DISTORTIONS: dict[str, Callable[[Array], Any]] = {
    **{
        f"as {code}": lambda x, code=code: _cast(x, code)
        for code in ("f2", "f4", "f8", "i1", "i8", "u4", "u8", "?", "O")
    },
    "complex": lambda x: _cast(x, "c8"),
    "times": lambda x: x.astype("i8").view("M8[us]"),
    "other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "fields": lambda x: x.astype([("value", x.dtype)]),
    "list": lambda x: x.tolist(),
    "memoryview": lambda x: memoryview(x.copy()),
    "shorter": lambda x: x[:-1].copy(),
    "longer": lambda x: np.concatenate([x, x]),
    "narrower": lambda x: x[..., :-1].copy(),
    "one axis more": lambda x: x[None].copy(),
    "one axis less": lambda x: x[0].copy(),
    "no axes": lambda x: np.array(1, x.dtype),
    "no rows": lambda x: x[:0].copy(),
    "no columns": lambda x: x[..., :0].copy(),
    "read-only zeros": _mapped,
    "one row, again and again": lambda x: np.broadcast_to(x[:1], x.shape),
    "overlapping rows": lambda x: as_strided(x.copy(), (x.size // 2 + 1, *x.shape[1:2]), (x.itemsize,) * x.ndim)[:2],
    "huge": lambda x: np.broadcast_to(x[:1], (HUGE, *x.shape[1:])),
    "wide": lambda x: np.broadcast_to(x[..., :1], (*x.shape[:-1], HUGE)),
    "masked, and out of range": lambda x: np.ma.MaskedArray(
        np.full_like(x, -1 if x.dtype.kind == "i" else 7), mask=True
    ),
    "zeros": np.zeros_like,
    "NaN": lambda x: np.full_like(x, np.nan) if x.dtype.kind == "f" else x.copy(),
    "infinite": lambda x: np.full_like(x, -np.inf) if x.dtype.kind == "f" else x.copy(),
    "largest": lambda x: np.full_like(x, _limits(x).max),
    "smallest": lambda x: np.full_like(x, np.finfo(x.dtype).tiny if x.dtype.kind == "f" else _limits(x).min),
}


def layouts(x: Array) -> st.SearchStrategy[tuple[str, Array]]:
    """Return the array in another layout, and what it is called."""
    return st.sampled_from(sorted(LAYOUTS)).map(lambda name: (name, LAYOUTS[name](x)))


def distortions(x: Array) -> st.SearchStrategy[tuple[str, Any]]:
    """Return what may be passed for an array by mistake, and what it is called."""
    arrays = st.sampled_from(sorted(DISTORTIONS)).map(lambda name: (name, DISTORTIONS[name](x)))
    return arrays | SCALARS.map(lambda value: ("a scalar", value))
