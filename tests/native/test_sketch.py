"""Sketches: their integer products are bounds on the cosines, and the pass by them lists what the other pass lists."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_checks import hostile_rows
from kernel_library import LANES, SKETCH_GROUP

import native_simd

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SIZES = st.integers(1, 50) | st.sampled_from([63, 64, 65, 191, 192, 193, 385, 577])
DIMENSIONS = st.integers(1, 40) | st.sampled_from([191, 192, 193])
KINDS = st.sampled_from(["normal", "hostile", "integers", "close", "flat", "sparse", "copies", "equal", "opposite"])
SHARES = st.sampled_from([0.0, 0.3, 0.7, 1.0])


@pytest.fixture(params=native_simd.available_isas())
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CLUSTER_ENGINE_ISA", str(request.param))
    return str(request.param)


def vectors(rng: np.random.Generator, n: int, d: int, kind: str) -> NDArray[np.float32]:
    """Return rows of many kinds, none of them zero, most with norms from 1e-20 to 1e20.

    "close": around a few centres, down to a few roundings apart; "flat": in a plane, so that the digits of two axes
    have all of them; "sparse": one large element, which digits cut off; "opposite": along one axis.
    """
    rows = rng.standard_normal((n, d)).astype(np.float32)
    if kind == "hostile":
        rows = hostile_rows(rng, n, d)
        rows[:, 0] += np.float32(1.5)
    if kind == "integers":
        rows = rng.integers(-1, 2, (n, d)).astype(np.float32)
        rows[:, 0] += np.float32(1.5)
    if kind == "close":
        rows = rows[rng.integers(0, min(n, 3), n)] + rows * 10.0 ** rng.uniform(-7, -3, (n, 1))
    if kind == "flat":
        rows[:, 2:] = 0
    if kind == "sparse":
        rows *= np.float32(1e-3)
        rows[np.arange(n), rng.integers(0, d, n)] = 1
    if kind == "copies":
        rows = rows[rng.integers(0, min(n, 5), n)]
    if kind == "equal":
        rows[:] = rows[0]
    if kind == "opposite":
        rows = rows[:1] * rng.choice([-1.0, 1.0], (n, 1))
    if kind != "hostile":
        rows = rows * 10.0 ** rng.uniform(-20, 20, (n, 1))
    return np.ascontiguousarray(rows, np.float32)


def sketch_of(
    rng: np.random.Generator, packed: native_simd.PackedVectors, share: float, threads: int = 1
) -> native_simd.Sketch:
    """Return a sketch in the leading axes of the vectors, a share of the dimensions, mixed; in any order."""
    h = max(1, round(share * packed.d))
    rows = unit_rows(packed)
    axes = np.linalg.eigh(rows.T @ rows)[1][:, ::-1].T[:h]
    mixed = np.linalg.qr(rng.standard_normal((h, h)))[0] @ axes
    coordinates = native_simd.project(packed, mixed.astype(np.float32), threads)
    return native_simd.sketch(coordinates, rng.permutation(packed.n), threads)


def unit_rows(packed: native_simd.PackedVectors) -> NDArray[np.float64]:
    rows = packed.panels.reshape(-1, packed.d, LANES).transpose(0, 2, 1).reshape(-1, packed.d)
    return rows[: packed.n].astype(np.float64)


def bounds_of(made: native_simd.Sketch) -> NDArray[np.float64]:
    """Return the bound of every pair, left digits of the row with right ones of the column, from exact integers."""
    width = made.groups * SKETCH_GROUP

    def unpacked(digits: NDArray[np.uint8] | NDArray[np.int8]) -> NDArray[np.int64]:
        panels = digits.astype(np.int64).reshape(-1, made.groups, LANES, SKETCH_GROUP).transpose(0, 2, 1, 3)
        return panels.reshape(-1, width)

    left, right = unpacked(made.left), unpacked(made.right)
    assert left.max() <= 127
    assert np.abs(right).max() <= 127
    bounds = np.empty((made.n, made.n))
    products = (left @ right.T + made.offsets)[: made.n, : made.n]
    bounds[np.ix_(made.order, made.order)] = products * made.unit
    return bounds


def exact_cosines(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return cosines that are within 1e-15: sums that are rounded once, of products that are exact in float64."""
    rows = [[math.ldexp(value, -math.frexp(max(map(abs, row)))[1]) for value in row] for row in x.tolist()]
    dots = [[math.fsum(a * b for a, b in zip(p, q, strict=True)) for q in rows] for p in rows]
    norms = np.sqrt(np.diag(dots))
    return np.asarray(dots) / np.multiply.outer(norms, norms)


@EXAMPLES
@given(n=st.integers(1, 20), d=DIMENSIONS, kind=KINDS, share=SHARES, seed=st.integers(0, 99))
def test_integer_products_bound_the_cosines(n: int, d: int, kind: str, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = vectors(rng, n, d, kind)
    bounds = bounds_of(sketch_of(rng, native_simd.pack(x, unit=True), share))
    assert (bounds - exact_cosines(x)).min() >= -1e-15


def test_a_basis_that_is_not_quite_orthonormal_still_bounds() -> None:
    rng = np.random.default_rng(0)
    x = vectors(rng, 40, 30, "normal")
    packed = native_simd.pack(x, unit=True)
    for bend in (1e-4, 1e-3, 1e-2):
        axes = np.linalg.qr(rng.standard_normal((30, 20)))[0].T
        bent = (axes + bend * rng.standard_normal(axes.shape)).astype(np.float32)
        coordinates = native_simd.project(packed, bent)
        assert coordinates.skew > bend
        assert (bounds_of(native_simd.sketch(coordinates, np.arange(40))) - exact_cosines(x)).min() >= 0


def test_a_mask_of_the_basis_is_not_looked_at() -> None:
    packed = native_simd.pack(np.random.default_rng(1).standard_normal((20, 8), np.float32), unit=True)
    basis = np.eye(4, 8, dtype=np.float32)
    masked = np.ma.masked_array(basis, np.ones_like(basis, np.bool_))
    assert native_simd.project(packed, masked).values.tobytes() == native_simd.project(packed, basis).values.tobytes()


def test_digits_of_all_dimensions_tell_a_cosine_to_a_few_hundredths() -> None:
    rng = np.random.default_rng(1)
    x = vectors(rng, 300, 64, "normal")
    beyond = bounds_of(sketch_of(rng, native_simd.pack(x, unit=True), 1.0)) - exact_cosines(x)
    assert np.median(beyond) < 0.04


def run_whole(whole: native_simd.NeighbourPass | native_simd.SketchedPass, threads: int = 1) -> NDArray[np.uint64]:
    whole.run(threads=threads)
    return whole.lists


def plain_pass(packed: native_simd.PackedVectors, k: int) -> native_simd.NeighbourPass:
    """Return the other pass, run: on the fastest instruction set, since its lists are the same on all."""
    other = native_simd.NeighbourPass(packed, k)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CLUSTER_ENGINE_ISA", raising=False)
        other.run(threads=2)
    return other


@EXAMPLES
@given(
    n=SIZES,
    d=st.integers(1, 40),
    k=st.integers(1, 40),
    kind=KINDS,
    share=SHARES,
    threads=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 99),
)
def test_the_lists_have_the_bits_of_the_other_pass(
    isa: str, *, n: int, d: int, k: int, kind: str, share: float, threads: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    packed = native_simd.pack(vectors(rng, n, d, kind), unit=True)
    by_sketch = native_simd.SketchedPass(packed, sketch_of(rng, packed, share, threads), k, threads)
    other = plain_pass(packed, k)
    np.testing.assert_array_equal(run_whole(by_sketch, threads), other.lists)
    for mine, known in zip(vars_of(by_sketch.result()), vars_of(other.result()), strict=True):
        np.testing.assert_array_equal(mine.view(np.uint8), known.view(np.uint8))


def vars_of(found: native_simd.Neighbours) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    return found.ids, found.similarities, found.bound


@pytest.mark.parametrize("d", [383, 768, 769])
def test_most_pairs_of_clusters_are_ruled_out_and_the_lists_the_same(isa: str, d: int) -> None:
    rng = np.random.default_rng(d)
    centres = rng.standard_normal((12, d))
    x = (centres[rng.integers(0, 12, 600)] + 0.3 * rng.standard_normal((600, d))).astype(np.float32)
    packed = native_simd.pack(x, unit=True)
    by_sketch = native_simd.SketchedPass(packed, sketch_of(rng, packed, 40 / d), 8)
    np.testing.assert_array_equal(run_whole(by_sketch, 2), plain_pass(packed, 8).lists)


def test_what_is_just_at_the_bound_is_listed(isa: str) -> None:
    """A thousand points of an arc, a few roundings apart: entries and candidates differ by their last bit."""
    turns = 0.5 + np.arange(1000) * 2e-7
    x = np.zeros((1000, 24), np.float32)
    x[:, 3], x[:, 17] = np.cos(turns), np.sin(turns)
    rng = np.random.default_rng(0)
    packed = native_simd.pack(np.ascontiguousarray(x[rng.permutation(1000)]), unit=True)
    for k in (1, 33, 700):
        by_sketch = native_simd.SketchedPass(packed, sketch_of(rng, packed, 0.1), k)
        np.testing.assert_array_equal(run_whole(by_sketch), plain_pass(packed, k).lists)


@EXAMPLES
@given(
    n=st.sampled_from([1, 100, 192, 193, 577, 769]),
    cuts=st.lists(st.floats(0, 1), max_size=4),
    kind=KINDS,
    threads=st.sampled_from([1, 2, 4]),
    data=st.data(),
)
def test_any_slices_in_any_order_give_the_same(
    isa: str, *, n: int, cuts: list[float], kind: str, threads: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(n)
    packed = native_simd.pack(vectors(rng, n, 6, kind), unit=True)
    by_sketch = native_simd.SketchedPass(packed, sketch_of(rng, packed, 0.5), 7)
    bounds = [0, *sorted(round(cut * by_sketch.n_tiles) for cut in cuts), by_sketch.n_tiles]
    for tiles in data.draw(st.permutations(list(pairwise(bounds)))):
        by_sketch.run(tiles, threads)
    np.testing.assert_array_equal(by_sketch.lists, plain_pass(packed, 7).lists)


def test_the_digits_decide_what_is_looked_at(isa: str) -> None:
    """Digits of other vectors are believed: so the sketch is what rules pairs out."""
    rng = np.random.default_rng(3)
    packed = native_simd.pack(vectors(rng, 600, 16, "normal"), unit=True)
    others = native_simd.pack(vectors(rng, 600, 16, "normal"), unit=True)
    astray = run_whole(native_simd.SketchedPass(packed, sketch_of(rng, others, 1.0), 5))
    assert (astray != plain_pass(packed, 5).lists).any(axis=1).mean() > 0.5


@pytest.mark.parametrize("n", [0, 1])
def test_rows_without_others_have_no_neighbours(n: int) -> None:
    packed = native_simd.pack(np.ones((n, 3), np.float32), unit=True)
    coordinates = native_simd.project(packed, np.eye(3, dtype=np.float32))
    alone = native_simd.SketchedPass(packed, native_simd.sketch(coordinates, np.arange(n)), 4)
    alone.run()
    assert alone.result().ids.shape == (n, 0)


def test_wrong_arguments_are_named() -> None:
    x = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    unit, eye = native_simd.pack(x, unit=True), np.eye(4, dtype=np.float32)
    coordinates = native_simd.project(unit, eye)
    good = native_simd.sketch(coordinates, np.arange(20))
    for call in (
        lambda: native_simd.project(native_simd.pack(x), eye),
        lambda: native_simd.SketchedPass(native_simd.pack(x), good, 3),
    ):
        with pytest.raises(ValueError, match="unit=True"):
            call()
    for basis in (2 * eye, np.full((4, 4), np.nan, np.float32), np.full((4, 4), 3e38, np.float32)):
        with pytest.raises(ValueError, match="basis must be nearly orthonormal"):
            native_simd.project(unit, basis)
    with pytest.raises(ValueError, match="basis must have 1 to 4 rows of the 4 dimensions"):
        native_simd.project(unit, eye[:, :3])
    with pytest.raises(ValueError, match="order must hold each of the numbers below 20 once"):
        native_simd.sketch(coordinates, np.zeros(20, np.int64))
    with pytest.raises(ValueError, match="next to nothing"):
        native_simd.sketch(native_simd.Coordinates(np.zeros((20, 2), np.float32), 1e-6, 0.0), np.arange(20))
    with pytest.raises(ValueError, match="sketch is of 20 vectors and packed has 16"):
        native_simd.SketchedPass(unit.rows(0, 16), good, 3)
