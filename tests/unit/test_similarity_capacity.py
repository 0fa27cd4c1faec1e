"""What may be allocated, and the refusal that names bytes and what would fit."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_engine.errors import CapacityError
from cluster_engine.similarity.capacity import available_bytes, format_bytes, largest_fitting, require_fit

if TYPE_CHECKING:
    from pathlib import Path


@given(st.integers(1, 100), st.integers(0, 1000), st.integers(0, 10**15))
def test_the_largest_that_fits_is_the_largest(square: int, linear: int, limit: int) -> None:
    def need(n: int) -> int:
        return square * n * n + linear * n

    n = largest_fitting(need, limit)
    assert need(n) <= limit < need(n + 1)


@given(st.integers(1, 10**6), st.integers(0, 4 * 10**12))
def test_refusal_names_the_bytes(n: int, limit: int) -> None:
    def need(rows: int) -> int:
        return 4 * rows * rows

    if need(n) <= limit:
        require_fit("a matrix", n, need, limit)
        return
    with pytest.raises(CapacityError) as caught:
        require_fit("a matrix", n, need, limit)
    text = str(caught.value)
    assert text.startswith(f"a matrix of {n:,} vectors needs {format_bytes(need(n))}")
    assert format_bytes(limit) in text
    assert f"{largest_fitting(need, limit):,} vectors would fit" in text


def test_sizes_are_exact() -> None:
    assert format_bytes(0) == "0 bytes"
    assert format_bytes(40 * 10**9) == "37.25 GiB (40,000,000,000 bytes)"


@given(st.integers(0, 2**50))
def test_a_size_is_told_twice_and_alike(n_bytes: int) -> None:
    *rounded, exact, unit = format_bytes(n_bytes).replace("(", "").replace(")", "").split()
    assert (int(exact.replace(",", "")), unit) == (n_bytes, "bytes")
    if n_bytes < 1024:
        assert not rounded
        return
    shown = Fraction(rounded[0])
    assert shown >= 1
    assert abs(shown * 1024 ** ("KiB", "MiB", "GiB").index(rounded[1]) * 1024 - n_bytes) <= Fraction(1, 200) * n_bytes


@pytest.fixture(name="host_bytes")
def fake_host(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10_000))
    return 10_000


def write_cgroup(root: Path, limit: str, used: str, cached: str = "0") -> Path:
    (root / "memory.max").write_text(f"{limit}\n", encoding="ascii")
    (root / "memory.current").write_text(f"{used}\n", encoding="ascii")
    (root / "memory.stat").write_text(f"anon 12\ninactive_file {cached}\n", encoding="ascii")
    return root


@pytest.mark.parametrize(
    ("limit", "used", "available"),
    [("8000", "3000", 5000), ("50000", "3000", 10_000), ("max", "3000", 10_000), ("2000", "3000", 0)],
)
def test_the_tighter_of_host_and_cgroup_counts(
    tmp_path: Path, host_bytes: int, limit: str, used: str, available: int
) -> None:
    assert available_bytes(write_cgroup(tmp_path, limit, used)) == available


def test_cached_files_count_as_available(tmp_path: Path, host_bytes: int) -> None:
    assert available_bytes(write_cgroup(tmp_path, "8000", "3000", "1500")) == 6500


def test_without_a_cgroup_the_host_counts(tmp_path: Path, host_bytes: int) -> None:
    assert available_bytes(tmp_path / "none") == host_bytes
