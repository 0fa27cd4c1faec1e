"""Similarity and linkage kernels with the same bits on every instruction set.

The typed face of the C library in ``csrc/``: it checks shapes, types and memory layout once, owns the choice of
instruction set, and knows ids of episodes and concepts, but nothing of Ray. Every call releases the GIL. NUMA placement
is in :mod:`native_simd.placement`; ``README.md`` beside it states the kernel contract.
"""

import pkgutil

# `ray job submit --working-dir .` puts a source tree, which has no compiled extension, ahead of the installed package
# on a worker's path: look for the extension in every `native_simd` on the path.
__path__ = pkgutil.extend_path(__path__, __name__)

from native_simd.agglomeration import (  # after the path
    Agglomeration,
    AgglomerationCounters,
    ClusterPanels,
    rank_clusters,
)
from native_simd.binding_answers import UNITS, Activations, BindingLists, ConceptStates, IndexStatistics, Spread
from native_simd.binding_index import BindingIndex, ChangeKind
from native_simd.binding_tiers import ConceptLines, IndexTiers, Tier
from native_simd.bindings import FanLaw, decay, decay_half_life, fan_effect
from native_simd.cells import Cells, divide, search_cells
from native_simd.chain import ChainCounters, Method, NearestNeighbourChain
from native_simd.epilogue import Sigmoid, Temporal
from native_simd.exact import pair_similarities
from native_simd.ids import is_concept, plain_ids, typed_concepts, typed_episodes
from native_simd.isa import IsaUnavailableError, active_isa, available_isas
from native_simd.neighbours import NeighbourPass, Neighbours, RankedBlock, neighbours, rank_blocks, read_lists
from native_simd.packing import LANES, PackedVectors, RowError, norms, pack
from native_simd.pairs import (
    TILE_ROWS,
    Metric,
    count_tiles,
    pairwise,
    pairwise_symmetric,
    similarity,
)
from native_simd.quantized import QuantizedVectors, quantize
from native_simd.ranking import empty_lists, merge_lists, renumber
from native_simd.search import batch_similarity, top_k
from native_simd.sketch import Coordinates, Sketch, project, sketch
from native_simd.sketched import SketchedPass
from native_simd.spreading import SpreadLaw

__all__ = [
    "LANES",
    "TILE_ROWS",
    "UNITS",
    "Activations",
    "Agglomeration",
    "AgglomerationCounters",
    "BindingIndex",
    "BindingLists",
    "Cells",
    "ChainCounters",
    "ChangeKind",
    "ClusterPanels",
    "ConceptLines",
    "ConceptStates",
    "Coordinates",
    "FanLaw",
    "IndexStatistics",
    "IndexTiers",
    "IsaUnavailableError",
    "Method",
    "Metric",
    "NearestNeighbourChain",
    "NeighbourPass",
    "Neighbours",
    "PackedVectors",
    "QuantizedVectors",
    "RankedBlock",
    "RowError",
    "Sigmoid",
    "Sketch",
    "SketchedPass",
    "Spread",
    "SpreadLaw",
    "Temporal",
    "Tier",
    "active_isa",
    "available_isas",
    "batch_similarity",
    "count_tiles",
    "decay",
    "decay_half_life",
    "divide",
    "empty_lists",
    "fan_effect",
    "is_concept",
    "merge_lists",
    "neighbours",
    "norms",
    "pack",
    "pair_similarities",
    "pairwise",
    "pairwise_symmetric",
    "plain_ids",
    "project",
    "quantize",
    "rank_blocks",
    "rank_clusters",
    "read_lists",
    "renumber",
    "search_cells",
    "similarity",
    "sketch",
    "top_k",
    "typed_concepts",
    "typed_episodes",
]
