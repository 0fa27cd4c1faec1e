"""What the figures were taken on, and where they are written down."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil

import native_simd

RESULTS = Path(__file__).with_name("results.md")
PEERS = ("numpy", "scipy", "fastcluster", "scikit-learn")
# OpenBLAS does not know every CPU; named like this it uses the instruction set that the row is about.
BLAS_CORE = {"avx2": "Haswell", "avx512": "SkylakeX"}


def vector_isas() -> list[str]:
    """Return the instruction sets of this machine that have a BLAS kernel to be compared with."""
    return [isa for isa in native_simd.available_isas() if isa in BLAS_CORE]


def cpu_model() -> str:
    names = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="ascii"))
    return names[0] if names else platform.processor()


def commit() -> str:
    here = Path(__file__).parent
    name = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
    changes = ["git", "status", "--porcelain", "--", "../cluster_engine", "../native_simd"]
    changed = subprocess.run(changes, cwd=here, capture_output=True, text=True, check=True).stdout
    return name.stdout.strip() + (" with changes" if changed else "")


def describe() -> str:
    """Return the machine, the commit and the peers' versions as Markdown."""
    versions = ", ".join(f"{name} {version(name)}" for name in PEERS)
    cpus = f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} CPUs"
    return (
        f"- CPU: {cpu_model()}, {cpus}, {psutil.virtual_memory().total / 2**30:.0f} GiB\n"
        f"- Instruction sets: {', '.join(native_simd.available_isas())}; in use unless a row says otherwise: "
        f"{native_simd.active_isa()}\n"
        f"- Commit: {commit()}; Python {platform.python_version()}, {versions}"
    )


def write_section(key: str, text: str) -> None:
    """Replace one section of the results, or append it."""
    begin, end = f"<!-- begin {key} -->", f"<!-- end {key} -->"
    section = f"{begin}\n{text.strip()}\n{end}\n"
    known = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Measured\n\n"
    before, found, after = known.partition(begin)
    rest = after.partition(end)[2].lstrip("\n") if found else ""
    RESULTS.write_text(before + section + rest, encoding="utf-8")
