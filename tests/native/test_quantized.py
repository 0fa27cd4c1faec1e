"""Search of a 16-bit copy: its error is within the proven bound, and its answer that of float32, to the bit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_checks import assert_same_bits, hostile_rows
from kernel_library import LANES

import native_simd

if TYPE_CHECKING:
    from numpy.typing import NDArray

U = 2.0**-24
EXAMPLES = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SIZES = st.integers(1, 50) | st.sampled_from([63, 64, 65, 191, 192, 193, 385])
DIMENSIONS = st.integers(1, 40) | st.sampled_from([191, 192, 193, 768, 769])


@pytest.fixture(params=native_simd.available_isas())
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CLUSTER_ENGINE_ISA", str(request.param))
    return str(request.param)


def vectors(rng: np.random.Generator, n: int, d: int, kind: str) -> NDArray[np.float32]:
    """Return rows of many kinds, none of them zero.

    "close": around a few centres, apart by less than the error of a copy and down to a few roundings; "sparse": one
    large element, which the copy cannot hold at its usual scale; "copies": a few different ones.
    """
    rows = rng.standard_normal((n, d)).astype(np.float32)
    if kind == "hostile":
        rows = hostile_rows(rng, n, d)
    if kind == "close":
        rows = rows[rng.integers(0, min(n, 3), n)] + rows * np.float32(10.0) ** rng.uniform(-7, -3, (n, 1))
    if kind == "sparse":
        rows *= np.float32(1e-3)
        rows[np.arange(n), rng.integers(0, d, n)] = 1
    if kind == "copies":
        rows = rows[rng.integers(0, min(n, 5), n)]
    rows[:, 0] += np.float32(1.5) if kind == "hostile" else np.float32(0)
    return np.ascontiguousarray(rows, np.float32)


KINDS = st.sampled_from(["normal", "hostile", "close", "sparse", "copies"])


def copy_of(quantized: native_simd.QuantizedVectors) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the integers (n, d), and the vectors that they stand for."""
    n_pairs = -(-quantized.d // 2)
    panels = quantized.words.reshape(-1, n_pairs, LANES, 2).transpose(0, 2, 1, 3)
    words = panels.reshape(-1, 2 * n_pairs)[: quantized.n].astype(np.float64)
    assert not words[:, quantized.d :].any()
    words = words[:, : quantized.d]
    return words, words * quantized.scales[: quantized.n, None].astype(np.float64)


def unit_rows(packed: native_simd.PackedVectors) -> NDArray[np.float64]:
    rows = packed.panels.reshape(-1, packed.d, LANES).transpose(0, 2, 1).reshape(-1, packed.d)
    return rows[: packed.n].astype(np.float64)


@EXAMPLES
@given(n=SIZES, d=DIMENSIONS, kind=KINDS, seed=st.integers(0, 99))
def test_a_copy_is_within_its_error_and_cannot_overflow(n: int, d: int, kind: str, seed: int) -> None:
    packed = native_simd.pack(vectors(np.random.default_rng(seed), n, d, kind), unit=True)
    quantized = native_simd.quantize(packed)
    words, copies = copy_of(quantized)
    lost = np.linalg.norm(unit_rows(packed) - copies, axis=1)
    assert lost.max() == pytest.approx(quantized.error, rel=1e-9)
    assert (lost <= math.sqrt(d) / 2 * quantized.scales[:n] * (1 + 1e-6)).all()
    assert (np.square(words).sum(axis=1) < 2**31).all()
    assert np.abs(words).max() <= 32767


@EXAMPLES
@given(n=SIZES, d=DIMENSIONS, kind=KINDS, seed=st.integers(0, 99))
def test_approximate_similarities_are_within_the_bound(n: int, d: int, kind: str, seed: int) -> None:
    """The bound of README.md, of every pair, with the float32 similarities."""
    x = vectors(np.random.default_rng(seed), n, d, kind)
    quantized = native_simd.quantize(native_simd.pack(x, unit=True))
    words, _ = copy_of(quantized)
    scales = quantized.scales[:n]
    approximate = (words @ words.T).astype(np.float32) * np.multiply.outer(scales, scales)
    e = quantized.error
    bound = 2 * e + e * e + d * U / (1 - d * U) + 2.0**-20
    assert np.abs(approximate.astype(np.float64) - native_simd.similarity(x, x)).max() <= bound


@EXAMPLES
@given(
    q=st.integers(1, 9),
    m=SIZES,
    d=DIMENSIONS,
    k=st.integers(1, 40),
    kind=KINDS,
    threads=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 99),
)
def test_the_best_are_those_of_float32_to_the_bit(
    isa: str, *, q: int, m: int, d: int, k: int, kind: str, threads: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = vectors(rng, m, d, kind)
    queries = np.concatenate([x[rng.integers(0, m, q - q // 2)], vectors(rng, q // 2, d, "normal")])
    packed = native_simd.pack(x, unit=True)
    ids, similarities = native_simd.top_k(queries, native_simd.quantize(packed, threads=threads), k, threads)
    expected_ids, expected = native_simd.top_k(queries, packed, k)
    np.testing.assert_array_equal(ids, expected_ids)
    assert_same_bits(similarities, expected)


def test_what_rounding_tied_is_told_apart(isa: str) -> None:
    """A thousand neighbours of the query, each a few roundings from the next: the copies of many are equal."""
    d, turns = 64, np.arange(1000) * 1e-6
    x = np.zeros((1000, d), np.float32)
    x[:, 0], x[:, 1] = np.cos(0.5 + turns), np.sin(0.5 + turns)
    x = np.ascontiguousarray(x[np.random.default_rng(0).permutation(1000)])
    packed = native_simd.pack(x, unit=True)
    quantized = native_simd.quantize(packed)
    assert len(np.unique(copy_of(quantized)[0], axis=0)) < 900
    for k in (1, 10, 999, 1000):
        ids, similarities = native_simd.top_k(x[:3], quantized, k)
        expected_ids, expected = native_simd.top_k(x[:3], packed, k)
        np.testing.assert_array_equal(ids, expected_ids)
        assert_same_bits(similarities, expected)


def test_the_copy_decides_what_is_looked_at() -> None:
    """An answer comes from the panels that the copy names: a copy that points elsewhere is believed."""
    x = np.random.default_rng(0).standard_normal((160, 32)).astype(np.float32)
    honest = native_simd.quantize(native_simd.pack(x, unit=True))
    words = np.roll(honest.words, 32 * 16)  # each panel has the copy of the one before
    astray = native_simd.QuantizedVectors(honest.packed, words, honest.scales, honest.error)
    assert native_simd.top_k(x[:1], honest, 1)[0].tolist() == [[0]]
    assert native_simd.top_k(x[:1], astray, 1)[0][0, 0] // LANES == 1


def test_no_vectors_have_no_copy() -> None:
    none = native_simd.quantize(native_simd.pack(np.empty((0, 3), np.float32), unit=True))
    assert (none.n, none.d, none.error) == (0, 3, 0.0)
    assert native_simd.top_k(np.ones((1, 3), np.float32), none, 2)[0].shape == (1, 0)


def test_only_unit_vectors_have_a_copy() -> None:
    with pytest.raises(ValueError, match="unit=True"):
        native_simd.quantize(native_simd.pack(np.ones((2, 3), np.float32)))
