"""What figures are taken on: the machine, the commit, the peers and how they are told which instructions to use."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil

import native_simd

ROOT = Path(__file__).parents[1]
PEERS = ("numpy", "scipy", "fastcluster", "scikit-learn", "faiss-cpu", "numkong", "usearch")
RAC_PYTHON = ROOT / ".venv-rac/bin/python"
# OpenBLAS does not know every CPU; named like this it uses the instruction set that the row is about.
BLAS_CORE = {"avx2": "Haswell", "avx512": "SkylakeX"}


def vector_isas() -> list[str]:
    """Return the instruction sets of this machine that the peers can be told to use as well."""
    return [isa for isa in native_simd.available_isas() if isa in BLAS_CORE]


def n_cpus() -> int:
    return len(os.sched_getaffinity(0))


def environment(isa: str, threads: int) -> dict[str, str]:
    """Return the environment of a process whose libraries are to use one instruction set and so many threads."""
    return {
        **os.environ,
        "CLUSTER_ENGINE_ISA": isa,
        "FAISS_SIMD_LEVEL": isa.upper(),
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_CORETYPE": BLAS_CORE[isa],
        "OPENBLAS_NUM_THREADS": str(threads),
    }


def describe() -> dict[str, str]:
    """Return the machine, the commit and the versions that figures are taken with."""
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    return {
        "machine": f"{_cpu_model()}, {n_cpus()} of {os.cpu_count()} CPUs, {memory}",
        "ISAs": ", ".join(native_simd.available_isas()),
        "commit": _commit(),
        "versions": ", ".join([f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in PEERS), _rac()]),
    }


def _cpu_model() -> str:
    known = dict(re.findall(r"^(.+?)\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="ascii"), re.MULTILINE))
    if "model name" not in known:
        return platform.processor() or platform.machine()
    return f"{known['model name']} (family {known['cpu family']}, model {known['model']})"


def embeddings_path() -> Path:
    """Return the file of float32 embeddings, shape (n, d), that the environment variable EMBEDDINGS names."""
    path = os.environ.get("EMBEDDINGS")
    if not path:
        raise SystemExit("set EMBEDDINGS to a .npy file of float32 embeddings, shape (n, d)")
    return Path(path).resolve()


def _commit() -> str:
    name = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    changes = ["git", "status", "--porcelain", "--", "cluster_engine", "native_simd"]
    changed = subprocess.run(changes, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return name.stdout.strip() + (" with changes" if changed else "")


def _rac() -> str:
    if not RAC_PYTHON.exists():
        return f"RAC++ absent (its wheel needs numpy before 2, in {RAC_PYTHON.parents[1].name}: make bench)"
    ask = 'from importlib.metadata import version as v; print(f\'RAC++ {v("racplusplus")} with numpy {v("numpy")}\')'
    return subprocess.run([RAC_PYTHON, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
