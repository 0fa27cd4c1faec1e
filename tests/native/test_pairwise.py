"""The pairwise pass returns the scalar bits on every instruction set, for any shape, layout and number of threads."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_checks import assert_same_bits, hostile_rows

import native_simd

if TYPE_CHECKING:
    from numpy.typing import NDArray

METRICS = ("dot", "cosine", "sqeuclidean", "euclidean")
CANARY = np.float32(-123.25)
SIMD_ISAS = native_simd.available_isas()[1:]
SIZES = st.integers(1, 97) | st.sampled_from([191, 192, 193, 383, 385])
DIMENSIONS = st.integers(1, 97) | st.sampled_from([191, 192, 193, 767, 768, 769])
EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=SIMD_ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def vectors(seed: int, n: int, d: int) -> NDArray[np.float32]:
    rows = hostile_rows(np.random.default_rng([seed, n, d]), n, d)
    rows[:, 0] += np.float32(1.5)  # no row is zero
    return rows


def packed(seed: int, n: int, d: int, metric: str) -> native_simd.PackedVectors:
    return native_simd.pack(vectors(seed, n, d), unit=metric == "cosine", threads=2)


def framed(n_rows: int, n_columns: int, gap: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a matrix of canaries, and the part of it to write to."""
    frame = np.full((n_rows + 2, n_columns + gap + 1), CANARY, np.float32)
    return frame, frame[1:-1, gap : gap + n_columns]


def n_canaries(frame: NDArray[np.float32]) -> int:
    return int((frame == CANARY).sum())


@pytest.mark.parametrize("metric", METRICS)
@EXAMPLES
@given(m=SIZES, n=SIZES, d=DIMENSIONS, gap=st.integers(0, 5), threads=st.sampled_from([1, 2, 4]))
def test_pairwise_equals_scalar(
    isa: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    metric: native_simd.Metric,
    m: int,
    n: int,
    d: int,
    gap: int,
    threads: int,
) -> None:
    m = min(m, max(1, 2_000_000 // (n * d)))
    a, b = packed(0, m, d, metric), packed(1, n, d, metric)
    expected = np.empty((m, n), np.float32)
    monkeypatch.setenv("CLUSTER_ENGINE_ISA", "scalar")
    native_simd.pairwise(a, b, metric=metric, out=expected)
    assert np.isfinite(expected).all()

    monkeypatch.setenv("CLUSTER_ENGINE_ISA", isa)
    (frame, out), (mirror_frame, mirror) = framed(m, n, gap), framed(n, m, gap)
    native_simd.pairwise(a, b, metric=metric, out=out, mirror=mirror, threads=threads)
    assert_same_bits(out, expected)
    assert_same_bits(mirror, expected.T)
    assert n_canaries(frame) == frame.size - m * n
    assert n_canaries(mirror_frame) == mirror_frame.size - m * n


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("m", "n", "d"), [(767, 769, 3), (768, 768, 2), (769, 767, 1), (3, 5, 769), (200, 16, 768)])
def test_pairwise_equals_scalar_at_large_sizes(
    isa: str, monkeypatch: pytest.MonkeyPatch, *, metric: native_simd.Metric, m: int, n: int, d: int
) -> None:
    a, b = packed(2, m, d, metric), packed(3, n, d, metric)
    results = []
    for name in ("scalar", isa):
        monkeypatch.setenv("CLUSTER_ENGINE_ISA", name)
        results.append(np.empty((m, n), np.float32))
        native_simd.pairwise(a, b, metric=metric, out=results[-1], threads=2)
    assert_same_bits(results[1], results[0])


@pytest.mark.parametrize("metric", METRICS)
@EXAMPLES
@given(
    n=st.integers(1, 97) | st.sampled_from([191, 192, 193, 384, 385, 577, 769]),
    d=st.integers(1, 40),
    gap=st.integers(0, 5),
    cuts=st.lists(st.floats(0, 1), max_size=4),
    threads=st.sampled_from([1, 2, 4]),
)
def test_symmetric_equals_rectangular_in_any_slices(
    isa: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    metric: native_simd.Metric,
    n: int,
    d: int,
    gap: int,
    cuts: list[float],
    threads: int,
) -> None:
    monkeypatch.setenv("CLUSTER_ENGINE_ISA", isa)
    d = min(d, max(1, 3_000_000 // (n * n)))
    a = packed(4, n, d, metric)
    expected = np.empty((n, n), np.float32)
    native_simd.pairwise(a, a, metric=metric, out=expected)

    frame, out = framed(n, n, gap)
    n_tiles = native_simd.count_tiles(n)
    bounds = [0, *sorted(round(cut * n_tiles) for cut in cuts), n_tiles]
    for first, stop in pairwise(bounds):
        native_simd.pairwise_symmetric(a, metric=metric, out=out, tiles=(first, stop), threads=threads)
    assert_same_bits(out, expected)
    assert_same_bits(out, out.T)
    out[:] = CANARY
    assert n_canaries(frame) == frame.size


def test_symmetric_writes_only_the_tiles_asked_for() -> None:
    n = 2 * native_simd.TILE_ROWS + 1
    a = packed(5, n, 3, "dot")
    out = np.full((n, n), CANARY, np.float32)
    native_simd.pairwise_symmetric(a, metric="dot", out=out, tiles=(1, 2))  # first row of tiles, second column
    first, second = slice(0, native_simd.TILE_ROWS), slice(native_simd.TILE_ROWS, 2 * native_simd.TILE_ROWS)
    written = out != CANARY
    assert written[first, second].all()
    assert written[second, first].all()
    assert written.sum() == 2 * native_simd.TILE_ROWS**2


@pytest.mark.parametrize("metric", METRICS)
def test_a_value_depends_on_its_two_vectors_alone(metric: native_simd.Metric) -> None:
    x = vectors(6, 300, 50)
    whole = native_simd.similarity(x, x, metric)
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows, columns = rng.permutation(300)[: rng.integers(1, 40)], rng.permutation(300)[: rng.integers(1, 40)]
        assert_same_bits(native_simd.similarity(x[rows], x[columns], metric), whole[np.ix_(rows, columns)])


def test_slice_of_packed_rows_equals_slice_of_result() -> None:
    a = packed(7, 100, 20, "dot")
    whole, part = np.empty((100, 100), np.float32), np.empty((37, 100), np.float32)
    native_simd.pairwise(a, a, metric="dot", out=whole)
    native_simd.pairwise(a.rows(48, 85), a, metric="dot", out=part)
    assert_same_bits(part, whole[48:85])


def test_threads_and_strides_of_the_input_leave_panels_unchanged() -> None:
    wide = vectors(8, 700, 90)
    expected = native_simd.pack(np.ascontiguousarray(wide[:, 5:70]), unit=True)
    for x in (wide[:, 5:70], np.asfortranarray(wide[:, 5:70]), wide[::-1, 5:70][::-1]):
        for threads in (1, 2, 4):
            got = native_simd.pack(x, unit=True, threads=threads)
            assert_same_bits(got.panels, expected.panels)
            assert (got.norms == expected.norms).all()
