"""Exact hierarchical clustering of embedded episodes into lasting concepts, on Ray."""

from cluster_engine.driver import BatchReport, consolidate
from cluster_engine.linkage.linkage import linkage
from cluster_engine.shards.shard import BindingShard
from cluster_engine.store.snapshot import ConceptStore

__all__ = ["BatchReport", "BindingShard", "ConceptStore", "consolidate", "linkage"]
