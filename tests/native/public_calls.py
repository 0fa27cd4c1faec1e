"""Every public call of the native library with good arguments, for tests that spoil them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

import native_simd
from native_simd import placement

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

X = np.random.default_rng(0).standard_normal((21, 5)).astype(np.float32)
UNIT, RAW = native_simd.pack(X, unit=True), native_simd.pack(X)
QUANTIZED = native_simd.quantize(UNIT)
CELLS = native_simd.divide(X, np.arange(21) % 3, X[:3])
COORDINATES = native_simd.project(UNIT, np.eye(5, dtype=np.float32))
SKETCH = native_simd.sketch(COORDINATES, np.arange(21))
PACKS = [
    UNIT,
    RAW,
    RAW.rows(16, 21),
    native_simd.pack(X[:0], unit=True),
    native_simd.pack(X[:, :4], unit=True),
    native_simd.pack(np.concatenate([X, X]), unit=True),
]


@dataclass(frozen=True)
class Call:
    """A public call, its good arguments made anew, and those among them that it writes."""

    function: Callable[..., Any]
    make: Callable[[], dict[str, Any]]
    written: tuple[str, ...] = ()
    aliases: dict[str, str] = field(default_factory=dict)  # what an error may say instead of the name


def floats(*shape: int) -> NDArray[np.float32]:
    return np.full(shape, -7.5, np.float32)


def whole_chain(**arguments: Any) -> object:  # noqa: ANN401 - arguments of the call
    chain = native_simd.NearestNeighbourChain(**arguments)
    merges = chain.advance(100)
    assert len(merges[0]) == chain.n_leaves - 1
    assert ((merges[0] >= 0) & (merges[0] < merges[1]) & (merges[1] < chain.n_leaves)).all()
    return *merges, chain.counters()


def square() -> NDArray[np.float32]:
    return native_simd.similarity(X, X)


def chain_sums() -> NDArray[np.float64]:
    return X.astype(np.float64) / native_simd.norms(X)[:, None]


def block(first: int) -> native_simd.RankedBlock:
    return native_simd.RankedBlock(UNIT, first, native_simd.empty_lists(21, 4))


def neighbour_lists() -> NDArray[np.uint64]:
    whole = native_simd.NeighbourPass(UNIT, 3)
    whole.run()
    return whole.lists


def sketched_pass(
    packed: native_simd.PackedVectors, sketch: native_simd.Sketch, k: int, threads: int
) -> NDArray[np.uint64]:
    whole = native_simd.SketchedPass(packed, sketch, k, threads)
    whole.run()
    return whole.lists


def whole_agglomeration(**arguments: Any) -> object:  # noqa: ANN401 - arguments of the call
    made = native_simd.Agglomeration(**arguments)
    merges = made.advance(100)
    while made.n_queries:
        made.rescan(threads=2)
        merges = tuple(np.concatenate(parts) for parts in zip(merges, made.advance(100), strict=True))
    assert (merges[0] < merges[1]).all()
    return *merges, made.living(), made.counters()


def asking() -> native_simd.Agglomeration:
    """Return an agglomeration that has merged all it could, and asks for rescans."""
    packed = native_simd.pack(X, unit=True)
    made = native_simd.Agglomeration(
        X, native_simd.norms(X), packed, np.ones(21), neighbour_lists()[:, :2].copy(), method="average", metric="cosine"
    )
    made.advance(100)
    assert made.n_queries
    return made


def answered(lists: NDArray[np.uint64]) -> object:
    agglomeration = asking()
    agglomeration.columns()
    agglomeration.answer(lists)
    return agglomeration.advance(1)


def answer() -> NDArray[np.uint64]:
    agglomeration = asking()
    columns, queries = agglomeration.columns(), agglomeration.queries()
    return agglomeration.rank(queries, columns, np.zeros((queries.n, 3), np.uint64))


def index() -> native_simd.BindingIndex:
    """Return an index of 21 bindings, of 7 concepts and 3 episodes."""
    made = native_simd.BindingIndex(4)
    made.bind(np.arange(21) % 7, np.arange(21) // 7, np.full(21, 0.5, np.float32), 1)
    return made


def on_index(name: str, **good: Any) -> Call:  # noqa: ANN401 - arguments of the call
    """Return a call of a method of a fresh index; what it returns, and what the index holds then."""

    def call(**arguments: Any) -> object:  # noqa: ANN401 - arguments of the call
        made = index()
        try:
            result = getattr(made, name)(**arguments)
        except (TypeError, ValueError):
            assert all(np.array_equal(a, b) for a, b in zip(made.bindings(), index().bindings(), strict=True))
            assert made.operations().tolist() == [1]
            raise
        made.check()
        return result, made.bindings(), made.operations()

    return Call(
        call, lambda: {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in good.items()}
    )


def tiered() -> native_simd.BindingIndex:
    """Return an index like `index`; two of its concepts are outside, and what is here is kept, too."""
    made = index()
    made.tiers.settle(np.arange(7), np.arange(7) * 3)
    made.tiers.evict(np.array([5, 6]))
    return made


def on_tiers(name: str, **good: Any) -> Call:  # noqa: ANN401 - arguments of the call
    """Return a call of a method of the tiers of a fresh index; what it returns, and what the index holds then."""

    def call(**arguments: Any) -> object:  # noqa: ANN401 - arguments of the call
        made = tiered()
        try:
            result = getattr(made.tiers, name)(**arguments)
        except (TypeError, ValueError):
            assert all(np.array_equal(a, b) for a, b in zip(made.bindings(), tiered().bindings(), strict=True))
            assert made.tiers.counts() == (7, 2)
            made.check()
            raise
        made.check()
        return result, made.bindings(), made.tiers.lines()

    return Call(
        call, lambda: {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in good.items()}
    )


PAIRS = {"concept_ids": np.arange(7), "episode_ids": np.arange(7) % 3}
ANYWHERE = placement.MemoryPolicy(placement.MemoryMode.DEFAULT)
HALVES = np.full(7, 0.5, np.float32)

CALLS = {
    "BindingIndex": Call(lambda n_shards: native_simd.BindingIndex(n_shards).n_shards, lambda: {"n_shards": 8}),
    "bind": on_index("bind", **PAIRS, strengths=HALVES, op_id=2, threads=2),
    "set_strengths": on_index("set_strengths", **PAIRS, strengths=HALVES, op_id=2, threads=2),
    "add_strengths": on_index("add_strengths", **PAIRS, amounts=HALVES, op_id=2, threads=2),
    "unbind": on_index("unbind", **PAIRS, op_id=2, threads=2),
    "activate": on_index("activate", concept_ids=np.arange(7), at=5, op_id=2),
    "BindingIndex.decay": on_index("decay", half_lives=0.5, op_id=2, threads=2),
    "decay_concepts": on_index("decay_concepts", concept_ids=np.arange(7), rates=HALVES, dt=1.5, op_id=2),
    "forget": on_index("forget", below=0.75, op_id=2, keep=2, threads=2),
    "fan_out": on_index("fan_out", concept_ids=np.arange(9), threads=2),
    "states": on_index("states", concept_ids=np.arange(9), threads=2),
    "episodes_of": on_index("episodes_of", concept_ids=np.arange(9)),
    "concepts_of": on_index("concepts_of", episode_ids=np.arange(9)),
    "spread": on_index(
        "spread",
        episode_ids=np.arange(3),
        episode_units=np.arange(3) << 30,
        concept_ids=np.arange(2),
        concept_units=np.arange(2) << 30,
        steps=2,
        law="log",
        half_lives=0.5,
        cutoff_units=5,
        k=4,
        threads=2,
    ),
    "bindings": on_index("bindings", threads=2),
    "restore_operations": on_index("restore_operations", op_ids=np.arange(9)),
    "find": on_tiers("find", concept_ids=np.arange(9)),
    "use": on_tiers("use", concept_ids=np.arange(9), change=True),
    "adopt": on_tiers("adopt", concept_ids=np.arange(7, 9), fan_outs=np.full(2, 5), kept_at=np.arange(2)),
    "evict": on_tiers("evict", concept_ids=np.arange(3)),
    "admit": on_tiers(
        "admit",
        concept_ids=np.array([5, 6]),
        offsets=np.array([0, 3, 6]),
        episode_ids=np.arange(6) % 3,
        strengths=np.full(6, 0.25, np.float32),
        change=True,
    ),
    "settle": on_tiers("settle", concept_ids=np.arange(9), kept_at=np.arange(9)),
    "choose": on_tiers("choose", n_bindings=6, most=3),
    "place": Call(index().memory.place, lambda: {"concepts": ANYWHERE, "episodes": ANYWHERE, "move": True}),
    "typed_concepts": Call(native_simd.typed_concepts, lambda: {"concept_ids": np.arange(9)}),
    "typed_episodes": Call(native_simd.typed_episodes, lambda: {"episode_ids": np.arange(9)}),
    "plain_ids": Call(native_simd.plain_ids, lambda: {"typed_ids": np.arange(9)}),
    "is_concept": Call(native_simd.is_concept, lambda: {"typed_ids": np.arange(9)}),
    "pack": Call(
        native_simd.pack,
        lambda: {"vectors": X, "unit": True, "threads": 2, "memory": None},
        aliases={"memory": "policy"},
    ),
    "norms": Call(native_simd.norms, lambda: {"vectors": X, "unit": False, "threads": 1}),
    "PackedVectors": Call(
        native_simd.PackedVectors,
        lambda: {"panels": RAW.panels, "norms": RAW.norms, "n": 21, "d": 5, "unit": False},
        aliases={"n": "panels|norms", "d": "panels|norms"},
    ),
    "rows": Call(UNIT.rows, lambda: {"start": 0, "stop": 9}, aliases={"start": "rows", "stop": "rows"}),
    "pairwise": Call(
        native_simd.pairwise,
        lambda: {"a": UNIT, "b": UNIT, "metric": "dot", "out": floats(21, 21), "mirror": floats(21, 21), "threads": 2},
        ("out", "mirror"),
        {"a": "out|mirror|unit=True", "b": "out|mirror|unit=True"},
    ),
    "pairwise with an epilogue": Call(
        native_simd.pairwise,
        lambda: {
            "a": UNIT,
            "b": UNIT,
            "metric": "cosine",
            "temporal": native_simd.Temporal(9.0, np.arange(21), np.arange(21)),
            "sigmoid": native_simd.Sigmoid(4.0, 0.5),
            "out": floats(21, 21),
        },
        ("out",),
        {"a": "out|unit=True", "b": "out|unit=True", "metric": "temporal", "temporal": "times_b"},
    ),
    "Temporal": Call(
        native_simd.Temporal, lambda: {"half_life": 1.0, "times_a": np.arange(21), "times_b": np.arange(21)}
    ),
    "Sigmoid": Call(native_simd.Sigmoid, lambda: {"slope": 1.0, "midpoint": 0.5}),
    "pairwise_symmetric": Call(
        native_simd.pairwise_symmetric,
        lambda: {
            "a": UNIT,
            "metric": "cosine",
            "temporal": native_simd.Temporal(9.0, np.arange(21)),
            "out": floats(21, 21),
            "tiles": (0, 1),
            "threads": 2,
        },
        ("out",),
        {"a": "out|tiles|unit=True", "metric": "temporal", "temporal": "times_a|times_b"},
    ),
    "count_tiles": Call(native_simd.count_tiles, lambda: {"n": 400}),
    "similarity": Call(
        native_simd.similarity,
        lambda: {"a": X, "b": X, "metric": "euclidean", "out": floats(21, 21), "threads": 1},
        ("out",),
        {"a": "out", "b": "out"},
    ),
    "neighbours": Call(
        native_simd.neighbours,
        lambda: {"packed": UNIT, "k": 3, "metric": "cosine", "threads": 2},
        aliases={"packed": "unit=True"},
    ),
    "run": Call(native_simd.NeighbourPass(UNIT, 3).run, lambda: {"tiles": (0, 1), "threads": 1}),
    "RankedBlock": Call(
        native_simd.RankedBlock,
        lambda: {"packed": UNIT, "first": 5, "lists": np.zeros((21, 4), np.uint64)},
        aliases={"packed": "lists", "first": "ranked"},
    ),
    "rank_blocks": Call(
        native_simd.rank_blocks,
        lambda: {"a": block(0), "b": block(21), "metric": "cosine", "threads": 2},
        aliases={"a": "unit=True", "b": "unit=True"},
    ),
    "merge_lists": Call(
        native_simd.merge_lists,
        lambda: {"lists": native_simd.empty_lists(21, 4), "others": block(0).lists},
        ("lists",),
    ),
    "top_k": Call(
        native_simd.top_k,
        lambda: {"queries": X, "vectors": UNIT, "k": 3, "threads": 1},
        aliases={"vectors": "unit=True"},
    ),
    "top_k of quantized vectors": Call(
        native_simd.top_k,
        lambda: {"queries": X[:3], "vectors": QUANTIZED, "k": 3, "threads": 2},
        aliases={"vectors": "unit=True"},
    ),
    "quantize": Call(native_simd.quantize, lambda: {"packed": UNIT, "threads": 2}, aliases={"packed": "unit=True"}),
    "QuantizedVectors": Call(
        native_simd.QuantizedVectors,
        lambda: {"packed": UNIT, "words": QUANTIZED.words, "scales": QUANTIZED.scales, "error": QUANTIZED.error},
        aliases={"packed": "unit=True|words|scales"},
    ),
    "divide": Call(
        native_simd.divide,
        lambda: {
            "vectors": X,
            "cell_of": np.arange(21) % 3,
            "centres": X[:3],
            "rows": floats(21, 5),
            "threads": 2,
        },
        ("rows",),
        aliases={"vectors": "cell_of|centres|rows", "centres": "cell_of"},
    ),
    "search_cells": Call(
        native_simd.search_cells,
        lambda: {"queries": X[:3], "cells": CELLS, "k": 3, "least_rows": 5, "allowed": X[:, 0] > 0, "threads": 2},
    ),
    "Cells": Call(
        lambda **arrays: native_simd.search_cells(X[:3], native_simd.Cells(**arrays), 3, least_rows=5),
        lambda: {
            name: getattr(CELLS, name)
            for name in (
                "rows",
                "numbers",
                "starts",
                "digits",
                "scales",
                "errors",
                "centre_digits",
                "centre_scales",
            )
        },
        aliases={"rows": "numbers|digits|dimensions", "starts": "numbers|digits|scales|centre_digits"},
    ),
    "project": Call(
        native_simd.project,
        lambda: {"packed": UNIT, "basis": np.eye(5, dtype=np.float32), "threads": 2},
        aliases={"packed": "unit=True|basis"},
    ),
    "Coordinates": Call(
        native_simd.Coordinates,
        lambda: {"values": COORDINATES.values, "rounding": COORDINATES.rounding, "skew": COORDINATES.skew},
    ),
    "sketch": Call(
        native_simd.sketch,
        lambda: {"coordinates": COORDINATES, "order": np.arange(20, -1, -1), "threads": 2},
        aliases={"coordinates": "order"},
    ),
    "sketch of any coordinates": Call(
        lambda values, rounding, skew: native_simd.sketch(
            native_simd.Coordinates(values, rounding, skew), np.arange(len(values))
        ),
        lambda: {"values": COORDINATES.values, "rounding": COORDINATES.rounding, "skew": COORDINATES.skew},
        aliases={"values": "coordinates|len"},
    ),
    "Sketch": Call(
        native_simd.Sketch,
        lambda: {
            "left": SKETCH.left,
            "right": SKETCH.right,
            "offsets": SKETCH.offsets,
            "order": SKETCH.order,
            "groups": SKETCH.groups,
            "unit": SKETCH.unit,
        },
        aliases={"groups": "left|right", "order": "left|right|offsets"},
    ),
    "SketchedPass": Call(
        sketched_pass, lambda: {"packed": UNIT, "sketch": SKETCH, "k": 3, "threads": 2}, aliases={"packed": "unit=True"}
    ),
    "SketchedPass of any digits": Call(
        lambda left, right, offsets, unit: sketched_pass(
            UNIT, native_simd.Sketch(left, right, offsets, SKETCH.order, SKETCH.groups, unit), 3, 2
        ),
        lambda: {"left": SKETCH.left, "right": SKETCH.right, "offsets": SKETCH.offsets, "unit": SKETCH.unit},
    ),
    "SketchedPass.run": Call(native_simd.SketchedPass(UNIT, SKETCH, 3).run, lambda: {"tiles": (0, 1), "threads": 1}),
    "batch_similarity": Call(
        native_simd.batch_similarity,
        lambda: {"query": X[0], "centroids": UNIT},
        aliases={"centroids": "unit=True"},
    ),
    "decay": Call(
        native_simd.decay,
        lambda: {"strengths": floats(21), "rates": abs(X[:, 0]), "dt": 1.5, "threads": 1},
        ("strengths",),
    ),
    "decay_half_life": Call(
        native_simd.decay_half_life,
        lambda: {
            "strengths": floats(21),
            "last_touched": np.arange(21),
            "now": 20,
            "half_life": 3.0,
            "floor": 0.1,
            "threads": 1,
        },
        ("strengths",),
    ),
    "fan_effect": Call(
        native_simd.fan_effect,
        lambda: {"activations": floats(21), "fan_out": np.arange(21, dtype=np.uint32), "law": "log", "threads": 1},
        ("activations",),
    ),
    "NearestNeighbourChain": Call(
        whole_chain,
        lambda: {
            "matrix": square(),
            "method": "average",
            "counts": np.ones(21),
            "sums": chain_sums(),
            "value_error": 1e-5,
            "value_bound": 1.0,
        },
        aliases={"matrix": "counts|sums", "method": "sums", "sums": "value_error|matrix"},
    ),
    "advance": Call(
        lambda max_merges: native_simd.NearestNeighbourChain(square(), "single", np.ones(21)).advance(max_merges),
        lambda: {"max_merges": 5},
    ),
    "Agglomeration": Call(
        whole_agglomeration,
        lambda: {
            "rows": X,
            "divisors": native_simd.norms(X),
            "packed": native_simd.pack(X, unit=True),
            "weights": np.ones(21),
            "lists": neighbour_lists(),
            "method": "average",
            "metric": "cosine",
            "cut": -np.inf,
            "epsilon": 0.1,
        },
        aliases={"rows": "packed|row", "packed": "unit=True", "method": "metric"},
    ),
    "Agglomeration.advance": Call(
        lambda max_merges, n_enough: asking().advance(max_merges, n_enough), lambda: {"max_merges": 5, "n_enough": 3}
    ),
    "Agglomeration.rank": Call(
        lambda queries, columns, lists, threads: asking().rank(queries, columns, lists, threads),
        lambda: {
            "queries": asking().queries(),
            "columns": asking().columns(),
            "lists": np.zeros((asking().n_queries, 4), np.uint64),
            "threads": 2,
        },
        ("lists",),
        aliases={"queries": "lists"},
    ),
    "rank_clusters": Call(
        native_simd.rank_clusters,
        lambda: {
            "queries": asking().queries(),
            "columns": asking().columns(),
            "lists": np.zeros((asking().n_queries, 4), np.uint64),
            "method": "average",
            "metric": "cosine",
            "threads": 2,
        },
        ("lists",),
        aliases={"queries": "lists", "method": "metric"},
    ),
    "empty_lists": Call(
        native_simd.empty_lists,
        lambda: {"n": 3, "width": 2},
        aliases={"n": "too big|dimension", "width": "too big|dimension"},  # numpy's words
    ),
    "renumber": Call(
        native_simd.renumber,
        lambda: {"lists": neighbour_lists(), "numbers": np.arange(40, 61)},
        aliases={"numbers": "lists"},
    ),
    "Agglomeration.answer": Call(answered, lambda: {"lists": answer()}),
    "ClusterPanels": Call(
        native_simd.ClusterPanels,
        lambda: {"panels": UNIT.panels, "terms": np.ones(21, np.float32), "n": 21, "d": 5},
        aliases={"n": "panels|terms", "d": "panels|terms"},
    ),
    "pair_similarities": Call(
        native_simd.pair_similarities,
        lambda: {
            "vectors": X,
            "first": np.arange(9),
            "second": np.arange(9, 18),
            "metric": "dot",
            "divisors": native_simd.norms(X),
            "threads": 2,
        },
        aliases={"vectors": "first|second|divisors", "first": "second"},
    ),
    "MemoryPolicy": Call(placement.MemoryPolicy, lambda: {"mode": placement.MemoryMode.BIND, "nodes": (0,)}),
    "set_memory_policy": Call(
        placement.set_memory_policy, lambda: {"policy": placement.MemoryPolicy(placement.MemoryMode.DEFAULT)}
    ),
    "bind_memory": Call(
        placement.bind_memory,
        lambda: {"array": X, "policy": placement.MemoryPolicy(placement.MemoryMode.DEFAULT), "move": False},
    ),
    "page_nodes": Call(placement.page_nodes, lambda: {"array": X}),
}
