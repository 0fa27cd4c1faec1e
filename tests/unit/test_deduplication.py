"""Near-duplicates: exactly those that going through all pairs finds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cluster_engine as ce
from cluster_engine.cli import main
from cluster_engine.data.reading import read_episodes
from cluster_engine.deduplication import find_duplicates
from cluster_engine.errors import InputError, VectorError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def cosines(vectors: NDArray[Any]) -> NDArray[np.float64]:
    exact = vectors.astype(np.longdouble)
    exact /= np.sqrt((exact * exact).sum(axis=1, keepdims=True))
    return np.asarray((exact[:, None] * exact).sum(axis=2), np.float64)


def go_through(similarity: NDArray[np.float64], eps: float, worth: NDArray[np.float64]) -> list[int]:
    """Keep each row, the worthiest first, unless a kept one is within eps: the definition, over all pairs."""
    found = [-1] * len(worth)
    kept: list[int] = []
    for row in sorted(range(len(worth)), key=lambda row: (-worth[row], row)):
        close = [other for other in kept if 1 - similarity[row, other] <= eps]
        found[row] = close[0] if close else row
        kept += [] if close else [row]
    return found


def crowded(seed: int, n: int, d: int, spread: float) -> NDArray[np.float32]:
    """Return a few directions with noise of all sizes, scaled at random, and some rows twice."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, n // 8), d))
    rows = centres[rng.integers(0, len(centres), n)]
    rows = rows + spread * rng.random((n, 1)) * rng.standard_normal((n, d))
    rows[rng.integers(0, n, n // 4)] = rows[rng.integers(0, n, n // 4)]
    return np.asarray(rows * rng.uniform(0.1, 9, (n, 1)), np.float32)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 150),
    d=st.integers(2, 40),
    spread=st.sampled_from([0.05, 0.3, 1.0]),
    eps=st.sampled_from([0.001, 0.02, 0.1, 0.4]),
    levels=st.integers(1, 6),
)
def test_it_is_the_definition(*, seed: int, n: int, d: int, spread: float, eps: float, levels: int) -> None:
    vectors = crowded(seed, n, d, spread)
    worth = np.random.default_rng(seed).integers(0, levels, n).astype(np.float64)
    similarity = cosines(vectors)
    if (np.abs(1 - similarity - eps) < 1e-12).any():
        return  # a tie that roundings decide
    found = ce.deduplicate(vectors, eps, preference=worth)
    assert found.representatives.tolist() == go_through(similarity, eps, worth)
    chosen = similarity[np.arange(n), found.representatives]
    assert found.similarities == pytest.approx(chosen, abs=1e-9)
    assert (1 - chosen <= eps + 1e-12).all()
    among_kept = similarity[np.ix_(found.kept, found.kept)] - np.eye(len(found.kept))
    assert (1 - among_kept > eps).all()
    assert ce.deduplicate(vectors, eps, preference=worth, threads=1).representatives.tolist() == (
        found.representatives.tolist()
    )


def test_a_long_chain_is_kept_at_every_step_of_eps() -> None:
    """Single linkage alone would call the whole arc one group."""
    angles = np.linspace(0, np.pi, 2_000)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    eps = 0.01
    found = ce.deduplicate(vectors, eps)
    assert found.representatives.tolist() == go_through(cosines(vectors), eps, np.zeros(len(vectors)))
    assert len(found.kept) == pytest.approx(np.pi / np.arccos(1 - eps), abs=2)


def test_the_central_one_is_closest_to_the_mean() -> None:
    rng = np.random.default_rng(5)
    centre = rng.standard_normal(30)
    vectors = np.asarray(centre + 0.05 * rng.standard_normal((40, 30)), np.float32)
    found = ce.deduplicate(vectors, 0.2, preference="central")
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert found.kept.tolist() == [int((unit @ unit.mean(axis=0)).argmax())]


def test_equal_directions_are_one_at_eps_0() -> None:
    vectors = np.array([[1, 2], [3, 1], [2, 4], [1, 2], [1.0001, 2]], np.float32)
    assert ce.deduplicate(vectors, 0.0).representatives.tolist() == [0, 1, 0, 0, 4]
    assert ce.deduplicate(np.ones((500, 3), np.float32), 0.0).kept.tolist() == [0]


def test_one_vector_is_kept() -> None:
    found = ce.deduplicate([[0.5, 0.5]])
    assert (found.representatives.tolist(), found.similarities.tolist()) == ([0], [1.0])


def test_what_cannot_be_is_refused() -> None:
    vectors = np.ones((3, 2), np.float32)
    for eps in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="eps must be"):
            ce.deduplicate(vectors, eps)
    for preference in ([1, 2], [[1, 2, 3]], [1, 2, float("nan")], ["a", "b", "c"]):
        with pytest.raises(InputError, match="preference must be 3 numbers"):
            ce.deduplicate(vectors, preference=preference)
    with pytest.raises(ValueError, match="preference must be"):
        ce.deduplicate(vectors, preference="last")  # type: ignore[arg-type]  # what a caller without types may give
    with pytest.raises(VectorError, match="row 1"):
        ce.deduplicate([[1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(InputError, match="at least 1"):
        ce.deduplicate(np.empty((0, 2), np.float32))


# --- episodes --------------------------------------------------------------------------------------------------------

# d and a say the same, and b and c; each pair differs in what makes one of them the one to keep
EPISODES = {
    "id": ["d", "c", "b", "a", "lone"],
    "vector": [[1.0, 0.0], [0.0, 1.0], [0.001, 1.0], [1.0, 0.001], [-1.0, 0.0]],
    "text": ["long text", None, "b", "short", "x"],
    "importance": [0.1, 0.9, 0.2, 0.8, 0.5],
    "time": [1, None, 5, 2, 3],
}


@pytest.fixture
def episodes(tmp_path: Path) -> Path:
    columns: dict[str, Any] = {**EPISODES, "time": pa.array(EPISODES["time"], pa.timestamp("s", "UTC"))}
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    return tmp_path / "in.parquet"


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["deduplicate", *(str(arg) for arg in args)])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("first", ["b", "d", "lone"]),
        ("longest", ["b", "d", "lone"]),
        ("most-important", ["a", "c", "lone"]),
        ("central", ["a", "b", "lone"]),  # of two, both are as close to the mean: the smaller id
    ],
)
def test_the_command_keeps_what_it_is_told(
    episodes: Path, capsys: pytest.CaptureFixture[str], keep: str, kept: list[str]
) -> None:
    output, rest = episodes.with_name("groups.parquet"), episodes.with_name("kept.parquet")
    options = ["--input", episodes, "--output", output, "--eps", 0.01, "--keep", keep, "--write-kept", rest]
    code, out, _ = run(capsys, *options, "--json")
    assert code == 0
    expected = {"output": str(output), "n_episodes": 5, "n_quarantined": 0, "n_kept": 3, "n_groups": 2, "eps": 0.01}
    assert json.loads(out) == expected
    groups = pq.read_table(output).to_pylist()
    assert [row["id"] for row in groups] == ["a", "b", "c", "d", "lone"]
    assert [row["id"] for row in groups if row["is_representative"]] == kept
    assert [(row["id"], row["group"]) for row in groups if row["is_representative"]] == list(
        zip(kept, range(3), strict=True)
    )
    for row in groups:
        assert row["representative_id"] == kept[row["group"]]
        assert row["similarity"] == pytest.approx(1.0, abs=1e-5)
    whole, _ = read_episodes(str(episodes))
    left, _ = read_episodes(str(rest))
    assert left.ids.to_pylist() == kept
    rows = [whole.ids.to_pylist().index(name) for name in kept]
    assert np.array_equal(left.vectors, whole.vectors[rows])
    assert left.times.equals(whole.times.take(pa.array(rows)))
    assert left.importances.tolist() == whole.importances[rows].tolist()


def test_the_command_tells_people_and_refuses(episodes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--input", episodes, "--output", episodes.with_name("groups.parquet")]
    code, out, _ = run(capsys, *options, "--eps", 0.01)
    assert (code, out.startswith("2 of 5 episodes say the same as one of 2 others")) == (0, True)
    assert run(capsys, *options, "--eps", 1)[0] == 2
    assert run(capsys, *options, "--keep", "last")[0] == 2
    pq.write_table(pq.read_table(episodes).drop_columns(["text"]), episodes)
    code, _, err = run(capsys, *options, "--keep", "longest")
    assert (code, "no column of texts" in err) == (3, True)


def test_the_figures_of_the_page() -> None:
    episodes, _ = read_episodes("demo/episodes.parquet")
    found = find_duplicates(episodes, 0.05, "longest")
    stands_for_others = np.bincount(found.representatives, minlength=len(episodes)) > 1
    assert (len(episodes) - len(found.kept), np.count_nonzero(stands_for_others)) == (440, 198)
