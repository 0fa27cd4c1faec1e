"""The regression gate on copies of the library's sources: an unchanged one passes, a slower one is named."""

from __future__ import annotations

import platform
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from benchmarks import gate, native_counts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or not shutil.which("valgrind"), reason="counts under valgrind, of AVX2"
)
OPERATIONS = ("decay", "fan_effect_sqrt", "decay_half_life", "batch_similarity")
STEPS = 'int64_t steps = {}; __asm__ volatile("1: dec %0; jnz 1b" : "+r"(steps) : : "cc");'  # 2 instructions each
BLOCK = "void *volatile block = __builtin_malloc(64); __builtin_free(block);"


def count(folder: Path, insertions: Mapping[str, str]) -> dict[str, int]:
    """Count a copy of the sources with statements inserted at the start of some functions."""
    csrc = folder / "csrc"
    shutil.copytree(native_counts.CSRC, csrc)
    for function, statement in insertions.items():
        insert(csrc, function, statement)
    return native_counts.count(native_counts.compile_measure(folder, csrc), OPERATIONS)


def insert(csrc: Path, function: str, statement: str) -> None:
    for source in csrc.glob("*.c"):
        text = source.read_text(encoding="utf-8")
        body = re.search(rf"\b{function}\([^;{{]*\) {{", text)
        if body:
            source.write_text(text[: body.end()] + statement + text[body.end() :], encoding="utf-8")
            return
    raise AssertionError(function)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    return count(tmp_path_factory.mktemp("baseline"), {})


def check(baseline: gate.Measures, measured: gate.Measures, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(gate, "BASELINES", folder / "baselines")
    gate.record(gate.Suite("native", gate.COUNT_TOLERANCE, lambda _folder, _limits: baseline), folder)
    return gate.check(gate.Suite("native", gate.COUNT_TOLERANCE, lambda _folder, _limits: measured), folder)


def test_unchanged_copy_counts_the_same_and_passes(
    baseline: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = count(tmp_path, {})
    exact = [name for name in baseline if not name.endswith("misses")]
    assert [measured[name] for name in exact] == [baseline[name] for name in exact]
    assert check(baseline, measured, tmp_path, monkeypatch) == 0


def test_slower_operations_are_named(
    baseline: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def slower(operation: str, by: float) -> str:
        return STEPS.format(round(by / 2 * baseline[f"{operation} avx2 instructions"]))

    insertions = {
        "ns_decay": slower("decay", 0.06),
        "ns_fan_effect": slower("fan_effect_sqrt", 0.04),
        "ns_decay_half_life": BLOCK,
    }
    assert check(baseline, count(tmp_path, insertions), tmp_path, monkeypatch) == 1
    named = re.findall(r"WORSE (.*?):", capsys.readouterr().out)
    blocks = [
        f"decay_half_life {isa} {measure}"
        for isa in native_counts.ISAS
        for measure in ("allocations", "allocated bytes")
    ]
    assert sorted(named) == sorted(["decay avx2 instructions", *blocks])
