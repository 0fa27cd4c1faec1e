"""Commands about batches that run as jobs of a Ray cluster."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from cluster_engine import terminal
from cluster_engine.cli.app import Json, app, make_console, parse_options, print_json, terminable
from cluster_engine.exit_codes import ExitCode
from cluster_engine.submission import ADDRESS_VARIABLE, DEFAULT_ADDRESS, Job, Jobs, check_store, check_working_dir

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URL",
        help=f"The cluster's dashboard; by default that of {ADDRESS_VARIABLE}, or {DEFAULT_ADDRESS}.",
    ),
]
WorkingDir = Annotated[
    str | None, typer.Option("--working-dir", metavar="DIR", help="Directory whose files a job finds where it runs.")
]
Python = Annotated[str, typer.Option("--python", metavar="PATH", help="Python of the cluster's nodes.")]
BatchOptions = Annotated[
    list[str], typer.Argument(metavar="-- OPTIONS", help="Options of consolidate.", show_default=False)
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.", show_default=False)]

_ENDINGS = {
    KeyboardInterrupt: ("interrupted", ExitCode.INTERRUPTED),
    SystemExit: ("terminated", ExitCode.TERMINATED),
}


@app.command()
def submit(
    *,
    options: BatchOptions,
    address: Address = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show the job's logs, and end with its exit code.")] = False,
    working_dir: WorkingDir = None,
    python: Python = "python",
    as_json: Json = False,
) -> None:
    """Submit a batch to a cluster, once for each slot of a store."""
    values = parse_options("consolidate", options)
    check_store(values["store"])
    check_working_dir(working_dir)
    jobs = Jobs.connect(address)
    command = [python, "-m", "jobs.consolidate", *options]
    job_id = jobs.submit(command, values["store"], values["slot"], working_dir)
    job = _wait(jobs, job_id) if wait else jobs.find(job_id)
    _show(jobs, job, as_json=as_json)
    raise typer.Exit((job.exit_code or ExitCode.OK) if wait else ExitCode.OK)


def _wait(jobs: Jobs, job_id: str) -> Job:
    """Wait for a job, which goes on in the cluster if the waiting is ended."""
    try:
        with terminable():
            return jobs.wait(job_id, lambda lines: typer.echo(lines, nl=False, err=True))
    except (KeyboardInterrupt, SystemExit) as end:
        word, code = _ENDINGS[type(end)]
        typer.echo(f"{word}: job {job_id} goes on; `cluster-engine stop {job_id}` would end it", err=True)
        raise typer.Exit(code) from None


@app.command()
def status(*, job_id: JobId, address: Address = None, as_json: Json = False) -> None:
    """Say how a job stands."""
    jobs = Jobs.connect(address)
    _show(jobs, jobs.find(job_id), as_json=as_json)


@app.command()
def logs(
    *,
    job_id: JobId,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
) -> None:
    """Print what a job wrote."""
    jobs = Jobs.connect(address)
    if follow:
        jobs.wait(job_id, lambda lines: typer.echo(lines, nl=False))
    else:
        typer.echo(jobs.logs(job_id), nl=False)


@app.command()
def stop(*, job_id: JobId, address: Address = None, as_json: Json = False) -> None:
    """End a job; its slot can be submitted again."""
    jobs = Jobs.connect(address)
    _show(jobs, jobs.stop(job_id), as_json=as_json)


@app.command("jobs")
def list_jobs(*, address: Address = None, as_json: Json = False) -> None:
    """List the jobs of a cluster, the newest first."""
    jobs = Jobs.connect(address)
    known = jobs.known()
    if as_json:
        print_json({"address": jobs.address, "jobs": [asdict(job) for job in known]})
    else:
        make_console().print(terminal.job_table(known))


def _show(jobs: Jobs, job: Job, *, as_json: bool) -> None:
    if as_json:
        print_json({"address": jobs.address, "job": asdict(job)})
        return
    make_console().print(terminal.job_table([job]))
    if job.exit_code:
        typer.echo(job.message, file=sys.stdout)
