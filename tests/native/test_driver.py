"""The C driver of the whole library: under the sanitizers, and cross-compiled for NEON where the tools are."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def run(script: str) -> str:
    done = subprocess.run([str(HERE / script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def sanitizers(tmp_path: Path) -> None:
    source = tmp_path / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    for name in ("address,undefined", "thread"):
        command = ["gcc", f"-fsanitize={name}", str(source), "-o", str(tmp_path / "empty")]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip(f"gcc here cannot link -fsanitize={name}")


def test_sanitizers_report_nothing(sanitizers: None) -> None:
    output = run("sanitize.sh")
    assert output.count("scalar: ") == 2
    assert "runtime error" not in output


@pytest.mark.skipif(
    not (shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64")),
    reason="needs gcc-aarch64-linux-gnu and qemu-user; tests/native/neon.sh installs them",
)
def test_neon_equals_scalar_under_qemu() -> None:
    assert "neon: " in run("neon.sh")
