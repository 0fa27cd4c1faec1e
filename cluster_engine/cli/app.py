"""What all commands share: the application, options of one meaning everywhere, logs, and how answers are printed."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from cluster_engine import terminal

if TYPE_CHECKING:
    from cluster_engine.lookup import Record

_PIPE_COLUMNS = 160  # width of a table where no terminal says one

app = typer.Typer(
    help="Turn embedded episodes into lasting concepts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Store = Annotated[str, typer.Option("--store", help="The concept store: a directory or a URI.", metavar="DIR")]
Version = Annotated[int | None, typer.Option("--version", help="Version to read; by default the current one.")]
Json = Annotated[bool, typer.Option("--json", help="Answer with one line of JSON.")]


@app.callback()
def configure_logs(
    *,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Log what happens.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Log everything, and the traceback of an error.")] = False,
) -> None:
    """Turn embedded episodes into lasting concepts."""
    is_terminal = sys.stderr.isatty()
    handler = RichHandler(console=Console(stderr=True), show_path=False) if is_terminal else logging.StreamHandler()
    layout = "%(message)s" if is_terminal else "%(asctime)s %(levelname)s %(name)s %(message)s"
    logging.basicConfig(format=layout, handlers=[handler], level=logging.WARNING)
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    logging.getLogger("cluster_engine").setLevel(level)
    # That a local Ray asks for a token, which it makes itself, is its default and not news.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)


def print_json(record: Record) -> None:
    """Print the answer for machines."""
    typer.echo(terminal.json_line(record))


def make_console() -> Console:
    """Return where answers for people are printed."""
    return Console() if sys.stdout.isatty() else Console(width=_PIPE_COLUMNS)
