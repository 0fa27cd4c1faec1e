"""Binding-index shards: the index itself, the NUMA node it lives on, and the actors that serve it."""
