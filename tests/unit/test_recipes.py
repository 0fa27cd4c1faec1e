"""The recipes for other schedulers: their form, and above all that the commands in them are ones that there are."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

import cluster_engine.cli  # noqa: F401  # adds the commands
from cluster_engine.cli.app import parse_options
from cluster_engine.exit_codes import ExitCode
from cluster_engine.scheduling.cron import Schedule, parse_schedule
from cluster_engine.scheduling.slots import slot_name
from cluster_engine.submission import check_store

RECIPES = Path(__file__).parents[2] / "deploy" / "schedulers"
FINAL = {ExitCode.USAGE, ExitCode.INPUT}
SYSTEMD = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(SYSTEMD is None, reason="systemd-analyze is not installed")
# What KubeRay 1.7 documents of a RayCronJob and of a RayJob, as far as the recipe uses it. Pods are checked apart.
POD = {"type": "object", "required": ["spec"]}
GROUP = {"rayStartParams": {"type": "object"}, "template": POD}
RAY_CRON_JOB: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayCronJob"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "required": ["schedule", "jobTemplate"],
            "properties": {
                "schedule": {"type": "string"},
                "timeZone": {"type": "string"},
                "suspend": {"type": "boolean"},
                "jobTemplate": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["entrypoint", "rayClusterSpec"],
                    "properties": {
                        "entrypoint": {"type": "string"},
                        "shutdownAfterJobFinishes": {"type": "boolean"},
                        "ttlSecondsAfterFinished": {"type": "integer"},
                        "activeDeadlineSeconds": {"type": "integer", "minimum": 1},
                        "backoffLimit": {"type": "integer", "minimum": 0},
                        "rayClusterSpec": {
                            "type": "object",
                            "additionalProperties": False,
                            "required": ["headGroupSpec"],
                            "properties": {
                                "rayVersion": {"type": "string"},
                                "authOptions": {
                                    "type": "object",
                                    "additionalProperties": False,
                                    "properties": {"mode": {"enum": ["disabled", "token"]}},
                                },
                                "headGroupSpec": {
                                    "type": "object",
                                    "additionalProperties": False,
                                    "required": ["template"],
                                    "properties": GROUP,
                                },
                                "workerGroupSpecs": {
                                    "type": "array",
                                    "items": {
                                        "type": "object",
                                        "additionalProperties": False,
                                        "required": ["groupName", "maxReplicas", "minReplicas", "template"],
                                        "properties": GROUP
                                        | {"groupName": {"type": "string"}}
                                        | {
                                            name: {"type": "integer"}
                                            for name in ("replicas", "minReplicas", "maxReplicas")
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


def read(name: str) -> str:
    return (RECIPES / name).read_text(encoding="utf-8")


def check_batch(words: list[str]) -> None:
    """Parse options of consolidate, to which a scheduler adds the slot."""
    values = parse_options("consolidate", [*words, "--slot", "2026-11-22T02:00Z"])
    check_store(values["store"])


def check_schedule(words: list[str]) -> Schedule:
    """Parse a command that runs what is due, and return its schedule."""
    where = words.index("jobs.schedule")
    assert words[where - 2].rpartition("/")[2] == "python"
    assert words[where - 1] == "-m"
    values = parse_options("schedule", words[where + 1 :])
    assert values["once"]
    inputs = [word for path in values["inputs"] for word in ("--input", path)]
    check_batch([*inputs, "--store", values["store"], *(values["options"] or [])])
    return parse_schedule(values["cron"], values["time_zone"])


def systemd_section(name: str, section: str) -> dict[str, str]:
    text = read(name).replace("\\\n", " ")
    found = re.search(rf"^\[{section}\]\n(.*?)(?=^\[|\Z)", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    lines = (line for line in found[1].splitlines() if line and not line.startswith("#"))
    return {line.partition("=")[0]: line.partition("=")[2] for line in lines}


def constants(name: str) -> dict[str, Any]:
    """Return the values that a Python recipe assigns at its top: literals, and `shlex.split` of one."""
    found = {}
    for node in ast.parse(read(name)).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            is_split = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "shlex.split"
            try:
                value = ast.literal_eval(node.value.args[0] if is_split else node.value)  # type: ignore[attr-defined]
            except ValueError:
                continue
            found[node.targets[0].id] = shlex.split(value) if is_split else value
    return found


def strings(name: str) -> set[str]:
    nodes = ast.walk(ast.parse(read(name)))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_cron_starts_what_is_due_at_its_own_times() -> None:
    (line,) = (line for line in read("consolidate.cron").splitlines() if re.match(r"[0-9*]", line))
    *fields, user, command = line.split(maxsplit=6)
    words = shlex.split(command)
    assert "%" not in command  # of which cron makes a line break
    assert user == "cluster-engine"
    redirected = next(index for index, word in enumerate(words) if ">" in word)
    assert check_schedule(words[:redirected]).expression == " ".join(fields)


def test_systemd_starts_what_is_due() -> None:
    service = systemd_section("consolidate.service", "Service")
    assert service["Type"] == "oneshot"
    schedule = check_schedule(shlex.split(service["ExecStart"]))
    assert systemd_section("consolidate.timer", "Timer")["OnCalendar"].endswith(schedule.zone.key)


@needs_systemd
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for name in ("consolidate.service", "consolidate.timer"):
        text = read(name).replace("/opt/cluster-engine/bin/python", sys.executable)
        (tmp_path / name).write_text(text, encoding="utf-8")
    units = [str(tmp_path / name) for name in ("consolidate.service", "consolidate.timer")]
    done = subprocess.run(
        [str(SYSTEMD), "verify", "--man=no", *units], capture_output=True, text=True, check=False, timeout=60
    )
    ours = [line for line in done.stderr.splitlines() if "consolidate." in line]
    assert (done.returncode, ours) == (0, []), done.stderr


@needs_systemd
@pytest.mark.parametrize("begin", ["2026-03-27", "2026-10-23", "2026-11-30"])
def test_the_timer_comes_due_when_the_slots_do(begin: str) -> None:
    """Systemd has its own idea of calendars; over both changes of the clocks it is that of the cron expression."""
    calendar = systemd_section("consolidate.timer", "Timer")["OnCalendar"]
    done = subprocess.run(
        [str(SYSTEMD), "calendar", f"--base-time={begin} 12:00:00 UTC", "--iterations=5", calendar],
        env={"TZ": "UTC", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    elapses = re.findall(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d):00 UTC", done.stdout)
    schedule = check_schedule(shlex.split(systemd_section("consolidate.service", "Service")["ExecStart"]))
    noon = datetime.fromisoformat(begin).replace(hour=12, tzinfo=timezone.utc)
    assert [f"{day}T{time}Z" for day, time in elapses] == [slot_name(due) for due in islice(schedule.after(noon), 5)]


def test_kubernetes_accepts_the_cron_job_which_starts_what_is_due() -> None:
    job = yaml.safe_load(read("cronjob.yaml"))
    kubernetes_validate.validate(job, "1.33", strict=True)
    spec = job["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    template = spec["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = template["containers"]
    schedule = check_schedule([*container["command"], *container["args"]])
    assert (schedule.expression, schedule.zone.key) == (spec["schedule"], spec["timeZone"])
    assert template["restartPolicy"] == "Never"  # without which there is no policy for failed pods
    rules = spec["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    (final,) = (rule["onExitCodes"] for rule in rules if rule["action"] == "FailJob")
    assert (final["containerName"], final["operator"]) == (container["name"], "In")
    assert final["values"] == sorted(FINAL)


def test_a_ray_cron_job_has_documented_fields_alone_and_starts_what_is_due() -> None:
    job = yaml.safe_load(read("raycronjob.yaml"))
    jsonschema.validate(job, RAY_CRON_JOB)
    spec, template = job["spec"], job["spec"]["jobTemplate"]
    schedule = check_schedule(shlex.split(template["entrypoint"]))
    assert (schedule.expression, schedule.zone.key) == (spec["schedule"], spec["timeZone"])
    assert '"' not in template["entrypoint"]  # it goes through one shell or two, which leave single quotes alone
    cluster = template["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": group["template"]["spec"]}
        kubernetes_validate.validate(pod, "1.33", strict=True)


@pytest.mark.parametrize(("name", "command"), [("airflow_dag.py", "submit"), ("dagster_definitions.py", "consolidate")])
def test_a_python_recipe_runs_a_command_that_there_is_with_the_slot_of_its_tick(name: str, command: str) -> None:
    compile(read(name), name, "exec")
    given = constants(name)
    program, *words = given["COMMAND"]
    assert (program, given["FINAL"]) == ("cluster-engine", FINAL)
    where = words.index(command)
    assert all(word in {"--verbose", "--debug"} for word in words[:where])
    if command == "submit":
        values = parse_options("submit", words[where + 1 :])
        assert values["wait"]
        check_batch(values["options"])
    else:
        check_batch(words[where + 1 :])
    found = strings(name)
    (expression,) = (text for text in found if re.fullmatch(r"[0-9*,/ -]+", text) and len(text.split()) == 5)
    assert parse_schedule(expression, "Europe/Berlin").expression == expression
    (layout,) = (text for text in found if "%H" in text)
    moment = datetime(2026, 11, 22, 2, tzinfo=timezone.utc)
    assert moment.strftime(layout) == slot_name(moment)


@pytest.mark.parametrize("document", ["scheduling.md", "cli.md"])
def test_the_commands_of_a_document_are_ones_that_there_are(document: str) -> None:
    text = (RECIPES.parents[1] / "docs" / document).read_text(encoding="utf-8")
    commands = [
        shlex.split(line) for line in re.findall(r"^cluster-engine (\w+ .*)$", text, re.MULTILINE) if "|" not in line
    ]
    jobs = [words for words in commands if words[0] in {"schedule", "submit", "status", "logs", "stop", "jobs"}]
    assert len(jobs) >= 2
    for command, *words in jobs:
        values = parse_options(command, words)
        if command == "submit":
            parse_options("consolidate", values["options"])
        elif command == "schedule":
            parse_schedule(values["cron"], values["time_zone"])
            inputs = [word for path in values["inputs"] for word in ("--input", path)]
            parse_options("consolidate", [*inputs, "--store", values["store"], *(values["options"] or [])])


def test_every_recipe_is_tested() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert all(path.name in text for path in RECIPES.iterdir() if path.is_file())
