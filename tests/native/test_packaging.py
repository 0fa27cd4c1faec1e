"""What is shipped builds: an sdist with every source, and from it a wheel for the stable ABI."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the sdist of this tree, and the wheel built from it."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)], check=True, capture_output=True)
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


def test_the_sdist_has_every_c_source_and_header(shipped: tuple[Path, Path]) -> None:
    with tarfile.open(shipped[0]) as archive:
        names = {"/".join(name.split("/")[1:]) for name in archive.getnames()}
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "native_simd" / "csrc").iterdir()} <= names
    assert {"LICENSE", "README.md", "configs/laptop.yaml", "setup.py"} <= names


def test_both_have_the_parts_of_the_report(shipped: tuple[Path, Path]) -> None:
    parts = {f"cluster_engine/report/{path.name}" for path in (ROOT / "cluster_engine" / "report").glob("*.*")}
    assert {Path(part).suffix for part in parts} == {".py", ".html", ".css", ".js"}
    with tarfile.open(shipped[0]) as archive, zipfile.ZipFile(shipped[1]) as wheel:
        assert parts <= {"/".join(name.split("/")[1:]) for name in archive.getnames()}
        assert parts <= set(wheel.namelist())


def test_the_wheel_serves_every_python_from_3_10(shipped: tuple[Path, Path], tmp_path: Path) -> None:
    assert "-cp310-abi3-" in shipped[1].name
    shutil.unpack_archive(shipped[1], tmp_path, "zip")
    assert list((tmp_path / "native_simd").glob("_simd.abi3.so"))
    code = "import native_simd, pathlib; print(pathlib.Path(native_simd._simd.__file__).parent)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.strip() == str(tmp_path / "native_simd")


def test_a_source_tree_finds_the_extension_of_the_installed_package(shipped: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.unpack_archive(shipped[1], tmp_path / "site", "zip")
    tree = tmp_path / "tree" / "native_simd"
    shutil.copytree(ROOT / "native_simd", tree, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    code = "import native_simd; print(native_simd.__file__, native_simd._simd.__file__)"
    path = f"{tmp_path / 'tree'}:{tmp_path / 'site'}"
    run = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == [str(tree / "__init__.py"), str(tmp_path / "site" / "native_simd" / "_simd.abi3.so")]
