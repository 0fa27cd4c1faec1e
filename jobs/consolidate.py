"""The Ray job of one batch: ``cluster-engine consolidate --json``, with logs.

::

    ray job submit --working-dir . -- python -m jobs.consolidate --input '/data/episodes/*.parquet' \
        --store /data/memory --slot 2026-11-22T02:00Z --config configs/cluster.yaml

`--store` is an absolute path or a URI: a relative one would be a folder of the job's working directory, which Ray
removes. Other options, configuration and exit codes are those of the command line. Stdout is one line of JSON, the
`BatchReport`; logs and progress go to stderr. A job that is submitted twice for one slot commits once: Ray may start a
job twice.
"""

from __future__ import annotations

import argparse
import sys

from cluster_engine.cli import main
from cluster_engine.errors import ConfigError
from cluster_engine.exit_codes import ExitCode
from cluster_engine.submission import check_store


def refuse_relative_store(args: list[str]) -> None:
    """End the process if the store is a relative path; what else is wrong the command itself will say."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--store", nargs="?")
    store = parser.parse_known_args(args)[0].store
    try:
        check_store(store or "/")
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(ExitCode.USAGE)


if __name__ == "__main__":
    refuse_relative_store(sys.argv[1:])
    main(["--verbose", "consolidate", "--json", *sys.argv[1:]])
