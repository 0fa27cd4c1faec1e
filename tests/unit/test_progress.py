"""What a phase says that it took, against what this process sees of itself."""

from __future__ import annotations

import time

import numpy as np
import psutil

from cluster_engine.progress import Spent, measured


def test_a_phase_has_the_time_and_the_peak_of_its_block() -> None:
    spent: dict[str, Spent] = {}
    began_s = time.perf_counter()
    with measured("large", spent):
        block = np.ones(32 << 20)
        resident = psutil.Process().memory_info().rss
        del block
    assert spent["large"].peak_bytes >= resident - (4 << 20)  # the kernel counts in parts, one a CPU
    assert 0 < spent["large"].seconds <= time.perf_counter() - began_s


def test_a_phase_that_comes_again_is_added_up_and_peaks_never_fall() -> None:
    spent: dict[str, Spent] = {}
    with measured("again", spent):
        pass
    first = spent["again"]
    with measured("again", spent):
        pass
    assert spent["again"].seconds > first.seconds
    assert spent["again"].peak_bytes >= first.peak_bytes
