"""Deaths and failures at every system call that changes a store.

`files` is the only module of the package that changes a local store, and it does so through `os`. Tests give it an `os`
that counts these calls and strikes at the k-th.
"""

from __future__ import annotations

import os
import shutil
import signal
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

CHANGING_CALLS = {
    "open",
    "write",
    "fsync",
    "close",
    "mkdir",
    "rename",
    "link",
    "unlink",
    "rmdir",
    "ftruncate",
    "pwrite",
    "fdatasync",
}


class StrikingOs:
    """`os`, with every call that a commit changes the disk with passed through ``strike(index, name, call, args)``."""

    def __init__(self, strike: Callable[[int, str, Callable[..., Any], tuple[Any, ...]], Any]) -> None:
        self.strike = strike
        self.called: list[str] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever `os` has
        call = getattr(os, name)
        if name not in CHANGING_CALLS:
            return call

        def struck(*args: Any) -> Any:  # noqa: ANN401 - whatever `os` takes
            self.called.append(name)
            return self.strike(len(self.called) - 1, name, call, args)

        return struck


def in_child(work: Callable[[], object]) -> int:
    """Run ``work`` in a forked process and return its exit code: 0, 1 for an exception, or minus a signal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Arrow survives a fork
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_at(k: int, *, torn: bool) -> Callable[..., Any]:
    def strike(index: int, name: str, call: Callable[..., Any], args: tuple[Any, ...]) -> Any:  # noqa: ANN401
        if index == k:
            if torn and name in {"write", "pwrite"}:
                fd, data, *at = args
                call(fd, data[: len(data) // 2], *at)
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args)

    return strike


class PowerLoss:
    """A disk that at the k-th call forgets what was not synced: file contents, names in directories, and removals.

    Each forgotten thing is forgotten by chance. Names are kept as (path, where it was before or None, content of the
    file that it replaced or None), removals as (path, content or None for a directory).
    """

    def __init__(self, k: int, rng: random.Random, chance: float) -> None:
        self.k, self.rng, self.chance = k, rng, chance
        self.paths: dict[int, Path] = {}
        self.synced_bytes: dict[Path, int] = {}
        self.unsynced_files: set[Path] = set()
        self.unsynced_names: list[tuple[Path, Path | None, bytes | None]] = []
        self.removed: list[tuple[Path, bytes | None]] = []
        self.overwritten: list[tuple[Path, int, bytes]] = []

    def __call__(self, index: int, name: str, call: Callable[..., Any], args: tuple[Any, ...]) -> Any:  # noqa: ANN401
        if index == self.k:
            self.strike()
        if name == "pwrite":  # what a disk that loses the write goes back to
            fd, data, offset = args
            self.before = self.paths[fd].read_bytes()[offset : offset + len(data)]
        if name in {"unlink", "rename"}:  # what a disk that loses the removal has still
            path = args[-1]
            self.replaced = path.read_bytes() if path.is_file() else None
        result = call(*args)
        if record := getattr(self, f"_{name}", None):
            record(result, *args)
        return result

    def strike(self) -> None:
        self._forget_writes()
        self._forget_removals()
        while self.unsynced_names:
            self._forget_name(*self.unsynced_names.pop())
        os.kill(os.getpid(), signal.SIGKILL)

    def _forget_writes(self) -> None:
        for path, offset, before in self.overwritten:
            if path.exists() and self.rng.random() < self.chance:
                kept = self.rng.randrange(len(before) + 1)
                with path.open("r+b") as file:
                    file.seek(offset + kept)
                    file.write(before[kept:])
        for path in sorted(self.unsynced_files):
            if path.exists() and self.rng.random() < self.chance:
                n_bytes = path.stat().st_size
                os.truncate(path, self.rng.randrange(self.synced_bytes.get(path, 0), n_bytes + 1))
                if self.rng.random() < 0.5:
                    os.truncate(path, n_bytes)  # the length was written, the rest reads as zeros

    def _forget_removals(self) -> None:
        for path, content in reversed(self.removed):
            if path.parent.exists() and not path.exists() and self.rng.random() < self.chance:
                if content is None:
                    path.mkdir()
                else:
                    path.write_bytes(content)

    def _forget_name(self, path: Path, origin: Path | None, replaced: bytes | None) -> None:
        if not path.exists() or self.rng.random() >= self.chance:
            return
        if origin is not None:
            path.rename(origin)
            if replaced is not None:
                path.write_bytes(replaced)
            self.unsynced_names = [(_moved(name, path, origin), *rest) for name, *rest in self.unsynced_names]
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

    def _open(self, fd: int, path: Path, flags: int, *_: int) -> None:
        self.paths[fd] = path
        if flags & os.O_CREAT:
            self.unsynced_files.add(path)
            self.synced_bytes.pop(path, None)  # of one of that name that was removed
            self.unsynced_names.append((path, None, None))

    def _write(self, _: int, fd: int, *__: object) -> None:
        self.unsynced_files.add(self.paths[fd])

    def _pwrite(self, n_bytes: int, fd: int, _: object, offset: int) -> None:
        path = self.paths[fd]
        self.unsynced_files.add(path)
        self.overwritten.append((path, offset, self.before[:n_bytes]))

    def _fdatasync(self, _: None, fd: int) -> None:
        self._fsync(_, fd)

    def _ftruncate(self, _: None, fd: int, n_bytes: int) -> None:
        path = self.paths[fd]
        self.synced_bytes[path] = min(self.synced_bytes.get(path, n_bytes), n_bytes)

    def _fsync(self, _: None, fd: int) -> None:
        synced = self.paths[fd]
        self.unsynced_files.discard(synced)
        self.synced_bytes[synced] = synced.stat().st_size
        self.overwritten = [(path, *rest) for path, *rest in self.overwritten if path != synced]
        self.unsynced_names = [(path, *rest) for path, *rest in self.unsynced_names if path.parent != synced]
        self.removed = [(path, content) for path, content in self.removed if path.parent != synced]

    def _mkdir(self, _: None, path: Path) -> None:
        self.unsynced_names.append((path, None, None))

    def _unlink(self, _: None, path: Path) -> None:
        self.removed.append((path, self.replaced))

    def _rmdir(self, _: None, path: Path) -> None:
        self.removed.append((path, None))

    def _rename(self, _: None, source: Path, target: Path) -> None:
        if self.replaced is not None:  # where the new file is not, the old one is
            self.unsynced_names = [(path, *rest) for path, *rest in self.unsynced_names if path != source]
        self.overwritten = [(_moved(path, source, target), *rest) for path, *rest in self.overwritten]
        self.paths = {fd: _moved(path, source, target) for fd, path in self.paths.items()}
        self.synced_bytes = {_moved(path, source, target): n_bytes for path, n_bytes in self.synced_bytes.items()}
        self.unsynced_files = {_moved(path, source, target) for path in self.unsynced_files}
        self.unsynced_names = [(_moved(path, source, target), *rest) for path, *rest in self.unsynced_names]
        self.unsynced_names.append((target, source, self.replaced))

    def _link(self, _: None, source: Path, target: Path) -> None:
        if source in self.unsynced_files:
            self.unsynced_files.add(target)
        self.unsynced_names.append((target, None, None))


def _moved(path: Path, source: Path, target: Path) -> Path:
    return target / path.relative_to(source) if source in (path, *path.parents) else path


def fail_at(k: int, code: int, *, for_good: bool, after_the_call: bool) -> Callable[..., Any]:
    def strike(index: int, name: str, call: Callable[..., Any], args: tuple[Any, ...]) -> Any:  # noqa: ANN401
        if index == k or (for_good and index > k):
            if after_the_call or name == "close":  # a failed close has closed
                call(*args)
            paths = [str(arg) for arg in args if isinstance(arg, Path)]
            raise OSError(code, os.strerror(code), *paths[:1])
        return call(*args)

    return strike
