r"""Sentence vectors from a small table of word vectors that ships with the package.

The table holds vectors :math:`e_w \in \mathbb R^{128}` of 12,000 frequent English words and of the
words of the project's own prompts: the sentence encoder all-MiniLM-L6-v2 applied to each word
alone, centred, reduced by principal components, scaled to length one and rounded to 8 bits
(``datasets/word-vectors/build.py``). A sentence of words :math:`w_1, \dots, w_n` becomes

.. math:: v = \Bigl[\tfrac{a}{|a|},\ \tfrac{b}{|b|}\Bigr] / \sqrt 2,\qquad
    a = \frac1n \sum_i e_{w_i},\qquad b = \frac1n \sum_i \tanh\bigl(M\,[e_{w_{i-1}}, e_{w_i}]\bigr)

with a fixed random matrix :math:`M`. The first part says which words there are, the second which
stand beside each other ("low average degree and high clustering" is not "high average degree and
low clustering"); both move little when a word is replaced by a related one. No package but NumPy
is needed.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import DataError

__all__ = ["SILENT", "WordVectors", "split_words"]

SILENT = frozenset(
    re.findall(
        r"\w+",
        "a an and be between could create draw example for generate give graph graphs i in is it "
        "like make me need network networks of on please sample see show something the that their "
        "to want was who with would you",
    )
)
"""Words that tell nothing about a graph; they are passed over."""

_ENDINGS = ("s", "es", "d", "ed", "ing", "ly", "er")


def split_words(text: str) -> list[str]:
    """Lower-case words and numbers of a text, without :data:`SILENT` ones."""
    return [w for w in re.findall(r"[^\W_]+", text.lower()) if w not in SILENT]


@cache
def _table() -> tuple[dict[str, int], NDArray[np.float32], NDArray[np.float32]]:
    """Row of each word, vectors ``[words, d]``, and the matrix ``[2 d, k]``."""
    file = resources.files("graphdiff.graph").joinpath("vectors", "words.npz")
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as arrays:
            words = arrays["words"].tobytes().decode("ascii").split("\n")
            vectors = arrays["vectors"].astype(np.float32)
            matrix = arrays["matrix"].astype(np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"the word vectors of the package cannot be read ({error}): install graphdiff again, "
            "or make them with datasets/word-vectors/build.py"
        ) from error
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return {word: k for k, word in enumerate(words)}, vectors, matrix


class WordVectors:
    """The encoder of this module."""

    name = "word-vectors-1"
    dim = 384

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeds sentences, ``float32 [n, 384]``, each of length one, or zero without a word."""
        out = np.zeros((len(texts), self.dim), np.float32)
        _, vectors, matrix = _table()
        width = vectors.shape[1]
        for row, text in zip(out, texts, strict=True):
            rows = [k for word in split_words(text) if (k := self._row(word)) is not None]
            if not rows:
                continue
            each = vectors[rows]
            before = np.concatenate([np.zeros((1, width), np.float32), each[:-1]])
            bound = np.tanh(np.concatenate([before, each], 1) @ matrix).mean(0)
            mean = each.mean(0)
            row[:width] = mean / np.linalg.norm(mean)
            row[width:] = bound / np.linalg.norm(bound)
            row /= np.linalg.norm(row)
        return out

    def unknown(self, text: str) -> list[str]:
        """Words of a text that are not in the table and hence change nothing."""
        return [word for word in split_words(text) if self._row(word) is None]

    @staticmethod
    def _row(word: str) -> int | None:
        """Row of a word, or of the word without an ending."""
        rows = _table()[0]
        if word in rows:
            return rows[word]
        for ending in _ENDINGS:
            stem = word.removesuffix(ending)
            if stem != word and len(stem) > 2 and stem in rows:
                return rows[stem]
        return None
