"""Real texts that people have sorted: glosses of WordNet, fortunes, descriptions of Debian packages.

Which texts are taken is decided by a hash, so the same files always yield the same texts. Where the files come from,
``docs/quality.md`` says. Vectors are MiniLM's, kept in ``out/`` between runs.
"""

from __future__ import annotations

import hashlib
import re
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.cut_data import Dataset
from cluster_engine.embedding.embedder import load_embedder

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

KEPT = Path(__file__).parents[1] / "out" / "labelled-texts"
LEAST = 50  # texts of a label; those with fewer are left out
N_OF_GLOSSES, N_OF_FORTUNES, N_OF_PACKAGES = 110, 120, 100  # texts of a label at most
PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")
NO_FORTUNES = (".dat", ".u8")
NOT_WORDS = ("ascii-art", "translate-me")  # drawings, and what is in many languages


class Labelled(NamedTuple):
    """A text that somebody has put somewhere."""

    label: str
    text: str


def corpora(wordnet: Path, fortunes: Path, packages: Path) -> Iterator[tuple[str, list[Labelled]]]:
    """Yield the texts by the name of their collection."""
    yield "Glosses of WordNet, by file of the lexicographers", choose(glosses(wordnet), N_OF_GLOSSES)
    yield "Fortunes, by file", choose(cookies(fortunes), N_OF_FORTUNES)
    yield "Descriptions of Debian packages, by section", choose(descriptions(packages), N_OF_PACKAGES)


def glosses(folder: Path) -> Iterator[Labelled]:
    """Yield the definition of each synset, without its words and examples, labelled by one of 45 subjects."""
    for part in PARTS_OF_SPEECH:
        for line in (folder / f"data.{part}").read_text(encoding="utf-8").splitlines():
            if line[0] != " ":
                label = line.split(maxsplit=2)[1]
                yield Labelled(label, line.partition(" | ")[2].partition('; "')[0].strip())


def cookies(folder: Path) -> Iterator[Labelled]:
    for file in sorted(folder.iterdir()):
        if file.suffix not in NO_FORTUNES and file.name not in NOT_WORDS:
            for text in re.split(r"^%\n", file.read_text(encoding="utf-8"), flags=re.MULTILINE):
                yield Labelled(file.name, " ".join(text.split()))


def descriptions(packages: Path) -> Iterator[Labelled]:
    """Yield the synopsis of one package of each source."""
    seen = set()
    for stanza in packages.read_text(encoding="utf-8").split("\n\n"):
        found = re.findall(r"^(Package|Source|Section|Description): (.*)", stanza, re.MULTILINE)
        fields = {str(name): str(value) for name, value in found}
        if {"Package", "Section", "Description"} <= fields.keys():
            source = fields.get("Source", fields["Package"]).partition(" ")[0]
            if source not in seen:
                seen.add(source)
                yield Labelled(fields["Section"], fields["Description"])


def choose(found: Iterable[Labelled], n_of_label: int) -> list[Labelled]:
    """Return, of each label with enough distinct texts of three words, at most so many; sorted."""
    distinct: dict[str, str] = {}
    for label, text in found:
        if len(re.findall(r"[A-Za-z]{2,}", text)) >= 3:
            distinct.setdefault(text, label)
    labelled = sorted(Labelled(label, text) for text, label in distinct.items())
    chosen = []
    for _, group in groupby(labelled, key=lambda each: each.label):
        ranked = sorted(group, key=lambda each: hashlib.sha256(each.text.encode()).digest())
        if len(ranked) >= LEAST:
            chosen += sorted(ranked[:n_of_label])
    return chosen


def embedded(texts: list[str]) -> NDArray[np.float32]:
    """Return the vectors of texts, made once."""
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    path = KEPT / f"{digest}.npy"
    if not path.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        np.save(path, load_embedder().embed(texts))
    return np.asarray(np.load(path), np.float32)


def labelled_texts(wordnet: Path, fortunes: Path, packages: Path) -> Iterator[Dataset]:
    for name, found in corpora(wordnet, fortunes, packages):
        texts = [each.text for each in found]
        labels = np.unique([each.label for each in found], return_inverse=True)[1].astype(np.int64)
        ids = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts]
        yield Dataset(name, embedded(texts), labels, texts, ids)


def add_files(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `labelled_texts`."""
    parser.add_argument("wordnet", type=Path, help="folder of WordNet 3.0, with data.noun and its like")
    parser.add_argument("fortunes", type=Path, help="folder of fortunes")
    parser.add_argument("packages", type=Path, help="what apt-cache dumpavail prints")
