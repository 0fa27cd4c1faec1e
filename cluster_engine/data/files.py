"""Which files an input names: paths, directories, globs and URIs become one sorted list.

Knows file systems and names. Refuses to know what is inside a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TypeAlias
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from cluster_engine.errors import EpisodeFileError, InputError

EpisodeInput: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

EXTENSIONS = (".parquet", ".arrow", ".arrows", ".feather", ".ipc")
_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
_CREDENTIALS = re.compile(r"://[^/@\s]*@")
_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class EpisodeFile:
    """One file of an input.

    Attributes
    ----------
    filesystem : pyarrow.fs.FileSystem
        Where the file is.
    path : str
        Its path there.
    name : str
        What people call it: the path, or ``scheme://path`` when it was found through a URI. Never holds credentials.
    """

    filesystem: fs.FileSystem
    path: str
    name: str


@dataclass(frozen=True, slots=True)
class _Location:
    """A file system and how names are written there."""

    filesystem: fs.FileSystem
    prefix: str = ""

    def name(self, path: str) -> str:
        return self.prefix + path

    def file(self, path: str) -> EpisodeFile:
        plain = str(PurePosixPath(path))  # listing "." gives "./a"
        return EpisodeFile(self.filesystem, plain, self.name(plain))

    def info(self, path: str) -> fs.FileInfo:
        try:
            return self.filesystem.get_file_info(path)
        except OSError as error:
            raise EpisodeFileError(f"{self.name(path)}: cannot be looked up: {error}") from error

    def children(self, directory: str, *, recursive: bool) -> list[fs.FileInfo]:
        """List a directory; empty when it does not exist."""
        selector = fs.FileSelector(directory, allow_not_found=True, recursive=recursive)
        try:
            return self.filesystem.get_file_info(selector)
        except OSError as error:
            raise EpisodeFileError(f"{self.name(directory)}: cannot be listed: {error}") from error


def find_files(
    input: EpisodeInput,  # noqa: A002 the public name
    filesystem: fs.FileSystem | None = None,
    extensions: tuple[str, ...] = EXTENSIONS,
) -> list[EpisodeFile]:
    """Find the files that an input names.

    A directory gives, recursively, its files with one of the extensions; a path or a glob gives what it names, whatever
    the extension. Names that begin with ``.`` or ``_`` are skipped below a directory and by wildcards.

    Parameters
    ----------
    input : path, directory, glob, URI, or a sequence of those
        ``*``, ``?`` and ``[...]`` match within one path component, ``**`` any number of directories. In a URI ``?``
        begins the query and is no wildcard. A path that exists is never taken for a glob.
    filesystem : pyarrow.fs.FileSystem, optional
        Where the paths are; without it they are local, or URIs.
    extensions : tuple of str
        In lower case, with the dot.

    Returns
    -------
    list of EpisodeFile
        Sorted by name, each file once: a local file that several names or links reach has the smallest of the names.

    Raises
    ------
    InputError
        If an item matches no file or a URI is not understood.
    EpisodeFileError
        If a directory cannot be listed or something named is not a regular file.
    """
    items = [input] if isinstance(input, (str, os.PathLike)) else list(input)
    if not items:
        raise InputError("the input is an empty sequence; name at least one file, directory, glob or URI")
    found: dict[str, EpisodeFile] = {}  # by identity, which is the real path for local files
    for item in items:
        files = list(_expand(os.fspath(item), filesystem, extensions))
        if not files:
            raise InputError(f"{_redact(os.fspath(item))}: no file matches; looked for {', '.join(extensions)}")
        for file in files:
            same = found.setdefault(_identity(file), file)
            found[_identity(file)] = min(same, file, key=lambda file: file.name)
    return sorted(found.values(), key=lambda file: file.name)


def fingerprint(files: Sequence[EpisodeFile]) -> list[tuple[str, int, int]]:
    """Return name, size in bytes and time of change in nanoseconds of each file: equal while none was written to."""
    return [
        (file.name, info.size or 0, info.mtime_ns or 0)
        for file in files
        for info in file.filesystem.get_file_info([file.path])
    ]


def _expand(item: str, filesystem: fs.FileSystem | None, extensions: tuple[str, ...]) -> Iterator[EpisodeFile]:
    if filesystem is None and (uri := _URI.match(item)):
        location, base, pattern = _open_uri(item, uri["scheme"])
    else:
        location = _Location(filesystem or fs.LocalFileSystem())
        base, pattern = _split_wildcards(location, str(PurePosixPath(item)))
    for info in _glob(location, base, pattern):
        yield from _read_as(location, info, extensions)


def _open_uri(uri: str, scheme: str) -> tuple[_Location, str, list[str]]:
    """Split a URI at its first wildcard; what precedes it (and the query) says which file system."""
    address, mark, query = uri.partition("?")
    parts = address.split("/")
    fixed = next((i for i, part in enumerate(parts) if _WILDCARD.search(part)), len(parts))
    try:
        filesystem, base = fs.FileSystem.from_uri("/".join(parts[:fixed]) + mark + query)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(_redact(f"{uri}: not a URI that can be opened: {error}")) from error
    prefix = "" if isinstance(filesystem, fs.LocalFileSystem) else f"{scheme}://"
    return _Location(filesystem, prefix), base, [unquote(part) for part in parts[fixed:]]


def _split_wildcards(location: _Location, path: str) -> tuple[str, list[str]]:
    """Split a path at its first wildcard, unless the path exists as it is written."""
    parts = PurePosixPath(path).parts
    fixed = next((i for i, part in enumerate(parts) if _WILDCARD.search(part)), len(parts))
    if fixed == len(parts) or location.info(path).type != fs.FileType.NotFound:
        return path, []
    return str(PurePosixPath(*parts[:fixed])), list(parts[fixed:])


def _glob(location: _Location, base: str, pattern: list[str]) -> Iterator[fs.FileInfo]:
    """Yield what a pattern matches below `base`; ``**`` may yield a path twice."""
    if not pattern or pattern == ["**"]:
        yield location.info(base)
        return
    head, rest = pattern[0], pattern[1:]
    if head == "**":
        below = location.children(base, recursive=True)
        directories = [info.path for info in below if info.type == fs.FileType.Directory and _visible(base, info.path)]
        for directory in [base, *directories]:
            yield from _glob(location, directory, rest)
    elif _WILDCARD.search(head):
        for info in location.children(base, recursive=False):
            hidden = info.base_name[0] in "._" and info.base_name[0] != head[0]
            leads_on = not rest or info.type == fs.FileType.Directory
            if leads_on and not hidden and fnmatchcase(info.base_name, head):
                yield from _glob(location, info.path, rest)
    else:
        yield from _glob(location, f"{base}/{head}", rest)


def _read_as(location: _Location, info: fs.FileInfo, extensions: tuple[str, ...]) -> Iterator[EpisodeFile]:
    """Turn something that exists into files; what does not exist gives none."""
    if info.type == fs.FileType.Directory:
        for child in location.children(info.path, recursive=True):
            is_data = child.type == fs.FileType.File and child.path.lower().endswith(extensions)
            if is_data and _visible(info.path, child.path):
                yield location.file(child.path)
    elif info.type == fs.FileType.File:
        yield location.file(info.path)
    elif info.type == fs.FileType.Unknown:  # a pipe or a device would block or never end
        raise EpisodeFileError(f"{location.name(info.path)}: not a regular file")


def _identity(file: EpisodeFile) -> str:
    return os.path.realpath(file.path) if isinstance(file.filesystem, fs.LocalFileSystem) else file.name


def _visible(base: str, path: str) -> bool:
    return not any(part[0] in "._" for part in PurePosixPath(path).relative_to(base).parts)


def _redact(text: str) -> str:
    return _CREDENTIALS.sub("://", text)
