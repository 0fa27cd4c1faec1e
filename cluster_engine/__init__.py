"""Exact hierarchical clustering of embedded episodes into lasting concepts, on Ray."""

from cluster_engine.linkage.linkage import linkage

__all__ = ["linkage"]
