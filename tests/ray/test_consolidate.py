"""The whole batch: the same bytes from every road, and a store that survives what happens to its writers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pyarrow.compute as pc
import pytest
from episode_files import clustered_vectors, write_episodes
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist

import cluster_engine as ce
import native_simd
from cluster_engine.concepts.difference import diff_concepts
from cluster_engine.config import Config, CutConfig, PoolConfig
from cluster_engine.errors import CapacityError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from cluster_engine.progress import Progress

VECTORS = clustered_vectors(600, 24)


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_episodes(tmp_path_factory.mktemp("input") / "episodes.parquet", VECTORS)


@pytest.fixture(scope="module")
def baseline(local_ray: None, episodes: Path, tmp_path_factory: pytest.TempPathFactory) -> ce.BatchReport:
    return ce.consolidate(episodes, tmp_path_factory.mktemp("baseline"))


@pytest.mark.usefixtures("local_ray")
class TestSameBytes:
    @pytest.mark.parametrize(
        "pool",
        [
            PoolConfig(actors_per_numa_node=4),
            PoolConfig(transport="objects"),
            PoolConfig(n_shards=3, threads_per_actor=1),
            PoolConfig(numa="off"),
        ],
        ids=["4 actors", "objects", "3 shards", "unbound"],
    )
    def test_from_any_pool(self, pool: PoolConfig, episodes: Path, baseline: ce.BatchReport, tmp_path: Path) -> None:
        assert ce.consolidate(episodes, tmp_path, Config(pool=pool)).content_sha256 == baseline.content_sha256

    @pytest.mark.parametrize("isa", native_simd.available_isas())
    def test_from_any_instruction_set(
        self, isa: str, episodes: Path, baseline: ce.BatchReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CLUSTER_ENGINE_ISA", isa)
        report = ce.consolidate(episodes, tmp_path)
        assert report.content_sha256 == baseline.content_sha256
        assert ce.ConceptStore.open(tmp_path).report()["isa"].to_pylist() == [isa]

    def test_from_shuffled_rows_in_two_files(self, baseline: ce.BatchReport, tmp_path: Path) -> None:
        order = np.random.default_rng(1).permutation(len(VECTORS))
        (tmp_path / "input").mkdir()
        for name, rows in (("b.parquet", order[:250]), ("a.parquet", order[250:])):
            write_episodes(tmp_path / "input" / name, VECTORS, rows)
        report = ce.consolidate(tmp_path / "input", tmp_path / "store")
        assert report.content_sha256 == baseline.content_sha256

    def test_after_an_actor_was_killed(self, episodes: Path, baseline: ce.BatchReport, tmp_path: Path) -> None:
        killed = []

        def kill_an_actor(progress: Progress) -> None:
            if progress.phase == "pairwise" and progress.done == 1 and not killed:
                workers = psutil.Process().children(recursive=True)
                killed.append(next(worker.pid for worker in workers if worker.name().startswith("ray::ShardActor")))
                os.kill(killed[0], signal.SIGKILL)

        report = ce.consolidate(episodes, tmp_path, progress=kill_an_actor)
        assert killed
        assert report.content_sha256 == baseline.content_sha256


@pytest.mark.usefixtures("local_ray")
class TestContent:
    def test_concepts_and_bindings_are_those_of_the_groups(self, episodes: Path, tmp_path: Path) -> None:
        ce.consolidate(episodes, tmp_path, Config(cut=CutConfig(distance=0.3, min_episodes=4)))
        store = ce.ConceptStore.open(tmp_path)
        z = hierarchy.linkage(pdist(VECTORS.astype(np.float64), "cosine"), "average")
        labels = hierarchy.fcluster(z, 0.3, "distance")
        groups = {
            frozenset(f"episode-{row:05d}" for row in np.flatnonzero(labels == label))
            for label in np.unique(labels)
            if (labels == label).sum() >= 4
        }
        bindings = store.bindings().to_pylist()
        bound: dict[int, set[str]] = {}
        for row in bindings:
            bound.setdefault(row["concept_id"], set()).add(row["episode_id"])
        assert {frozenset(members) for members in bound.values()} == groups
        units = VECTORS.astype(np.float64) / np.linalg.norm(VECTORS.astype(np.float64), axis=1, keepdims=True)
        for concept in store.concepts().to_pylist():
            rows = sorted(int(name[-5:]) for name in bound[concept["concept_id"]])
            mean = units[rows].sum(axis=0)
            np.testing.assert_allclose(concept["centroid"], mean / np.linalg.norm(mean), atol=1e-6)
            inner = units[rows] @ units[rows].T
            assert concept["coherence"] == pytest.approx(inner[~np.eye(len(rows), dtype=bool)].mean(), abs=1e-6)
            assert concept["n_episodes"] == len(rows)
            assert (concept["first_time"].timestamp(), concept["last_time"].timestamp()) == (rows[0], rows[-1])
            strengths = {
                int(b["episode_id"][-5:]): b["strength"] for b in bindings if b["concept_id"] == concept["concept_id"]
            }
            np.testing.assert_allclose(
                [strengths[r] for r in rows], units[rows] @ mean / np.linalg.norm(mean), atol=1e-6
            )
            best = max(rows, key=lambda r: (strengths[r], -r))
            assert concept["exemplar_ids"][0] == f"episode-{best:05d}"
            assert concept["exemplar_texts"][0] == f"text of {best}"

    def test_the_hierarchy_joins_all_concepts(self, episodes: Path, tmp_path: Path) -> None:
        ce.consolidate(episodes, tmp_path)
        store = ce.ConceptStore.open(tmp_path)
        concepts = {row["concept_id"]: row for row in store.concepts().to_pylist()}
        nodes = {row["node_id"]: row for row in store.hierarchy().to_pylist()}
        assert len(nodes) == len(concepts) - 1

        def leaves(name: int) -> set[int]:
            return {name} if name in concepts else leaves(nodes[name]["left_id"]) | leaves(nodes[name]["right_id"])

        root = list(nodes)[-1]
        assert leaves(root) == set(concepts)
        for name, node in nodes.items():
            assert node["n_episodes"] == sum(concepts[leaf]["n_episodes"] for leaf in leaves(name))
        for name, concept in concepts.items():
            assert name in (nodes[concept["parent_id"]]["left_id"], nodes[concept["parent_id"]]["right_id"])


@pytest.mark.usefixtures("local_ray")
class TestBatches:
    def test_a_slot_runs_once(self, episodes: Path, tmp_path: Path) -> None:
        first = ce.consolidate(episodes, tmp_path, slot="2026-11-22T02:00Z")
        again = ce.consolidate(episodes, tmp_path, slot="2026-11-22T02:00Z")
        assert (first.repeated, again.repeated) == (False, True)
        assert again.version == first.version == 1
        assert again.content_sha256 == first.content_sha256

    def test_a_second_batch_folds_into_the_first(self, tmp_path: Path) -> None:
        """The same bytes, in whatever order the rows of each batch come, and whether known ones come again."""
        digests = set()
        for name, seed in (("a", None), ("b", 5)):
            rng = np.random.default_rng(seed)
            first, second = np.arange(450), np.arange(450, 600)
            if seed is not None:
                first, second = rng.permutation(first), rng.permutation(600)
            one = write_episodes(tmp_path / f"{name}1.parquet", VECTORS, first)
            two = write_episodes(tmp_path / f"{name}2.parquet", VECTORS, second)
            assert ce.consolidate(one, tmp_path / name).n_episodes == 450
            before = ce.ConceptStore.open(tmp_path / name).concepts()["concept_id"].to_pylist()
            report = ce.consolidate(two, tmp_path / name)
            assert (report.version, report.cycle, report.n_episodes, report.n_new_episodes) == (2, 2, 600, 150)
            assert not report.is_rebuild
            assert report.changes["grew"] > 0
            kept = set(before) & set(ce.ConceptStore.open(tmp_path / name).concepts()["concept_id"].to_pylist())
            assert len(kept) + report.changes.get("absorbed", 0) == len(before)
            digests.add(report.content_sha256)
        assert len(digests) == 1

    def test_the_same_episodes_again_change_nothing_but_the_cycle(self, episodes: Path, tmp_path: Path) -> None:
        ce.consolidate(episodes, tmp_path, slot="one")
        report = ce.consolidate(episodes, tmp_path, slot="two")
        assert (report.n_new_episodes, report.changes) == (0, {})
        one, two = (ce.ConceptStore.open(tmp_path, version=version) for version in (1, 2))
        assert one.bindings().equals(two.bindings())
        idle = two.concepts()["idle_cycles"].to_pylist()
        assert set(idle) == {1}
        assert one.concepts().drop_columns("idle_cycles").equals(two.concepts().drop_columns("idle_cycles"))

    def test_a_preview_says_what_would_change_and_changes_nothing(self, episodes: Path, tmp_path: Path) -> None:
        half = write_episodes(tmp_path / "half.parquet", VECTORS, np.arange(0, 600, 2))
        store = tmp_path / "store"
        first = ce.preview(half, store)
        assert (first.report.version, first.report.content_sha256) == (0, "")
        assert first.report.changes["born"] == first.difference.after["active"] == len(first.concepts)
        assert not store.exists()
        done = [ce.consolidate(half, store)]
        found = ce.preview(episodes, store)
        assert ce.ConceptStore.open(store).manifest.content_sha256 == done[0].content_sha256
        done.append(ce.consolidate(episodes, store))
        assert (found.report.changes, found.report.cut_distance) == (done[1].changes, done[1].cut_distance)
        one, two = (ce.ConceptStore.open(store, version=version) for version in (1, 2))
        assert found.concepts.equals(two.concepts())
        assert found.journal.equals(two.journal().filter(pc.equal(two.journal()["cycle"], 2)))
        tables = [{"concepts": version.concepts(), "bindings": version.bindings()} for version in (one, two)]
        assert found.difference.changes == diff_concepts(*tables).changes

    def test_episodes_go_only_when_asked(self, episodes: Path, tmp_path: Path) -> None:
        store = tmp_path / "store"
        made = ce.consolidate(episodes, store)
        since = datetime.fromtimestamp(100, timezone.utc)  # of an episode's row is its second
        told = ce.preview([], store, since=since)
        assert told.difference.after["episodes"] == 500
        report = ce.retain(store, since, slot="let go")
        assert (report.version, report.n_episodes, report.cycle) == (2, 500, 2)
        kept = ce.ConceptStore.open(store)
        assert set(kept.episodes()["episode_id"].to_pylist()) == {f"episode-{row:05d}" for row in range(100, 600)}
        bound = set(kept.bindings()["episode_id"].to_pylist())
        assert bound <= set(kept.episodes()["episode_id"].to_pylist())
        units = {f"episode-{row:05d}": VECTORS[row] / np.linalg.norm(VECTORS[row]) for row in range(600)}
        members: dict[int, list[str]] = {}
        for row in kept.bindings().to_pylist():
            members.setdefault(row["concept_id"], []).append(row["episode_id"])
        for concept in kept.concepts().to_pylist():
            mean = np.sum([units[name] for name in members[concept["concept_id"]]], axis=0)
            np.testing.assert_allclose(concept["centroid"], mean / np.linalg.norm(mean), atol=1e-5)
        assert ce.ConceptStore.open(store, version=1).n_rows("episodes") == made.n_episodes == 600
        with pytest.raises(InputError, match="nothing was deleted"):
            ce.retain(store, datetime(2030, 1, 1, tzinfo=timezone.utc))
        assert ce.undo(store) == 3
        assert ce.ConceptStore.open(store).manifest.content_sha256 == made.content_sha256

    def test_one_episode_and_equal_episodes(self, tmp_path: Path) -> None:
        one = ce.consolidate(write_episodes(tmp_path / "1.parquet", VECTORS[:1]), tmp_path / "one")
        assert (one.n_episodes, one.n_concepts, one.n_bindings) == (1, 0, 0)
        equal = np.repeat(VECTORS[:1], 50, axis=0)
        report = ce.consolidate(write_episodes(tmp_path / "50.parquet", equal), tmp_path / "equal")
        assert (report.n_episodes, report.n_concepts, report.n_bindings) == (50, 1, 50)
        assert ce.ConceptStore.open(tmp_path / "equal").concepts()["distance"].to_pylist() == [0.0]

    def test_no_usable_episode_is_an_error_and_changes_nothing(self, tmp_path: Path) -> None:
        empty = write_episodes(tmp_path / "0.parquet", VECTORS[:0])
        zeros = write_episodes(tmp_path / "zeros.parquet", np.zeros((3, 4), np.float32))
        for source, words in ((empty, "no rows"), (zeros, "3 zero_vector")):
            with pytest.raises(InputError, match=words):
                ce.consolidate(source, tmp_path / "store")
        assert not list((tmp_path / "store").glob("versions/*"))

    def test_bad_rows_are_counted_and_kept_out(self, tmp_path: Path) -> None:
        vectors = VECTORS[:40].copy()
        vectors[7, 3], vectors[21] = np.nan, 0
        report = ce.consolidate(write_episodes(tmp_path / "bad.parquet", vectors), tmp_path / "store")
        assert (report.n_episodes, report.n_quarantined) == (38, 2)
        refused = ce.ConceptStore.open(tmp_path / "store").quarantine().to_pylist()
        assert [(row["row_number"], row["episode_id"]) for row in refused] == [
            (7, "episode-00007"),
            (21, "episode-00021"),
        ]

    def test_what_does_not_fit_is_refused_before_it_starts(self, episodes: Path, tmp_path: Path) -> None:
        with pytest.raises(CapacityError, match=r"600 vectors needs .* bytes.*would fit"):
            ce.consolidate(episodes, tmp_path, Config(memory_limit_bytes=500_000))
        assert not list(tmp_path.glob("versions/*"))


def test_search_finds_a_concept_by_its_member(local_ray: None, episodes: Path, tmp_path: Path) -> None:
    ce.consolidate(episodes, tmp_path)
    store = ce.ConceptStore.open(tmp_path)
    concept = store.concepts().to_pylist()[0]
    found = store.search(np.array([concept["centroid"]], np.float32), k=3)
    assert found.concept_ids[0, 0] == concept["concept_id"]
    assert found.similarities[0, 0] == pytest.approx(1, abs=1e-6)


CHILD = textwrap.dedent("""
    import os, signal, sys
    import cluster_engine as ce
    from cluster_engine.config import Config, LeaseConfig

    def report(progress):
        if progress.phase == sys.argv[3] and progress.done:
            os.kill(os.getpid(), getattr(signal, sys.argv[4]))

    brief = Config(lease=LeaseConfig(ttl_s=3.0))
    ce.consolidate(sys.argv[1], sys.argv[2], brief, progress=report)
""")


@pytest.fixture(scope="module")
def two_batches(local_ray: None, episodes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return a first batch, and the digests of it and of a calm second one."""
    directory = tmp_path_factory.mktemp("two")
    half = write_episodes(directory / "half.parquet", VECTORS, np.arange(0, 600, 2))
    reports = [ce.consolidate(source, directory / "store") for source in (half, episodes)]
    return half, [report.content_sha256 for report in reports]


@pytest.mark.parametrize(
    "death",
    [
        ("read", "SIGKILL", []),
        ("pairwise", "SIGKILL", ["read"]),
        ("linkage", "SIGKILL", ["read"]),
        ("concepts", "SIGKILL", ["read", "linkage"]),
        ("pairwise", "SIGINT", ["read"]),
    ],
)
def test_a_driver_that_dies_leaves_the_store_as_it_was_and_the_next_goes_on(
    death: tuple[str, str, list[str]], two_batches: tuple[Path, list[str]], episodes: Path, tmp_path: Path
) -> None:
    (phase, by, resumed), (half, digests) = death, two_batches
    store = tmp_path / "store"
    ce.consolidate(half, store)
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(episodes), str(store), phase, by],
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert child.returncode == -getattr(signal, by) or b"KeyboardInterrupt" in child.stderr
    survivor = ce.ConceptStore.open(store)
    survivor.verify()
    assert (survivor.version, survivor.manifest.content_sha256) == (1, digests[0])
    after = ce.consolidate(episodes, store)
    assert (after.version, after.content_sha256) == (2, digests[1])
    assert after.resumed == resumed
