"""The library's own sources compiled together with C of the benchmarks."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.machine import ROOT
from native_simd import _build as build

ADDRESS, SIZE, NUMBER, SECONDS, TEXT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_double, ctypes.c_char_p


def compiled(sources: list[Path], **functions: tuple[type | None, ...]) -> ctypes.CDLL:
    """Return the library with all symbols visible; of each function the types of its result and its arguments."""
    csrc, flags = ROOT / "native_simd/csrc", [flag for flag in build.COMPILE_ARGS if flag != "-fvisibility=hidden"]
    with TemporaryDirectory() as folder:
        library = Path(folder) / "library.so"
        command = ["gcc", *flags, "-Wno-psabi", "-shared", "-fPIC", f"-I{csrc}", f"-I{ROOT / 'tests/native'}"]
        every = [*(csrc / name for name in build.SOURCES), *sources]
        subprocess.run([*command, *map(str, every), "-o", str(library), "-lm"], check=True)
        loaded = ctypes.CDLL(str(library))
    for name, (result, *arguments) in functions.items():
        getattr(loaded, name).restype, getattr(loaded, name).argtypes = result, arguments
    return loaded
