"""Whether the pass takes sketches depends on the vectors alone, and nothing that it returns depends on whether."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

import cluster_engine as ce
import native_simd
from cluster_engine.linkage.basis import choose_sketch, leading_axes, order_by_nearness
from cluster_engine.linkage.criterion import Criterion
from cluster_engine.linkage.plan import path_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

N, D = 9_000, 160
needs_digits = pytest.mark.skipif(
    not {"avx2", "avx512"} & set(native_simd.available_isas()), reason="no kernel for products of digits here"
)


@needs_digits
def test_a_plan_says_what_structure_may_save_where_sketches_may_be_used() -> None:
    assert ce.plan(100_000, 768).seconds_with_structure < ce.plan(100_000, 768).seconds
    assert "(clear groups)" in str(ce.plan(100_000, 768))
    for n, d, method, metric in (
        (100_000, 64, "average", "cosine"),
        (100_000, 768, "ward", "euclidean"),
        (100_000, 768, "average", "dot"),
        (2_000, 768, "average", "cosine"),
    ):
        plan = ce.plan(n, d, method, metric, memory_limit=10**12)
        assert plan.seconds_with_structure == plan.seconds


def mixture(n: int = N, d: int = D) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((12, d))[rng.integers(12, size=120)] + 0.7 * rng.standard_normal((120, d))
    return (centres[rng.integers(120, size=n)] + 0.3 * rng.standard_normal((n, d))).astype(np.float32)


@pytest.fixture(scope="module")
def packed() -> native_simd.PackedVectors:
    return native_simd.pack(mixture(), unit=True)


@needs_digits
def test_the_same_vectors_have_the_same_sketch_for_any_number_of_threads(packed: native_simd.PackedVectors) -> None:
    first, *others = (choose_sketch(packed, 32, threads) for threads in (1, 2, 4, 1))
    assert first is not None
    for other in others:
        assert other is not None
        assert (other.groups, other.unit) == (first.groups, first.unit)
        for name in ("left", "right", "offsets", "order"):
            np.testing.assert_array_equal(getattr(other, name), getattr(first, name))


@needs_digits
def test_sketches_are_not_for_vectors_without_structure_few_vectors_or_few_dimensions() -> None:
    without = np.random.default_rng(1).standard_normal((N, D)).astype(np.float32)
    for x in (without, mixture(n=2_000), mixture(d=50)):
        assert choose_sketch(native_simd.pack(x, unit=True), 32, 2) is None


def test_no_sketch_is_chosen_where_products_of_digits_have_no_kernel(
    packed: native_simd.PackedVectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTER_ENGINE_ISA", "scalar")
    assert choose_sketch(packed, 32, 2) is None


@needs_digits
def test_trees_have_the_same_bytes_with_sketches_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    X = mixture()
    X[N // 2 : N // 2 + 50] = X[:50]  # some rows twice
    results, used = set(), []

    def run(isa: str, threads: int) -> None:
        monkeypatch.setenv("CLUSTER_ENGINE_ISA", isa)
        results.add(ce.linkage(X, threads=threads).tobytes())

    def watched(packed: native_simd.PackedVectors, k: int, threads: int) -> native_simd.Sketch | None:
        used.append(choose_sketch(packed, k, threads))
        return used[-1]

    monkeypatch.setattr(sys.modules["cluster_engine.linkage.linkage"], "choose_sketch", watched)
    fast = [isa for isa in native_simd.available_isas() if isa in ("avx2", "avx512")]
    for isa in fast:
        for threads in (1, 2):
            run(isa, threads)
    assert all(used)
    assert len(used) == 2 * len(fast)
    monkeypatch.setattr(sys.modules["cluster_engine.linkage.linkage"], "choose_sketch", lambda *_: None)
    run(fast[-1], 2)
    assert len(results) == 1


@needs_digits
def test_a_sketched_pass_fits_into_what_the_plan_says(packed: native_simd.PackedVectors) -> None:
    sketch = choose_sketch(packed, 32, 2)
    assert sketch is not None
    arrays = (sketch.left, sketch.right, sketch.offsets, sketch.order)
    lists_bytes = native_simd.SketchedPass(packed, sketch, 32).lists.nbytes
    rows_bytes = packed.panels.nbytes
    needed = packed.panels.nbytes + rows_bytes + lists_bytes + sum(array.nbytes for array in arrays)
    assert needed <= path_bytes("lists", N, D, Criterion("average", "cosine"))


def test_leading_axes_are_orthonormal_and_hold_what_the_principal_ones_hold() -> None:
    x = mixture(n=1_500)
    axes = leading_axes(x, 24)
    np.testing.assert_allclose(axes @ axes.T, np.eye(24), atol=1e-4)
    best = np.linalg.eigvalsh(x.T.astype(np.float64) @ x)[-24:].sum()
    assert np.square(x @ axes.T).sum() > 0.97 * best


def test_points_of_one_cluster_lie_side_by_side() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(8, size=2_000)
    values = (5 * np.eye(8)[labels] + 0.1 * rng.standard_normal((2_000, 8))).astype(np.float32)
    unit = native_simd.pack(values, unit=True)
    order = order_by_nearness(native_simd.project(unit, np.eye(8, dtype=np.float32)))
    np.testing.assert_array_equal(np.sort(order), np.arange(2_000))
    assert (np.diff(labels[order]) != 0).sum() == 7
