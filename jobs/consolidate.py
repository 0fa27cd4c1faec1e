"""The Ray job of one batch: ``cluster-engine consolidate --json``, with logs.

::

    ray job submit --working-dir . -- python -m jobs.consolidate --input 'episodes/*.parquet' --store memory/ \
        --slot 2026-11-22T02:00Z --config configs/cluster.yaml

Options, configuration and exit codes are those of the command line. Stdout is one line of JSON, the `BatchReport`; logs
and progress go to stderr. A job that is submitted twice for one slot commits once: Ray may start a job twice.
"""

from __future__ import annotations

import sys

from cluster_engine.cli import main

if __name__ == "__main__":
    main(["--verbose", "consolidate", "--json", *sys.argv[1:]])
