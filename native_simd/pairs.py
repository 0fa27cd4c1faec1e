"""Similarities of all pairs: a rectangle, or a triangle and its mirror."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from native_simd.arguments import require_code, require_integer, require_pair, require_threads
from native_simd.arrays import check_status, first_row, require_apart, require_output, require_vectors, row_stride
from native_simd.epilogue import require_epilogue, sigmoid_pointer, symmetric_temporal_pointer, temporal_pointer
from native_simd.isa import active_code, ffi, lib
from native_simd.packing import PackedVectors, pack, require_packed, require_unit_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from native_simd.epilogue import Sigmoid, Temporal

    Float32Array = NDArray[np.float32]

TILE_ROWS: int = int(lib.NS_TILE_ROWS)

Metric = Literal["dot", "cosine", "sqeuclidean", "euclidean"]

_METRICS: dict[str, int] = {name: code for code, name in enumerate(get_args(Metric))}


def pairwise(
    a: PackedVectors,
    b: PackedVectors,
    *,
    metric: Metric = "cosine",
    temporal: Temporal | None = None,
    sigmoid: Sigmoid | None = None,
    out: Float32Array,
    mirror: Float32Array | None = None,
    threads: int = 1,
) -> None:
    """Write the similarities of each vector of ``a`` with each of ``b``.

    Larger is closer: "sqeuclidean" and "euclidean" are negated distances. Each value is one chain of correctly rounded
    float32 operations over the dimensions, so it depends on the two vectors, and their times, alone.

    Parameters
    ----------
    a, b : PackedVectors
        Packed with ``unit=True`` for metric "cosine".
    temporal : Temporal, optional
        Cosines fade with the time between two vectors.
    sigmoid : Sigmoid, optional
        Applied last.
    out : ndarray of float32, shape (a.n, b.n)
        Rows must be contiguous; they may be part of a larger matrix.
    mirror : ndarray of float32, shape (b.n, a.n), optional
        Receives the transpose.

    Raises
    ------
    TypeError, ValueError
        An argument does not fit, or ``out`` or ``mirror`` overlaps another array; then nothing is written.

    Notes
    -----
    A temporal cosine is off by at most ``2e-7 * exact + 2**-99``, a sigmoid by ``2.5e-7 * exact + 2**-127``, each
    from exact arithmetic on the float32 value that it is given.
    """
    require_packed(a, "a"), require_packed(b, "b")
    if a.d != b.d:
        raise ValueError(f"a has {a.d} dimensions and b has {b.d}")
    require_unit(metric, a, b)
    require_epilogue(metric, temporal, sigmoid)
    out = require_output(out, (a.n, b.n), "out")
    reverse = None if mirror is None else require_output(mirror, (b.n, a.n), "mirror")
    inputs = _inputs(temporal, a=a, b=b)
    require_apart(out, "out", {"mirror": reverse, **inputs})
    if reverse is not None:
        require_apart(reverse, "mirror", inputs)
    check_status(
        lib.ns_pairwise(
            active_code(),
            metric_code(metric),
            ffi.from_buffer("float[]", a.panels),
            a.n,
            ffi.from_buffer("float[]", b.panels),
            b.n,
            a.d,
            temporal_pointer(temporal, (a.n, b.n)),
            sigmoid_pointer(sigmoid),
            first_row(out),
            row_stride(out),
            ffi.NULL if reverse is None else first_row(reverse),
            0 if reverse is None else row_stride(reverse),
            require_threads(threads),
        )
    )


def pairwise_symmetric(
    a: PackedVectors,
    *,
    metric: Metric = "cosine",
    temporal: Temporal | None = None,
    sigmoid: Sigmoid | None = None,
    out: Float32Array,
    tiles: tuple[int, int] | None = None,
    threads: int = 1,
) -> None:
    """Write the similarities of the vectors of ``a`` with each other, each pair computed once.

    Parameters
    ----------
    temporal, sigmoid : optional
        As in :func:`pairwise`; one array of times.
    out : ndarray of float32, shape (a.n, a.n)
        Both halves are written.
    tiles : (int, int), optional
        Compute only tiles ``first`` to ``stop`` (exclusive) of :func:`count_tiles`, to pass in slices.

    Raises
    ------
    TypeError, ValueError
        An argument does not fit, or ``out`` overlaps another array; then nothing is written.
    """
    require_packed(a, "a")
    require_unit(metric, a)
    require_epilogue(metric, temporal, sigmoid)
    out = require_output(out, (a.n, a.n), "out")
    require_apart(out, "out", _inputs(temporal, a=a))
    first, stop = require_tiles(tiles, a.n)
    check_status(
        lib.ns_pairwise_symmetric(
            active_code(),
            metric_code(metric),
            ffi.from_buffer("float[]", a.panels),
            a.n,
            a.d,
            symmetric_temporal_pointer(temporal, a.n),
            sigmoid_pointer(sigmoid),
            first,
            stop - first,
            first_row(out),
            row_stride(out),
            require_threads(threads),
        )
    )


def _inputs(temporal: Temporal | None, **packed: PackedVectors) -> dict[str, NDArray[Any] | None]:
    """Return the arrays that a pass reads, by what an error calls them."""
    inputs: dict[str, NDArray[Any] | None] = {f"the panels of {name}": each.panels for name, each in packed.items()}
    if temporal is not None:
        inputs |= {"times_a": temporal.times_a, "times_b": temporal.times_b}
    return inputs


def count_tiles(n: int) -> int:
    """Return the number of tiles of the upper triangle of an (n, n) matrix."""
    rows = -(-require_integer(n, "n", least=0) // TILE_ROWS)
    return rows * (rows + 1) // 2


def require_tiles(tiles: tuple[int, int] | None, n: int) -> tuple[int, int]:
    """Return a range of tiles of an (n, n) matrix, all of them for None."""
    if tiles is None:
        return 0, count_tiles(n)
    first, stop = (require_integer(tile, "tiles") for tile in require_pair(tiles, "tiles"))
    if not 0 <= first <= stop <= count_tiles(n):
        raise ValueError(f"tiles {first}:{stop} are outside 0:{count_tiles(n)}")
    return first, stop


def similarity(
    a: Float32Array,
    b: Float32Array,
    metric: Metric = "cosine",
    out: Float32Array | None = None,
    threads: int = 1,
    *,
    temporal: Temporal | None = None,
    sigmoid: Sigmoid | None = None,
) -> Float32Array:
    """Return the similarities of the rows of ``a`` with the rows of ``b``; larger is closer.

    Parameters
    ----------
    a, b : ndarray of float32, shapes (m, d) and (n, d)
    metric : {"cosine", "dot", "sqeuclidean", "euclidean"}
        The last two are negated distances.
    out : ndarray of float32, shape (m, n), optional
        Where to write the result.
    threads : int
        Threads to use, at least 1.
    temporal, sigmoid : optional
        As in :func:`pairwise`.

    Returns
    -------
    ndarray of float32, shape (m, n)

    Raises
    ------
    RowError
        A row is not finite or, under "cosine", zero.

    Notes
    -----
    Against exact arithmetic the error of a dot product is at most ``g(d) * sum(abs(a * b))``,
    ``g(d) = d u / (1 - d u)``, ``u = 2**-24`` (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed.,
    section 3.1).
    """
    metric_code(metric)
    unit = metric == "cosine"
    rows_a, rows_b = require_vectors(a, "a"), require_vectors(b, "b")
    packed_a, packed_b = pack(rows_a, unit=unit, threads=threads), pack(rows_b, unit=unit, threads=threads)
    result = np.empty((packed_a.n, packed_b.n), np.float32) if out is None else out
    pairwise(packed_a, packed_b, metric=metric, temporal=temporal, sigmoid=sigmoid, out=result, threads=threads)
    return result


def metric_code(metric: str) -> int:
    """Return the library's number of a metric."""
    return require_code(metric, _METRICS, "metric")


def require_unit(metric: str, *packed: PackedVectors) -> None:
    """Check that vectors are packed as the metric needs them."""
    metric_code(metric)
    if metric == "cosine":
        for p in packed:
            require_unit_vectors(p)
