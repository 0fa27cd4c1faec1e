"""Exact hierarchical clustering of embedded episodes into lasting concepts, on Ray."""
