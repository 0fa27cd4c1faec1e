"""Why a concept was found for a vector, or was not.

Owns the words. Refuses to know how concepts are searched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["found", "filtered", "below", "not compared"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a search for the ``k`` nearest made of one concept.

    Attributes
    ----------
    concept_id : int
    outcome : str
        "found"; "filtered": a condition or the mask leaves it out; "below": ``k`` others are nearer; "not compared": it
        is near enough, but the cells that were looked into do not have it: a search with ``exact=True`` finds it.
    similarity : float
        The cosine, in float32: ``dot / (vector_norm * centroid_norm)``.
    dot, vector_norm, centroid_norm : float
        Its parts, in float64.
    rank : int or None
        From 1, among all concepts that the filters leave, exactly; None where they leave it out.
    k : int
    margin : float
        By how much it is nearer than the k-th nearest of what the filters leave; negative where it is farther, infinite
        where there are fewer than k.
    failed : tuple of str
        The conditions that leave it out, and "mask" if the mask does.
    """

    concept_id: int
    outcome: Outcome
    similarity: float
    dot: float
    vector_norm: float
    centroid_norm: float
    rank: int | None
    k: int
    margin: float
    failed: tuple[str, ...]

    @property
    def reason(self) -> str:
        """The outcome as a sentence."""
        what = f"concept {self.concept_id}, similarity {self.similarity:.6g}"
        if self.outcome == "found":
            return f"{what}, was found: rank {self.rank} of {self.k}"
        if self.outcome == "filtered":
            return f"{what}, was left out by: {'; '.join(self.failed)}"
        if self.outcome == "below":
            return f"{what}, has rank {self.rank}, {-self.margin:.6g} below the similarity of rank {self.k}"
        return f"{what}, has rank {self.rank}, but is in no cell that was looked into: search with exact=True"
