"""Each vector kernel of this machine equals the scalar kernel to the bit and stays inside its arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from binding_checks import check_decay, check_fan_effect, check_half_life
from epilogue_checks import check_fade, check_sigmoid
from kernel_checks import (
    assert_same_bits,
    check_bytes_dot,
    check_quantized_dot,
    check_row_dot_of,
    check_row_scans,
    check_row_thresholds,
    check_sift,
    check_single_products,
    check_tiles,
    check_transpose,
    check_vector_dot,
    check_vector_dot_of,
)
from kernel_library import pack_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_library import Kernels

    Check = Callable[[Kernels, Kernels, int, str], None]

DIMENSIONS = (*range(1, 98, 3), 127, 128, 129, 191, 192, 193, 383, 384, 385, 767, 768, 769)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_tiles_equal_scalar(simd: Kernels, scalar: Kernels, d: int) -> None:
    for n_a_panels, n_b_panels in ((1, 1), (1, 2), (2, 3), (3, 2), (1, 4), (2, 5)):
        check_tiles(simd, scalar, d, n_a_panels, n_b_panels)


def test_full_tile_equals_scalar(simd: Kernels, scalar: Kernels) -> None:
    check_tiles(simd, scalar, 193, 12, 12)


@pytest.mark.parametrize("at", ["start", "end"])
def test_transpose_moves_every_element_and_no_other(simd: Kernels, at: str) -> None:
    for rows in (*range(1, 20), 191, 192):
        for columns in (*range(1, 20), 191, 192):
            check_transpose(simd, rows, columns, (rows * columns) % 7, at)


@pytest.mark.parametrize("at", ["start", "end"])
def test_row_scans_equal_scalar(simd: Kernels, scalar: Kernels, at: str) -> None:
    for n in (*range(1, 150), 767, 768, 769, 1023, 1024, 1025):
        check_row_scans(simd, scalar, n, at)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_one_vector_with_panels_equals_scalar(simd: Kernels, scalar: Kernels, d: int) -> None:
    for n_panels in (1, 2, 3, 4, 5, 11, 12):
        check_vector_dot(simd, scalar, d, n_panels)
        check_vector_dot_of(simd, scalar, d, n_panels)


@pytest.mark.parametrize("n_pairs", [*range(1, 49, 3), 95, 96, 97, 383, 384, 385])
def test_integers_with_panels_equal_scalar(simd: Kernels, scalar: Kernels, n_pairs: int) -> None:
    for n_panels in (1, 2, 3, 4, 5, 11, 12):
        check_quantized_dot(simd, scalar, n_pairs, n_panels)
        check_bytes_dot(simd, scalar, n_pairs, n_panels)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_one_vector_with_scattered_rows_equals_scalar(simd: Kernels, scalar: Kernels, d: int) -> None:
    for n in (1, 2, 7, 8, 9, 16, 21):
        check_row_dot_of(simd, scalar, d, n)


@pytest.fixture
def sieve(simd: Kernels) -> Kernels:
    if not simd.has_sketch_kernels():
        pytest.skip("this CPU has AVX-512 without VNNI: it takes the kernels of AVX2")
    return simd


@pytest.mark.parametrize("groups", [*range(1, 25), 48, 95, 96, 97, 192])
def test_digit_products_are_exact(scalar: Kernels, sieve: Kernels, groups: int) -> None:
    for kernels in (scalar, sieve):
        for n_panels in ((1, 1), (1, 2), (2, 1), (3, 3)):
            check_sift(kernels, groups, n_panels)
            check_sift(kernels, groups, n_panels, extreme=True)


def test_digit_products_of_a_whole_tile_are_exact(scalar: Kernels, sieve: Kernels) -> None:
    for kernels in (scalar, sieve):
        check_sift(kernels, 9, (12, 12))


def test_digit_products_of_the_longest_sketch_are_exact(scalar: Kernels, sieve: Kernels) -> None:
    for kernels in (scalar, sieve):
        check_sift(kernels, 32_768, (1, 1), extreme=True)


@pytest.mark.parametrize("at", ["start", "end"])
@pytest.mark.parametrize("d", [*range(1, 98), 127, 128, 129, 767, 768, 769])
def test_single_products_equal_scalar(sieve: Kernels, scalar: Kernels, d: int, at: str) -> None:
    check_single_products(sieve, scalar, d, at)


def test_one_vector_with_panels_equals_a_row_of_the_tile(scalar: Kernels) -> None:
    rows = np.random.default_rng(0).standard_normal((3 * 16, 29)).astype(np.float32)
    panels = pack_rows(rows)
    for lane in range(16):
        expected = scalar.tile("tile_dot", panels[: 16 * 29], panels, 29)[lane]
        assert_same_bits(scalar.vector_dot(rows[lane].copy(), panels, 29), expected)


@pytest.mark.parametrize("at", ["start", "end"])
def test_row_thresholds_equal_scalar(simd: Kernels, scalar: Kernels, at: str) -> None:
    for n in (*range(1, 100), 191, 192):
        check_row_thresholds(simd, scalar, n, at)


@pytest.mark.parametrize("at", ["start", "end"])
@pytest.mark.parametrize("check", [check_decay, check_half_life, check_fan_effect])
def test_binding_kernels_equal_scalar(simd: Kernels, scalar: Kernels, check: Check, at: str) -> None:
    for n in (*range(1, 98), 767, 768, 769):
        check(simd, scalar, n, at)


@pytest.mark.parametrize("at", ["start", "end"])
@pytest.mark.parametrize("check", [check_fade, check_sigmoid])
def test_epilogue_kernels_equal_scalar(simd: Kernels, scalar: Kernels, check: Check, at: str) -> None:
    for n_panels in range(1, 13):
        check(simd, scalar, n_panels, at)


def test_scalar_scans_mean_what_they_say(scalar: Kernels) -> None:
    row = np.array([5, 1, 7, 7, np.nan, -np.inf, 6], np.float32)
    bias = np.array([0, 0, -np.inf, 0, -np.inf, 0, 0], np.float32)
    assert scalar.row_max(row, bias) == 7
    assert scalar.row_at_least(row, bias, 5).tolist() == [0, 3, 6]
    assert scalar.row_at_least(row, bias, -np.inf).tolist() == [0, 1, 2, 3, 5, 6]
    live, either = row[[0, 1, 2, 3, 6]], np.array([np.inf, 1, np.inf, 8, np.inf], np.float32)
    assert scalar.row_at_least_either(live, either, 7).tolist() == [1, 2, 3]
    assert scalar.row_max(row, np.full(7, -np.inf, np.float32)) == -np.inf
