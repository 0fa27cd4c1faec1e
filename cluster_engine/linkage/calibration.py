"""What the similarities of an embedding model are worth: quantiles, cuts, and what each threshold would link.

A threshold that fits one model links nothing, or everything, under another. This measures a sample of vectors and
says, of the cuts that rules propose and of those that someone asks about, how many pairs they would link.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import native_simd
from cluster_engine.errors import InputError
from cluster_engine.linkage.criterion import Criterion
from cluster_engine.linkage.gain import COPY_SIMILARITY, choose_cut, cross_similarities
from cluster_engine.linkage.linkage import as_vectors, checked_norms, linkage
from cluster_engine.similarity.capacity import count_threads

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999)
"""Shares of the pairs whose similarity is told."""
MAX_SAMPLE = 8_192
"""Vectors that are compared, all with all, through a matrix."""
ADJUSTED = (0.35, 0.5)
"""How far from unrelated to identical a fixed threshold lies; compared in ``docs/cut-rules.md``."""
FEW_NEIGHBOURS = 0.001
"""Share of episodes with a neighbour below which nearly nothing would link. Chosen, not measured."""
MANY_PAIRS = 0.5
"""Share of pairs above which nearly everything would link. Chosen, not measured."""

_US_S = 1_000_000


@dataclass(frozen=True, slots=True)
class Gate:
    """A threshold on ``1 / (1 + exp(-slope * (s - midpoint)))`` of a similarity s.

    Attributes
    ----------
    threshold : float
        Above 0 and below 1.
    slope : float
        Above 0.
    midpoint : float
    """

    threshold: float
    slope: float = 10.0
    midpoint: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"the threshold of a gate must be above 0 and below 1, got {self.threshold!r}")
        if not 0 < self.slope < math.inf or not math.isfinite(self.midpoint):
            raise ValueError(f"a gate needs a slope above 0 and a midpoint, got {self.slope!r} and {self.midpoint!r}")

    @property
    def similarity(self) -> float:
        """The similarity that just passes."""
        return self.midpoint + math.log(self.threshold / (1 - self.threshold)) / self.slope


@dataclass(frozen=True, slots=True)
class Linked:
    """What a threshold links, as shares of the sample.

    Attributes
    ----------
    pairs : float
        Of the pairs, those at least so similar.
    neighbours : float
        Of the episodes, those with another at least so similar. Among all episodes there are more than in a sample.
    """

    pairs: float
    neighbours: float


@dataclass(frozen=True, slots=True)
class Threshold:
    """A distance at which episodes would be linked.

    Attributes
    ----------
    rule : str
        Where it is from.
    distance : float
        To cut at: 1 less the similarity.
    similarity : float
        The cosine that it amounts to, of episodes of one time.
    linked : Linked
        By cosine alone.
    longest_age_s : float or None
        Time apart beyond which not even identical episodes meet; None without decay, 0 if they never do.
    linked_in_time : Linked or None
        By the cosine that has decayed with the time between the two.
    """

    rule: str
    distance: float
    similarity: float
    linked: Linked
    longest_age_s: float | None
    linked_in_time: Linked | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a sample says of its embedding model.

    Attributes
    ----------
    n_sampled : int
    mean_similarity : float
        Of the pairs that are no copies of each other: what unrelated episodes have in common.
    quantiles : dict of float to float
        By share: the least similarity that at least this share of the pairs does not exceed.
    thresholds : tuple of Threshold
        The first is the one that is proposed.
    warnings : tuple of str
    """

    n_sampled: int
    mean_similarity: float
    quantiles: dict[float, float]
    thresholds: tuple[Threshold, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The similarities of all pairs, ascending, and of each vector with its nearest."""

    similarities: NDArray[np.float32]
    nearest: NDArray[np.float32]

    def linked(self, similarity: float) -> Linked:
        least = np.float32(similarity)
        n_pairs = len(self.similarities) - np.searchsorted(self.similarities, least)
        neighbours = np.count_nonzero(self.nearest >= least) / len(self.nearest)
        return Linked(float(n_pairs / len(self.similarities)), neighbours)


def calibrate(
    X: ArrayLike,
    *,
    times_us: NDArray[np.int64] | None = None,
    half_life_s: float | None = None,
    gate: Gate | None = None,
    distance: float | None = None,
    threads: int | None = None,
) -> Calibration:
    """Measure the similarities of a sample and propose where to cut.

    Parameters
    ----------
    X : array_like, shape (n, d)
        A sample of 3 to `MAX_SAMPLE` vectors, as :func:`cluster_engine.linkage` takes them.
    times_us : ndarray of int64, shape (n,), optional
        Times of the vectors in microseconds, to tell what decay does.
    half_life_s : float, optional
        Seconds in which a similarity halves with the time between two episodes.
    gate, distance : Gate, float, optional
        Thresholds in use, to be judged beside those of the rules.
    threads : int, optional
        Default, all CPUs that this process may use. Never changes the result.

    Returns
    -------
    Calibration
        Its first threshold is that of :func:`cluster_engine.linkage.gain.choose_cut` on the sample's dendrogram; where
        no group stands out from the others it is ``mu + 0.35 (1 - mu)``, mu being the mean similarity.

    Raises
    ------
    InputError
        Too few or too many vectors.
    VectorError
        A vector is zero or not finite.
    ValueError
        The half-life is not above 0.

    Notes
    -----
    O(n^2 d), with 12 n^2 bytes at most.
    """
    vectors = as_vectors(X)
    if not 3 <= len(vectors) <= MAX_SAMPLE:
        raise InputError(f"calibration compares 3 to {MAX_SAMPLE:,} vectors, all with all; got {len(vectors):,}")
    if half_life_s is not None and not half_life_s > 0:
        raise ValueError(f"the half-life must be above 0, got {half_life_s!r}")
    n_threads = count_threads(threads)
    checked_norms(vectors, Criterion("average", "cosine"), n_threads)
    packed = native_simd.pack(vectors, unit=True, threads=n_threads)
    pairs = _compare(packed, None, n_threads)
    in_time = None
    if times_us is not None and half_life_s is not None:
        in_time = _compare(packed, native_simd.Temporal(half_life_s * _US_S, times_us), n_threads)
    mean = _mean(pairs.similarities)
    thresholds = tuple(
        Threshold(
            rule,
            away,
            1 - away,
            pairs.linked(1 - away),
            None if half_life_s is None else longest_age_s(1 - away, half_life_s),
            None if in_time is None else in_time.linked(1 - away),
        )
        for rule, away in _rules(vectors, mean, gate, distance, n_threads)
    )
    shares = np.ceil(np.array(QUANTILES) * len(pairs.similarities)).astype(np.int64) - 1
    quantiles = dict(zip(QUANTILES, pairs.similarities[shares].astype(np.float64).tolist(), strict=True))
    warnings = tuple(warning for threshold in thresholds for warning in _warnings(threshold))
    return Calibration(len(vectors), mean, quantiles, thresholds, warnings)


def longest_age_s(similarity: float, half_life_s: float) -> float:
    """Return the seconds apart beyond which identical episodes, whose cosine is 1, are less similar than this.

    Examples
    --------
    >>> round(longest_age_s(0.25, half_life_s=3600))
    7200
    """
    if similarity > 1:
        return 0.0
    return half_life_s * -math.log2(similarity) if similarity > 0 else math.inf


def _compare(packed: native_simd.PackedVectors, temporal: native_simd.Temporal | None, threads: int) -> _Pairs:
    similarities = np.empty((packed.n, packed.n), np.float32)
    native_simd.pairwise_symmetric(packed, metric="cosine", temporal=temporal, out=similarities, threads=threads)
    np.fill_diagonal(similarities, -np.inf)
    nearest = similarities.max(axis=1)
    upper = np.concatenate([row[i + 1 :] for i, row in enumerate(similarities)])
    upper.sort()
    return _Pairs(upper, nearest)


def _mean(similarities: NDArray[np.float32]) -> float:
    """Return the mean of ascending similarities that are not those of copies; 1 if all are."""
    apart = similarities[: np.searchsorted(similarities, np.float32(COPY_SIMILARITY))]
    return math.fsum(apart.tolist()) / len(apart) if len(apart) else 1.0


def _rules(
    vectors: NDArray[np.float32], mean: float, gate: Gate | None, distance: float | None, threads: int
) -> list[tuple[str, float]]:
    """Return distances by the rule that each is from, the proposed one first."""
    z = linkage(vectors, "average", "cosine", threads=threads)
    cut = choose_cut(z, cross_similarities(z, Criterion("average", "cosine"), vectors))
    rules = [(f"adjusted similarity {share:g}", (1 - share) * (1 - mean)) for share in ADJUSTED]
    if 1 - cut.distance < COPY_SIMILARITY:
        rules.insert(0, ("binding gain", cut.distance))
    if distance is not None:
        rules.append(("given distance", distance))
    if gate is not None:
        rules.append((f"gate {gate.threshold:g}", 1 - gate.similarity))
    return rules


def _warnings(threshold: Threshold) -> list[str]:
    found = []
    for linked, when in ((threshold.linked, ""), (threshold.linked_in_time, " with decay")):
        if linked is None:
            continue
        what = f"{threshold.rule} (similarity {threshold.similarity:.3f}){when}"
        if linked.neighbours < FEW_NEIGHBOURS:
            found.append(
                f"{what} would link nearly nothing: {linked.neighbours:.2%} of the sampled episodes have a neighbour"
            )
        if linked.pairs > MANY_PAIRS:
            found.append(f"{what} would link nearly everything: {linked.pairs:.0%} of all pairs")
    return found
