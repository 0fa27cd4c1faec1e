"""Runs commands of the command line in this process, and reads what they print."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster_engine.cli import main


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def answer(capsys: pytest.CaptureFixture[str], *args: object) -> Any:  # noqa: ANN401  # parsed JSON
    code, out, err = run(capsys, *args, "--json")
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def refusal(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str]:
    code, out, err = run(capsys, *args)
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return code, err
