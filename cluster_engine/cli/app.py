"""What all commands share: the application, options of one meaning everywhere, logs, and how answers are printed."""

from __future__ import annotations

import logging
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.logging import RichHandler
from typer.core import TyperGroup

from cluster_engine import terminal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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


def parse_options(command: str, args: Sequence[str]) -> dict[str, Any]:
    """Return the values of the options that a command would be run with.

    Raises
    ------
    Exception
        Typer's own for arguments that the command does not take; in a command it ends the process with exit code 2.
    """
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)  # noqa: S101  # it has several commands
    with group.commands[command].make_context(command, list(args)) as context:
        return dict(context.params)


def print_json(record: Record) -> None:
    """Print the answer for machines."""
    typer.echo(terminal.json_line(record))


def make_console() -> Console:
    """Return where answers for people are printed."""
    return Console() if sys.stdout.isatty() else Console(width=_PIPE_COLUMNS)


class Termination:
    """What SIGTERM has asked for.

    An exception that a signal handler raises can get lost: where it meets a finalizer or a callback from C it is
    dropped, and within an import it becomes another error. So it is remembered, and raised again.
    """

    def __init__(self) -> None:
        self.is_asked = False

    def end(self, number: int, _frame: object) -> NoReturn:
        """End the process by a SystemExit; the handler of the signal."""
        self.is_asked = True
        sys.exit(number)

    def check(self) -> None:
        """End the process if that was asked for; take the signal back from Ray, whose handler remembers nothing."""
        if self.is_asked:
            sys.exit(signal.SIGTERM)
        if signal.getsignal(signal.SIGTERM) != self.end:
            signal.signal(signal.SIGTERM, self.end)


@contextmanager
def terminable() -> Iterator[Termination]:
    """Let SIGTERM leave the block by a SystemExit, whatever became of the first one; call `check` now and then."""
    termination = Termination()
    before = signal.signal(signal.SIGTERM, termination.end)
    try:
        yield termination
    except Exception as error:
        if termination.is_asked:
            raise SystemExit(signal.SIGTERM) from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
