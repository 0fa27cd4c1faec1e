"""All pairs, nearest neighbours and search beside peers and bounds; see ``results.md``.

``python -m benchmarks.similarity``. Contenders take turns in one process, one for each instruction set and number of
threads. Bounds are measured by `floors.c`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import faiss
import numkong
import numpy as np
from sklearn.neighbors import NearestNeighbors
from usearch.index import MetricKind
from usearch.index import search as usearch_search

import native_simd
from benchmarks import floors
from benchmarks.contest import in_process, take_turns, timed
from benchmarks.figures import Figure, of_turns
from benchmarks.machine import environment, n_cpus, vector_isas
from benchmarks.peers import DATA
from benchmarks.suite import Part, Suite
from cluster_engine.linkage.basis import choose_sketch
from cluster_engine.linkage.lists import nearest_lists
from native_simd.isa import active_code, lib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from benchmarks.contest import Contender

_D, _K, _BEST = 768, 32, 10
_TRUST = 1e-5
_IN_A_ROW = (
    100_000  # similarities in the calls of one turn, at least: small sets stay in caches, as where they are used
)
_NEWER_THAN_AVX2 = ("skylake", "icelake", "genoa", "turin", "sapphire")


def unit_vectors(n: int, seed: int) -> NDArray[np.float32]:
    x = np.random.default_rng(seed).standard_normal((n, _D), dtype=np.float32)
    x /= np.sqrt(np.einsum("ij,ij->i", x, x))[:, np.newaxis]
    return x


def contest_roof(threads: int, n: int) -> dict[str, list[float]]:
    """Multiply and add in registers; read memory, much more than caches hold."""
    packed = native_simd.pack(np.ones((n, _D), np.float32))
    return take_turns({"multiply": floors.multiply(threads), "read": floors.read(packed, threads)}, 9)


def roof(divide: int) -> list[Figure]:
    n, figures = 100_000 // divide, []
    for isa in vector_isas():
        for threads in _threads():
            row: dict[str, str | int] = {"ISA": isa, "threads": threads}
            answer = _ask("contest_roof", isa, threads, n=n)
            flop = floors.multiply_flop(isa, threads)
            figures.append(of_turns(row | {"roof": "multiply-add"}, "bound", answer["multiply"], flop=flop))
            figures.append(of_turns(row | {"roof": "read"}, "bound", answer["read"], n_bytes=4 * n * _D))
    return figures


def contest_pairs(threads: int, n: int) -> dict[str, list[float]]:
    """Fill the symmetric matrix of similarities."""
    x = unit_vectors(n, 1)
    packed, ours, theirs = native_simd.pack(x, unit=True), np.zeros((n, n), np.float32), np.zeros((n, n), np.float32)
    contenders = {
        "engine": timed(lambda: native_simd.pairwise_symmetric(packed, out=ours, threads=threads)),
        "numpy X @ X.T": timed(lambda: np.matmul(x, x.T, out=theirs)),
    }
    turns = take_turns(contenders, 5)
    assert np.abs(ours - theirs).max() < _TRUST
    return turns


def pairs(divide: int) -> list[Figure]:
    n = 8_000 // divide
    work = {"flop": n * (n + 1) * _D, "n_bytes": 4 * (n * _D + n * n)}
    return _of_each_isa("contest_pairs", n_cpus(), {"n": n}, work)


def contest_neighbours(threads: int, n: int, data: str) -> dict[str, list[float]]:
    """Find the nearest of each row; the triangle is what the pass must compute unless sketches rule pairs out."""
    x = DATA[data](n, _D, 1)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    packed, index = native_simd.pack(x, unit=True), _faiss_index(x, threads)
    brute = NearestNeighbors(n_neighbors=_K, algorithm="brute", metric="euclidean", n_jobs=threads).fit(x)

    def as_linkage_does() -> None:
        nearest_lists(packed, "cosine", _K, sketch=choose_sketch(packed, _K, threads), threads=threads)

    ours, theirs = native_simd.neighbours(packed, _K - 1, threads=threads).similarities, index.search(x, _K)[0]
    assert np.abs(ours - theirs[:, 1:]).max() < _TRUST  # faiss finds each row itself first
    return {
        **take_turns(
            {
                "engine": timed(lambda: native_simd.neighbours(packed, _K, threads=threads)),
                "as linkage does": timed(as_linkage_does),
                "triangle": floors.triangle(packed, threads),
                "faiss": timed(lambda: index.search(x, _K)),
            },
            3,
        ),
        **take_turns({"scikit-learn": timed(brute.kneighbors)}, 1, warm=True),
    }


def neighbours(divide: int) -> list[Figure]:
    n = 20_000 // divide
    work = {"flop": n * (n + 1) * _D, "n_bytes": 4 * n * _D + 8 * n * (_K + 1)}
    return [
        figure
        for data in ("iid", "mixture")
        for figure in _of_each_isa("contest_neighbours", n_cpus(), {"n": n, "data": data}, work, n=n, data=data)
    ]


def contest_batch(threads: int, n: int) -> dict[str, list[float]]:
    """Compare one query with n centroids, called from C."""
    query, packed = unit_vectors(1, 1), native_simd.pack(unit_vectors(n, 2), unit=True, threads=threads)
    codes = {"engine": active_code(), "scalar": int(lib.NS_SCALAR)}
    return take_turns({name: floors.batch(isa, query, packed, _IN_A_ROW // n) for name, isa in codes.items()}, 11)


def batches(_divide: int) -> list[Figure]:
    figures = []
    for n in (16, 64, 1_024):
        work = {"flop": 2 * n * _D, "n_bytes": 4 * (n + 1) * _D}
        figures += _of_each_isa("contest_batch", 1, {"n": n}, work)
    return figures


def contest_search(threads: int, m: int, n_queries: int, turns: int) -> dict[str, list[float]]:
    """Find the best of m vectors for each query."""
    if native_simd.active_isa() == "avx2":
        for newer in _NEWER_THAN_AVX2:
            numkong.disable_capability(newer)
    queries, x = unit_vectors(n_queries, 2), unit_vectors(m, 3)
    of = partial(timed, calls=max(1, _IN_A_ROW // (m * n_queries)))
    packed, index = native_simd.pack(x, unit=True, threads=threads), _faiss_index(x, threads)
    contenders: dict[str, Contender] = {
        "engine": of(lambda: native_simd.top_k(queries, packed, _BEST, threads=threads)),
        "faiss": of(lambda: index.search(queries, _BEST)),
        "usearch": of(lambda: usearch_search(x, queries, _BEST, MetricKind.IP, exact=True, threads=threads)),
        **{name: of(call) for name, call in _products(x, queries, threads).items()},
    }
    if n_queries == 1:
        quantized = native_simd.quantize(packed, threads=threads)
        contenders["engine, quantized"] = of(lambda: native_simd.top_k(queries, quantized, _BEST, threads=threads))
    if n_queries == 1 and _out_of_cache(m):
        contenders["reading alone"] = floors.read(packed, threads)
    ours, theirs = native_simd.top_k(queries, packed, _BEST)[1], index.search(queries, _BEST)[0]
    assert np.abs(ours - theirs).max() < _TRUST
    return take_turns(contenders, turns)


def _products(x: NDArray[np.float32], queries: NDArray[np.float32], threads: int) -> dict[str, Callable[[], object]]:
    """Return those that give similarities only; NumKong's calls have one thread."""
    out = np.empty((len(queries), len(x)), np.float32)
    if len(queries) == 1:
        products = {"numpy": lambda: np.matmul(x, queries[0], out=out[0])}
        single = {"NumKong": lambda: numkong.dot(queries[0], x)}
    else:
        products = {"numpy": lambda: np.matmul(queries, x.T, out=out)}
        kong = numkong.dots_pack(x, dtype="f32")
        single = {"NumKong": lambda: numkong.dots_packed(queries, kong)}
    return products | (single if threads == 1 else {})


def searches(divide: int, m: int, turns: Mapping[int, int]) -> list[Figure]:
    """Search for as many queries at once as the keys of `turns` say, that many times."""
    figures, m = [], m // divide
    for n_queries, n_turns in turns.items():
        work = {"flop": 2 * n_queries * m * _D, "n_bytes": 4 * (m + n_queries) * _D}
        for threads in _threads():
            row = {"queries": n_queries, "m": m}
            figures += _of_each_isa("contest_search", threads, row, work, n_queries=n_queries, m=m, turns=n_turns)
    return figures


def _of_each_isa(
    function: str, threads: int, row: Mapping[str, int | str], work: Mapping[str, int], **arguments: int | str
) -> list[Figure]:
    return [
        of_turns({**row, "ISA": isa, "threads": threads}, contender, turns_s, **work)
        for isa in vector_isas()
        for contender, turns_s in _ask(function, isa, threads, **(arguments or {"n": row["n"]})).items()
    ]


def _ask(function: str, isa: str, threads: int, **arguments: int | str) -> dict[str, Any]:
    told: dict[str, Any] = {"threads": threads, **arguments}
    return in_process(f"benchmarks.similarity:{function}", environment(isa, threads), **told)


def _out_of_cache(m: int) -> bool:
    return 4 * m * _D > 2**28


def _threads() -> Iterable[int]:
    return sorted({1, n_cpus()})


def _faiss_index(x: NDArray[np.float32], threads: int) -> faiss.IndexFlatIP:
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(_D)
    index.add(x)
    return index


def _search(m: int, turns: Mapping[int, int]) -> Part:
    measure: Callable[[int], list[Figure]] = partial(searches, m=m, turns=turns)
    bound = "; 0.85x of reading alone" if _out_of_cache(m) else ""
    return Part(f"The best {_BEST} of {m:,} vectors (marks: 1x of every peer{bound})", measure, "GB/s")


SUITE = Suite(
    "similarity",
    "Similarity",
    f"i.i.d. normal vectors of {_D} dimensions, packed before; cosine. Median of turns in one process (fastest to "
    "slowest), the rate, and the other's time over the engine's: below 1x a bound, or a peer that is faster. faiss is "
    "`IndexFlatIP`; scikit-learn is `NearestNeighbors`, brute, Euclidean (its fastest); usearch is its exact search, "
    "which chooses its own instructions. numpy and NumKong give similarities alone, and do not look for the best; "
    "NumKong has one thread.",
    {
        "roof": Part("What this machine can do", roof, "GFLOP/s", "Multiply-adds in registers, and reading 300 MB."),
        "pairs": Part("All pairs, both halves written (mark: 1.3x of numpy)", pairs, "GFLOP/s"),
        "neighbours": Part(
            f"The nearest {_K} of each row (marks: 4x of faiss, 0.8x of the triangle)",
            neighbours,
            "GFLOP/s",
            "The triangle is each pair computed once by the same kernels, and never looked at. Linkage samples first "
            "whether sketches pay; they do for a mixture.",
        ),
        "batch": Part("One query with n vectors, called from C (marks: 16 in 1 us, 8x of scalar)", batches, "GFLOP/s"),
        "search 1000": _search(1_000, {1: 11, 64: 11}),
        "search 10000": _search(10_000, {1: 11, 64: 5}),
        "search 100000": _search(100_000, {1: 11, 64: 3}),
        "search 1000000": _search(1_000_000, {1: 5}),
    },
)

if __name__ == "__main__":
    SUITE.main()
