"""Labels: scores against the formula spelled out, terms of many scripts, and what may not change them."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lifecycles import make_world

from cluster_engine.concepts import labels
from cluster_engine.concepts.labels import distinctive_terms, label_concepts, terms

WORDS = ["aa", "bb", "cc", "dd", "ee", "ff", "gg", "hh"]  # too short for one to be another with an ending
documents = st.dictionaries(
    st.integers(0, 99), st.lists(st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join), max_size=5), max_size=6
)


def slow_labels(texts: dict[int, list[str]], n_terms: int) -> dict[int, tuple[str, ...]]:
    """The formula of the paper, one term and one class at a time.

    By fractions: count * log(1 + A / n) orders as (1 + A / n) ** count does, and equal scores are equal.
    """
    classes = {name: [word for text in lines for word in text.split()] for name, lines in texts.items()}
    words = sum(map(len, classes.values()))
    found = {}
    for name, own in classes.items():
        usable = [w for w in set(own) if sum(w in other for other in classes.values()) * 2 <= len(classes)] or set(own)
        scores = {}
        for word in usable:
            everywhere = sum(other.count(word) for other in classes.values())
            scores[word] = (1 + Fraction(words, len(classes) * everywhere)) ** own.count(word)
        found[name] = tuple(sorted(scores, key=lambda word: (-scores[word], word))[:n_terms])
    return found


@example({0: ["aa aa bb bb bb bb bb bb bb"], 46: ["aa aa" + 11 * " bb" + " cc"], 1: ["cc" + 4 * " aa" + 20 * " bb"]}, 2)
@given(documents, st.integers(1, 5))
def test_scores_are_those_of_the_formula(texts: dict[int, list[str]], n_terms: int) -> None:
    assert distinctive_terms(texts, n_terms) == slow_labels(texts, n_terms)


def test_a_word_that_most_concepts_have_is_a_label_only_where_there_is_no_other() -> None:
    texts = {1: ["the cat the the"], 2: ["the dog"], 3: ["the"]}
    assert distinctive_terms(texts) == {1: ("cat",), 2: ("dog",), 3: ("the",)}


def test_of_words_that_differ_in_an_ending_the_best_is_taken() -> None:
    found = distinctive_terms({1: ["page pages pages manual"], 2: ["other"], 3: ["else"]})
    assert found[1] == ("pages", "manual")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("The cat's 2 mice, in 2024: x86_64 (v2)!", ["the", "cat's", "mice", "in", "x86", "v2"]),
        ("Straße ΣΊΣΥΦΟΣ l\u2019avion", ["straße", "σίσυφος", "l\u2019avion"]),
        ("हिन्दी में", ["हिन्दी", "में"]),  # vowels are marks, which belong to their letters
        ("e\u0301te\u0301", ["été"]),  # composed
        ("東京都 へ行く", ["東京", "京都", "へ行", "行く"]),
        ("版本v2发布", ["版本", "发布", "v2"]),
        ("ภาษา", ["ภา", "าษ", "ษา"]),
        ("서울에서 만나요", ["서울에서", "만나요"]),
        ("שלום עולם", ["שלום", "עולם"]),
        ("x 7 __ 1.5 ½ ٣٤", []),
        ("", []),
    ],
)
def test_terms_of_many_scripts(text: str, want: list[str]) -> None:
    assert sorted(terms(text)) == sorted(want)


@given(st.text())
def test_terms_are_in_the_text(text: str) -> None:
    for term in terms(text):
        assert len(term) >= 2
        assert not re.search(r"\s", term)


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_plain_text_has_the_same_terms_by_either_way(text: str) -> None:
    plain = list(terms(text))
    assert [term for term in terms(text + " 。") if term != "。"] == plain


def tables(**settings: Any) -> tuple[pa.Table, pa.Table]:  # noqa: ANN401  # fields of a World
    made = make_world(**settings).tables()
    return made["bindings"], made["episodes"]


@pytest.mark.parametrize("string_ids", [True, False])
def test_labels_come_from_the_members_texts(string_ids: bool) -> None:
    bindings, episodes = tables(string_ids=string_ids)
    texts = dict(zip(*(episodes[name].to_pylist() for name in ("episode_id", "text")), strict=True))
    members: dict[int, list[str]] = {}
    for row in bindings.to_pylist():
        members.setdefault(row["concept_id"], []).append(texts[row["episode_id"]])
    assert label_concepts(bindings, episodes) == distinctive_terms(members)


def test_labels_do_not_depend_on_chunks_or_the_order_of_episodes() -> None:
    bindings, episodes = tables()
    order = np.random.default_rng(1).permutation(episodes.num_rows)
    parts = [episodes.take(order[rows]) for rows in np.array_split(np.arange(len(order)), 7)]
    assert label_concepts(bindings, pa.concat_tables(parts)) == label_concepts(bindings, episodes)


def test_without_texts_there_are_no_terms() -> None:
    bindings, episodes = tables(texts=False)
    found = label_concepts(bindings, episodes)
    assert found.keys() == set(bindings["concept_id"].to_pylist())
    assert not any(found.values())
    nulls = episodes.append_column("text", pa.nulls(episodes.num_rows, pa.large_string()))
    assert label_concepts(bindings, nulls) == found


def test_many_texts_are_thinned_out_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "MAX_TEXTS", 1_000)
    owners = np.repeat(np.arange(4), [10, 20, 70, 9_900])
    kept = labels._thin_out(owners)
    sizes = np.bincount(owners[kept])
    assert sizes[0] == 10
    assert sizes[1] >= 16
    assert sizes[2] >= 16
    assert 900 < sizes[3] < 1_100
    assert np.diff(kept[owners[kept] == 3][16:]).max() <= 10
