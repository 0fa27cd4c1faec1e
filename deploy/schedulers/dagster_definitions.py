"""One batch a night by Dagster, on the Ray that RAY_ADDRESS names, or on one of this host.

The slot is the time of the schedule's tick, and the run's key: a tick gives one run, and a run that is executed again
is the same batch.
"""

import json
import shlex
import subprocess
from datetime import timezone

import dagster as dg

COMMAND = shlex.split(
    "cluster-engine --verbose consolidate --json --input '/data/episodes/*.parquet' --store /data/memory"
)
FINAL = {2, 3}  # options and input stay as they are: no retry mends them


class Batch(dg.Config):
    """What a run is told: the name of its slot."""

    slot: str


@dg.op(retry_policy=dg.RetryPolicy(max_retries=3, delay=60, backoff=dg.Backoff.EXPONENTIAL))
def consolidate(context: dg.OpExecutionContext, config: Batch) -> None:
    """Fold new episodes into the concepts."""
    done = subprocess.run([*COMMAND, "--slot", config.slot], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise dg.Failure(
            f"slot {config.slot} ended with exit code {done.returncode}", allow_retries=done.returncode not in FINAL
        )
    report = json.loads(done.stdout)
    context.add_output_metadata({name: report[name] for name in ("version", "repeated", "n_concepts")})


@dg.job
def nightly() -> None:
    """Run one batch."""
    consolidate()


@dg.schedule(job=nightly, cron_schedule="30 4 * * *", execution_timezone="Europe/Berlin")
def slots(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Ask for a run of the slot that came due."""
    slot = context.scheduled_execution_time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%MZ")
    return dg.RunRequest(run_key=slot, run_config=dg.RunConfig(ops={"consolidate": Batch(slot=slot)}))


defs = dg.Definitions(jobs=[nightly], schedules=[slots])
