"""Nearest neighbours are those of the whole matrix, sorted: on every instruction set, in any slices, on any threads."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_checks import assert_same_bits, hostile_rows

import native_simd
from native_simd.ranking import ranked

if TYPE_CHECKING:
    from numpy.typing import NDArray

METRICS = ("dot", "cosine", "sqeuclidean", "euclidean")
THREADS = st.sampled_from([1, 2, 4])
SIZES = st.integers(1, 50) | st.sampled_from([63, 64, 65, 191, 192, 193, 383, 384, 385, 577])
EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=native_simd.available_isas())
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CLUSTER_ENGINE_ISA", str(request.param))
    return str(request.param)


def vectors(seed: int, n: int, d: int, kind: str) -> NDArray[np.float32]:
    """Return rows that are all different, few of them different, of small integers (many ties), or all equal."""
    rng = np.random.default_rng([seed, n, d])
    rows = rng.integers(-1, 2, (n, d)).astype(np.float32) if kind == "integers" else hostile_rows(rng, n, d)
    rows[:, 0] += np.float32(1.5)  # no row is zero
    if kind == "copies":
        rows = rows[rng.integers(0, min(n, 5), n)]
    return np.ascontiguousarray(rows[:1].repeat(n, axis=0)) if kind == "equal" else rows


KINDS = st.sampled_from(["hostile", "integers", "copies", "equal"])


def in_order(similarities: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the columns of each row, largest first, equal ones ascending."""
    return np.argsort(-similarities.astype(np.float64), axis=1, kind="stable")


def take(matrix: NDArray[np.float32], columns: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.take_along_axis(matrix, columns, axis=1) + np.float32(0)  # a zero is positive


def assert_neighbours(got: native_simd.Neighbours, x: NDArray[np.float32], k: int, metric: native_simd.Metric) -> None:
    n = len(x)
    matrix = native_simd.similarity(x, x, metric)
    np.fill_diagonal(matrix, -np.inf)
    order = in_order(matrix)[:, : n - 1]
    assert got.ids.dtype == np.int64
    np.testing.assert_array_equal(got.ids, order[:, :k])
    assert_same_bits(got.similarities, take(matrix, order[:, :k]))
    if k < n - 1:
        assert_same_bits(got.bound, take(matrix, order[:, k : k + 1])[:, 0])
    else:
        assert np.isneginf(got.bound).all()


@pytest.mark.parametrize("metric", METRICS)
@EXAMPLES
@given(n=SIZES, d=st.integers(1, 20), k=st.integers(1, 40), kind=KINDS, threads=THREADS)
def test_neighbours_are_those_of_the_sorted_matrix(
    isa: str, *, metric: native_simd.Metric, n: int, d: int, k: int, kind: str, threads: int
) -> None:
    x = vectors(0, n, d, kind)
    packed = native_simd.pack(x, unit=metric == "cosine")
    assert_neighbours(native_simd.neighbours(packed, k, metric, threads), x, k, metric)


@pytest.mark.parametrize("k", [1, 31, 32, 191, 192, 767, 768, 769, 5_000])
def test_lists_of_any_length(isa: str, k: int) -> None:
    x = vectors(1, 769, 8, "hostile")
    assert_neighbours(native_simd.neighbours(native_simd.pack(x, unit=True), k, threads=2), x, k, "cosine")


@EXAMPLES
@given(
    n=st.sampled_from([1, 100, 192, 193, 577, 769]),
    cuts=st.lists(st.floats(0, 1), max_size=4),
    kind=KINDS,
    threads=THREADS,
    data=st.data(),
)
def test_any_slices_in_any_order_give_the_same(
    isa: str, *, n: int, cuts: list[float], kind: str, threads: int, data: st.DataObject
) -> None:
    x = vectors(2, n, 6, kind)
    sliced = native_simd.NeighbourPass(native_simd.pack(x, unit=True), 7)
    bounds = [0, *sorted(round(cut * sliced.n_tiles) for cut in cuts), sliced.n_tiles]
    for tiles in data.draw(st.permutations(list(pairwise(bounds)))):
        sliced.run(tiles, threads=threads)
    assert_neighbours(sliced.result(), x, 7, "cosine")
    sliced.run((0, min(2, sliced.n_tiles)))
    assert_neighbours(sliced.result(), x, 7, "cosine")


@EXAMPLES
@given(
    n=st.integers(2, 50) | st.sampled_from([192, 193, 577, 769]),
    cuts=st.lists(st.floats(0, 1), max_size=3),
    kind=KINDS,
    metric=st.sampled_from(METRICS),
    threads=THREADS,
    n_holders=st.integers(1, 3),
    data=st.data(),
)
def test_blocks_that_meet_in_any_order_and_place_give_the_lists_of_one_pass(
    isa: str,
    *,
    n: int,
    cuts: list[float],
    kind: str,
    metric: native_simd.Metric,
    threads: int,
    n_holders: int,
    data: st.DataObject,
) -> None:
    x = vectors(9, n, 6, kind)
    packed = native_simd.pack(x, unit=metric == "cosine")
    labels = data.draw(st.none() | st.just(np.arange(n, dtype=np.int32) // 3))
    whole = native_simd.NeighbourPass(packed, 7, metric, labels=labels)
    whole.run()
    width = whole.lists.shape[1]
    bounds = [0, *sorted({int(cut * (n - 1)) // 16 * 16 for cut in cuts} - {0}), n]
    spans = list(pairwise(bounds))
    meetings = [(i, j) for j in range(len(spans)) for i in range(j + 1)]

    def block_of(start: int, stop: int) -> native_simd.RankedBlock:
        of_block = None if labels is None else labels[start:stop]
        lists = native_simd.empty_lists(stop - start, width)
        return native_simd.RankedBlock(packed.rows(start, stop), start, lists, of_block)

    holders = [[block_of(*span) for span in spans] for _ in range(n_holders)]  # each knows the meetings that it saw
    for i, j in data.draw(st.permutations(meetings)):
        blocks = data.draw(st.sampled_from(holders))
        native_simd.rank_blocks(blocks[i], blocks[j], metric, threads)
    merged = native_simd.empty_lists(n, width)
    for blocks in data.draw(st.permutations([*holders, holders[0]])):
        for (start, stop), block in zip(spans, blocks, strict=True):
            native_simd.merge_lists(merged[start:stop], block.lists)
    np.testing.assert_array_equal(merged, whole.lists)


def test_renumbered_lists_keep_their_order_and_similarities() -> None:
    lists = native_simd.NeighbourPass(native_simd.pack(vectors(10, 9, 4, "integers"), unit=True), 20)
    lists.run()
    numbers = np.array([0, 1, 5, 7, 8, 100, 2**31, 2**32 - 3, 2**32 - 2])
    before = lists.result()
    after = native_simd.renumber(np.pad(lists.lists, ((0, 0), (0, 3))), numbers)
    ids, similarities, _ = ranked(after, 8)
    np.testing.assert_array_equal(ids, numbers[before.ids])
    assert_same_bits(similarities, before.similarities)
    assert (after[:, 8:] == 0).all()
    assert (np.diff(after[:, :8].astype(object)) < 0).all()


def test_blocks_that_do_not_fit_are_refused() -> None:
    x = vectors(11, 40, 4, "hostile")

    def block(first: int, columns: int = 4, width: int = 3) -> native_simd.RankedBlock:
        return native_simd.RankedBlock(native_simd.pack(x[:, :columns]), first, native_simd.empty_lists(40, width))

    for other, words in (
        (block(39), "no vector in common"),
        (block(40, columns=3), "4 dimensions and b has 3"),
        (block(40, width=4), "3 places and those of b 4"),
    ):
        with pytest.raises(ValueError, match=words):
            native_simd.rank_blocks(block(0), other, "dot")
    with pytest.raises(ValueError, match="unit=True"):
        native_simd.rank_blocks(block(0), block(40))
    lists = native_simd.empty_lists(3, 2)
    with pytest.raises(TypeError, match="others must be a uint64 array of the shape of lists"):
        native_simd.merge_lists(lists, native_simd.empty_lists(3, 1))
    with pytest.raises(ValueError, match="must not share memory"):
        native_simd.merge_lists(lists, lists)


def test_a_pass_that_has_not_begun_knows_no_neighbours() -> None:
    known = native_simd.NeighbourPass(native_simd.pack(vectors(3, 5, 2, "hostile"), unit=True), 2).result()
    assert (known.ids == -1).all()
    assert np.isneginf(known.similarities).all()
    assert np.isneginf(known.bound).all()


@pytest.mark.parametrize("n", [0, 1])
def test_rows_without_others_have_no_neighbours(n: int) -> None:
    alone = native_simd.neighbours(native_simd.pack(np.ones((n, 3), np.float32), unit=True), 4)
    assert alone.ids.shape == alone.similarities.shape == (n, 0)
    assert np.isneginf(alone.bound).all()
    assert alone.bound.shape == (n,)


@EXAMPLES
@given(
    q=st.integers(0, 20) | st.sampled_from([191, 192, 193, 200]),
    m=SIZES,
    d=st.integers(1, 20),
    k=st.integers(1, 40) | st.just(600),
    kind=KINDS,
    threads=THREADS,
)
def test_top_k_is_that_of_the_sorted_matrix(
    isa: str, *, q: int, m: int, d: int, k: int, kind: str, threads: int
) -> None:
    queries, x = vectors(4, q, d, "integers"), vectors(5, m, d, kind)
    matrix = native_simd.similarity(queries, x)
    order = in_order(matrix)[:, :k]
    for searched in (x, native_simd.pack(x, unit=True)):
        ids, similarities = native_simd.top_k(queries, searched, k, threads)
        assert ids.dtype == np.int64
        np.testing.assert_array_equal(ids, order)
        assert_same_bits(similarities, take(matrix, order))


@EXAMPLES
@given(m=SIZES, d=st.integers(1, 97) | st.sampled_from([191, 192, 193, 768]))
def test_batch_similarity_is_a_row_of_the_matrix(isa: str, *, m: int, d: int) -> None:
    query, x = vectors(6, 1, d, "hostile"), vectors(7, m, d, "hostile")
    expected = native_simd.similarity(query, x)[0]
    assert_same_bits(native_simd.batch_similarity(query[0], x), expected)
    assert_same_bits(native_simd.batch_similarity(query[0], native_simd.pack(x, unit=True)), expected)


def test_no_vectors_have_no_best() -> None:
    none, one = np.empty((0, 3), np.float32), np.ones((1, 3), np.float32)
    assert native_simd.top_k(one, none, 2)[0].shape == (1, 0)
    assert native_simd.top_k(none, one, 2)[0].shape == (0, 1)
    assert native_simd.batch_similarity(one[0], none).shape == (0,)


def test_wrong_arguments_are_named() -> None:
    x = vectors(8, 20, 4, "hostile")
    raw, unit = native_simd.pack(x), native_simd.pack(x, unit=True)
    for call in (lambda: native_simd.neighbours(unit, 0), lambda: native_simd.top_k(x, unit, 0)):
        with pytest.raises(ValueError, match="k must be at least 1, got 0"):
            call()
    for call in (lambda: native_simd.neighbours(raw, 1), lambda: native_simd.top_k(x, raw, 1)):
        with pytest.raises(ValueError, match="unit=True"):
            call()
    with pytest.raises(ValueError, match="threads must be a positive integer"):
        native_simd.neighbours(unit, 1, threads=0)
    with pytest.raises(ValueError, match="tiles 0:2 are outside 0:1"):
        native_simd.NeighbourPass(unit, 1).run((0, 2))
    with pytest.raises(ValueError, match="queries have 3 dimensions and vectors have 4"):
        native_simd.top_k(x[:, :3], unit, 1)
    with pytest.raises(TypeError, match="queries must be a float32 array of shape"):
        native_simd.top_k(unit, unit, 1)  # type: ignore[arg-type] # misuse
    for n_queries in (3, 20):  # one by one, and in panels
        queries = x[:n_queries].copy()
        queries[2] = 0
        with pytest.raises(native_simd.RowError, match="row 2: the vector is zero"):
            native_simd.top_k(queries, unit, 1)
    with pytest.raises(TypeError, match="query must be a float32 array of shape"):
        native_simd.batch_similarity(x, unit)
    with pytest.raises(native_simd.RowError, match="row 0: the vector is zero"):
        native_simd.batch_similarity(np.zeros(4, np.float32), unit)
