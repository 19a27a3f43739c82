r"""k-mers: how often each word of :math:`k` letters occurs.

With counts :math:`c_w` summed over a set, the frequency is :math:`f_w = c_w / \sum_v c_v`, so sets
of different sizes and lengths compare. The k-mer correlation is Pearson's correlation of
:math:`f` of two sets over all :math:`V^k` words (published code also takes only the words that
occur, which raises the value of small sets, and one divides the counts by the number of *words*
where it means the number of *sequences*; frequencies need neither).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.data.packing import ranges
from graphdiff.sequence.sequences import Sequences

__all__ = ["kmer_correlation", "kmer_counts", "kmer_frequencies", "kmers", "pearson"]

Float = NDArray[np.float64]

_MOST = 1_000_000  # different words


def _check(sequences: Sequences, k: int) -> int:
    words = len(sequences.alphabet) ** k if k > 0 else 0
    if not 0 < words <= _MOST:
        raise ArgumentError(
            f"k must be at least 1 and make at most {_MOST} different words of the "
            f"{sequences.alphabet.name} alphabet, found {k}"
        )
    return words


def kmers(sequences: Sequences, k: int) -> list[str]:
    """All words in the order of the columns of :func:`kmer_counts` (alphabetical rank)."""
    total, letters = _check(sequences, k), sequences.alphabet.letters
    size = len(letters)
    return ["".join(letters[i // size**j % size] for j in reversed(range(k))) for i in range(total)]


def kmer_counts(sequences: Sequences, k: int) -> NDArray[np.int64]:
    """How often each word occurs in each sequence, ``int64 [n, V**k]``.

    Raises:
        ArgumentError: If k is below 1 or there are too many words.
    """
    total, size = _check(sequences, k), len(sequences.alphabet)
    counts = np.maximum(sequences.lengths - k + 1, 0)
    start = ranges(sequences.ptr[:-1], counts)
    code = np.repeat(np.arange(len(sequences)), counts)
    for j in range(k):
        code = code * size + sequences.tokens[start + j]
    return np.bincount(code, minlength=len(sequences) * total).reshape(len(sequences), total)


def kmer_frequencies(sequences: Sequences, k: int) -> Float:
    """Share of each word among all words of a set, ``float64 [V**k]``.

    Raises:
        ArgumentError: As :func:`kmer_counts`, or if every sequence is shorter than k.
    """
    counts = kmer_counts(sequences, k).sum(0)
    if not counts.sum():
        raise ArgumentError(f"no sequence has {k} letters: choose a smaller k")
    return counts / counts.sum()


def kmer_correlation(samples: Sequences, reference: Sequences, k: int = 3) -> float:
    """Pearson's correlation of the k-mer frequencies of two sets; NaN if one has no variance.

    Raises:
        ArgumentError: If the alphabets differ, or as :func:`kmer_frequencies`.
    """
    if samples.alphabet != reference.alphabet:
        raise ArgumentError(
            f"cannot compare {samples.alphabet.name} with {reference.alphabet.name} sequences"
        )
    return float(pearson(kmer_frequencies(samples, k), kmer_frequencies(reference, k)))


def pearson(rows: Float, other: Float) -> Float:
    """Pearson's correlation of each row ``[..., m]`` with a vector ``[m]``; NaN if constant."""
    a = rows - rows.mean(-1, keepdims=True)
    b = other - other.mean()
    scale = np.sqrt((a * a).sum(-1) * (b * b).sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        out: Float = (a @ b) / scale
    return out
