"""Products of digits on an emulated CPU that has VNNI: run by ``test_avx512_emulated.py`` in a process of its own.

What one model lacks the emulator takes out of its tables for good, so a model that has more must come first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from avx512_cpu import EmulatedCpu, load_emulator
from kernel_checks import check_sift
from kernel_library import Kernels

if TYPE_CHECKING:
    import ctypes
    from pathlib import Path


@pytest.fixture(scope="module")
def sapphire_rapids(
    tmp_path_factory: pytest.TempPathFactory, kernel_library: ctypes.CDLL, kernel_path: Path
) -> Kernels:
    bochscpu = load_emulator(tmp_path_factory.mktemp("emulator"))
    return Kernels(kernel_library, "avx512", EmulatedCpu(bochscpu, kernel_path, "sapphire_rapids"))


@pytest.mark.parametrize("groups", [1, 2, 3, 17, 40])
def test_digit_products_are_exact(sapphire_rapids: Kernels, groups: int) -> None:
    assert sapphire_rapids.has_sketch_kernels()
    for n_panels in ((1, 1), (1, 2), (2, 3)):
        check_sift(sapphire_rapids, groups, n_panels)
