"""One batch a night by Airflow (3.2 or newer), as a job of a Ray cluster.

The slot is the run's logical date, so a run that is cleared, retried or backfilled is the same batch, and one that was
committed ends at once. The worker needs the package and the token of the cluster (``RAY_AUTH_MODE=token`` and
``RAY_AUTH_TOKEN``), not the store.
"""

import shlex
import subprocess
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import CronTriggerTimetable, dag, task
from airflow.sdk.exceptions import AirflowFailException

COMMAND = shlex.split(
    "cluster-engine --verbose submit --wait --json --address http://ray-head:8265 -- "
    "--input '/data/episodes/*.parquet' --store /data/memory --config /data/cluster.yaml"
)
FINAL = {2, 3}  # options and input stay as they are: no retry mends them


@dag(
    schedule=CronTriggerTimetable("30 4 * * *", timezone="Europe/Berlin"),
    start_date=datetime(2026, 11, 1, tzinfo=timezone.utc),
    catchup=False,  # the newest slot makes up for those that were missed
    max_active_runs=1,  # slots are committed in their order
)
def consolidate() -> None:
    """Fold new episodes into the concepts."""

    @task(retries=3, retry_delay=timedelta(minutes=1), retry_exponential_backoff=True)
    def batch(dag_run: Any = None) -> None:  # noqa: ANN401  # given by Airflow
        due = dag_run.logical_date or dag_run.run_after  # a run by hand may have no logical date
        slot = due.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%MZ")
        code = subprocess.run([*COMMAND, "--slot", slot], check=False).returncode
        if code in FINAL:
            raise AirflowFailException(f"slot {slot} ended with exit code {code}")
        if code:
            raise RuntimeError(f"slot {slot} ended with exit code {code}")

    batch()


consolidate()
