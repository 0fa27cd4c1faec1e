"""What a concept is about, in a few words: the terms that set its members' texts apart from those of other concepts.

Class-based TF-IDF (M. Grootendorst, "BERTopic: Neural topic modeling with a class-based TF-IDF procedure", 2022,
arXiv:2203.05794, eq. 2): all texts of a concept are one document, and a term t that it has f(t, c) times scores

    f(t, c) * log(1 + A / f(t)),

f(t) being how often all concepts have it and A the mean number of terms of a concept. There is no list of stop words,
so that no language is preferred: a term that more than half of the concepts have is no label of any of them, unless
there is no other.

Owns terms and scores. Refuses to know stores.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
import sys
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

N_TERMS = 4
"""Terms of a label; chosen, not measured."""

MAX_TEXTS = 200_000
"""Texts that are read in all, some seconds' worth; of more, each concept's are thinned out evenly."""
_MIN_TEXTS = 16  # of each concept, however many there are

# Scripts that put no space between words: their terms are pairs of neighbouring characters, as in Lucene's CJKAnalyzer.
_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f"  # Burmese
    "\u1780-\u17ff"  # Khmer
    "\u3040-\u30ff"  # Hiragana, Katakana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_UNSPACED_RUN = re.compile(f"[{_UNSPACED}]+")
_SCORE_DIGITS = 9  # behind the point; 2 log(3) and log(9) are equal scores, and rounding must not choose between them
_STEM_CHARACTERS = 4  # of a term, before another that only adds an ending of at most so many says nothing new:
_ENDING_CHARACTERS = 2


def label_concepts(bindings: pa.Table, episodes: pa.Table, n_terms: int = N_TERMS) -> dict[int, tuple[str, ...]]:
    """Return the most distinctive terms of each concept, best first. O(characters).

    Parameters
    ----------
    bindings : pyarrow.Table
        With "concept_id" and "episode_id", by concept.
    episodes : pyarrow.Table
        With "episode_id" and, if there are texts, "text".
    n_terms : int
        How many of each, at most.

    Returns
    -------
    dict of int to tuple of str
        By concept; empty where its members have no text. Equal for equal tables, in any chunks.
    """
    owners = np.asarray(bindings["concept_id"], np.int64)
    if "text" not in episodes.column_names:
        return dict.fromkeys(np.unique(owners).tolist(), ())
    kept = _thin_out(owners)
    rows = pc.index_in(bindings["episode_id"].take(kept), episodes["episode_id"].combine_chunks())
    texts = episodes["text"].take(rows).to_pylist()
    documents: dict[int, list[str]] = {name: [] for name in dict.fromkeys(owners.tolist())}
    for name, text in zip(owners[kept].tolist(), texts, strict=True):
        documents[name].append(text or "")
    return distinctive_terms(documents, n_terms)


def distinctive_terms(documents: Mapping[int, Iterable[str]], n_terms: int = N_TERMS) -> dict[int, tuple[str, ...]]:
    """Return the terms of each document with the highest scores, ties in the order of their characters.

    Parameters
    ----------
    documents : mapping of int to iterable of str
        The texts of each concept.
    n_terms : int
        How many of each, at most. Of terms that differ in an ending only, the best is taken.
    """
    counts = {name: Counter(terms("\n".join(texts))) for name, texts in documents.items()}
    total: Counter[str] = Counter()
    spread: Counter[str] = Counter()
    for count in counts.values():
        total.update(count)
        spread.update(count.keys())
    mean_terms = sum(total.values()) / max(1, len(counts))
    weights = {term: math.log1p(mean_terms / n) for term, n in total.items()}
    common = {term for term, n in spread.items() if 2 * n > len(counts)}
    return {name: _best(count, weights, common, n_terms) for name, count in counts.items()}


def _best(count: Counter[str], weights: Mapping[str, float], common: set[str], n_terms: int) -> tuple[str, ...]:
    candidates = count.keys() - common or count.keys()
    chosen: list[str] = []
    scores = {term: round(count[term] * weights[term], _SCORE_DIGITS) for term in candidates}
    for term in sorted(candidates, key=lambda term: (-scores[term], term)):
        if len(chosen) == n_terms:
            break
        if not any(_is_variant(term, other) for other in chosen):
            chosen.append(term)
    return tuple(chosen)


def _is_variant(first: str, second: str) -> bool:
    """Tell whether two terms are the same but for an ending: page and pages."""
    short, long = sorted((first, second), key=len)
    is_close = len(short) >= _STEM_CHARACTERS and len(long) - len(short) <= _ENDING_CHARACTERS
    return is_close and long.startswith(short)


def terms(text: str) -> Iterator[str]:
    """Yield the terms of a text in lower case: words with a letter and two characters or more, of any script.

    An apostrophe inside a word belongs to it; combining marks belong to their letters, as Devanagari's vowels do.
    """
    if text.isascii():
        words: Iterable[str] = _ascii_words().findall(text.lower())
        yield from (word for word in words if not word.isdecimal())
        return
    for word in _words().findall(unicodedata.normalize("NFKC", text).lower()):
        if not _UNSPACED_RUN.search(word):
            if any(char.isalpha() for char in word):
                yield word
            continue
        for run in _UNSPACED_RUN.findall(word):
            yield from ("".join(pair) for pair in itertools.pairwise(run))
        yield from (part for part in _UNSPACED_RUN.split(word) if len(part) > 1 and any(map(str.isalpha, part)))


@functools.cache
def _ascii_words() -> re.Pattern[str]:
    return re.compile(r"[a-z0-9]+(?:'[a-z0-9]+)+|[a-z0-9]{2,}")


@functools.cache
def _words() -> re.Pattern[str]:
    """Return a pattern for words of any script; Python's own word characters leave out combining marks."""
    signs = rf"(?:[^\W_]|[{_combining_marks()}])"
    return re.compile(rf"{signs}+(?:['\u2019]{signs}+)+|{signs}{{2,}}")


def _combining_marks() -> str:
    """Return the combining marks of Unicode as the inside of a character class."""
    marks = [code for code in range(0x300, sys.maxunicode + 1) if unicodedata.category(chr(code))[0] == "M"]
    ranges = (list(run) for _, run in itertools.groupby(enumerate(marks), lambda pair: pair[1] - pair[0]))
    return "".join(f"{chr(run[0][1])}-{chr(run[-1][1])}" for run in ranges)


def _thin_out(owners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows of bindings, in order of their concepts, whose texts are read."""
    n = len(owners)
    if n <= MAX_TEXTS:
        return np.arange(n)
    rows = np.arange(n)
    is_first = np.append(True, owners[1:] != owners[:-1])
    in_concept = rows - np.maximum.accumulate(np.where(is_first, rows, 0))
    is_spaced = (rows + 1) * MAX_TEXTS // n > rows * MAX_TEXTS // n
    return np.flatnonzero(is_spaced | (in_concept < _MIN_TEXTS))
