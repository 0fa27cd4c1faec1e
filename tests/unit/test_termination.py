"""SIGTERM ends a command, whatever became of the exception that its handler raised."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from cluster_engine.cli.app import Termination, terminable

if TYPE_CHECKING:
    from collections.abc import Callable


def code_of(work: Callable[[Termination], None]) -> object:
    """Return the code with which a block ends the process; None if it does not."""
    try:
        with terminable() as termination:
            work(termination)
    except SystemExit as end:
        return end.code
    return None


def be_told_to_end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_an_exception_that_was_swallowed_is_raised_again() -> None:
    def swallow(termination: Termination) -> None:
        with suppress(SystemExit):  # as a finalizer, or a callback from C, does
            be_told_to_end()
        termination.check()

    assert code_of(swallow) == signal.SIGTERM


def test_an_exception_that_became_another_ends_the_process_all_the_same() -> None:
    def become_another(_: Termination) -> None:
        try:
            be_told_to_end()
        except SystemExit:
            raise AttributeError("partially initialized module") from None  # as an import does

    assert code_of(become_another) == signal.SIGTERM


def test_the_signal_is_taken_back_from_who_took_it() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def take(termination: Termination) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        termination.check()
        be_told_to_end()

    assert code_of(take) == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_block_that_nobody_ends_ends_nothing() -> None:
    assert code_of(lambda termination: termination.check()) is None
