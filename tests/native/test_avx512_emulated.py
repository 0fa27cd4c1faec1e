"""The AVX-512 machine code on an emulated CPU: right bits and no stray access on a machine that lacks it, too."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from avx512_cpu import NO_YMM_STATE, NO_ZMM_STATE, EmulatedCpu, Trap, load_emulator
from binding_checks import check_decay, check_fan_effect, check_half_life
from epilogue_checks import check_fade, check_sigmoid
from kernel_checks import (
    check_bytes_dot,
    check_quantized_dot,
    check_row_dot_of,
    check_row_scans,
    check_row_thresholds,
    check_sift,
    check_single_products,
    check_tiles,
    check_transpose,
    check_vector_dot,
    check_vector_dot_of,
)
from kernel_library import Kernels, pack_rows

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable
    from types import ModuleType

    Check = Callable[[Kernels, Kernels, int, str], None]

pytestmark = [
    pytest.mark.emulated,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the emulator and the AVX-512 kernels are x86-64 code"),
]
UNDEFINED_INSTRUCTION, PAGE_FAULT = 6, 14


@pytest.fixture(scope="module")
def bochscpu(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return load_emulator(tmp_path_factory.mktemp("emulator"))


# Skylake-X has AVX-512 F, BW, DQ and VL alone: nothing newer may slip in.
@pytest.fixture(scope="module", params=["skylake_x", "sapphire_rapids"])
def avx512(
    request: pytest.FixtureRequest,
    bochscpu: ModuleType,
    kernel_library: ctypes.CDLL,
    kernel_path: Path,
) -> Kernels:
    return Kernels(kernel_library, "avx512", EmulatedCpu(bochscpu, kernel_path, str(request.param)))


@pytest.mark.parametrize("d", [1, 2, 3, 15, 16, 17, 33, 127, 128, 129, 257])
def test_tiles_equal_scalar(avx512: Kernels, scalar: Kernels, d: int) -> None:
    for n_a_panels, n_b_panels in ((1, 1), (1, 2), (2, 3), (1, 4)):
        check_tiles(avx512, scalar, d, n_a_panels, n_b_panels)


@pytest.mark.parametrize("at", ["start", "end"])
def test_transpose_moves_every_element_and_no_other(avx512: Kernels, at: str) -> None:
    for rows in (1, 3, 4, 5, 8, 13, 33):
        for columns in (1, 3, 4, 7, 16, 21):
            check_transpose(avx512, rows, columns, (rows * columns) % 7, at)


@pytest.mark.parametrize("at", ["start", "end"])
def test_row_scans_equal_scalar(avx512: Kernels, scalar: Kernels, at: str) -> None:
    for n in (1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 200):
        check_row_scans(avx512, scalar, n, at)


@pytest.mark.parametrize("d", [1, 2, 15, 16, 17, 33, 193])
def test_one_vector_with_panels_equals_scalar(avx512: Kernels, scalar: Kernels, d: int) -> None:
    for n_panels in (1, 2, 3, 4, 9):
        check_vector_dot(avx512, scalar, d, n_panels)
        check_vector_dot_of(avx512, scalar, d, n_panels)
        check_quantized_dot(avx512, scalar, d, n_panels)
        check_bytes_dot(avx512, scalar, d, n_panels)
        check_row_dot_of(avx512, scalar, d, 2 * n_panels + 1)


@pytest.mark.parametrize("at", ["start", "end"])
def test_row_thresholds_equal_scalar(avx512: Kernels, scalar: Kernels, at: str) -> None:
    for n in (1, 2, 15, 16, 17, 31, 33, 64, 191, 192):
        check_row_thresholds(avx512, scalar, n, at)


@pytest.mark.parametrize("at", ["start", "end"])
@pytest.mark.parametrize("check", [check_decay, check_half_life, check_fan_effect])
def test_binding_kernels_equal_scalar(avx512: Kernels, scalar: Kernels, check: Check, at: str) -> None:
    for n in (1, 2, 15, 16, 17, 31, 33, 97):
        check(avx512, scalar, n, at)


@pytest.mark.parametrize("at", ["start", "end"])
@pytest.mark.parametrize("check", [check_fade, check_sigmoid])
def test_epilogue_kernels_equal_scalar(avx512: Kernels, scalar: Kernels, check: Check, at: str) -> None:
    for n_panels in (1, 2, 12):
        check(avx512, scalar, n_panels, at)


def test_digit_products_are_exact() -> None:
    tests = Path(__file__).with_name("avx512_vnni.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("d", [1, 15, 16, 17, 63, 64, 65, 129])
def test_single_products_equal_scalar(avx512: Kernels, scalar: Kernels, d: int) -> None:
    check_single_products(avx512, scalar, d, "end")


def test_cpu_without_vnni_is_refused_its_kernel_and_would_trap(
    bochscpu: ModuleType, kernel_library: ctypes.CDLL, kernel_path: Path
) -> None:
    kernels = Kernels(kernel_library, "avx512", EmulatedCpu(bochscpu, kernel_path, "skylake_x"))
    assert kernels.is_available()
    assert not kernels.has_sketch_kernels()
    with pytest.raises(Trap) as trap:
        check_sift(kernels, 1, (1, 1))
    assert trap.value.vector == UNDEFINED_INSTRUCTION


def test_cpu_with_avx512_is_recognised(avx512: Kernels) -> None:
    assert avx512.is_available()


def test_cpu_without_avx512_is_refused_and_would_trap(
    bochscpu: ModuleType,
    kernel_library: ctypes.CDLL,
    kernel_path: Path,
) -> None:
    cpu = EmulatedCpu(bochscpu, kernel_path, "arrow_lake")
    kernels = Kernels(kernel_library, "avx512", cpu)
    assert not kernels.is_available()
    assert Kernels(kernel_library, "avx2", cpu).is_available()
    panel = pack_rows(np.ones((16, 3), np.float32))
    with pytest.raises(Trap) as trap:
        kernels.tile("tile_dot", panel, panel, 3)
    assert trap.value.vector == UNDEFINED_INSTRUCTION


@pytest.mark.parametrize(("xcr0", "offered"), [(NO_ZMM_STATE, {"avx2"}), (NO_YMM_STATE, set())])
def test_operating_system_must_save_the_registers(
    bochscpu: ModuleType,
    kernel_library: ctypes.CDLL,
    kernel_path: Path,
    xcr0: int,
    offered: set[str],
) -> None:
    cpu = EmulatedCpu(bochscpu, kernel_path, "skylake_x", xcr0)
    isas = ("avx2", "avx512")
    assert {isa for isa in isas if Kernels(kernel_library, isa, cpu).is_available()} == offered


def test_emulator_faults_on_memory_that_was_not_given(avx512: Kernels) -> None:
    panel = pack_rows(np.ones((16, 600), np.float32))  # several pages, of which the last are withheld
    with pytest.raises(Trap) as trap:
        avx512.run(avx512.table.tile_dot, panel[:16].copy(), panel, 600, 1, 1, np.zeros(192 * 16, np.float32))
    assert trap.value.vector == PAGE_FAULT
