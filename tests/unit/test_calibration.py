"""`calibrate`: what a threshold links in a sample, and that the sample does not depend on the order of rows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_tables import version_tables

from cluster_engine.cli import main
from cluster_engine.data.reading import read_episodes, sample_episodes
from cluster_engine.data.sampling import IdSample, choose_rows
from cluster_engine.errors import InputError
from cluster_engine.linkage.calibration import QUANTILES, Gate, calibrate, longest_age_s
from cluster_engine.linkage.criterion import Criterion
from cluster_engine.linkage.gain import choose_cut, cross_similarities
from cluster_engine.linkage.linkage import linkage
from cluster_engine.store.commit import commit_version

HOUR_US = 3_600_000_000


def loose_groups(n_groups: int, n_each: int, spread: float, *, d: int = 64, seed: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    centres = np.repeat(rng.standard_normal((n_groups, d)), n_each, axis=0)
    return (centres + spread * rng.standard_normal(centres.shape)).astype(np.float32)


def all_cosines(vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    exact = vectors.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    return np.asarray(exact @ exact.T)


def test_what_is_told_is_what_numpy_finds_in_all_pairs() -> None:
    vectors = loose_groups(12, 20, 0.7)
    found = calibrate(vectors, distance=0.31)
    cosines = all_cosines(vectors)
    pairs = cosines[np.triu_indices(len(vectors), 1)]
    assert found.n_sampled == 240
    assert found.mean_similarity == pytest.approx(pairs.mean(), abs=1e-6)
    expected = np.quantile(pairs, QUANTILES, method="inverted_cdf")
    assert list(found.quantiles.values()) == pytest.approx(expected, abs=1e-6)
    np.fill_diagonal(cosines, -1)
    for threshold in found.thresholds:
        assert threshold.linked.pairs == pytest.approx((pairs >= threshold.similarity).mean(), abs=2 / len(pairs))
        assert threshold.linked.neighbours == (cosines.max(axis=1) >= threshold.similarity).mean()
        assert threshold.longest_age_s is threshold.linked_in_time is None
    given_distance = found.thresholds[-1]
    assert (given_distance.distance, given_distance.similarity) == (0.31, 0.69)


def test_the_proposal_is_the_cut_of_the_engine() -> None:
    vectors = loose_groups(12, 20, 0.7)
    z = linkage(vectors)
    cut = choose_cut(z, cross_similarities(z, Criterion("average", "cosine"), vectors))
    proposed = calibrate(vectors).thresholds[0]
    assert (proposed.rule, proposed.distance) == ("binding gain", cut.distance)


def test_without_groups_the_proposal_is_a_fixed_level_and_it_warns() -> None:
    rng = np.random.default_rng(3)
    found = calibrate(rng.standard_normal((1_000, 384)).astype(np.float32))
    assert found.thresholds[0].rule == "adjusted similarity 0.35"
    assert found.thresholds[0].similarity == pytest.approx(0.35, abs=0.01)
    assert any("adjusted similarity 0.35" in warning and "nearly nothing" in warning for warning in found.warnings)


def test_it_warns_where_nearly_everything_would_link() -> None:
    vectors = loose_groups(1, 100, 0.3)
    found = calibrate(vectors, distance=0.9)
    assert [w for w in found.warnings if w.startswith("given distance")] == [
        "given distance (similarity 0.100) would link nearly everything: 100% of all pairs"
    ]


def test_copies_do_not_move_the_mean() -> None:
    vectors = loose_groups(5, 1, 0.0)
    cosines = all_cosines(vectors)[np.triu_indices(5, 1)]
    assert calibrate(np.repeat(vectors, 40, axis=0)).mean_similarity == pytest.approx(cosines.mean(), abs=1e-6)
    assert calibrate(np.ones((50, 8), np.float32)).mean_similarity == 1


def test_a_gate_on_a_sigmoid_is_a_cosine() -> None:
    gate = Gate(0.55)
    assert gate.similarity == pytest.approx(0.5201, abs=1e-4)
    assert 1 / (1 + math.exp(-10 * (gate.similarity - 0.5))) == pytest.approx(0.55)
    half_life_s = 24 * 3600 * math.log(2)  # of exp(-h / 24)
    hours = longest_age_s(gate.similarity, half_life_s) / 3600
    assert hours == pytest.approx(15.7, abs=0.05)
    assert math.exp(-hours / 24) == pytest.approx(gate.similarity)


def test_ages_at_the_ends() -> None:
    assert longest_age_s(1.0, 60) == 0
    assert longest_age_s(1.1, 60) == 0
    assert longest_age_s(0.0, 60) == math.inf
    assert longest_age_s(-0.2, 60) == math.inf


@pytest.mark.parametrize("bad", [{"threshold": 0.0}, {"threshold": 1.0}, {"threshold": 0.5, "slope": 0.0}])
def test_a_gate_that_is_none_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="gate"):
        Gate(**bad)


def test_decay_hides_pairs_that_are_apart_in_time() -> None:
    vectors = loose_groups(6, 10, 0.2)
    times_us = np.arange(len(vectors)) * 5 * HOUR_US
    found = calibrate(vectors, times_us=times_us, half_life_s=24 * 3600, gate=Gate(0.55))
    hours = np.abs(times_us[:, None] - times_us) / HOUR_US
    decayed = (all_cosines(vectors) * 2.0 ** (-hours / 24))[np.triu_indices(len(vectors), 1)]
    for threshold in found.thresholds:
        assert threshold.linked_in_time is not None
        share = (decayed >= threshold.similarity).mean()
        assert threshold.linked_in_time.pairs == pytest.approx(share, abs=2 / len(decayed))
        assert threshold.linked_in_time.pairs < threshold.linked.pairs


def test_too_few_or_too_many_vectors_are_refused() -> None:
    for n in (2, 8_193):
        with pytest.raises(InputError, match="3 to 8,192"):
            calibrate(np.ones((n, 2), np.float32))


# --- the sample ------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 50), st.integers(1, 40), st.randoms(use_true_random=False))
def test_the_sample_is_that_of_all_rows_at_once(n: int, n_rows: int, batch: int, random: Any) -> None:  # noqa: ANN401
    names = [f"episode {i}" for i in range(n)]
    expected = {names[row] for row in choose_rows(pa.array(names), n_rows).tolist()}
    assert len(expected) == min(n, n_rows)
    random.shuffle(names)
    sample = IdSample(n_rows)
    admitted: list[str] = []
    for start in range(0, n, batch):
        part = pa.array(names[start : start + batch])
        admitted += part.take(sample.admit(part)).to_pylist()
    assert {admitted[row] for row in choose_rows(pa.array(admitted), n_rows).tolist()} == expected


def write_episodes(path: Path, rows: np.ndarray[Any, Any], *, n_files: int = 1) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((len(rows), 8)).astype(np.float32)
    path.mkdir()
    for number, part in enumerate(np.array_split(rows, n_files)):
        table = pa.table({"id": [f"e{row}" for row in part], "vector": [vectors[row].tolist() for row in part]})
        pq.write_table(table, path / f"{number}.parquet", row_group_size=700)


def test_a_sample_of_files_does_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    n = 20_000
    write_episodes(tmp_path / "a", np.arange(n))
    write_episodes(tmp_path / "b", np.random.default_rng(1).permutation(n), n_files=5)
    (first, n_first), (second, n_second) = (sample_episodes(str(tmp_path / name), 300) for name in "ab")
    assert n_first == n_second == n
    assert len(first) == 300
    assert first.ids.equals(second.ids)
    assert np.array_equal(first.vectors, second.vectors)
    larger, _ = sample_episodes(str(tmp_path / "a"), 900)
    assert set(first.ids.to_pylist()) < set(larger.ids.to_pylist())
    everything, _ = read_episodes(str(tmp_path / "a"))
    whole, _ = sample_episodes(str(tmp_path / "b"), 10**6)
    assert whole.ids.equals(everything.ids)


# --- the command -----------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", *(str(arg) for arg in args)])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.fixture
def episodes(tmp_path: Path) -> str:
    vectors = loose_groups(20, 15, 0.5)
    times = pa.array(np.arange(300) * HOUR_US, pa.timestamp("us", "UTC"))
    names = [f"e{i}" for i in range(300)]
    path = str(tmp_path / "episodes.parquet")
    pq.write_table(pa.table({"id": names, "vector": vectors.tolist(), "time": times}), path)
    return path


def test_the_command_prints_lines_for_a_configuration(episodes: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--input", episodes, "--half-life", 24, "--gate", 0.55)
    assert code == 0
    proposed = calibrate(loose_groups(20, 15, 0.5)).thresholds[0]
    assert out.endswith(f"cut:\n  distance: {proposed.distance:.4f}\n")
    assert "22.6 h" in out  # 24 log2(1 / 0.5201)


def test_the_command_answers_in_json(episodes: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--input", episodes, "--sample", 100, "--distance", 2, "--half-life", 1, "--json")
    answer = json.loads(out)
    assert (code, answer["n_episodes"], answer["n_sampled"]) == (0, 300, 100)
    assert answer["proposal"]["cut"]["distance"] == pytest.approx(answer["thresholds"][0]["distance"], abs=1e-4)
    assert answer["thresholds"][-1]["longest_age_s"] is None  # of a cosine of -1: always
    assert any("nearly everything" in warning for warning in answer["warnings"])
    assert set(answer["quantiles"]) == {"1", "5", "10", "25", "50", "75", "90", "95", "99", "99.9", "99.99"}


def test_a_store_is_measured_as_its_files_are(
    tmp_path: Path, episodes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pq.read_table(episodes).rename_columns(["episode_id", "vector", "time"])
    flat = table["vector"].combine_chunks().flatten().cast(pa.float32())
    vector = pa.FixedSizeListArray.from_arrays(flat, 64)
    table = table.set_column(1, "vector", vector).sort_by("episode_id").combine_chunks()
    commit_version(str(tmp_path / "store"), {**version_tables(), "episodes": table})
    options = ["--sample", 120, "--half-life", 24, "--json"]
    of_store, of_files = (
        run(capsys, "--store", tmp_path / "store", *options),
        run(capsys, "--input", episodes, *options),
    )
    assert of_store[0] == 0
    assert of_store[:2] == of_files[:2]


@pytest.mark.parametrize("options", [[], ["--gate", 1.5], ["--half-life", 0]])
def test_the_command_refuses_what_it_cannot_use(
    episodes: str, options: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    named = ["--input", episodes] if options else []
    code, out, err = run(capsys, *named, *options)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1


def test_decay_needs_a_time_of_every_episode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = pa.array([None, 1, 2, 3], pa.timestamp("us", "UTC"))
    table = pa.table({"id": [1, 2, 3, 4], "vector": loose_groups(1, 4, 1.0).tolist(), "time": times})
    pq.write_table(table, tmp_path / "e.parquet")
    code, _, err = run(capsys, "--input", tmp_path / "e.parquet", "--half-life", 2)
    assert code == 3
    assert "1 of the sampled episodes have none" in err


def test_the_figures_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    half_life_h = 24 * math.log(2)
    code, out, _ = run(capsys, "--input", "demo/episodes.parquet", "--half-life", half_life_h, "--gate", 0.55, "--json")
    thresholds = {threshold["rule"]: threshold for threshold in json.loads(out)["thresholds"]}
    assert code == 0
    told = {}
    for line in Path("docs/calibration.md").read_text().splitlines():
        cells = [cell.strip(" |%h") for cell in line.split(" | ")]
        if cells[0] in thresholds:
            told[cells[0]] = [float(cell) for cell in cells[1:]]
    assert told.keys() == thresholds.keys()
    for rule, threshold in thresholds.items():
        linked, decayed = threshold["linked"], threshold["linked_in_time"]
        assert told[rule] == [
            round(threshold["distance"], 3),
            round(threshold["similarity"], 3),
            round(100 * linked["pairs"], 3),
            round(100 * linked["neighbours"], 1),
            round(threshold["longest_age_s"] / 3600, 1),
            round(100 * decayed["pairs"], 3),
            round(100 * decayed["neighbours"], 1),
        ]
