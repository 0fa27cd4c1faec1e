"""The built-in scheduler: ``cluster-engine schedule``, with logs.

::

    python -m jobs.schedule --cron "0 2 * * *" --timezone Europe/Berlin --store /data/memory \
        --input '/data/episodes/*.parquet' --catch-up latest --max-lateness 6h -- --config configs/laptop.yaml

Batches run on this machine, or, with ``--address http://head:8265``, as jobs of a cluster. Options after ``--`` are
those of `jobs.consolidate`. Stdout has one line of JSON a batch; logs and progress go to stderr.
"""

from __future__ import annotations

import sys

from cluster_engine.cli import main

if __name__ == "__main__":
    main(["--verbose", "schedule", *sys.argv[1:]])
