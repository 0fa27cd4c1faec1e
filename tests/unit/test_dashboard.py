"""The dashboard asks for metrics that there are, by labels that they have, and leaves none out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cluster_engine.shards.metrics import METRICS

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana-dashboard.json"
SERIES = {name: metric for metric in METRICS for name in metric.series}
ADDED_BY_PROMETHEUS = {"le"}


def panels() -> list[Any]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


@pytest.mark.parametrize("query", queries())
def test_a_query_asks_for_what_there_is(query: str) -> None:
    asked = re.findall(r"ray_\w+", query)
    assert asked
    assert set(asked) <= set(SERIES)
    grouped = {label.strip() for labels in re.findall(r"by \(([^)]*)\)", query) for label in labels.split(",")}
    for name in asked:
        assert grouped <= set(SERIES[name].labels) | ADDED_BY_PROMETHEUS
        is_rated = f"rate({name}[$__rate_interval])" in query
        assert is_rated == (SERIES[name].kind != "gauge")  # a rate of a gauge, or a counter without one, says nothing
    assert ("histogram_quantile" in query) == any(name.endswith("_bucket") for name in asked)
    assert query.count("(") == query.count(")")


def test_every_metric_is_shown() -> None:
    shown = {SERIES[name].name for query in queries() for name in re.findall(r"ray_\w+", query)}
    assert shown == {metric.name for metric in METRICS}


def test_a_legend_names_labels_that_the_query_keeps() -> None:
    for panel in panels():
        for target in panel["targets"]:
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert re.search(rf"by \([^)]*\b{label}\b", target["expr"])


def test_panels_do_not_overlap() -> None:
    taken = [
        (x, y)
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))


def test_a_metric_is_declared_once_with_buckets_that_ascend() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert list(metric.boundaries) == sorted(set(metric.boundaries))
        assert bool(metric.boundaries) == (metric.kind == "histogram")
