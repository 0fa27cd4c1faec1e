"""Whether a batch that failed is tried again, and when: by its exit code alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from cluster_engine.exit_codes import ExitCode

_LONGEST = timedelta(minutes=15)  # chosen, not measured: what a restart of a cluster or a filesystem takes
_FINAL = frozenset({ExitCode.USAGE, ExitCode.INPUT, ExitCode.INTERRUPTED, ExitCode.TERMINATED})
"""What trying again cannot mend: options and input stay as they are, and who ended a batch meant it."""


@dataclass(frozen=True)
class Retries:
    """How often a batch is tried again, and after how long.

    Attributes
    ----------
    limit : int
        Times after the first.
    delay : timedelta
        Before the first of them. It doubles from one to the next, up to 15 minutes.
    """

    limit: int
    delay: timedelta

    def wait_after(self, code: int, n_failures: int) -> timedelta | None:
        """Return how long to wait before another try, or None for no other.

        Parameters
        ----------
        code : int
            Exit code of the batch, not 0.
        n_failures : int
            How often it has failed now.
        """
        if code in _FINAL or n_failures > self.limit:
            return None
        doublings = min(n_failures - 1, 10)  # 30 s reach 15 minutes after five
        return min(self.delay * (1 << doublings), max(self.delay, _LONGEST))
