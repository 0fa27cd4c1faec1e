"""Exact hierarchical clustering of embedded episodes into lasting concepts, on Ray.

`linkage` is the function; the subpackage of that name is reached by its modules. The other names are loaded when they
are first used, so that who clusters an array does not wait for Ray.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from cluster_engine.linkage.approximate import ApproximateLinkage, approximate_linkage
from cluster_engine.linkage.deduplication import Deduplication, deduplicate
from cluster_engine.linkage.linkage import linkage
from cluster_engine.linkage.plan import Plan, plan

if TYPE_CHECKING:
    from cluster_engine.assigner import ConceptAssigner
    from cluster_engine.batch import BatchReport
    from cluster_engine.dendrogram import Dendrogram
    from cluster_engine.driver import Preview, consolidate, preview, retain
    from cluster_engine.estimator import ConceptClustering
    from cluster_engine.planning import BatchPlan, plan_batch
    from cluster_engine.search.conditions import Condition
    from cluster_engine.shards.linkage import distributed_linkage
    from cluster_engine.shards.service import BindingService
    from cluster_engine.shards.shard import BindingShard
    from cluster_engine.store.snapshot import ConceptStore
    from cluster_engine.undo import undo

__all__ = [
    "ApproximateLinkage",
    "BatchPlan",
    "BatchReport",
    "BindingService",
    "BindingShard",
    "ConceptAssigner",
    "ConceptClustering",
    "ConceptStore",
    "Condition",
    "Deduplication",
    "Dendrogram",
    "Plan",
    "Preview",
    "approximate_linkage",
    "consolidate",
    "deduplicate",
    "distributed_linkage",
    "linkage",
    "plan",
    "plan_batch",
    "preview",
    "retain",
    "undo",
]

_MODULES = {
    "BatchReport": "cluster_engine.batch",
    "BindingService": "cluster_engine.shards.service",
    "BindingShard": "cluster_engine.shards.shard",
    "ConceptAssigner": "cluster_engine.assigner",
    "ConceptClustering": "cluster_engine.estimator",
    "ConceptStore": "cluster_engine.store.snapshot",
    "Condition": "cluster_engine.search.conditions",
    "Dendrogram": "cluster_engine.dendrogram",
    "BatchPlan": "cluster_engine.planning",
    "consolidate": "cluster_engine.driver",
    "plan_batch": "cluster_engine.planning",
    "Preview": "cluster_engine.driver",
    "preview": "cluster_engine.driver",
    "retain": "cluster_engine.driver",
    "undo": "cluster_engine.undo",
    "distributed_linkage": "cluster_engine.shards.linkage",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
