"""What the exit code of a command says. Shared by the command line and the jobs."""

from __future__ import annotations

from enum import IntEnum

from cluster_engine.errors import (
    CapacityError,
    ClusterConnectionError,
    ConfigError,
    InputError,
    LeaseHeldError,
    PassError,
    PlacementError,
    ServiceError,
    StoreError,
)
from native_simd import IsaUnavailableError


class ExitCode(IntEnum):
    """Exit codes of every command."""

    OK = 0
    """Done; also for a slot that was committed before."""

    UNEXPECTED = 1
    """A defect, with its traceback; for ``doctor``, something required is broken."""

    USAGE = 2
    """An option, a configuration key or an environment variable is not accepted."""

    INPUT = 3
    """The input cannot become episodes or queries."""

    CAPACITY = 4
    """The work does not fit in memory; nothing was started."""

    STORE = 5
    """The store cannot be read or written, or another writer was first."""

    CLUSTER = 6
    """Ray cannot be reached or refuses this client, or actors cannot start, finish or be bound to a NUMA node."""

    BUSY = 7
    """Another run holds the lease of the store; nothing was done."""

    INTERRUPTED = 130
    """Ctrl-C."""

    TERMINATED = 143
    """SIGTERM, as Ray, systemd and Kubernetes end a job."""


_CODES: dict[type[Exception], ExitCode] = {
    ConfigError: ExitCode.USAGE,
    IsaUnavailableError: ExitCode.USAGE,
    InputError: ExitCode.INPUT,
    CapacityError: ExitCode.CAPACITY,
    LeaseHeldError: ExitCode.BUSY,  # before StoreError, whose subclass it is: the first match counts
    StoreError: ExitCode.STORE,
    ClusterConnectionError: ExitCode.CLUSTER,
    PassError: ExitCode.CLUSTER,
    ServiceError: ExitCode.CLUSTER,
    PlacementError: ExitCode.CLUSTER,
}

EXPECTED_ERRORS = tuple(_CODES)
"""The errors that a user can act on: told in one line, without a traceback."""


def exit_code_of(error: Exception) -> ExitCode:
    """Return the exit code for one of `EXPECTED_ERRORS`."""
    return next(code for kind, code in _CODES.items() if isinstance(error, kind))


def message_of(error: Exception) -> str:
    """Return what one of `EXPECTED_ERRORS` says, on one line.

    One that was raised on an actor arrives wrapped by Ray, its text being the actor's traceback.
    """
    return " ".join(str(getattr(error, "cause", error)).split())
