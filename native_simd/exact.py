"""Similarities of single pairs in float64: the same bits on every instruction set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from native_simd.arguments import require_code, require_threads
from native_simd.arrays import check_status, first_row, require_contiguous, require_vectors, row_stride
from native_simd.isa import ffi, lib

if TYPE_CHECKING:
    from numpy.typing import NDArray

_METRICS: dict[str, int] = {"dot": lib.NS_DOT, "sqeuclidean": lib.NS_SQEUCLIDEAN}


def pair_similarities(
    vectors: NDArray[np.float32],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    metric: Literal["dot", "sqeuclidean"],
    *,
    divisors: NDArray[np.float64] | None = None,
    threads: int = 1,
) -> NDArray[np.float64]:
    """Return the similarity of rows ``first[t]`` and ``second[t]``, in float64.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
    first, second : ndarray of int64, shape (m,)
        Rows; the same to the bit whichever comes first.
    metric : {"dot", "sqeuclidean"}
        The inner product, or the negated squared distance.
    divisors : ndarray of float64, shape (n,), optional
        What rows are divided by, in float64 (their norms, for directions).
    threads : int
        At least 1.
    """
    x = require_vectors(vectors, "vectors")
    code = require_code(metric, _METRICS, "metric")
    for name, rows in (("first", first), ("second", second)):
        plain = require_contiguous(rows, np.int64, name)
        if len(plain) != len(first) or (len(plain) and not (plain.min() >= 0 and plain.max() < len(x))):
            raise ValueError(f"{name} must hold as many rows as first, each from 0 to {len(x) - 1}")
    if divisors is not None:
        require_contiguous(divisors, np.float64, "divisors")
        if len(divisors) != len(x):
            raise ValueError(f"divisors must hold one number for each of {len(x)} rows, got {len(divisors)}")
    out = np.empty(len(first))
    check_status(
        lib.ns_pair_similarities(
            code,
            first_row(x),
            x.shape[1],
            row_stride(x),
            ffi.NULL if divisors is None else ffi.from_buffer("double[]", divisors),
            ffi.from_buffer("int64_t[]", first),
            ffi.from_buffer("int64_t[]", second),
            len(first),
            ffi.from_buffer("double[]", out),
            require_threads(threads),
        )
    )
    return out
