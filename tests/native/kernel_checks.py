"""One kernel table against the scalar one, bit for bit, with every array against a guard page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from guarded_memory import guarded, guarded_copy
from kernel_library import CHAINS_AT_A_TIME, LANES, SKETCH_GROUP, TILE_ROWS, pack_pairs, pack_rows

if TYPE_CHECKING:
    from kernel_library import Kernels
    from numpy.typing import NDArray

SPECIAL = np.array([0.0, -0.0, 1e-45, -1e-45, 1e-38, -3e-39, 1e13, -1e13, 1.0, -1.0], np.float32)


def hostile_rows(rng: np.random.Generator, n: int, d: int) -> NDArray[np.float32]:
    """Return vectors over many magnitudes, with zeros of both signs and subnormal numbers."""
    rows = (rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-6, 6, (n, 1))).astype(np.float32)
    where = rng.random((n, d)) < 0.2
    rows[where] = rng.choice(SPECIAL, int(where.sum()))
    return rows


def assert_same_bits(got: NDArray[np.generic], expected: NDArray[np.generic]) -> None:
    np.testing.assert_array_equal(
        np.ascontiguousarray(got).view(np.uint32), np.ascontiguousarray(expected).view(np.uint32)
    )


def check_tiles(kernels: Kernels, scalar: Kernels, d: int, n_a_panels: int, n_b_panels: int) -> None:
    rng = np.random.default_rng([d, n_a_panels, n_b_panels])
    a, b = (guarded_copy(pack_rows(hostile_rows(rng, n * LANES, d))) for n in (n_a_panels, n_b_panels))
    for kernel in ("tile_dot", "tile_sqeuclidean"):
        assert_same_bits(kernels.tile(kernel, a, b, d), scalar.tile(kernel, a, b, d))


def check_transpose(kernels: Kernels, rows: int, columns: int, gap: int, at: str) -> None:
    rng = np.random.default_rng([rows, columns, gap])
    source = guarded((rows - 1) * TILE_ROWS + columns, at=at)
    source[:] = rng.standard_normal(source.size)
    values = np.lib.stride_tricks.as_strided(source, (rows, columns), (4 * TILE_ROWS, 4))
    assert_same_bits(kernels.transpose(values, rows, columns, rows + gap, at=at), values.T)


def check_row_scans(kernels: Kernels, scalar: Kernels, n: int, at: str) -> None:
    rng = np.random.default_rng(n)
    row = guarded_copy(rng.integers(-4, 5, n).astype(np.float32), at=at)
    bias = guarded_copy(np.where(rng.random(n) < 0.3, np.float32(-np.inf), np.float32(0)), at=at)
    row[rng.random(n) < 0.1] = -0.0
    row[rng.random(n) < 0.1] = -np.inf
    dead = np.isneginf(bias)
    row[dead & (rng.random(n) < 0.3)] = np.nan  # what is left in dead columns may be anything
    row[dead & (rng.random(n) < 0.3)] = np.inf
    assert_same_bits(np.array([kernels.row_max(row, bias)]), np.array([scalar.row_max(row, bias)]))
    for threshold in (-np.inf, -1.0, 0.0, -0.0, 4.0, np.inf, float(scalar.row_max(row, bias))):
        found = kernels.row_at_least(row, bias, threshold)
        assert found.tolist() == scalar.row_at_least(row, bias, threshold).tolist()


def check_vector_dot(kernels: Kernels, scalar: Kernels, d: int, n_panels: int) -> None:
    rng = np.random.default_rng([d, n_panels])
    vector = guarded_copy(hostile_rows(rng, 1, d)[0])
    panels = guarded_copy(pack_rows(hostile_rows(rng, n_panels * LANES, d)))
    assert_same_bits(kernels.vector_dot(vector, panels, d), scalar.vector_dot(vector, panels, d))


def check_vector_dot_of(kernels: Kernels, scalar: Kernels, d: int, n_panels: int) -> None:
    rng = np.random.default_rng([d, n_panels])
    vector = guarded_copy(hostile_rows(rng, 1, d)[0])
    panels = guarded_copy(pack_rows(hostile_rows(rng, n_panels * LANES, d)))
    which = guarded_copy(rng.integers(0, n_panels, n_panels))
    expected = scalar.vector_dot(vector, panels, d).reshape(n_panels, LANES)[which].reshape(-1)
    for some in (scalar, kernels):
        assert_same_bits(some.vector_dot_of(vector, panels, d, which), expected)


def check_quantized_dot(kernels: Kernels, scalar: Kernels, n_pairs: int, n_panels: int) -> None:
    """Against numpy's integers, with sums up to the largest."""
    rng = np.random.default_rng([n_pairs, n_panels])
    largest = min(46_340 / np.sqrt(2 * n_pairs), 32_767)
    rows = np.rint(rng.uniform(-largest, largest, (n_panels * LANES + 1, 2 * n_pairs))).astype(np.int16)
    rows[[0, 1]], rows[2] = int(largest), -int(largest)
    vector, panels = guarded_copy(rows[0]), guarded_copy(pack_pairs(rows[1:]))
    expected = rows[1:].astype(np.int64) @ rows[0].astype(np.int64)
    for some in (scalar, kernels):
        assert some.quantized_dot(vector, panels, n_pairs).tolist() == expected.tolist()


def check_bytes_dot(kernels: Kernels, scalar: Kernels, n_pairs: int, n_panels: int) -> None:
    """Against numpy's integers, with sums up to the largest."""
    rng = np.random.default_rng([n_pairs, n_panels])
    largest = int(min(46_340 / np.sqrt(2 * n_pairs), 32_767))
    vector = guarded_copy(rng.integers(-largest, largest + 1, 2 * n_pairs).astype(np.int16))
    vector[rng.random(2 * n_pairs) < 0.5] = largest
    rows = rng.integers(-127, 128, (n_panels * LANES, 2 * n_pairs)).astype(np.int8)
    rows[0], rows[1] = 127, -127
    panels = guarded_copy(pack_pairs(rows))
    expected = rows.astype(np.int64) @ vector.astype(np.int64)
    for some in (scalar, kernels):
        assert some.bytes_dot(vector, panels, n_pairs).tolist() == expected.tolist()


def check_row_dot_of(kernels: Kernels, scalar: Kernels, d: int, n: int) -> None:
    """The bits of a vector with a panel of the rows, whichever rows are asked for."""
    rng = np.random.default_rng([d, n])
    vector, rows = guarded_copy(hostile_rows(rng, 1, d)[0]), guarded_copy(hostile_rows(rng, LANES, d))
    which = guarded_copy(rng.integers(0, LANES, n))
    expected = scalar.vector_dot(vector, guarded_copy(pack_rows(rows)), d)[which]
    for some in (scalar, kernels):
        assert_same_bits(some.row_dot_of(vector, rows, which), expected)


def check_row_thresholds(kernels: Kernels, scalar: Kernels, n: int, at: str) -> None:
    rng = np.random.default_rng(n)
    row = guarded_copy(rng.integers(-4, 5, n).astype(np.float32), at=at)
    row[rng.random(n) < 0.1] = -0.0
    thresholds = guarded_copy(rng.integers(-6, 7, n).astype(np.float32), at=at)
    thresholds[rng.random(n) < 0.2] = -np.inf
    thresholds[rng.random(n) < 0.5] = np.inf
    for threshold in (-np.inf, 0.0, -0.0, 3.0, np.inf):
        found = kernels.row_at_least_either(row, thresholds, threshold)
        assert found.tolist() == scalar.row_at_least_either(row, thresholds, threshold).tolist()


def check_sift(kernels: Kernels, groups: int, n_panels: tuple[int, int], *, extreme: bool = False) -> None:
    """Against exact integers: which products reach the level of their row or of their column."""
    rng = np.random.default_rng([groups, *n_panels, int(extreme)])
    n_rows, n_columns = n_panels[0] * LANES, n_panels[1] * LANES
    width = groups * SKETCH_GROUP
    x = rng.choice([0, 127], (n_rows, width)) if extreme else rng.integers(0, 128, (n_rows, width))
    y = rng.choice([-127, 127], (n_columns, width)) if extreme else rng.integers(-127, 128, (n_columns, width))
    levels = np.full((3, TILE_ROWS), 2**31 - 1, np.int64)
    levels[2, :n_columns] = -63 * y.sum(axis=1)
    products = x @ y.T + levels[2, :n_columns]
    levels[0, :n_rows] = np.sort(products, axis=1)[:, -2]  # a tie, and what is above
    levels[1, :n_columns] = products.max(axis=0) + rng.integers(0, 2, n_columns)
    levels[0, ::7], levels[1, ::9] = -(2**31), 2**31 - 1
    passed = (products >= levels[0, :n_rows, None]) | (products >= levels[1, :n_columns])
    i, j = np.nonzero(passed)
    found = kernels.sift(
        guarded_copy(_panels_of_groups(x).astype(np.uint8)),
        guarded_copy(_panels_of_groups(y).astype(np.int8)),
        groups,
        guarded_copy(levels.astype(np.int32)),
    )
    np.testing.assert_array_equal(found, i * TILE_ROWS + j)


def _panels_of_groups(digits: NDArray[np.int64]) -> NDArray[np.int64]:
    n, width = digits.shape
    return digits.reshape(n // LANES, LANES, width // SKETCH_GROUP, SKETCH_GROUP).transpose(0, 2, 1, 3).reshape(-1)


def check_single_products(kernels: Kernels, scalar: Kernels, d: int, at: str) -> None:
    """Both equal scalar; and the chains, the elements of a tile."""
    rng = np.random.default_rng(d)
    a, b = (guarded_copy(hostile_rows(rng, LANES, d), at=at) for _ in range(2))
    i, j = rng.integers(0, LANES, (2, CHAINS_AT_A_TIME))
    places = guarded_copy((i * TILE_ROWS + j).astype(np.int32), at=at)
    chains = kernels.chains(a, b, places)
    assert_same_bits(chains, scalar.chains(a, b, places))
    tile = scalar.tile("tile_dot", pack_rows(a), pack_rows(b), d)
    assert_same_bits(chains, tile[i, j])
    x, y = guarded_copy(a[0], at=at), guarded_copy(b[0], at=at)
    assert_same_bits(kernels.estimate(x, y), scalar.estimate(x, y))
