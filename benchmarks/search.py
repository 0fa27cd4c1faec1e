"""Single searches beside peers, each at the least effort that finds as many of the nearest; see ``results.md``.

``python -m benchmarks.search``. Peers take minutes to build; what was built stays in ``out/search/``.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import hnswlib
import numpy as np
from usearch.index import Index as UsearchIndex
from usearch.index import MetricKind
from usearch.index import search as usearch_search

import native_simd
from benchmarks.contest import in_process
from benchmarks.figures import Figure
from benchmarks.machine import environment, n_cpus, vector_isas
from benchmarks.peers import iid, mixture
from benchmarks.suite import Part, Suite
from cluster_engine.store.search import CentroidIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]
    Search = Callable[[Float32Array], Any]  # of one row: the rows found

_D, _K, _N_QUERIES, _ROUNDS = 768, 10, 1_000, 3
_BUILT = Path(__file__).parents[1] / "out" / "search"


def groups(n: int, d: int, seed: int) -> Float32Array:
    """Return 5,000 small groups within 100 topics: a fine mixture, of 20 near vectors in 100,000."""
    rng = np.random.default_rng(seed)
    topics, subtopics = rng.standard_normal((100, d)), rng.standard_normal((5_000, d))
    of = rng.integers(5_000, size=n)
    points = topics[of // 50] + 0.7 * subtopics[of] + 0.5 * rng.standard_normal((n, d))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), np.float32)


def surface(n: int, d: int, seed: int) -> Float32Array:
    """Return vectors near a bent surface of 24 dimensions, denser around 1,000 places, with noise in all ``d``."""
    rng = np.random.default_rng(seed)
    places = rng.standard_normal((1_000, 24))[rng.integers(1_000, size=n)] + 0.5 * rng.standard_normal((n, 24))
    points = np.tanh(places @ rng.standard_normal((24, d)) / 24**0.5) + 0.1 * rng.standard_normal((n, d))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), np.float32)


DATA: dict[str, Callable[[int, int, int], Float32Array]] = {"mixture": mixture, "groups": groups, "surface": surface}


def _data(name: str, n: int) -> tuple[Float32Array, Float32Array]:
    """Return what is searched, and queries of the same kind that are not in it."""
    made = {**DATA, "iid": iid}[name](n + _N_QUERIES, _D, 1)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made[:n], made[n:]


@dataclass(frozen=True)
class Peer:
    """A library's index: how to build, keep and load it, and its search at an effort."""

    build: Callable[[Float32Array, Path], None]
    load: Callable[[Path], Any]
    at: Callable[[Any, int], Search]
    efforts: Sequence[int]


_HNSW_EFFORTS = (10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


def _build_hnswlib(x: Float32Array, path: Path) -> None:
    index = hnswlib.Index(space="ip", dim=_D)
    index.init_index(max_elements=len(x), M=16, ef_construction=200, random_seed=1)
    index.add_items(x, num_threads=n_cpus())
    index.save_index(str(path))


def _load_hnswlib(path: Path) -> Any:  # noqa: ANN401 - a library without annotations
    index = hnswlib.Index(space="ip", dim=_D)
    index.load_index(str(path))
    index.set_num_threads(1)
    return index


def _hnswlib_at(index: Any, effort: int) -> Search:  # noqa: ANN401 - as above
    index.set_ef(effort)
    return lambda row: index.knn_query(row, _K, num_threads=1)[0][0]


def _build_usearch(x: Float32Array, path: Path, dtype: str) -> None:
    index = UsearchIndex(ndim=_D, metric=MetricKind.IP, dtype=dtype, connectivity=16, expansion_add=200)
    index.add(np.arange(len(x)), x, threads=n_cpus())
    index.save(str(path))


def _usearch_at(index: Any, effort: int) -> Search:  # noqa: ANN401 - as above
    index.expansion_search = effort
    return lambda row: index.search(row[0], _K, threads=1).keys


def _build_faiss(x: Float32Array, path: Path, recipe: str) -> None:
    faiss.omp_set_num_threads(n_cpus())
    index = faiss.index_factory(_D, recipe, faiss.METRIC_INNER_PRODUCT)
    index.train(x)
    index.add(x)
    faiss.write_index(index, str(path))


def _faiss_at(index: Any, effort: int, setting: str) -> Search:  # noqa: ANN401 - as above
    faiss.omp_set_num_threads(1)
    faiss.ParameterSpace().set_index_parameter(index, setting, effort)
    return lambda row: index.search(row, _K)[1][0]


def _faiss(recipe: str, setting: str, efforts: Sequence[int]) -> Peer:
    build, at = partial(_build_faiss, recipe=recipe), partial(_faiss_at, setting=setting)
    return Peer(build, lambda path: faiss.read_index(str(path)), at, efforts)


def _usearch(dtype: str) -> Peer:
    build = partial(_build_usearch, dtype=dtype)
    return Peer(build, lambda path: UsearchIndex.restore(str(path)), _usearch_at, _HNSW_EFFORTS)


PEERS = {
    "hnswlib M16": Peer(_build_hnswlib, _load_hnswlib, _hnswlib_at, _HNSW_EFFORTS),
    "usearch f32": _usearch("f32"),
    "usearch f16": _usearch("f16"),
    "faiss HNSW16": _faiss("HNSW16", "efSearch", _HNSW_EFFORTS),
    "faiss IVF512,SQ8": _faiss("IVF512,SQ8", "nprobe", (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)),
}


_FASTEST = ["faiss HNSW16", "faiss IVF512,SQ8"]  # of peers on the mixture: the others are not tried again


def _built(name: str, data: str, n: int) -> tuple[Path, float]:
    """Return where a peer's index lies, and the seconds that it took to build; built where it does not."""
    path = _BUILT / f"{data}-{n}-{name.replace(' ', '-').replace(',', '-')}"
    spent = path.with_name(path.name + ".json")
    if not spent.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        x, _ = _data(data, n)
        start = time.perf_counter()
        PEERS[name].build(x, path)
        spent.write_text(json.dumps(time.perf_counter() - start), encoding="utf-8")
    return path, float(json.loads(spent.read_text(encoding="utf-8")))


def _recall(search: Search, queries: Float32Array, truth: NDArray[np.int64]) -> float:
    found = [search(queries[i : i + 1]) for i in range(len(truth))]
    return float(np.mean([np.isin(best, rows).mean() for best, rows in zip(truth, found, strict=True)]))


def _cheapest(
    at: Callable[[int], Search], efforts: Sequence[int], judge: Callable[[Search], float], least: float
) -> tuple[int, float]:
    """Return the least effort that finds so many, else the largest, and the recall of that."""
    effort, recall = efforts[0], 0.0
    for effort in efforts:
        recall = judge(at(effort))
        if recall >= least:
            break
    return effort, recall


def _turns(contenders: Mapping[str, Search], queries: Float32Array) -> dict[str, list[float]]:
    """Return the seconds of single calls: all queries one after the other, the contenders in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(_ROUNDS):
        for name, search in contenders.items():
            for i in range(50):
                search(queries[i : i + 1])
            for i in range(len(queries)):
                row = queries[i : i + 1]
                start = time.perf_counter()
                search(row)
                seconds[name].append(time.perf_counter() - start)
    return seconds


def contest_few(n: int) -> dict[str, list[float]]:
    """Find exactly the nearest of few."""
    x, queries = _data("iid", n)
    index, flat = CentroidIndex(np.arange(n), x), faiss.IndexFlatIP(_D)
    faiss.omp_set_num_threads(1)
    flat.add(x)
    packed = native_simd.pack(x, unit=True)
    quantized = native_simd.quantize(packed)
    assert index.plan.is_exact
    assert (index.search(queries, _K).concept_ids == native_simd.top_k(queries, packed, _K)[0]).all()
    contenders: dict[str, Search] = {
        "engine": lambda row: index.search(row, _K),
        "float32 panels": lambda row: native_simd.top_k(row, packed, _K),
        "16-bit panels": lambda row: native_simd.top_k(row, quantized, _K),
        "faiss flat": lambda row: flat.search(row, _K),
        "usearch exact": lambda row: usearch_search(x, row, _K, MetricKind.IP, exact=True, threads=1),
    }
    return _turns(contenders, queries)


def contest_many(n: int, data: str, peers: Sequence[str]) -> dict[str, Any]:
    """Find most of the nearest of many: recall, effort, and the seconds of single calls."""
    x, queries = _data(data, n)
    index = CentroidIndex(np.arange(n), x, threads=n_cpus())
    truth = index.search(queries, _K, exact=True).concept_ids
    judge = partial(_recall, queries=queries, truth=truth)
    contenders: dict[str, Search] = {"engine": lambda row: index.search(row, _K).concept_ids[0]}
    notes = {"engine": (index.plan.least_rows, judge(contenders["engine"]))}
    least = math.floor(100 * notes["engine"][1]) / 100
    for name in peers:
        loaded = PEERS[name].load(_built(name, data, n)[0])
        notes[name] = _cheapest(partial(PEERS[name].at, loaded), PEERS[name].efforts, judge, least)
        contenders[name] = PEERS[name].at(loaded, notes[name][0])
    return {"notes": notes, "seconds": _turns(contenders, queries)}


def contest_build(n: int, data: str, name: str) -> dict[str, float]:
    """Build an index; return seconds and bytes."""
    if name != "engine":
        path, seconds = _built(name, data, n)
        return {"seconds": seconds, "bytes": path.stat().st_size}
    x, _ = _data(data, n)
    start = time.perf_counter()
    index = CentroidIndex(np.arange(n), x, threads=n_cpus())
    return {"seconds": time.perf_counter() - start, "bytes": index.n_bytes}


def contest_exact(n: int) -> dict[str, list[float]]:
    """Find exactly the nearest of many."""
    from benchmarks import floors  # noqa: PLC0415 - compiles; peers are built without

    x, queries = _data("mixture", n)
    queries = queries[:100]
    index, packed = CentroidIndex(np.arange(n), x, threads=n_cpus()), native_simd.pack(x, unit=True)
    flat, read = faiss.IndexFlatIP(_D), floors.read(packed, 1)
    faiss.omp_set_num_threads(1)
    flat.add(x)
    quantized = native_simd.quantize(packed)
    contenders: dict[str, Search] = {
        "engine": lambda row: index.search(row, _K, exact=True),
        "float32 panels": lambda row: native_simd.top_k(row, packed, _K),
        "16-bit panels": lambda row: native_simd.top_k(row, quantized, _K),
        "faiss flat": lambda row: flat.search(row, _K),
    }
    return {**_turns(contenders, queries), "reading float32": [read() for _ in range(20)]}


def _figure(row: Mapping[str, str | int], contender: str, seconds: Sequence[float], n_bytes: float = 0) -> Figure:
    p5, p50, p99 = np.percentile(seconds, [5, 50, 99])
    return Figure(dict(row), contender, p50, p5, p99, 0, n_bytes)


def _each_isa(function: str, **arguments: Any) -> list[tuple[str, Any]]:  # noqa: ANN401 - as JSON
    asked = f"benchmarks.search:{function}"
    return [(isa, in_process(asked, environment(isa, 1), **arguments)) for isa in vector_isas()]


def few(divide: int) -> list[Figure]:
    n = 1_000 // divide
    return [
        _figure({"n": n, "ISA": isa}, name, seconds, 4 * n * _D)
        for isa, answer in _each_isa("contest_few", n=n)
        for name, seconds in answer.items()
    ]


def exact(divide: int) -> list[Figure]:
    n = 100_000 // divide
    return [
        _figure({"n": n, "ISA": isa}, name, seconds, 4 * n * _D)
        for isa, answer in _each_isa("contest_exact", n=n)
        for name, seconds in answer.items()
    ]


def many(divide: int, data: str, peers: Sequence[str]) -> list[Figure]:
    n, figures = 100_000 // divide, []
    for isa, answer in _each_isa("contest_many", n=n, data=data, peers=peers):
        for name, seconds in answer["seconds"].items():
            effort, recall = answer["notes"][name]
            figures.append(
                _figure({"index": name, "effort": effort, "recall": f"{recall:.3f}", "ISA": isa}, "", seconds)
            )
    return figures


def builds(divide: int) -> list[Figure]:
    n, figures = 100_000 // divide, []
    for data, peers in {"mixture": list(PEERS), "groups": _FASTEST, "surface": _FASTEST}.items():
        for name in ("engine", *peers):
            isa = vector_isas()[-1]
            env = environment(isa, n_cpus())
            told: dict[str, Any] = {"n": n, "data": data, "name": name}
            built = in_process("benchmarks.search:contest_build", env, **told)
            row: dict[str, str | int] = {"data": data, "threads": n_cpus()}
            seconds = built["seconds"]
            figures.append(Figure(row, name, seconds, seconds, seconds, peak_bytes=built["bytes"]))
    return figures


def _many(data: str, what: str, peers: Sequence[str]) -> Part:
    measure: Callable[[int], list[Figure]] = partial(many, data=data, peers=peers)
    return Part(f"100,000 vectors: {what} (marks: P99 below 100 us, 1.5x of every peer)", measure)


SUITE = Suite(
    "search",
    "Search",
    f"One query at a time of {_D} dimensions, the {_K} nearest by cosine, one thread, called from Python; "
    f"{_N_QUERIES:,} queries that are not among what is searched, three times over, the contenders in turns. Median "
    "(5th to 99th percentile), and the other's median over the engine's. Engine: the whole call of "
    "`CentroidIndex.search`, which checks, searches and names concepts. Peers search at the least effort that finds "
    "as many of the nearest, to two digits, or at the largest. Effort: what the engine compares at least, `ef` of "
    "graphs, lists of IVF.",
    {
        "few": Part("1,000 vectors, exactly (marks: P50 at most 40 us, P99 below 80 us)", few, "GB/s"),
        "exact": Part("100,000 vectors, exactly (mark: 0.8x of reading alone)", exact, "GB/s"),
        "mixture": _many("mixture", "200 groups of 500 in 20 topics", list(PEERS)),
        "groups": _many("groups", "5,000 groups of 20 in 100 topics", _FASTEST),
        "surface": _many("surface", "a bent surface of 24 dimensions, with noise", _FASTEST),
        "build": Part("Building, all threads, and the size of the index (of peers, its file)", builds),
    },
)

if __name__ == "__main__":
    SUITE.main()
