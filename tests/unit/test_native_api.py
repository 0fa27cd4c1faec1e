"""The typed face of the native library: what it refuses, and with which error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import native_simd
from native_simd.arrays import empty_aligned

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ONES = np.ones((4, 3), np.float32)


def empty(*shape: int) -> NDArray[np.float32]:
    return np.empty(shape, np.float32)


def read_only() -> NDArray[np.float32]:
    out = empty(4, 4)
    out.flags.writeable = False
    return out


def unaligned(*shape: int) -> NDArray[np.float32]:
    n_bytes = 4 * int(np.prod(shape))
    return np.zeros(n_bytes + 1, np.uint8)[1:].view(np.float32).reshape(shape)


# Arrays


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 5), (1_000, 1_008), (511, 1_027), (4, 0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_array_begins_on_a_cache_line_or_a_huge_page(shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    array = empty_aligned(shape, dtype)
    array[...] = dtype(1)
    assert array.shape == shape
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    assert not array.size or array.ctypes.data % (2**21 if array.nbytes >= 2**21 else 64) == 0


# Instruction sets


def test_scalar_is_always_offered_and_the_last_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLUSTER_ENGINE_ISA", raising=False)
    assert native_simd.available_isas()[0] == "scalar"
    assert native_simd.active_isa() == native_simd.available_isas()[-1]


def test_environment_forces_each_isa_on_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    for isa in native_simd.available_isas():
        monkeypatch.setenv("CLUSTER_ENGINE_ISA", isa)
        assert native_simd.active_isa() == isa


@pytest.mark.parametrize("call", [native_simd.active_isa, lambda: native_simd.similarity(ONES, ONES)])
@pytest.mark.parametrize("isa", ["neon-or-not", "AVX2", "sse", " "])
def test_absent_isa_is_an_error_and_never_a_fallback(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[], object], isa: str
) -> None:
    monkeypatch.setenv("CLUSTER_ENGINE_ISA", isa)
    with pytest.raises(native_simd.IsaUnavailableError, match="available: scalar"):
        call()


# Rows


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_non_finite_row_is_named_with_its_element(bad: float, unit: bool, threads: int) -> None:
    x = np.ones((100, 70), np.float32)
    x[37, 65] = x[80, 0] = bad
    for call in (native_simd.pack, native_simd.norms):
        with pytest.raises(native_simd.RowError, match=f"row 37: element 65 is {bad}") as caught:
            call(x, unit=unit, threads=threads)
        assert caught.value.row == 37


def test_row_without_direction_is_refused_only_where_one_is_needed() -> None:
    x = np.ones((40, 5), np.float32)
    x[20] = [0, -0.0, 0, 0, 0]
    assert native_simd.norms(x)[20] == 0
    assert not native_simd.pack(x).unit
    with pytest.raises(native_simd.RowError, match="row 20: the vector is zero"):
        native_simd.pack(x, unit=True)


@pytest.mark.parametrize(("value", "unit"), [(2.0**52, False), (3e38, False), (1e-45, True), (1e-39, True)])
def test_row_out_of_range_is_refused(value: float, unit: bool) -> None:
    x = np.ones((3, 2), np.float32)
    x[1] = value
    with pytest.raises(native_simd.RowError, match="row 1: the norm"):
        native_simd.pack(x, unit=unit)
    native_simd.pack(x, unit=not unit)


def test_no_vectors_are_no_work() -> None:
    none = native_simd.pack(empty(0, 3))
    some = native_simd.pack(ONES)
    native_simd.pairwise(none, some, metric="dot", out=empty(0, 4), mirror=empty(4, 0))
    native_simd.pairwise_symmetric(none, metric="dot", out=empty(0, 0))
    assert native_simd.similarity(ONES, empty(0, 3)).shape == (4, 0)
    assert native_simd.norms(empty(0, 3)).shape == (0,)


# Types, shapes and layouts


@pytest.mark.parametrize(
    ("vectors", "error"),
    [
        (ONES.astype(np.float64), TypeError),
        (ONES.astype(np.float16), TypeError),
        (ONES.astype(">f4"), TypeError),
        (ONES[0], TypeError),
        (ONES[np.newaxis], TypeError),
        ([[1.0, 2.0]], TypeError),
        (None, TypeError),
        (empty(4, 0), ValueError),
    ],
)
def test_vectors_must_be_a_float32_matrix(vectors: Any, error: type[Exception]) -> None:  # noqa: ANN401 - misuse
    for call, name in (
        (native_simd.pack, "vectors"),
        (native_simd.norms, "vectors"),
        (lambda x: native_simd.similarity(x, ONES), "a"),
        (lambda x: native_simd.similarity(ONES, x), "b"),
        (lambda x: native_simd.batch_similarity(ONES[0], x), "centroids"),
    ):
        with pytest.raises(error, match=f"^{name} must"):
            call(vectors)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", None])
def test_threads_must_be_a_positive_integer(threads: Any) -> None:  # noqa: ANN401 - misuse
    packed = native_simd.pack(ONES)
    for call in (
        lambda: native_simd.pack(ONES, threads=threads),
        lambda: native_simd.pairwise(packed, packed, metric="dot", out=empty(4, 4), threads=threads),
        lambda: native_simd.pairwise_symmetric(packed, metric="dot", out=empty(4, 4), threads=threads),
    ):
        with pytest.raises(ValueError, match="threads must be a positive integer"):
            call()


@pytest.mark.parametrize(
    ("out", "error"),
    [
        (np.empty((4, 4)), TypeError),
        (empty(4, 5), TypeError),
        (empty(16), TypeError),
        ([[0.0] * 4] * 4, TypeError),
        (read_only(), ValueError),
        (np.asfortranarray(empty(4, 4)), ValueError),
        (empty(4, 8)[:, ::2], ValueError),
        (empty(4, 4)[::-1], ValueError),
        (empty(4, 4)[:, ::-1], ValueError),
        (np.lib.stride_tricks.as_strided(empty(16), (4, 4), (8, 4)), ValueError),
        (unaligned(4, 4), ValueError),
    ],
)
def test_output_that_cannot_be_written_is_refused(out: Any, error: type[Exception]) -> None:  # noqa: ANN401 - misuse
    packed = native_simd.pack(ONES)
    for call in (
        lambda: native_simd.pairwise(packed, packed, metric="dot", out=out),
        lambda: native_simd.pairwise(packed, packed, metric="dot", out=empty(4, 4), mirror=out),
        lambda: native_simd.pairwise_symmetric(packed, metric="dot", out=out),
        lambda: native_simd.similarity(ONES, ONES, "dot", out),
    ):
        with pytest.raises(error, match="must be"):
            call()


@pytest.mark.parametrize(
    "layout", [lambda x: x[::-1][::-1], np.asfortranarray, lambda x: np.repeat(x, 2, axis=1)[:, ::2]]
)
def test_any_layout_of_the_input_gives_the_same(layout: Callable[[Any], Any]) -> None:
    x = np.random.default_rng(0).standard_normal((33, 7)).astype(np.float32)
    np.testing.assert_array_equal(native_simd.pack(layout(x)).panels, native_simd.pack(x).panels)
    np.testing.assert_array_equal(native_simd.pack(x[::-1]).panels, native_simd.pack(x[::-1].copy()).panels)
    shifted = unaligned(33, 7)
    shifted[...] = x
    np.testing.assert_array_equal(native_simd.pack(shifted).panels, native_simd.pack(x).panels)


def test_metrics_and_dimensions_must_agree() -> None:
    a, unit = native_simd.pack(ONES), native_simd.pack(ONES, unit=True)
    out = empty(4, 4)
    with pytest.raises(ValueError, match="needs vectors packed with unit=True"):
        native_simd.pairwise(unit, a, metric="cosine", out=out)
    with pytest.raises(ValueError, match="a has 3 dimensions and b has 2"):
        native_simd.pairwise(a, native_simd.pack(ONES[:, :2]), metric="dot", out=out)
    with pytest.raises(ValueError, match="metric must be one of"):
        native_simd.pairwise_symmetric(a, metric="manhattan", out=out)  # type: ignore[arg-type] # misuse


@pytest.mark.parametrize("tiles", [(-1, 1), (0, 4), (2, 1), (4, 4), (3, 4)])
def test_tiles_must_be_a_range_of_the_triangle(tiles: tuple[int, int]) -> None:
    packed = native_simd.pack(np.ones((200, 1), np.float32))
    assert native_simd.count_tiles(200) == 3
    with pytest.raises(ValueError, match="are outside 0:3"):
        native_simd.pairwise_symmetric(packed, metric="dot", out=empty(200, 200), tiles=tiles)


@pytest.mark.parametrize(("start", "stop"), [(1, 5), (16, 8), (-16, 8), (0, 41), (48, 48)])
def test_packed_rows_start_at_a_panel(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="not a range that starts at a panel"):
        native_simd.pack(np.ones((40, 2), np.float32)).rows(start, stop)


# Linkage


def chain(**changes: Any) -> native_simd.NearestNeighbourChain:  # noqa: ANN401 - misuse
    arguments: dict[str, Any] = {"matrix": -np.ones((3, 3), np.float32), "method": "average", "counts": np.ones(3)}
    return native_simd.NearestNeighbourChain(**(arguments | changes))


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"method": "median"}, ValueError, "method must be one of"),
        ({"matrix": np.ones((3, 3))}, TypeError, "matrix must be a float32 array"),
        ({"matrix": empty(3, 4)}, TypeError, "matrix must be a float32 array"),
        ({"matrix": empty(3, 3).T}, ValueError, "contiguous rows"),
        ({"matrix": empty(3, 3)[::-1]}, ValueError, "contiguous rows"),
        ({"matrix": frozen(empty(3, 3))}, ValueError, "writeable"),
        ({"matrix": empty(0, 0), "counts": np.ones(0)}, ValueError, "counts must hold"),
        ({"counts": np.ones(4)}, ValueError, "counts must hold"),
        ({"counts": np.array([1.0, 0.0, 1.0])}, ValueError, "counts must hold"),
        ({"counts": np.array([1.0, np.nan, 1.0])}, ValueError, "counts must hold"),
        ({"counts": np.array([1.0, np.inf, 1.0])}, ValueError, "counts must hold"),
        ({"sums": np.ones((3, 2), np.float32)}, ValueError, "sums must be"),
        ({"sums": np.ones((2, 2))}, ValueError, "sums must be"),
        ({"sums": np.ones((3, 0))}, ValueError, "sums must be"),
        ({"sums": np.ones((2, 3)).T}, ValueError, "sums must be"),
        ({"sums": frozen(np.ones((3, 2)))}, ValueError, "sums must be"),
        ({"sums": np.ones((3, 2)), "method": "complete"}, ValueError, "has no use for sums"),
        ({"sums": np.ones((3, 2)), "method": "ward", "value_error": 0.1}, ValueError, "has no use for sums"),
        ({"sums": np.ones((3, 2))}, ValueError, "given together"),
        ({"value_error": 0.1}, ValueError, "given together"),
        ({"sums": np.ones((3, 2)), "value_error": -0.1}, ValueError, "must be finite"),
        ({"sums": np.ones((3, 2)), "value_error": np.nan}, ValueError, "must be finite"),
        ({"sums": np.ones((3, 2)), "value_error": 0.1, "value_bound": np.inf}, ValueError, "must be finite"),
    ],
)
def test_chain_refuses_bad_arguments(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        chain(**changes)


def test_chain_reports_its_work_and_ends() -> None:
    made = chain()
    first, second, similarity = made.advance(1)
    assert (first.tolist(), second.tolist(), similarity.tolist()) == ([0], [1], [-1.0])
    assert made.advance(100)[1].tolist() == [2]
    assert len(made.advance(100)[0]) == 0
    assert made.counters().scans > 0
    assert made.counters().compared == made.counters().compactions == 0
    assert chain(matrix=empty(1, 1), counts=np.ones(1)).advance(5)[0].size == 0
    with pytest.raises(ValueError, match="max_merges must be at least 0"):
        made.advance(-1)
