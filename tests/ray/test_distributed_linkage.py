"""Z is the same bytes from every road, and whoever dies on the way costs nothing but time."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import signal
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pytest
from episode_files import blurred_vectors

import cluster_engine as ce
from cluster_engine.config import PoolConfig
from cluster_engine.errors import CapacityError, InputError, VectorError
from cluster_engine.shards.columns import Share, WholeShare
from cluster_engine.shards.pool import ShardPool

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from numpy.typing import NDArray

    import native_simd
    from cluster_engine.linkage.criterion import Method, Metric
    from cluster_engine.progress import Progress

T = TypeVar("T", bound="Hashable")

pytestmark = pytest.mark.usefixtures("local_ray")

N = 5_000
LISTS_ONLY = 40_000_000  # bytes that the matrix of N vectors does not fit into, and their lists do


class CountingPool(ShardPool):
    """Counts the tasks it is given and the calls it makes for them."""

    n_tasks = n_calls = 0

    def run(
        self,
        tasks: Sequence[T],
        submit: Callable[[Any, T], Any],
        home: Callable[[T], int],
        *,
        in_flight: int | None = None,
    ) -> Iterator[tuple[T, Any]]:
        def counted(actor: Any, task: T) -> Any:  # noqa: ANN401  # Ray's handles are not typed
            self.n_calls += 1
            return submit(actor, task)

        self.n_tasks += len(tasks)
        return super().run(tasks, counted, home, in_flight=in_flight)


def digest(Z: NDArray[np.float64]) -> str:
    return hashlib.sha256(np.ascontiguousarray(Z)).hexdigest()


@pytest.mark.parametrize(
    ("method", "metric"),
    [
        ("weighted", "cosine"),
        ("average", "dot"),
        ("average", "sqeuclidean"),
        ("ward", "euclidean"),
        ("single", "cosine"),
        ("single", "euclidean"),
        ("complete", "euclidean"),
    ],
)
@pytest.mark.parametrize("transport", ["auto", "objects"])
def test_a_pool_gives_the_tree_of_one_process(method: Method, metric: Metric, transport: str) -> None:
    X = blurred_vectors(700)
    weights = np.arange(1, 701) if method in ("average", "ward") else None
    with ShardPool(PoolConfig(actors_per_numa_node=3, transport=transport)) as pool:
        for cut in (None, float(np.median(ce.linkage(X, method, metric)[:, 2]))):
            expected = ce.linkage(X, method, metric, weights=weights, cut=cut)
            Z = ce.distributed_linkage(X, method, metric, weights=weights, cut=cut, pool=pool)
            assert digest(Z) == digest(expected)


@pytest.mark.parametrize("max_restarts", [0, 3])
@pytest.mark.parametrize(("phase", "when"), [("neighbours", 5), ("linkage", 1), ("linkage", 2_000)])
def test_a_killed_actor_costs_only_its_part(
    phase: str, when: int, max_restarts: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = blurred_vectors(N)
    n_whole = 0
    whole_of = WholeShare.of

    def count_whole(share: Share, columns: native_simd.ClusterPanels) -> WholeShare:
        nonlocal n_whole
        n_whole += 1
        return whole_of(share, columns)

    monkeypatch.setattr(WholeShare, "of", count_whole)
    config = PoolConfig(actors_per_numa_node=3, transport="objects", max_restarts=max_restarts)
    with CountingPool(config) as pool, caplog.at_level(logging.INFO, "cluster_engine"):
        killed: list[int] = []

        def kill_once(progress: Progress) -> None:
            if progress.phase == phase and progress.done >= when and not killed:
                killed.append(pool.reports[1].process_id)
                os.kill(killed[0], signal.SIGKILL)

        Z = ce.distributed_linkage(X, pool=pool, memory_limit=LISTS_ONLY, progress=kill_once)
        assert killed
        assert killed[0] not in [report.process_id for report in pool.reports]
        assert len(pool) == (3 if max_restarts else 2)
        assert 1 <= pool.n_calls - pool.n_tasks <= config.tiles_in_flight
        assert n_whole <= 3 + 3  # dealt to three; then to who took a part and who has it back, or to who is left
        assert digest(Z) == digest(ce.linkage(X))
        assert digest(ce.distributed_linkage(X, pool=pool, memory_limit=LISTS_ONLY)) == digest(Z)
    assert all(int(rescans) > 100 for rescans in re.findall(r" rescans=(\d+)", caplog.text))


def test_a_pool_of_its_own_is_made_where_none_is_given() -> None:
    X = blurred_vectors(300)
    column = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), X.shape[1])
    assert digest(ce.distributed_linkage(column)) == digest(ce.linkage(X))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda X: ce.distributed_linkage(X[:1]), InputError, "at least 2 vectors"),
        (lambda X: ce.distributed_linkage(X * np.nan), VectorError, "row 0"),
        (lambda X: ce.distributed_linkage(X, weights=np.zeros(len(X))), InputError, "weight of row 0"),
        (lambda X: ce.distributed_linkage(X, memory_limit=1000), CapacityError, "vectors would fit"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(
    call: Callable[[NDArray[np.float32]], object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call(blurred_vectors(60))
