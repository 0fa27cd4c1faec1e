"""One batch as a child process, which can be cut short, and the signals that ask for it."""

from __future__ import annotations

import signal
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_LOOK_S = 1.0  # how long an asked-for end may go unseen
_GRACE_S = 20.0  # chosen, not measured: a local Ray ends in three; service managers kill after 30 to 90
_SIGNALLED = 128  # a shell's exit code for a process that a signal ended is this plus its number


@dataclass
class Stop:
    """Whether the end was asked for, and by which signal.

    Attributes
    ----------
    number : signal.Signals or None
    """

    number: signal.Signals | None = None
    _event: threading.Event = field(default_factory=threading.Event)

    def ask(self, number: int) -> None:
        """Ask for the end."""
        self.number = signal.Signals(number)
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait until the end is asked for, but no longer than that, and return whether it was."""
        return self._event.wait(max(0.0, seconds))


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """Let Ctrl-C and SIGTERM ask for the end, in place of ending the process."""
    stop = Stop()
    before = {
        number: signal.signal(number, lambda number, _: stop.ask(number)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class BatchProcess:
    """Runs each batch as a child in a session of its own, which hears of Ctrl-C through this process alone.

    Attributes
    ----------
    command : callable
        From the name of a slot to the arguments of its batch. Stdout and stderr are this process's.
    stop : Stop
        When the end is asked for, the child gets the same signal, and SIGKILL 20 s later; no store is harmed by that,
        for a commit is atomic.
    """

    command: Callable[[str], Sequence[str]]
    stop: Stop

    def run(self, slot: str) -> int:
        """Run the batch of a slot and return its exit code, as a shell would give it."""
        with subprocess.Popen(self.command(slot), stdin=subprocess.DEVNULL, start_new_session=True) as process:  # noqa: S603  # our own command
            while (code := _wait(process, _LOOK_S)) is None:
                if self.stop.number is not None:
                    process.send_signal(self.stop.number)
                    code = _wait(process, _GRACE_S)
                    break
            if code is None:
                process.kill()
                code = process.wait()
        return code if code >= 0 else _SIGNALLED - code


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
