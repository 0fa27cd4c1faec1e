"""Fixtures of the native tests; puts their folder on the path, for the modules they share."""

from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from kernel_library import CODES, Kernels, build


@pytest.fixture(scope="session")
def kernel_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="session")
def kernel_library(kernel_path: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(kernel_path))


@pytest.fixture(scope="session")
def scalar(kernel_library: ctypes.CDLL) -> Kernels:
    return Kernels(kernel_library, "scalar")


@pytest.fixture(params=("avx2", "avx512") if platform.machine() == "x86_64" else ("neon",))
def simd(request: pytest.FixtureRequest, kernel_library: ctypes.CDLL) -> Kernels:
    """Each vector instruction set that this machine has, called directly."""
    isa = str(request.param)
    if not kernel_library.ns_isa_available(CODES[isa]):
        pytest.skip(f"this machine has no {isa}")
    return Kernels(kernel_library, isa)
