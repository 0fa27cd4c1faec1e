"""The command line, `cluster-engine`: options in, an answer on stdout, an exit code.

Answers go to stdout, for people or (``--json``) as exactly one line of JSON; progress, logs and errors go to stderr.
A module holds the commands of one kind; importing it adds them to `app`.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import typer

from cluster_engine.cli import (  # noqa: F401  # adds their commands
    batch,
    calibration,
    changes,
    jobs,
    monitoring,
    operation,
    preparation,
    reading,
    schedule,
    versions,
)
from cluster_engine.cli.app import app
from cluster_engine.exit_codes import EXPECTED_ERRORS, exit_code_of, message_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_LOG = logging.getLogger(__name__)


def main(args: Sequence[str] | None = None) -> None:
    """Run a command and end the process with one of `cluster_engine.exit_codes.ExitCode`.

    Parameters
    ----------
    args : sequence of str, optional
        By default those of the process.
    """
    try:
        app(args, prog_name="cluster-engine")
    except EXPECTED_ERRORS as error:
        _LOG.debug("where it came from:", exc_info=error)
        typer.echo(f"error: {message_of(error)}", err=True)
        sys.exit(exit_code_of(error))
