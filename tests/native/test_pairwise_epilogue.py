"""The pairwise pass with an epilogue: the scalar bits, for any shape, layout, slice and number of threads."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_checks import assert_same_bits

import native_simd
from native_simd import Sigmoid, Temporal

SIZES = st.integers(1, 97) | st.sampled_from([191, 192, 193, 385])
EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
HALF_LIFE = 86_400e6
epilogues = st.sampled_from([(True, False), (False, True), (True, True)])


def packed(seed: int, n: int) -> native_simd.PackedVectors:
    return native_simd.pack(np.random.default_rng([seed, n]).standard_normal((n, 5)).astype(np.float32), unit=True)


def times(seed: int, n: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    values = np.random.default_rng([seed, n]).integers(-(10**12), 10**12, n)
    values[:: max(n // 3, 1)] = 2**63 - 1
    return values


@pytest.fixture(params=native_simd.available_isas())
def isa(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@EXAMPLES
@given(m=SIZES, n=SIZES, parts=epilogues, threads=st.sampled_from([1, 2, 4]))
def test_pairwise_equals_scalar(
    isa: str, monkeypatch: pytest.MonkeyPatch, *, m: int, n: int, parts: tuple[bool, bool], threads: int
) -> None:
    a, b = packed(0, m), packed(1, n)
    temporal = Temporal(HALF_LIFE, times(0, m), times(1, n)) if parts[0] else None
    reverse = Temporal(HALF_LIFE, times(1, n), times(0, m)) if parts[0] else None
    sigmoid = Sigmoid(10, 0.5) if parts[1] else None
    expected, out, mirror = np.empty((m, n), np.float32), np.empty((m, n), np.float32), np.empty((n, m), np.float32)
    monkeypatch.setenv("CLUSTER_ENGINE_ISA", "scalar")
    native_simd.pairwise(a, b, temporal=temporal, sigmoid=sigmoid, out=expected)
    assert np.isfinite(expected).all()

    monkeypatch.setenv("CLUSTER_ENGINE_ISA", isa)
    native_simd.pairwise(a, b, temporal=temporal, sigmoid=sigmoid, out=out, mirror=mirror, threads=threads)
    assert_same_bits(out, expected)
    assert_same_bits(mirror, expected.T)
    native_simd.pairwise(b, a, temporal=reverse, sigmoid=sigmoid, out=mirror)
    assert_same_bits(mirror, expected.T)


@EXAMPLES
@given(n=SIZES, cuts=st.lists(st.floats(0, 1), max_size=4), parts=epilogues, threads=st.sampled_from([1, 2, 4]))
def test_symmetric_equals_rectangular_in_any_slices(
    isa: str, monkeypatch: pytest.MonkeyPatch, *, n: int, cuts: list[float], parts: tuple[bool, bool], threads: int
) -> None:
    monkeypatch.setenv("CLUSTER_ENGINE_ISA", isa)
    a, t = packed(2, n), times(2, n)
    sigmoid = Sigmoid(10, 0.5) if parts[1] else None
    expected, out = np.empty((n, n), np.float32), np.empty((n, n), np.float32)
    native_simd.pairwise(a, a, temporal=Temporal(HALF_LIFE, t, t) if parts[0] else None, sigmoid=sigmoid, out=expected)

    temporal = Temporal(HALF_LIFE, t) if parts[0] else None
    n_tiles = native_simd.count_tiles(n)
    for tiles in pairwise([0, *sorted(round(cut * n_tiles) for cut in cuts), n_tiles]):
        native_simd.pairwise_symmetric(a, temporal=temporal, sigmoid=sigmoid, out=out, tiles=tiles, threads=threads)
    assert_same_bits(out, expected)
    assert_same_bits(out, out.T)


def test_a_value_depends_on_its_two_vectors_and_times_alone() -> None:
    x = np.random.default_rng(3).standard_normal((300, 20)).astype(np.float32)
    t, sigmoid = times(3, 300), Sigmoid(10, 0.5)
    whole = native_simd.similarity(x, x, temporal=Temporal(HALF_LIFE, t, t), sigmoid=sigmoid)
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows, columns = rng.permutation(300)[: rng.integers(1, 40)], rng.permutation(300)[: rng.integers(1, 40)]
        temporal = Temporal(HALF_LIFE, t[rows], t[columns])
        part = native_simd.similarity(x[rows], x[columns], temporal=temporal, sigmoid=sigmoid)
        assert_same_bits(part, whole[np.ix_(rows, columns)])
