"""The exception tree.

::

    ClusterEngineError
    ├── ConfigError             a configuration key or value is not accepted
    ├── InputError              the input cannot become episodes; a ValueError too, as callers of NumPy expect
    │   ├── EpisodeFileError    a file cannot be read as Parquet or Arrow
    │   ├── SchemaError         a column is missing or has an unsupported type
    │   └── VectorError         a vector is not usable (names the row)
    ├── CapacityError           the work does not fit; names the bytes and what would fit
    ├── PlacementError          NUMA policy ``require`` could not be met
    ├── ClusterConnectionError  the Ray cluster cannot be reached, or refuses this client
    ├── PassError               work on the shard actors cannot be finished
    ├── ServiceError            no binding service runs in the namespace, or one does already
    └── StoreError              the store cannot be read or written
        ├── StoreFormatError    written by a newer format than this code knows
        ├── StoreCorruptError   a file is missing or its checksum differs
        ├── LeaseHeldError      another writer holds the lease
        └── CommitConflictError another writer published this version first
            └── FencedError     another writer took the lease meanwhile

Every class passes its fields to ``Exception.__init__``, so each pickles across Ray.
"""

from __future__ import annotations


class ClusterEngineError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(ClusterEngineError):
    """A configuration key or value is not accepted."""


class InputError(ClusterEngineError, ValueError):
    """The input cannot become episodes."""


class EpisodeFileError(InputError):
    """A file cannot be read as Parquet or Arrow."""


class SchemaError(InputError):
    """A column is missing or has a type that cannot hold what it must."""


class VectorError(InputError):
    """A vector is not usable: not finite, zero under cosine, or of the wrong dimension."""


class CapacityError(ClusterEngineError):
    """The work does not fit in memory; nothing was allocated."""


class PlacementError(ClusterEngineError):
    """NUMA policy ``require`` was asked for and could not be met."""


class ClusterConnectionError(ClusterEngineError):
    """The Ray cluster cannot be reached, or refuses this client."""


class PassError(ClusterEngineError):
    """Work on the shard actors cannot be finished: no actor starts, none is left, or a tile is not as planned."""


class ServiceError(ClusterEngineError):
    """No binding service runs in the namespace, one runs there already, or its actors are gone."""


class StoreError(ClusterEngineError):
    """The store cannot be read or written."""


class StoreFormatError(StoreError):
    """The store was written by a newer format than this code knows; it was left untouched."""


class StoreCorruptError(StoreError):
    """A file of the store is missing or its checksum differs from the manifest."""


class LeaseHeldError(StoreError):
    """Another writer holds the lease of the store; nothing was changed."""


class CommitConflictError(StoreError):
    """Another writer published this version first; nothing was changed."""


class FencedError(CommitConflictError):
    """Another writer took the lease of the store meanwhile; nothing was changed."""
