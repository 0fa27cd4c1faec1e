"""Unit tests run without Ray, and leave nothing running behind."""

from __future__ import annotations

import logging
import threading
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import ray

if TYPE_CHECKING:
    from collections.abc import Iterator


_ENDING_S = 2.0  # rich tells its thread to end, and does not wait for it


@pytest.fixture(autouse=True)
def forbid_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any, **_kwargs: Any) -> None:  # noqa: ANN401  # stands in for any call
        pytest.fail("a unit test may not start Ray; such tests live in tests/ray")

    monkeypatch.setattr(ray, "init", refuse)


def child_processes() -> set[int]:
    """Return the processes that this one started and has not reaped, but for Python's own resource tracker."""
    children = {child.pid for child in psutil.Process().children()}
    return children - {resource_tracker._resource_tracker._pid}  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def forbid_leftovers() -> Iterator[None]:
    threads, children = set(threading.enumerate()), child_processes()
    yield
    left = set(threading.enumerate()) - threads
    for thread in left:
        thread.join(_ENDING_S)
    assert not any(thread.is_alive() for thread in left), "the test left threads behind"
    assert not child_processes() - children, "the test left child processes behind"


@pytest.fixture(autouse=True)
def keep_log_levels() -> Iterator[None]:
    """Take back the levels that commands set."""
    loggers = [logging.getLogger(name) for name in ("cluster_engine", "ray._private.authentication")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
